//! The clocks of this machine: adapters act, so they read them.

use std::time::Duration;

use holdfast_protocol::time::{Timestamp, millis};

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "adapters act; this is where they read the clock"
)]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(since.map(millis).unwrap_or_default())
}

/// Time since the machine started, which nobody can set.
pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
