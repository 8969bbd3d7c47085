//! Random histories: a world of up to four environments, five services and twelve targets, and what
//! happens in it.

use std::fmt;

use holdfast_engine::steer::Wish;
use holdfast_engine::track::TrackName;
use holdfast_protocol::name::ServiceName;
use proptest::prelude::*;

use super::event::Event;

pub(crate) const DAY_MILLIS: u64 = 86_400_000;

const ENVIRONMENTS: [&str; 4] = ["dev", "staging", "production", "edge"];
const SERVICES: [&str; 5] = ["database", "api", "web", "jobs", "cache"];
const TARGETS: usize = 12;

/// What happens, first how the world is set up.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this history:")?;
        self.events
            .iter()
            .try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl History {
    /// The history without some of its events.
    pub(crate) fn without(self, unwanted: impl Fn(&Event) -> bool) -> Self {
        let events = self
            .events
            .into_iter()
            .filter(|event| !unwanted(event))
            .collect();
        Self { events }
    }

    /// A service that no other depends on: the one declared last.
    pub(crate) fn last_service(&self) -> ServiceName {
        let mut services = self.events.iter().rev().filter_map(|event| match event {
            Event::Service { name, .. } => Some(name.clone()),
            _ => None,
        });
        services.next().expect("every world has a service")
    }
}

/// Whether an event kills the coordinator.
pub(crate) fn restarts(event: &Event) -> bool {
    matches!(event, Event::Restart | Event::Lose)
}

/// Whether an event concerns this service alone.
pub(crate) fn is_about(event: &Event, service: &ServiceName) -> bool {
    match event {
        Event::Release { service: s, .. }
        | Event::Bad { service: s, .. }
        | Event::Good { service: s, .. }
        | Event::Break { service: s, .. }
        | Event::Job { name: s, .. } => s == service,
        Event::Config { track, .. }
        | Event::Wish { track, .. }
        | Event::Remove { track }
        | Event::Confirm { track }
        | Event::Declare { track } => track.service == *service,
        Event::Environment { .. }
        | Event::Gate(_)
        | Event::Service { .. }
        | Event::Join { .. }
        | Event::Leave { .. }
        | Event::Connect { .. }
        | Event::Disconnect { .. }
        | Event::Work { .. }
        | Event::Settle { .. }
        | Event::Pass { .. }
        | Event::Restart
        | Event::Lose => false,
    }
}

/// Any history.
pub(crate) fn history() -> impl Strategy<Value = History> {
    let shapes = prop::collection::vec(any::<[u8; 8]>(), 1..=ENVIRONMENTS.len());
    let services = prop::collection::vec(any::<[u8; 2]>(), 1..=SERVICES.len());
    let joins = prop::collection::vec(any::<u8>(), 0..=8);
    let happenings = prop::collection::vec((kind(), any::<[u8; 3]>()), 0..60);
    (shapes, services, joins, happenings).prop_map(|(shapes, services, joins, happenings)| {
        let mut writer = Writer {
            environments: shapes.len(),
            services: services.len(),
            versions: 0,
            events: Vec::new(),
        };
        shapes
            .iter()
            .enumerate()
            .for_each(|(at, shape)| writer.environment(at, *shape));
        services
            .iter()
            .enumerate()
            .for_each(|(at, bits)| writer.service(at, *bits));
        joins
            .iter()
            .enumerate()
            .for_each(|(at, place)| writer.join(at, *place));
        happenings
            .iter()
            .for_each(|(kind, with)| writer.write(*kind, *with));
        History {
            events: writer.events,
        }
    })
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Release,
    BadRelease,
    Good,
    Work,
    Settle,
    SettleLong,
    Pass,
    Connect,
    Disconnect,
    Join,
    Leave,
    Config,
    Break,
    Pause,
    Resume,
    Halt,
    Retry,
    Rollback,
    RollbackTo,
    Deploy,
    Hotfix,
    Promote,
    PromoteTo,
    Pin,
    Unpin,
    Remove,
    Confirm,
    Declare,
    Restart,
    Lose,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        8 => Just(Kind::Release),
        4 => Just(Kind::BadRelease),
        1 => Just(Kind::Good),
        20 => Just(Kind::Work),
        10 => Just(Kind::Settle),
        4 => Just(Kind::SettleLong),
        8 => Just(Kind::Pass),
        4 => Just(Kind::Connect),
        4 => Just(Kind::Disconnect),
        3 => Just(Kind::Join),
        1 => Just(Kind::Leave),
        4 => Just(Kind::Config),
        2 => Just(Kind::Break),
        2 => Just(Kind::Pause),
        3 => Just(Kind::Resume),
        2 => Just(Kind::Halt),
        3 => Just(Kind::Retry),
        3 => Just(Kind::Rollback),
        1 => Just(Kind::RollbackTo),
        2 => Just(Kind::Deploy),
        1 => Just(Kind::Hotfix),
        3 => Just(Kind::Promote),
        1 => Just(Kind::PromoteTo),
        2 => Just(Kind::Pin),
        2 => Just(Kind::Unpin),
        1 => Just(Kind::Remove),
        1 => Just(Kind::Confirm),
        1 => Just(Kind::Declare),
        3 => Just(Kind::Restart),
        2 => Just(Kind::Lose),
    ]
}

