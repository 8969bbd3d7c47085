//! How often each interesting thing happened: a generator that no longer reaches one fails the test.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_engine::compiled::Promotion;
use holdfast_engine::effect::{Effect, Record};
use holdfast_engine::input::Declared;
use holdfast_engine::track::{Deployment, Phase};
use holdfast_protocol::api::deployment::TriggerKind;
use holdfast_protocol::api::wait::{Wait, WaitKind};

use super::model::Stepped;
use super::never_worse::begun;

/// Counts by what happened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

/// Least counts in ten thousand histories: about a quarter of what there is; what is rarer is only told.
const FLOOR: [(&str, u64); 46] = [
    ("a check asked", 14731),
    ("a job begun", 1288),
    ("a target given something", 7677),
    ("a target relieved of something", 645),
    ("approval.given", 474),
    ("approval.requested", 2332),
    ("begun as a hotfix", 118),
    ("begun by a configuration", 79),
    ("begun by a mirror", 102),
    ("begun by a person", 111),
    ("begun by a pin", 331),
    ("begun by a promotion", 543),
    ("begun by a release", 7272),
    ("begun by a retry", 42),
    ("begun by a schedule", 128),
    ("deployment.asked", 706),
    ("deployment.failed", 588),
    ("deployment.halted", 326),
    ("deployment.rejected", 228),
    ("deployment.rolledBack", 489),
    ("deployment.rolling", 3414),
    ("deployment.stable", 1682),
    ("deployment.started", 8748),
    ("deployment.superseded", 2585),
    ("deployment.verifying", 1827),
    ("deployment.wave", 1330),
    ("protection.skipped", 157),
    ("protection.waiting", 41),
    ("several of a train in flight", 36),
    ("track.paused", 761),
    ("track.pinned", 390),
    ("track.resumed", 58),
    ("waits after a failure", 1233),
    ("waits for a check", 5647),
    ("waits for a dependency", 374),
    ("waits for a freeze", 512),
    ("waits for a pause", 735),
    ("waits for a policy", 181),
    ("waits for a removal", 61),
    ("waits for a soak", 1369),
    ("waits for a target that is held", 128),
    ("waits for a window", 1063),
    ("waits for an approval", 1404),
    ("waits for capacity", 717),
    ("waits for targets", 6495),
    ("waits for the order", 15482),
];

/// Least histories of which a count is expected.
const FLOOR_HISTORIES: u64 = 2_000;

impl Reached {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// What was reached less often than it has to be in so many histories.
    pub(crate) fn missing(&self, histories: u64) -> Vec<String> {
        let short = |(what, least): &(&'static str, u64)| {
            let wanted = least * histories / 10_000;
            let count = self.0.get(what).copied().unwrap_or(0);
            (count < wanted).then(|| format!("{what}: {count}, of at least {wanted}"))
        };
        // Few histories say nothing of what is rare.
        let enough = histories >= FLOOR_HISTORIES;
        FLOOR.iter().filter(|_| enough).filter_map(short).collect()
    }

    pub(crate) fn look(&mut self, stepped: &Stepped<'_>) {
        for effect in &stepped.outcome.effects {
            match effect {
                Effect::Record(record) => self.record(record),
                Effect::Check(_) => self.note("a check asked"),
                Effect::Place { .. } => self.note("a target given something"),
                Effect::Displace { .. } => self.note("a target relieved of something"),
                Effect::Save(_) => {}
            }
        }
        if let Some(begun) = begun(stepped) {
            self.begun(stepped, begun);
        }
        let before = &stepped.before.waits;
        for wait in &stepped.outcome.waits {
            let same = |old: &Wait| old.kind == wait.kind && old.subject == wait.subject;
            if !before.iter().any(same) {
                self.wait(stepped, wait);
            }
            if wait.message.contains("lapsed after") && !before.contains(wait) {
                self.note("an approval lapsed");
            }
        }
    }

    fn record(&mut self, record: &Record) {
        self.note(record.kind);
        if record.message.contains("the window closed") {
            self.note("a window closed on a rollout, which went back");
        }
    }

    fn begun(&mut self, stepped: &Stepped<'_>, begun: &Deployment) {
        self.note(match begun.trigger.kind {
            TriggerKind::Release => "begun by a release",
            TriggerKind::Promotion => "begun by a promotion",
            TriggerKind::Configuration => "begun by a configuration",
            TriggerKind::Rollback => "begun by a rollback",
            TriggerKind::Retry => "begun by a retry",
            TriggerKind::Protection => "begun by an incident",
            TriggerKind::Mirror => "begun by a mirror",
            TriggerKind::Pin => "begun by a pin",
            TriggerKind::Deploy => "begun by a person",
            TriggerKind::Hotfix => "begun as a hotfix",
            TriggerKind::Schedule => "begun by a schedule",
        });
        let Declared::Runs(spec) = stepped.inputs.declared else {
            return;
        };
        if spec.job.is_some() {
            self.note("a job begun");
        }
        let ahead = |version| version != &begun.point.version;
        let mut upstream = stepped.inputs.upstream.iter();
        let train = upstream.any(|up| {
            up.current
                .is_some_and(|(phase, version)| !phase.is_final() && ahead(version))
        });
        if train && spec.promotion == Promotion::Every {
            self.note("several of a train in flight");
        }
    }

    fn wait(&mut self, stepped: &Stepped<'_>, wait: &Wait) {
        self.note(match wait.kind {
            WaitKind::Order => "waits for the order",
            WaitKind::Dependency => "waits for a dependency",
            WaitKind::Policy => "waits for a policy",
            WaitKind::Protection if wait.subject == "soak" => "waits for a soak",
            WaitKind::Protection => "waits for a check",
            WaitKind::Approval => "waits for an approval",
            WaitKind::Window => "waits for a window",
            WaitKind::Pause => "waits for a pause",
            WaitKind::Freeze => "waits for a freeze",
            WaitKind::Removal => "waits for a removal",
            WaitKind::Hold => "waits for a target that is held",
            WaitKind::Capacity => "waits for capacity",
            WaitKind::Target => "waits for targets",
            WaitKind::Failed => "waits after a failure",
        });
        let current = stepped.outcome.track.current.as_ref();
        let rolls = current.is_some_and(|current| matches!(current.phase, Phase::Rolling { .. }));
        match wait.kind {
            WaitKind::Window if rolls => self.note("a window closed on a rollout, which was held"),
            WaitKind::Freeze if rolls => self.note("a freeze between waves"),
            _ => {}
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = self.0.iter();
        counts.try_for_each(|(what, count)| writeln!(f, "{count:>9}  {what}"))
    }
}
