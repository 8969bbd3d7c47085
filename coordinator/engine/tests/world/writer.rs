//! How a random world is set up: environments with their guardrails, services, checks, targets.

use holdfast_engine::track::check::CheckResult;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName};

use super::super::event::{Event, Gate};

pub(super) const ENVIRONMENTS: [&str; 6] =
    ["dev", "test", "staging", "production", "edge", "mirror"];
pub(super) const SERVICES: [&str; 20] = [
    "database", "api", "web", "jobs", "cache", "mail", "search", "login", "files", "queue", "maps",
    "chat", "shop", "cart", "bills", "stock", "feeds", "logs", "media", "admin",
];
const REGIONS: [&str; 3] = ["eu", "us", "asia"];
/// Guards that a person or the world answers, and their kinds.
pub(super) const ASKED: [(&str, &str); 4] = [
    ("tests", "run"),
    ("capacity", "resource"),
    ("health", "http"),
    ("alerts", "prometheus"),
];

/// Writes events with names that exist.
pub(super) struct Writer {
    pub(super) environments: usize,
    pub(super) services: usize,
    pub(super) targets: usize,
    pub(super) versions: u32,
    pub(super) events: Vec<Event>,
}

pub(super) fn choose<'c>(bits: u8, of: &[&'c str]) -> &'c str {
    of[bits as usize % of.len()]
}

/// One in so many; never for nothing, which histories shrink to.
pub(super) const fn hits(bits: u8, of: u8) -> bool {
    bits % of == of - 1
}

pub(super) fn environment(at: usize) -> EnvironmentName {
    ENVIRONMENTS[at].parse().expect("a name")
}

pub(super) fn service(at: usize) -> ServiceName {
    SERVICES[at].parse().expect("a name")
}

pub(super) fn target(at: usize) -> TargetName {
    format!("t{at}").parse().expect("a name")
}

pub(super) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

impl Writer {
    pub(super) fn new(environments: usize, services: usize, targets: usize) -> Self {
        Self {
            environments,
            services,
            targets: targets.max(4),
            versions: 0,
            events: Vec::new(),
        }
    }

    /// An environment with these guardrails, after some of those before it.
    pub(super) fn environment(&mut self, at: usize, bits: &[u8; 24]) {
        let mut settings = pairs(&guardrails(bits));
        settings.extend(rule(at, bits));
        settings.extend(calendar(bits));
        let name = environment(at);
        self.events.push(Event::Environment { name, settings });
    }

    /// A service that depends on some of those before it; now and then a job.
    pub(super) fn service(&mut self, at: usize, bits: [u8; 3]) {
        let name = service(at);
        let settings: &[(&str, &str)] = match bits[2] % 16 {
            3 => &[],
            1 => &[("once", "true")],
            2 => &[("schedule", "0_*_*_*_*")],
            _ => return self.declare(at, bits[0]),
        };
        let settings = pairs(settings);
        self.events.push(Event::Job { name, settings });
        self.declare(at, bits[0]);
    }

    pub(super) fn declare(&mut self, at: usize, bits: u8) {
        let before = (0..at).zip(0..);
        let before = before.filter(|(_, turn)| bits.rotate_left(3 * turn) & 7 == 7);
        let event = Event::Service {
            name: service(at),
            depends_on: before.take(3).map(|(before, _)| service(before)).collect(),
        };
        self.events.push(event);
    }

    /// Checks of every kind, and what they answer at first.
    pub(super) fn guards(&mut self, shapes: &[[u8; 24]]) {
        for (at, bits) in shapes.iter().enumerate() {
            for (kind, bits) in (0..7).zip(&bits[16..]) {
                if hits(*bits, 6) {
                    self.protect(at, kind, bits / 6);
                }
            }
        }
        for (name, _) in ASKED {
            self.answers(name, 0);
        }
    }

    /// One check of an environment.
    pub(super) fn protect(&mut self, at: usize, kind: u8, bits: u8) {
        let of = format!("{}@{}", SERVICES[0], ENVIRONMENTS[at.saturating_sub(1)]);
        let kind = kind % 7;
        let (name, mut settings) = match kind {
            0..=3 => asked(ASKED[kind as usize], bits),
            4 => ("quality", judged(bits)),
            5 if at > 0 => ("upstream", vec![("kind", "stable"), ("of", &of)]),
            _ => ("change", approval(bits)),
        };
        match bits % 5 {
            4 => settings.push(("skippable", "nobody")),
            1 => settings.push(("skippable", "sre")),
            _ => {}
        }
        self.events.push(Event::Gate(Gate::Protect {
            environment: environment(at),
            name: name.parse().expect("a name"),
            settings: pairs(&settings),
        }));
    }

    pub(super) fn answers(&mut self, name: &str, bits: u8) {
        let answer = match bits % 8 {
            0..=3 => Some((CheckResult::Passed, String::new())),
            4 | 5 => Some((CheckResult::Failed, "2 alerts".to_owned())),
            6 => Some((CheckResult::Unknown, "no route".to_owned())),
            _ => None,
        };
        let name = name.parse().expect("a name");
        self.events
            .push(Event::Gate(Gate::Answers { name, answer }));
    }

