//! The clock that TLS checks certificates by: the wall clock, but never before a known floor.
//!
//! A machine without a battery wakes up in 1970, when no certificate is valid yet. It knows better:
//! it is not before its own certificate, nor before the last time that it stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use holdfast_protocol::time::{Timestamp, millis};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// The later of the wall clock and a floor that can only be raised.
#[derive(Debug, Default)]
pub struct Clock {
    floor_millis: AtomicU64,
}

impl Clock {
    /// The wall clock, never before `floor`.
    #[must_use]
    pub const fn not_before(floor: Timestamp) -> Self {
        Self {
            floor_millis: AtomicU64::new(floor.as_millis()),
        }
    }

    /// Time is known to have reached `time`. An earlier time changes nothing.
    pub fn raise(&self, time: Timestamp) {
        self.floor_millis
            .fetch_max(time.as_millis(), Ordering::Relaxed);
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(wall())
    }

    fn at(&self, wall: Timestamp) -> Timestamp {
        wall.max(Timestamp::from_millis(
            self.floor_millis.load(Ordering::Relaxed),
        ))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}

/// The form in which the chain verifier takes a time.
pub(crate) fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.as_millis()))
}

/// The form in which the TLS library gives a time: whole seconds.
pub(crate) fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_millis(millis(Duration::from_secs(time.as_secs())))
}

#[expect(
    clippy::disallowed_methods,
    reason = "TLS asks for the time itself; this is the answer"
)]
fn wall() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(millis(since_epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_1970_is_held_at_the_floor_and_a_right_one_is_left_alone() {
        let (floor, later) = (Timestamp::from_millis(5_000), Timestamp::from_millis(9_000));
        let clock = Clock::not_before(floor);
        assert_eq!(clock.at(Timestamp::from_millis(0)), floor);
        assert_eq!(clock.at(later), later);
        clock.raise(Timestamp::from_millis(1));
        assert_eq!(clock.at(Timestamp::from_millis(0)), floor);
        clock.raise(later);
        assert_eq!(clock.at(floor), later);
    }
}
