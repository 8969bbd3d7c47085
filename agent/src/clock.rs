//! The two times of this program: a moment that only ever grows, for every wait, and the wall clock,
//! for people. A wall clock that jumps must not start, stop or fail anything.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_protocol::time::{Timestamp, millis};

use crate::beat;

/// A point on the monotonic clock: milliseconds since this program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

/// The present, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For waits.
    pub at: Moment,
    /// For people and reports.
    pub wall: Timestamp,
}

/// Reads both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Moment {
    /// From milliseconds since the program started.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// This moment and `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// How long after `earlier` this is; nothing where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Clock {
    /// A clock whose moments count from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clocks"
    )]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            at: Moment(millis(self.started.elapsed())),
            wall: wall(),
        }
    }

    /// The present as tokio counts it, to sleep until a moment.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> tokio::time::Instant {
        (self.started + Duration::from_millis(moment.0)).into()
    }

    /// The moment at which a wait until `moment` ends that need not be exact.
    #[must_use]
    pub fn on_beat(&self, moment: Moment) -> Moment {
        let end = beat::ends(self.instant(moment).into_std());
        Moment(millis(end.saturating_duration_since(self.started))).max(moment)
    }
}

/// The wall clock alone.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clocks"
)]
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(millis(since_epoch))
}
