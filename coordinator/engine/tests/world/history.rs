//! Random histories: a world of up to six environments, twenty services and two hundred targets, and
//! what happens in it. Most are small, so that much can be tried; some are large.

mod happening;
mod writer;

use std::fmt;

use holdfast_protocol::name::ServiceName;
use proptest::prelude::*;

use super::event::{Event, Gate};
use happening::Kind;
use writer::{ENVIRONMENTS, SERVICES, Writer};

/// Most targets of a world.
const TARGETS_MAX: usize = 200;

/// What happens, first how the world is set up.
#[derive(Clone, PartialEq)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
}

/// As a script, which can be saved as a scenario.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut events = self.events.iter();
        events.try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this history:\n{self}")
    }
}

impl History {
    /// The history without some of its events.
    pub(crate) fn without(&self, unwanted: impl Fn(&Event) -> bool) -> Self {
        let events = self.events.iter().filter(|event| !unwanted(event));
        Self {
            events: events.cloned().collect(),
        }
    }

    /// A service that no other reads anything of: the one that was declared last, at first.
    pub(crate) fn last_service(&self) -> ServiceName {
        let declared = |event: &&Event| matches!(event, Event::Service { .. });
        let setup = self.events.iter().take_while(|event| is_setup(event));
        let last = setup.filter(declared).last();
        match last {
            Some(Event::Service { name, .. }) => name.clone(),
            _ => SERVICES[0].parse().expect("a name"),
        }
    }
}

/// Whether an event is of those that a world begins with.
fn is_setup(event: &Event) -> bool {
    matches!(
        event,
        Event::Environment { .. }
            | Event::Job { .. }
            | Event::Service { .. }
            | Event::Join { .. }
            | Event::Gate(Gate::Protect { .. } | Gate::Answers { .. } | Gate::Label { .. })
    )
}

/// Whether an event concerns this service alone.
pub(crate) fn is_about(event: &Event, service: &ServiceName) -> bool {
    match event {
        Event::Release { service: s, .. }
        | Event::Bad { service: s, .. }
        | Event::Good { service: s, .. }
        | Event::Break { service: s, .. } => s == service,
        Event::Config { track, .. }
        | Event::Wish { track, .. }
        | Event::Remove { track }
        | Event::Confirm { track }
        | Event::Declare { track } => track.service == *service,
        Event::Gate(gate) => match gate {
            Gate::Approve { track, .. }
            | Gate::Withdraw { track, .. }
            | Gate::Reject { track, .. }
            | Gate::Skip { track, .. } => track.service == *service,
            Gate::About { service: s, .. } => s == service,
            _ => false,
        },
        Event::Environment { .. }
        | Event::Service { .. }
        | Event::Job { .. }
        | Event::Join { .. }
        | Event::Leave { .. }
        | Event::Connect { .. }
        | Event::Disconnect { .. }
        | Event::Work { .. }
        | Event::Settle { .. }
        | Event::Pass { .. }
        | Event::Ahead { .. }
        | Event::Behind { .. }
        | Event::Restart
        | Event::Lose => false,
    }
}

/// Any history.
pub(crate) fn history() -> impl Strategy<Value = History> {
    prop_oneof![
        960 => sized(3, 3, 8, 50),
        38 => sized(ENVIRONMENTS.len(), 6, 24, 70),
        2 => sized(ENVIRONMENTS.len(), SERVICES.len(), TARGETS_MAX, 70),
    ]
}

fn sized(
    environments: usize,
    services: usize,
    targets: usize,
    happenings: usize,
) -> impl Strategy<Value = History> {
    let shapes = prop::collection::vec(any::<[u8; 24]>(), 1..=environments);
    let services = prop::collection::vec(any::<[u8; 3]>(), 1..=services);
    let joins = prop::collection::vec(any::<[u8; 2]>(), 0..=targets);
    let happenings = prop::collection::vec(any::<[u8; 6]>(), 0..=happenings);
    (shapes, services, joins, happenings).prop_map(|(shapes, services, joins, happenings)| {
        let mut writer = Writer::new(shapes.len(), services.len(), joins.len());
        for (at, bits) in shapes.iter().enumerate() {
            writer.environment(at, bits);
        }
        for (at, bits) in services.iter().enumerate() {
            writer.service(at, *bits);
        }
        writer.guards(&shapes);
        for (at, bits) in joins.iter().enumerate() {
            writer.join(at, *bits);
        }
        for [kind, fine, with @ ..] in happenings {
            let kind = Kind::of(u16::from_be_bytes([kind, fine]));
            writer.write(kind, with);
        }
        History {
            events: writer.events,
        }
    })
}
