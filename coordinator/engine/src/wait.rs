//! Making waits: why nothing more happens now, since when, and who can end it.

use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use crate::track::TrackName;

/// Most targets that one message names.
const NAMED_MAX: usize = 3;

/// The reasons why nothing more happens now, and when time alone could change that.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    list: Vec<Wait>,
    wake_at: Option<Timestamp>,
}

impl Waits {
    /// Adds a reason. Its beginning is found when the step ends.
    pub(crate) fn push(
        &mut self,
        kind: WaitKind,
        subject: impl ToString,
        message: String,
    ) -> &mut Wait {
        self.list.push(Wait {
            kind,
            subject: subject.to_string(),
            message,
            since: Timestamp::default(),
            ends_by: Vec::new(),
            until: None,
        });
        self.list.last_mut().expect("one was pushed")
    }

    /// Notes that the answer could change at `at`.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// When the answer could change first, as far as it is noted.
    pub(crate) const fn wakes_at(&self) -> Option<Timestamp> {
        self.wake_at
    }

    /// Adds the reasons of `other`.
    pub(crate) fn join(&mut self, other: Self) {
        self.list.extend(other.list);
        if let Some(at) = other.wake_at {
            self.wake(at);
        }
    }

    /// Whether there is no reason.
    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The waits, each with its beginning: now, or since when it stood `before`.
    pub(crate) fn finish(
        mut self,
        before: &[Wait],
        now: Timestamp,
    ) -> (Vec<Wait>, Option<Timestamp>) {
        for wait in &mut self.list {
            let same = |old: &&Wait| old.kind == wait.kind && old.subject == wait.subject;
            wait.since = before.iter().find(same).map_or(now, |old| old.since);
        }
        (self.list, self.wake_at)
    }
}

/// Says that a command can end a wait.
pub(crate) fn by_command(wait: &mut Wait, verb: &str, track: &TrackName) {
    let TrackName {
        service,
        environment,
    } = track;
    wait.ends_by
        .push(format!("holdfast {verb} {service} -e {environment}"));
}

/// A list of targets for people: `a, b, c and 4 more`.
pub(crate) fn targets<'t>(names: impl IntoIterator<Item = &'t TargetName>) -> String {
    listed(names.into_iter().map(ToString::to_string).collect())
}

/// The same, each with what it says: `a (starting), b (unknown)`.
pub(crate) fn targets_saying<'t>(
    names: impl IntoIterator<Item = (&'t TargetName, &'t str)>,
) -> String {
    let say = |(name, message): (&TargetName, &str)| format!("{name} ({message})");
    listed(names.into_iter().map(say).collect())
}

/// `1 target`, `2 targets`.
pub(crate) fn count(number: usize) -> String {
    if number == 1 {
        "1 target".to_owned()
    } else {
        format!("{number} targets")
    }
}

/// Names, as many as people want to read.
pub(crate) fn listed(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let shown: Vec<String> = names.into_iter().take(NAMED_MAX).collect();
    let shown = shown.join(", ");
    match more {
        0 if shown.is_empty() => "no target".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_stands_keeps_its_beginning() {
        let at = Timestamp::from_millis;
        let waits = |message: &str| {
            let mut waits = Waits::default();
            waits.push(WaitKind::Order, "staging", message.to_owned());
            waits.push(WaitKind::Pause, "alice", "paused".to_owned());
            waits
        };
        let (first, _) = waits("1.0 is rolling out").finish(&[], at(5));
        let (second, _) = waits("1.0 is being verified").finish(&first[..1], at(9));
        let since: Vec<Timestamp> = second.iter().map(|wait| wait.since).collect();
        assert_eq!(since, [at(5), at(9)]);
    }

    #[test]
    fn many_targets_are_counted_and_few_are_named() {
        let names: Vec<TargetName> = (1..=5)
            .map(|n| format!("t{n}").parse().expect("a name"))
            .collect();
        assert_eq!(targets(&names[..2]), "t1, t2");
        assert_eq!(targets(&names), "t1, t2, t3 and 2 more");
        assert_eq!(targets(&[]), "no target");
    }
}
