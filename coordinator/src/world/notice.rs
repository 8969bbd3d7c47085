//! Notices: events of the history that a notifier still has to tell.
//!
//! *Guarantees:* a notice is on disk with its event, and leaves with the message that it was told or
//! that it could not be; so each is told at least once, also across restarts. One notifier that
//! nobody answers delays no other, and costs at most [`WAITING_MAX`] notices.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use holdfast_engine::compiled::Notifier;
use holdfast_protocol::api::event::Event;
use holdfast_protocol::name::NotifierName;

use super::{Round, World};
use crate::history::Entry;
use crate::store::row::Notice;
use crate::store::write::Write;

/// Notices of one notifier that may wait before the oldest are dropped.
pub const WAITING_MAX: usize = 1_000;

/// What waits to be told, by notifier, oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: BTreeMap<NotifierName, VecDeque<Arc<Event>>>,
    /// Notifiers that drop notices, until all they have is told.
    overflowing: BTreeSet<NotifierName>,
}

/// The next thing that one notifier has to tell.
#[derive(Debug, Clone)]
pub struct Due {
    /// The notifier's name.
    pub name: NotifierName,
    /// The notifier as it is declared now; none where it is not any more.
    pub notifier: Option<Arc<Notifier>>,
    /// What is to be told.
    pub event: Arc<Event>,
}

impl Outbox {
    /// What was kept, in any order.
    #[must_use]
    pub fn restored(mut notices: Vec<Notice>) -> Self {
        notices.sort_by_key(|notice| notice.event.sequence);
        let mut outbox = Self::default();
        for Notice { notifier, event } in notices {
            let waiting = outbox.waiting.entry(notifier).or_default();
            waiting.push_back(Arc::new(event));
        }
        outbox
    }

    /// How many notices wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl World {
    /// The oldest notice of each notifier that is not among `busy`, for at most `most` of them.
    #[must_use]
    pub fn notices_due(&self, busy: &BTreeSet<NotifierName>, most: usize) -> Vec<Due> {
        let idle = self.outbox.waiting.iter();
        let idle = idle.filter(|(name, _)| !busy.contains(*name));
        let due = |(name, waiting): (&NotifierName, &VecDeque<Arc<Event>>)| {
            Some(Due {
                name: name.clone(),
                notifier: self.compiled.notifiers.get(name).cloned(),
                event: Arc::clone(waiting.front()?),
            })
        };
        idle.filter_map(due).take(most).collect()
    }
}

impl Round<'_> {
    /// Has an event told by every notifier that listens to it, and by the one that is `named`; never
    /// by the one that it is about.
    pub(super) fn tell(
        &mut self,
        event: &Event,
        named: Option<&NotifierName>,
        about: Option<&NotifierName>,
    ) {
        let declared = self.world.compiled.notifiers.values();
        let listening = declared.filter(|notifier| {
            let is_named = named == Some(&notifier.name);
            about != Some(&notifier.name) && (is_named || listens(notifier, event))
        });
        let names: Vec<NotifierName> = listening.map(|notifier| notifier.name.clone()).collect();
        for name in names {
            self.enqueue(name, event);
        }
    }

    fn enqueue(&mut self, notifier: NotifierName, event: &Event) {
        self.writes.push(Write::Notice(Box::new(Notice {
            notifier: notifier.clone(),
            event: event.clone(),
        })));
        let outbox = &mut self.world.outbox;
        let waiting = outbox.waiting.entry(notifier.clone()).or_default();
        waiting.push_back(Arc::new(event.clone()));
        if waiting.len() <= WAITING_MAX {
            return;
        }
        // The first may be on its way; that it is told then does no harm.
        let dropped = waiting.pop_front().map(|event| event.sequence);
        let begins = outbox.overflowing.insert(notifier.clone());
        self.writes
            .extend(dropped.map(|sequence| Write::DropNotice {
                sequence,
                notifier: notifier.clone(),
            }));
        if begins {
            let message = format!(
                "{WAITING_MAX} messages of notifier {notifier} wait; the oldest are dropped from \
                 now on"
            );
            self.record_about(notifier, "notifier.dropped", message);
        }
    }

    /// Notes that a notice was told, or could not be.
    pub fn told(&mut self, notifier: &NotifierName, sequence: u64, outcome: Result<(), String>) {
        let outbox = &mut self.world.outbox;
        let Some(waiting) = outbox.waiting.get_mut(notifier) else {
            return;
        };
        let Some(at) = waiting.iter().position(|event| event.sequence == sequence) else {
            return;
        };
        let event = waiting.remove(at);
        if waiting.is_empty() {
            outbox.waiting.remove(notifier);
            outbox.overflowing.remove(notifier);
        }
        self.writes.push(Write::DropNotice {
            sequence,
            notifier: notifier.clone(),
        });
        let (Err(why), Some(event)) = (outcome, event) else {
            return;
        };
        tracing::warn!(%notifier, sequence, why, "a message was not delivered");
        // Two notifiers that tell each other's failures would never come to rest.
        if !event.kind.starts_with("notifier.") {
            let message = format!(
                "notifier {notifier} could not tell {} (event {sequence}): {why}",
                event.kind
            );
            self.record_about(notifier.clone(), "notifier.failed", message);
        }
    }

    fn record_about(&mut self, notifier: NotifierName, kind: &'static str, message: String) {
        self.record(Entry {
            kind,
            message,
            notifier: Some(notifier),
            ..Entry::default()
        });
    }
}

