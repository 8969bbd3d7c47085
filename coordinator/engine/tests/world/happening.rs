//! What happens in a random world.

use holdfast_engine::steer::Wish;
use holdfast_engine::track::TrackName;
use holdfast_engine::track::check::CheckResult;
use holdfast_protocol::name::{ServiceName, Version};

use super::super::event::{Event, Gate};
use super::writer::{ASKED, Writer, choose, environment, hits, pairs, service, target};

/// What happens, without what it happens to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Settle,
    Work,
    Release,
    BadRelease,
    Good,
    SettleLong,
    Pass,
    Connect,
    Disconnect,
    Join,
    Leave,
    Config,
    Break,
    Wish(Verb),
    Gate(About),
    Remove,
    Confirm,
    Declare,
    Shape,
    Depend,
    Ahead,
    Behind,
    Restart,
    Lose,
}

/// What a person wishes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
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
}

/// What happens about gates.
#[derive(Debug, Clone, Copy)]
pub(super) enum About {
    Protect,
    Unprotect,
    Answers,
    Late,
    Require,
    Allow,
    Freeze,
    Unfreeze,
    Approve,
    Reject,
    Skip,
    Hold,
    Label,
    Release,
}

/// How often each kind happens, of all. What histories shrink to comes first.
const WEIGHTS: [(Kind, u32); 48] = [
    (Kind::Settle, 20),
    (Kind::SettleLong, 10),
    (Kind::Work, 16),
    (Kind::Release, 16),
    (Kind::BadRelease, 5),
    (Kind::Good, 1),
    (Kind::Pass, 8),
    (Kind::Connect, 4),
    (Kind::Disconnect, 4),
    (Kind::Join, 3),
    (Kind::Leave, 1),
    (Kind::Config, 4),
    (Kind::Break, 2),
    (Kind::Wish(Verb::Pause), 2),
    (Kind::Wish(Verb::Resume), 2),
    (Kind::Wish(Verb::Halt), 2),
    (Kind::Wish(Verb::Retry), 3),
    (Kind::Wish(Verb::Rollback), 3),
    (Kind::Wish(Verb::RollbackTo), 1),
    (Kind::Wish(Verb::Deploy), 2),
    (Kind::Wish(Verb::Hotfix), 2),
    (Kind::Wish(Verb::Promote), 3),
    (Kind::Wish(Verb::PromoteTo), 1),
    (Kind::Wish(Verb::Pin), 1),
    (Kind::Wish(Verb::Unpin), 1),
    (Kind::Gate(About::Protect), 2),
    (Kind::Gate(About::Unprotect), 1),
    (Kind::Gate(About::Answers), 6),
    (Kind::Gate(About::Late), 1),
    (Kind::Gate(About::Require), 1),
    (Kind::Gate(About::Allow), 1),
    (Kind::Gate(About::Freeze), 1),
    (Kind::Gate(About::Unfreeze), 2),
    (Kind::Gate(About::Approve), 6),
    (Kind::Gate(About::Reject), 1),
    (Kind::Gate(About::Skip), 3),
    (Kind::Gate(About::Hold), 1),
    (Kind::Gate(About::Label), 1),
    (Kind::Gate(About::Release), 2),
    (Kind::Remove, 1),
    (Kind::Confirm, 1),
    (Kind::Declare, 1),
    (Kind::Shape, 1),
    (Kind::Depend, 1),
    (Kind::Ahead, 1),
    (Kind::Behind, 1),
    (Kind::Restart, 2),
    (Kind::Lose, 2),
];

impl Kind {
    /// One of them, as often as it weighs.
    pub(super) fn of(bits: u16) -> Self {
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = u32::from(bits) * total / (u32::from(u16::MAX) + 1);
        for (kind, weight) in WEIGHTS {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Self::Settle
    }
}

impl Writer {
    pub(super) fn write(&mut self, kind: Kind, with: [u8; 4]) {
        let track = self.track(with);
        let target = target(with[1] as usize % self.targets);
        let event = match kind {
            Kind::Settle => Event::Settle { millis: 0 },
            Kind::SettleLong => Event::Settle {
                millis: [60_000, 300_000, 600_000, 1_800_000][with[2] as usize % 4],
            },
            Kind::Work => Event::Work { target },
            Kind::Release | Kind::BadRelease => return self.release(kind, &track.service, with),
            Kind::Good => Event::Good {
                service: track.service,
                version: self.version(with[2]),
            },
            Kind::Pass => Event::Pass {
                millis: [500, 5_000, 20_000, 200_000][with[2] as usize % 4],
            },
            Kind::Connect => Event::Connect { target },
            Kind::Disconnect => Event::Disconnect { target },
            Kind::Join => return self.join(with[1] as usize % self.targets, [with[2], with[3]]),
            Kind::Leave => Event::Leave { target },
            Kind::Config => Event::Config {
                track,
                number: u64::from(with[2]) % 4,
            },
            Kind::Break => Event::Break {
                target,
                service: track.service,
            },
            Kind::Wish(verb) => Event::Wish {
                track,
                wish: self.wish(verb, with),
            },
            Kind::Gate(about) => return self.gate(about, &track, with),
            Kind::Remove => Event::Remove { track },
            Kind::Confirm => Event::Confirm { track },
            Kind::Declare => Event::Declare { track },
            Kind::Shape => return self.reshape(with),
            Kind::Depend => return self.declare(with[0] as usize % self.services, with[2]),
            Kind::Ahead => Event::Ahead {
                millis: [60_000, 3_600_000, 86_400_000][with[2] as usize % 3],
            },
            Kind::Behind => Event::Behind {
                millis: [5_000, 60_000, 3_600_000][with[2] as usize % 3],
            },
            Kind::Restart => Event::Restart,
            Kind::Lose => Event::Lose,
        };
        self.events.push(event);
    }