/// Writes events with names that exist.
struct Writer {
    environments: usize,
    services: usize,
    versions: u32,
    events: Vec<Event>,
}

impl Writer {
    fn environment(&mut self, at: usize, bits: [u8; 8]) {
        let choose = |bits: u8, of: &[&str]| of[bits as usize % of.len()].to_owned();
        let mut settings = vec![
            (
                "waves",
                choose(
                    bits[0],
                    &["100%", "1,100%", "1,50%,100%", "25%,50%,100%", "2,100%"],
                ),
            ),
            (
                "maxUnavailable",
                choose(bits[1], &["1", "2", "50%", "100%"]),
            ),
            ("maxFailures", choose(bits[2], &["0", "0", "0", "1", "2"])),
            ("soak", choose(bits[3], &["0s", "0s", "10s", "60s"])),
            ("minReady", choose(bits[4], &["0s", "0s", "5s"])),
            ("progressDeadline", choose(bits[4] / 8, &["30s", "120s"])),
        ];
        if bits[5].is_multiple_of(6) {
            settings.push(("onFailure", "halt".to_owned()));
        }
        if (bits[5] / 6).is_multiple_of(6) {
            settings.push(("disconnected", "wait".to_owned()));
        }
        match bits[7] % 6 {
            0 => settings.push(("promotion", "every".to_owned())),
            1 => settings.push(("promotion", "manual".to_owned())),
            2 if at > 0 => settings.push(("follow", ENVIRONMENTS[at - 1].to_owned())),
            _ => {}
        }
        let before = (0..at)
            .filter(|earlier| bits[6] >> earlier & 1 == 1)
            .map(|i| ENVIRONMENTS[i]);
        let before: Vec<&str> = before.collect();
        if !before.is_empty() {
            settings.push(("after", before.join(",")));
        }
        let settings = settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let name = ENVIRONMENTS[at].parse().expect("a name");
        self.events.push(Event::Environment { name, settings });
    }

    fn service(&mut self, at: usize, [bits, kind]: [u8; 2]) {
        if kind % 4 < 2 {
            let name = SERVICES[at].parse().expect("a name");
            let once = (kind % 4 == 1).to_string();
            let settings = vec![("once".to_owned(), once)];
            self.events.push(Event::Job { name, settings });
        }
        let depends_on = (0..at).filter(|earlier| bits >> (2 * earlier) & 3 == 3);
        let depends_on = depends_on
            .map(|i| SERVICES[i].parse().expect("a name"))
            .collect();
        let name = SERVICES[at].parse().expect("a name");
        self.events.push(Event::Service { name, depends_on });
    }

