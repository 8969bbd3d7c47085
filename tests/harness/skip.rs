//! A test that cannot run here says so, is counted, and fails where nothing may be skipped.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Tests that may be skipped everywhere, each with the only reason: what they need is in no package
/// that `tests/setup.sh` could install.
const ALLOWED: &[(&str, &str)] = &[
    ("terraform_conforms", "terraform is not installed"),
    (
        "terraform_keeps_its_state_and_shows_no_secret",
        "terraform is not installed",
    ),
];

/// Counts `test` as skipped because of `reason`.
///
/// # Panics
/// Where it may not be skipped: `HOLDFAST_NO_SKIP` is set, and it is none of those that may be
/// everywhere.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("HOLDFAST_NO_SKIP").is_none() || ALLOWED.contains(&(test, reason)),
        "cannot be skipped here: {reason}"
    );
    println!("skipped: {reason}");
    if let Some(log) = std::env::var_os("HOLDFAST_SKIP_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        writeln!(log.unwrap(), "{}: {test}: {reason}", env!("CARGO_PKG_NAME")).unwrap();
    }
}
