//! Is the peer still there? A peer that was killed sends nothing, and QUIC would wait out the whole
//! idle time. Something that was said and is not acknowledged by any packet for two looks in a row
//! means that nobody is there. Pure.

use std::time::Duration;

/// Pause between two looks.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(4);

/// What one look at a connection's counters sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    /// Frames sent that a peer must acknowledge.
    pub asked: u64,
    /// Acknowledgements received.
    pub answered: u64,
}

/// What was seen before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pulse {
    last: Counters,
    asked_when_answered: u64,
    unanswered_looks: u32,
}

impl Pulse {
    /// Takes in one look; whether the peer is still there.
    pub(super) fn look(&mut self, now: Counters) -> bool {
        if now.answered != self.last.answered {
            self.asked_when_answered = now.asked;
            self.unanswered_looks = 0;
        } else if now.asked > self.asked_when_answered {
            self.unanswered_looks += 1;
        }
        self.last = now;
        // At the first look what was asked may be under way; after a third it is not.
        self.unanswered_looks < 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(looks: &[(u64, u64)]) -> bool {
        let mut pulse = Pulse::default();
        looks.iter().all(|(asked, answered)| {
            pulse.look(Counters {
                asked: *asked,
                answered: *answered,
            })
        })
    }

    #[test]
    fn silence_after_nothing_was_said_is_fine() {
        assert!(alive(&[(3, 2), (3, 2), (3, 2), (3, 2)]));
    }

    #[test]
    fn silence_after_something_was_said_is_not() {
        assert!(alive(&[(3, 2), (4, 2), (4, 3), (4, 3)]));
        assert!(!alive(&[(3, 2), (4, 2), (6, 2)]));
    }
}