    fn track(&self, with: [u8; 4]) -> TrackName {
        TrackName {
            service: service(with[0] as usize % self.services),
            environment: environment(with[1] as usize % self.environments),
        }
    }

    /// A version that there is, or the one to come.
    fn version(&self, bits: u8) -> Version {
        version(u32::from(bits) % (self.versions + 1))
    }

    fn release(&mut self, kind: Kind, service: &ServiceName, with: [u8; 4]) {
        let version = version(self.versions);
        self.versions += 1;
        if matches!(kind, Kind::BadRelease) {
            let some = hits(with[2], 2);
            let on = some.then(|| target(with[2] as usize / 2 % self.targets));
            let (service, version) = (service.clone(), version.clone());
            self.events.push(Event::Bad {
                service,
                version,
                on,
            });
        }
        let service = service.clone();
        self.events.push(Event::Release { service, version });
    }

    fn wish(&self, verb: Verb, with: [u8; 4]) -> Wish {
        let version = self.version(with[2]);
        match verb {
            Verb::Pause => Wish::Pause,
            Verb::Resume => Wish::Resume,
            Verb::Halt => Wish::Halt,
            Verb::Retry => Wish::Retry,
            Verb::Rollback => Wish::Rollback { to: None },
            Verb::RollbackTo => Wish::Rollback { to: Some(version) },
            Verb::Deploy | Verb::Hotfix => Wish::Deploy {
                version,
                hotfix: matches!(verb, Verb::Hotfix),
            },
            Verb::Promote => Wish::Promote { version: None },
            Verb::PromoteTo => Wish::Promote {
                version: Some(version),
            },
            Verb::Pin => Wish::Pin { version },
            Verb::Unpin => Wish::Unpin,
        }
    }

    /// Other guardrails for an environment that is there.
    fn reshape(&mut self, with: [u8; 4]) {
        let mut bits = [with[2]; 24];
        for (at, bit) in (0..).zip(&mut bits) {
            *bit = bit.rotate_left(at).wrapping_add(with[3]);
        }
        self.environment(with[1] as usize % self.environments, &bits);
    }

    fn gate(&mut self, about: About, track: &TrackName, with: [u8; 4]) {
        let place = with[1] as usize % self.environments;
        let (guard, _) = ASKED[with[2] as usize % ASKED.len()];
        let everywhere = hits(with[3], 3);
        let frozen = (!everywhere).then(|| environment(place));
        let gate = match about {
            About::Protect => return self.protect(place, with[2], with[3]),
            About::Answers => return self.answers(guard, with[3]),
            About::Approve => return self.approve(track, with),
            About::Unprotect => Gate::Unprotect {
                environment: environment(place),
                name: any_guard(with[2]),
            },
            About::Late => Gate::Late {
                name: guard.parse().expect("a name"),
                answer: (CheckResult::Failed, "too late".to_owned()),
            },
            About::Require => Gate::Require {
                environment: environment(place),
                policy: "tested".parse().expect("a name"),
                expression: choose(
                    with[2],
                    &["release.sequence>1", "release.meta.tested=='yes'"],
                )
                .to_owned(),
                message: "it has to be tested".to_owned(),
            },
            About::Allow => Gate::Allow {
                environment: environment(place),
                policy: "tested".parse().expect("a name"),
            },
            About::Freeze => Gate::Freeze {
                environment: frozen,
                by: "dora".to_owned(),
                reason: "a fair".to_owned(),
            },
            About::Unfreeze => Gate::Unfreeze {
                environment: frozen,
            },
            About::Reject => Gate::Reject {
                track: track.clone(),
                by: "bob".to_owned(),
                reason: "not today".to_owned(),
            },
            About::Skip => Gate::Skip {
                track: track.clone(),
                name: any_guard(with[2]),
                by: "carol".to_owned(),
                roles: vec!["sre".parse().expect("a role")],
                reason: "it is known".to_owned(),
            },
            About::Hold => Gate::Hold {
                target: target(with[1] as usize % self.targets),
                millis: [0, 60_000, 3_600_000][with[2] as usize % 3],
                reason: "inventory".to_owned(),
            },
            About::Label => Gate::Label {
                target: target(with[1] as usize % self.targets),
                labels: pairs(&[("region", choose(with[2], &["eu", "us"]))]),
            },
            About::Release => {
                // Said of the release to come.
                Gate::About {
                    service: track.service.clone(),
                    version: version(self.versions),
                    meta: pairs(&[("tested", choose(with[2], &["yes", "no"]))]),
                }
            }
        };
        self.events.push(Event::Gate(gate));
    }

    /// One or two people agree, in every environment.
    fn approve(&mut self, track: &TrackName, with: [u8; 4]) {
        for at in 0..self.environments {
            for by in ["anna", "ben"].iter().take(1 + with[2] as usize % 2) {
                let role = choose(with[3], &["release-manager", "release-manager", "sre"]);
                self.events.push(Event::Gate(Gate::Approve {
                    track: TrackName {
                        environment: environment(at),
                        ..track.clone()
                    },
                    by: (*by).to_owned(),
                    roles: vec![role.parse().expect("a role")],
                }));
            }
        }
    }
}

fn any_guard(bits: u8) -> holdfast_protocol::name::ProtectionName {
    let names = [
        "change", "tests", "capacity", "health", "alerts", "quality", "upstream",
    ];
    choose(bits, &names).parse().expect("a name")
}

fn version(number: u32) -> Version {
    let text = format!("{}.{}.0", 1 + number / 5, number % 5);
    text.parse().expect("a version")
}
