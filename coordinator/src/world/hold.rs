//! Targets whose own sites ask to be left alone: what they said is kept until they say otherwise.

use holdfast_protocol::name::TargetName;
use holdfast_protocol::observed::{HOLD_MAX, HOLD_REASON_MAX_BYTES, Hold};
use holdfast_protocol::time::Timestamp;

use super::link::said;
use super::{Round, SessionId};
use crate::history::Entry;

impl Round<'_> {
    /// Notes what a target says of its own site. Said again unchanged, as at each connection, it
    /// changes nothing.
    pub fn hold(&mut self, name: &TargetName, session: SessionId, hold: Option<Hold>) {
        let now = self.now;
        let there = self.world.targets.get_mut(name);
        let Some(there) = there.filter(|there| there.is_session(session)) else {
            return;
        };
        let hold = hold.map(|hold| bounded(hold, there.kept.hold.as_ref(), now));
        if there.kept.hold == hold {
            return;
        }
        let before = std::mem::replace(&mut there.kept.hold, hold.clone());
        let environment = there.kept.environment.clone();
        let (kind, message) = words(name, before, hold);
        self.keep_target(name);
        self.record(Entry {
            kind,
            actor: Some(format!("target/{name}")),
            message,
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            ..Entry::default()
        });
        self.environment_moved(&environment);
    }
}

/// A hold as it is kept: no longer than one may be, whatever clock the target has, and in words that
/// no terminal obeys. One that was cut is not cut anew each time that it is said again.
fn bounded(hold: Hold, before: Option<&Hold>, now: Timestamp) -> Hold {
    let reason = said(&hold.reason, HOLD_REASON_MAX_BYTES);
    let latest = now.after(HOLD_MAX);
    let known = before.filter(|before| before.reason == reason && before.until <= latest);
    let until = match known {
        Some(before) if hold.until > latest => before.until,
        Some(_) | None => hold.until.min(latest),
    };
    Hold { until, reason }
}

fn words(name: &TargetName, before: Option<Hold>, hold: Option<Hold>) -> (&'static str, String) {
    if let Some(Hold { until, reason }) = hold {
        let message = format!("{name} is held by its own site until {until}: {reason}");
        return ("target.held", message);
    }
    let reason = before.map(|before| before.reason).unwrap_or_default();
    let message = format!("{name} is held by its own site no more: {reason}");
    ("target.released", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(until: u64, reason: &str) -> Hold {
        Hold {
            until: Timestamp::from_millis(until),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn a_hold_ends_in_time_whatever_clock_its_target_has_and_is_cut_only_once() {
        let now = Timestamp::from_millis(1_000);
        let kept = bounded(hold(u64::MAX, "a\u{1b}[2Jb"), None, now);
        assert_eq!((kept.until, &*kept.reason), (now.after(HOLD_MAX), "a [2Jb"));
        let later = Timestamp::from_millis(9_000);
        let again = bounded(hold(u64::MAX, "a\u{1b}[2Jb"), Some(&kept), later);
        assert_eq!(again, kept);
        assert_eq!(bounded(hold(5, "b"), Some(&kept), later), hold(5, "b"));
        let long = bounded(hold(5, &"x".repeat(999)), None, now);
        assert_eq!(long.reason.len(), HOLD_REASON_MAX_BYTES);
    }
}