fn listens(notifier: &Notifier, event: &Event) -> bool {
    let service = event.service.as_ref();
    let environment = event.environment.as_ref();
    let of_service = service.is_some_and(|service| notifier.services.contains(service));
    let of_environment = environment.is_some_and(|name| notifier.environments.contains(name));
    notifier.on.contains(&event.kind)
        && (notifier.services.is_empty() || of_service)
        && (notifier.environments.is_empty() || of_environment)
}

#[cfg(test)]
mod tests {
    use holdfast_engine::compiled::Compiled;
    use holdfast_engine::compiled::notifier::{Channel, Sealable};
    use holdfast_protocol::time::Timestamp;

    use super::*;
    use crate::store::load::Loaded;
    use crate::world::Trust;

    /// A world with these notifiers, each of these kinds.
    fn world(folder: &std::path::Path, notifiers: &[(&str, &[&str])]) -> World {
        let now = Timestamp::from_millis(1_000);
        let trust = Trust::open(folder, now).unwrap();
        let mut world = World::restore(Loaded::default(), trust, now).unwrap();
        let mut compiled = Compiled::default();
        for (name, kinds) in notifiers {
            let url = Sealable::Plain("https://example.com/".to_owned());
            let notifier = Notifier {
                name: name.parse().unwrap(),
                owner: String::new(),
                set: "default".parse().unwrap(),
                on: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
                services: BTreeSet::new(),
                environments: BTreeSet::new(),
                channel: Channel::Slack { url },
            };
            let notifiers = &mut compiled.notifiers;
            notifiers.insert(notifier.name.clone(), Arc::new(notifier));
        }
        world.compiled = Arc::new(compiled);
        world
    }

    fn entry(kind: &'static str, notify: Option<&str>) -> Entry {
        Entry {
            kind,
            notify: notify.map(|name| name.parse().unwrap()),
            ..Entry::default()
        }
    }

    /// Kind and receiver of everything that waits.
    fn waiting(world: &World) -> Vec<String> {
        let all = world.outbox.waiting.iter();
        all.flat_map(|(name, events)| {
            events
                .iter()
                .map(move |event| format!("{} {name}", event.kind))
        })
        .collect()
    }

    #[test]
    fn an_event_is_told_by_who_listens_and_by_who_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut world = world(folder.path(), &[("a", &["x"]), ("b", &[])]);
        let mut round = Round::new(&mut world, Timestamp::from_millis(1));
        round.record(entry("x", Some("a")));
        round.record(entry("x", Some("b")));
        round.record(entry("y", None));
        assert_eq!(waiting(&world), ["x a", "x a", "x b"]);
    }

    #[test]
    fn what_is_not_told_is_bounded_and_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let kinds = ["x", "notifier.dropped", "notifier.failed"];
        let mut world = world(folder.path(), &[("a", &kinds), ("b", &kinds[1..])]);
        let mut round = Round::new(&mut world, Timestamp::from_millis(1));
        for _ in 0..2 * WAITING_MAX {
            round.record(entry("x", None));
        }
        let a = "a".parse().unwrap();
        let oldest = round.world.notices_due(&BTreeSet::new(), 9)[0]
            .event
            .sequence;
        assert!(oldest > WAITING_MAX as u64);
        round.told(&a, oldest, Err("nobody is there".to_owned()));
        // The same again says nothing.
        round.told(&a, oldest, Err("nobody is there".to_owned()));
        let others: Vec<String> = waiting(&world).split_off(WAITING_MAX - 1);
        assert_eq!(others, ["notifier.dropped b", "notifier.failed b"]);
        // Nor is a failure to tell of a failure told.
        let b = "b".parse().unwrap();
        let busy = BTreeSet::from([a]);
        let due = world.notices_due(&busy, 9).remove(0);
        let mut round = Round::new(&mut world, Timestamp::from_millis(2));
        round.told(&b, due.event.sequence, Err("nobody is there".to_owned()));
        assert_eq!(waiting(&world).len(), WAITING_MAX);
    }
}
