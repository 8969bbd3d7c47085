//! The coordinator's only look at a clock: the system's wall clock, since what is decided by it has to
//! outlive the process.
//!
//! What happens when that clock is set:
//! - *back*: spans are measured with [`Timestamp::since`], which gives nothing where the beginning lies
//!   ahead, so soaks, deadlines and expiries wait until the clock is there again. Nothing is rolled
//!   back or forgotten early. The driver sleeps at most five seconds, so it notices.
//! - *forward*: what was to happen by then happens at once: tokens expire, soaks end, and a deployment
//!   whose deadline has passed is rolled back. A coordinator cannot tell a clock that was mended from
//!   a host that was suspended.
//! - *before 1970*: the beginning of 1970.

use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_protocol::time::{Timestamp, millis};

/// Now, by the system's clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the driver's clock; everything else is told"
)]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(millis(since))
}
