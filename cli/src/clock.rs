//! The one place of this program that asks what time it is.

use std::time::SystemTime;

use holdfast_protocol::time::{Timestamp, millis};

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "ages are shown relative to now; everything else is given the time"
)]
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(millis(since_epoch))
}
