//! Where `tests/setup.sh` keeps what is made on a machine once: built and fetched programs.

use std::env;
use std::path::PathBuf;

/// The place of one of them: in `HOLDFAST_TEST_CACHE` where that is set, else where root has it for
/// everybody, else where this user has it. It may not be there.
pub(crate) fn cached(name: &str) -> PathBuf {
    if let Some(own) = env::var_os("HOLDFAST_TEST_CACHE") {
        return PathBuf::from(own).join(name);
    }
    let everybodys = PathBuf::from("/var/cache/holdfast-tests").join(name);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let own = cache.map(|cache| cache.join("holdfast-tests").join(name));
    own.filter(|own| !everybodys.exists() && own.exists())
        .unwrap_or(everybodys)
}
