//! A hold: the wish of this target's own site to be left alone for a while. Pure.
//!
//! While it lasts this target keeps what ran when it began: a newer assignment is accepted and
//! stored, and what it changes waits. What ends or is changed from outside is repaired as ever.
//!
//! *Guarantees:* it ends when the clock on the wall reaches `until`, and in no case later than its own
//! length after it was asked for or, after a restart, after the agent began. So a clock that is set
//! back does not make it longer, and the time that a machine was off or asleep counts.

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::{HOLD_MAX, HOLD_REASON_MAX_BYTES, Hold};
use holdfast_protocol::time::{Timestamp, friendly};

use crate::clock::{Moment, Now};

/// What somebody on this machine asks for: a length and a reason within their bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    length: Duration,
    reason: String,
}

/// A hold as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// When it was asked for, by this machine's clock then.
    pub began: Timestamp,
    /// When it ends, by the same clock.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// The body that each service keeps.
    pub bodies: Vec<(ServiceName, Digest)>,
}

/// A hold that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    kept: Kept,
    /// It ends then even if the clock on the wall says otherwise.
    at_latest: Moment,
    /// What is wanted once it is over.
    pub awaited: BTreeMap<ServiceName, Digest>,
}

impl Wish {
    /// A wish for `length`, because of `reason`.
    ///
    /// # Errors
    /// A sentence that says which bound it does not keep.
    pub fn new(length: Duration, reason: &str) -> Result<Self, String> {
        let reason = reason.trim();
        if length.is_zero() || length > HOLD_MAX {
            let longest = friendly(HOLD_MAX);
            let asked = friendly(length);
            return Err(format!(
                "a hold lasts from 1ms to {longest}, not {asked}: ask again when it ends"
            ));
        }
        if reason.is_empty() || reason.chars().any(char::is_control) {
            return Err("a hold has a reason, on one line: --reason \"inventory\"".to_owned());
        }
        if reason.len() > HOLD_REASON_MAX_BYTES {
            let bytes = reason.len();
            return Err(format!(
                "the reason has {bytes} bytes, at most {HOLD_REASON_MAX_BYTES}: shorten it"
            ));
        }
        Ok(Self {
            length,
            reason: reason.to_owned(),
        })
    }

    /// The hold that this becomes, in which every service keeps the body of `bodies`.
    #[must_use]
    pub fn begin(self, bodies: BTreeMap<ServiceName, Digest>, now: Now) -> Kept {
        Kept {
            began: now.wall,
            until: now.wall.after(self.length),
            reason: self.reason,
            bodies: bodies.into_iter().collect(),
        }
    }
}

impl Kept {
    /// Whether it is over by the clock on the wall.
    #[must_use]
    pub fn is_over(&self, wall: Timestamp) -> bool {
        wall >= self.until
    }

    /// The body that each service keeps.
    #[must_use]
    pub fn wanted(&self) -> BTreeMap<ServiceName, Digest> {
        self.bodies.iter().cloned().collect()
    }
}

impl Holding {
    /// It lasts from now on; `awaited` is what is wanted after it.
    #[must_use]
    pub fn new(kept: Kept, awaited: BTreeMap<ServiceName, Digest>, now: Now) -> Self {
        // What is on disk may come from a build that allowed more.
        let length = kept.until.since(kept.began).min(HOLD_MAX);
        Self {
            kept,
            at_latest: now.at.after(length),
            awaited,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Now) -> bool {
        self.kept.is_over(now.wall) || now.at >= self.at_latest
    }

    /// When it is over if no clock is set.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Moment {
        now.at
            .after(self.kept.until.since(now.wall))
            .min(self.at_latest)
    }

    /// The body that each service keeps.
    #[must_use]
    pub fn wanted(&self) -> BTreeMap<ServiceName, Digest> {
        self.kept.wanted()
    }

    /// As others are told of it.
    #[must_use]
    pub fn said(&self) -> Hold {
        Hold {
            until: self.kept.until,
            reason: self.kept.reason.clone(),
        }
    }

    /// Why a service waits.
    #[must_use]
    pub fn message(&self) -> String {
        let Kept { until, reason, .. } = &self.kept;
        format!("waits: this target is held by its own site until {until}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn now(at: u64, wall: u64) -> Now {
        Now {
            at: Moment::from_millis(at),
            wall: Timestamp::from_millis(wall),
        }
    }

    fn holding(now: Now) -> Holding {
        let kept = Wish::new(HOUR, "inventory")
            .unwrap()
            .begin(BTreeMap::new(), now);
        Holding::new(kept, BTreeMap::new(), now)
    }

    #[test]
    fn a_wish_has_a_length_and_a_reason_within_their_bounds() {
        let refused = |length, reason: &str| Wish::new(length, reason).unwrap_err();
        assert!(refused(Duration::ZERO, "a").contains("from 1ms to 30d"));
        assert!(refused(HOLD_MAX + HOUR, "a").contains("not 30d 1h"));
        assert!(refused(HOUR, "  ").contains("has a reason"));
        assert!(refused(HOUR, "a\nb").contains("on one line"));
        assert!(refused(HOUR, &"ü".repeat(200)).contains("400 bytes, at most 256"));
        assert!(Wish::new(HOLD_MAX, " inventory ").is_ok());
    }

    #[test]
    fn it_ends_at_its_time_by_the_clock_on_the_wall() {
        let holding = holding(now(10, 1_000));
        let end = 3_600_000;
        assert!(!holding.is_over(now(10 + end - 1, 1_000 + end - 1)));
        assert!(holding.is_over(now(10 + end, 1_000 + end)));
        assert_eq!(
            holding.wake_at(now(10, 1_000)),
            Moment::from_millis(10 + end)
        );
        // The machine slept: its own count of time stood still.
        assert!(holding.is_over(now(20, 1_000 + end)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_it_no_longer_than_it_was_to_be() {
        let holding = holding(now(10, 9_000_000));
        assert!(!holding.is_over(now(3_600_009, 5)));
        assert!(holding.is_over(now(3_600_010, 5)));
        assert_eq!(holding.wake_at(now(20, 5)), Moment::from_millis(3_600_010));
        // A machine that wakes up in 1970 holds no longer than that from its start.
        let after_boot = Holding::new(holding.kept.clone(), BTreeMap::new(), now(0, 5));
        assert!(after_boot.is_over(now(3_600_000, 5)));
        assert!(after_boot.is_over(now(7, 9_000_000 + 3_600_000)));
    }
}
