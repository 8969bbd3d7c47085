//! Is the peer still there? A peer that was killed sends nothing, and QUIC would wait out the whole
//! idle time. Something that was said and is not acknowledged by any packet for two looks in a row
//! means that nobody is there. Pure.

use std::time::Duration;

/// Pause between two looks while something that was said waits for an answer.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(4);
/// Pause while nothing does: each look wakes a processor, and an agent at rest is to sleep. What the
/// keep-alive asks is seen at the next look, so that a peer that was killed is still found out before
/// the idle time is over.
pub(super) const REST_INTERVAL: Duration = Duration::from_secs(8);

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

    /// Pause until the next look.
    pub(super) fn pause(&self) -> Duration {
        if self.unanswered_looks > 0 {
            LOOK_INTERVAL
        } else {
            REST_INTERVAL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::BEAT;
    use crate::config::{IDLE, KEEP_ALIVE};

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
    fn a_connection_at_rest_is_seldom_looked_at_and_a_question_unanswered_soon() {
        let mut pulse = Pulse::default();
        let seen = |asked, answered| Counters { asked, answered };
        assert!(pulse.look(seen(3, 2)));
        assert_eq!(pulse.pause(), REST_INTERVAL);
        assert!(pulse.look(seen(4, 2)));
        assert_eq!(pulse.pause(), LOOK_INTERVAL);
        assert!(pulse.look(seen(4, 3)));
        assert_eq!(pulse.pause(), REST_INTERVAL);
        // A keep-alive at the end of its pause, just after a look, that nobody answers; both on the beat.
        let beats = |span: Duration| {
            BEAT * u32::try_from(span.as_millis().div_ceil(BEAT.as_millis())).unwrap()
        };
        let found_out = beats(KEEP_ALIVE) + beats(REST_INTERVAL) + LOOK_INTERVAL;
        assert!(found_out < IDLE, "{found_out:?}");
    }

    #[test]
    fn silence_after_something_was_said_is_not() {
        assert!(alive(&[(3, 2), (4, 2), (4, 3), (4, 3)]));
        assert!(!alive(&[(3, 2), (4, 2), (6, 2)]));
    }
}
