//! A test that cannot run here says so, is counted, and fails where nothing may be skipped.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Counts `test` as skipped because of `reason`.
///
/// # Panics
/// Where nothing may be skipped: `HOLDFAST_NO_SKIP` is set.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("HOLDFAST_NO_SKIP").is_none(),
        "cannot be skipped here: {reason}"
    );
    println!("skipped: {reason}");
    if let Some(log) = std::env::var_os("HOLDFAST_SKIP_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        writeln!(log.unwrap(), "system: {test}: {reason}").unwrap();
    }
}