    pub(super) fn join(&mut self, at: usize, [place, region]: [u8; 2]) {
        let environment = environment(place as usize % self.environments);
        let target = target(at);
        self.events.push(Event::Join {
            target: target.clone(),
            environment,
        });
        if hits(region, 2) {
            let labels = pairs(&[("region", choose(region / 2, &REGIONS))]);
            self.events
                .push(Event::Gate(Gate::Label { target, labels }));
        }
    }
}

fn guardrails(bits: &[u8; 24]) -> Vec<(&'static str, &'static str)> {
    let waves = [
        "100%",
        "1,100%",
        "1,50%,100%",
        "25%,50%,100%",
        "2,100%",
        "region=eu,100%",
        "1,region=us,region=asia,100%",
    ];
    let mut settings = vec![
        ("waves", choose(bits[0], &waves)),
        (
            "maxUnavailable",
            choose(bits[1], &["1", "2", "50%", "100%"]),
        ),
        ("maxFailures", choose(bits[2], &["0", "0", "0", "1", "2"])),
        ("soak", choose(bits[3], &["0s", "0s", "10s", "60s"])),
        ("minReady", choose(bits[4], &["0s", "0s", "5s"])),
        ("progressDeadline", choose(bits[4] / 8, &["30s", "120s"])),
    ];
    if hits(bits[5], 6) {
        settings.push(("onFailure", "halt"));
    }
    if hits(bits[5] / 6, 6) {
        settings.push(("disconnected", "wait"));
    }
    if hits(bits[7], 5) {
        settings.push(("maxDisconnected", choose(bits[7] / 5, &["0", "1", "50%"])));
    }
    settings
}

/// Which release is wanted, and of those before, which come first.
fn rule(at: usize, bits: &[u8; 24]) -> Vec<(String, String)> {
    let before = (0..at).filter(|before| bits[6] >> before & 1 == 1);
    let before: Vec<&str> = before.map(|at| ENVIRONMENTS[at]).collect();
    let joined = before.join(",");
    let mut settings = Vec::new();
    if !before.is_empty() {
        settings.push(("after", joined.as_str()));
    }
    match bits[8] % 8 {
        7 if at > 0 => settings = vec![("follow", ENVIRONMENTS[at - 1])],
        1 | 2 => settings.push(("promotion", "every")),
        3 => settings.push(("promotion", "manual")),
        _ => {}
    }
    match bits[9] % 24 {
        7 => settings.push(("pin", "1.1.0")),
        8 | 9 => settings.push(("admits", "^1")),
        _ => {}
    }
    pairs(&settings)
}

/// When deployments may start. It is 07:36 in Berlin when a world begins.
fn calendar(bits: &[u8; 24]) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    if hits(bits[10], 5) {
        let windows = [
            "0_6_*_*_*/2h",
            "0_8_*_*_*/2h",
            "0_*_*_*_*/30m",
            "40_7_*_*_*/10m",
        ];
        settings.push(("window", choose(bits[10] / 5, &windows)));
        match bits[11] % 3 {
            2 => settings.push(("onWindowClose", "hold")),
            // What waits for those that are away goes back at each closing, for ever.
            1 if !hits(bits[5] / 6, 6) => settings.push(("onWindowClose", "rollback")),
            _ => {}
        }
    }
    pairs(&settings)
}

fn asked(
    (name, kind): (&'static str, &'static str),
    bits: u8,
) -> (&'static str, Vec<(&'static str, &'static str)>) {
    let mut settings = vec![
        ("kind", kind),
        (
            "when",
            choose(bits, &["pre", "post", "pre,post", "always", "pre,always"]),
        ),
        ("interval", choose(bits / 5, &["2m", "5m"])),
        ("threshold", choose(bits / 3, &["1", "1", "2"])),
    ];
    if hits(bits / 7, 2) {
        settings.push(("onIncident", "rollback"));
    }
    if hits(bits / 11, 3) {
        settings.push(("notify", "2m:dba"));
    }
    (name, settings)
}

fn judged(bits: u8) -> Vec<(&'static str, &'static str)> {
    let expressions = [
        "release.version!='1.2.0'",
        "observed.failed<1",
        "deployment.hotfix==false",
        "release.meta.tested=='yes'",
        "release.sequence<6",
    ];
    let when = ["pre", "post", "always", "pre,post"];
    vec![
        ("kind", "expression"),
        ("holds", choose(bits, &expressions)),
        ("when", choose(bits / 5, &when)),
        ("onIncident", choose(bits / 3, &["tell", "rollback"])),
        ("threshold", choose(bits / 9, &["1", "2"])),
    ]
}

fn approval(bits: u8) -> Vec<(&'static str, &'static str)> {
    vec![
        ("kind", "approval"),
        (
            "roles",
            choose(bits, &["release-manager", "release-manager,sre"]),
        ),
        ("count", choose(bits / 2, &["1", "1", "2"])),
        ("expires", choose(bits / 5, &["7d", "15m"])),
    ]
}
