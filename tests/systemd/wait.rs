//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// Longest that anything here may take; a condition that holds sooner is seen sooner.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// What a condition answers: not yet, or something.
pub(crate) trait Answer {
    type Found;
    fn found(self) -> Option<Self::Found>;
}

impl Answer for bool {
    type Found = ();
    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Answer for Option<T> {
    type Found = T;
    fn found(self) -> Self {
        self
    }
}

/// Asks until there is an answer; fails with `what` was awaited when there is none in time.
#[expect(clippy::disallowed_methods, reason = "a test's deadline is real time")]
pub(crate) fn until<A: Answer>(what: &str, condition: impl Fn() -> A) -> A::Found {
    let started = Instant::now();
    loop {
        if let Some(found) = condition().found() {
            println!("{what}: {} ms", started.elapsed().as_millis());
            return found;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        thread::sleep(PAUSE);
    }
}
