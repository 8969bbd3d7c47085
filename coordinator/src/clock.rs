//! The coordinator's only look at a clock.

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
