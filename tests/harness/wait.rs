//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// Longest that anything may take before a test fails. What holds sooner is seen sooner, so this is
/// generous: two cores run several fleets at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks.
pub const PAUSE: Duration = Duration::from_millis(25);

/// Looks until there is something, and gives it. What was seen last (the `Err`) is part of the
/// failure when there is nothing within `patience`.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > patience => {
                panic!("not within {patience:?}: {what}\n  last seen: {seen}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// [`wait_for`] a thing that is there or not, for [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    wait_for(what, PATIENCE, || {
        look().ok_or_else(|| "nothing".to_owned())
    })
}

/// Looks again and again for as long as `span`, and fails as soon as `claim` does not hold. For what
/// must *not* happen; the only place where time itself is waited for.
pub fn holds_for(what: &str, span: Duration, mut claim: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while began.elapsed() < span {
        if let Err(seen) = claim() {
            panic!(
                "no longer so after {:?}: {what}\n  seen: {seen}",
                began.elapsed()
            );
        }
        thread::sleep(PAUSE);
    }
}

/// `Ok` when the claim holds, else what was seen instead.
///
/// # Errors
/// The claim does not hold.
pub fn expect(holds: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("{seen:?}"))
    }
}
