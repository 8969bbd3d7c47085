//! Versions of the protocol, and how two peers agree on one.

use bincode::{Decode, Encode};

/// ALPN of the control connection: the major version of the whole protocol.
pub const ALPN_CONTROL: &[u8] = b"holdfast/1";
/// ALPN of the join exchange, the only one without a client certificate.
pub const ALPN_JOIN: &[u8] = b"holdfast-join/1";
/// The name every coordinator's certificate carries beside its addresses, and that agents ask for.
pub const COORDINATOR_NAME: &str = "coordinator.holdfast.internal";

/// The minor versions that this build speaks.
pub const SUPPORTED: Range = Range {
    lowest: 0,
    highest: 4,
};

/// The first minor version in which the coordinator may ask a target for a check.
pub const CHECKS: u16 = 1;
/// The first minor version in which a target says that its own site asks to be left alone.
pub const HOLDS: u16 = 2;
/// The first minor version in which a target is asked for the output of a deployment that is over.
pub const KEPT_OUTPUT: u16 = 3;
/// The first minor version in which artifacts may stay in homes of their own.
pub const HOMES: u16 = 4;
/// The first minor version in which a target says what secrets are sealed to, and may ask for them.
pub const SECRETS: u16 = 4;

/// An inclusive range of minor protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Range {
    /// The oldest minor version that is still understood.
    pub lowest: u16,
    /// The newest minor version that is understood.
    pub highest: u16,
}

impl Range {
    /// The highest minor version that both sides understand, if there is one.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        let range = |lowest, highest| Range { lowest, highest };
        assert_eq!(range(0, 2).common(range(1, 5)), Some(2));
        assert_eq!(range(1, 5).common(range(0, 2)), Some(2));
        assert_eq!(range(0, 1).common(range(2, 3)), None);
    }
}