    fn join(&mut self, target: usize, place: u8) {
        let environment = ENVIRONMENTS[place as usize % self.environments];
        let environment = environment.parse().expect("a name");
        self.events.push(Event::Join {
            target: target_name(target),
            environment,
        });
    }

    fn write(&mut self, kind: Kind, with: [u8; 3]) {
        let service: ServiceName = SERVICES[with[0] as usize % self.services]
            .parse()
            .expect("a name");
        let environment = ENVIRONMENTS[with[1] as usize % self.environments];
        let environment = environment.parse().expect("a name");
        let track = TrackName {
            service: service.clone(),
            environment,
        };
        let target = target_name(with[1] as usize % TARGETS);
        let version = |number: u32| format!("r{number}").parse().expect("a version");
        let any_version = version(u32::from(with[2]) % (self.versions + 1));
        let event = match kind {
            Kind::Release | Kind::BadRelease => {
                let version: holdfast_protocol::name::Version = version(self.versions);
                self.versions += 1;
                if matches!(kind, Kind::BadRelease) {
                    let on = with[2]
                        .is_multiple_of(2)
                        .then(|| target_name(with[2] as usize / 2 % TARGETS));
                    let (service, version) = (service.clone(), version.clone());
                    self.events.push(Event::Bad {
                        service,
                        version,
                        on,
                    });
                }
                Event::Release { service, version }
            }
            Kind::Good => Event::Good {
                service,
                version: any_version,
            },
            Kind::Work => Event::Work { target },
            Kind::Settle => Event::Settle { millis: 0 },
            Kind::SettleLong => Event::Settle { millis: 600_000 },
            Kind::Pass => Event::Pass {
                millis: [500, 5_000, 20_000, 200_000][with[2] as usize % 4],
            },
            Kind::Connect => Event::Connect { target },
            Kind::Disconnect => Event::Disconnect { target },
            Kind::Join => return self.join(with[1] as usize % TARGETS, with[2]),
            Kind::Leave => Event::Leave { target },
            Kind::Config => Event::Config {
                track,
                number: u64::from(with[2]) % 4,
            },
            Kind::Break => Event::Break { target, service },
            Kind::Pause
            | Kind::Resume
            | Kind::Halt
            | Kind::Retry
            | Kind::Rollback
            | Kind::RollbackTo
            | Kind::Deploy
            | Kind::Hotfix
            | Kind::Promote
            | Kind::PromoteTo
            | Kind::Pin
            | Kind::Unpin => Event::Wish {
                track,
                wish: wish(kind, any_version),
            },
            Kind::Remove => Event::Remove { track },
            Kind::Confirm => Event::Confirm { track },
            Kind::Declare => Event::Declare { track },
            Kind::Restart => Event::Restart,
            Kind::Lose => Event::Lose,
        };
        self.events.push(event);
    }
}

fn target_name(at: usize) -> holdfast_protocol::name::TargetName {
    format!("t{}", at % TARGETS).parse().expect("a name")
}

fn wish(kind: Kind, version: holdfast_protocol::name::Version) -> Wish {
    match kind {
        Kind::Pause => Wish::Pause,
        Kind::Resume => Wish::Resume,
        Kind::Halt => Wish::Halt,
        Kind::Retry => Wish::Retry,
        Kind::Rollback => Wish::Rollback { to: None },
        Kind::RollbackTo => Wish::Rollback { to: Some(version) },
        Kind::Deploy | Kind::Hotfix => Wish::Deploy {
            version,
            hotfix: matches!(kind, Kind::Hotfix),
        },
        Kind::Promote => Wish::Promote { version: None },
        Kind::PromoteTo => Wish::Promote {
            version: Some(version),
        },
        Kind::Pin => Wish::Pin { version },
        Kind::Unpin => Wish::Unpin,
        _ => unreachable!("{kind:?} is no wish"),
    }
}
