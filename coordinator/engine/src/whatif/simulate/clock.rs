//! The clock of a simulation: what is due next, and what the step makes of it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::time::Timestamp;

use super::{End, MOMENTS_MAX, Member, Moment, Pace, STEPS_MAX, Scene, Timeline};
use crate::check::{self, Answer};
use crate::compiled::TrackSpec;
use crate::compiled::protection::Check;
use crate::effect::{Ask, Effect};
use crate::input::{Declared, Dependency, Elsewhere, Freeze, Inputs, Seen, Upstream, View};
use crate::step::{Outcome, step};
use crate::track::check::{Approved, CheckResult};
use crate::track::{Point, Track, TrackName};
use crate::wake::{Change, Index};

/// Something that happens by itself, later.
#[derive(Debug)]
enum Due {
    /// A target has made real what was placed on it, or has failed to.
    Done {
        track: TrackName,
        target: TargetName,
        point: Point,
    },
    /// A check answers.
    Answer { track: TrackName, ask: Ask },
    /// People agree to a deployment.
    Agree { track: TrackName, deployment: u64 },
}

/// A simulation under way.
#[derive(Debug)]
pub(super) struct Clock<'p> {
    scene: Scene,
    pace: &'p Pace,
    fail: &'p BTreeSet<TrackName>,
    index: Index,
    /// The freezes that stop starts in each environment.
    freezes: BTreeMap<EnvironmentName, Vec<Freeze>>,
    now: Timestamp,
    /// Tracks to step, what others wait for first.
    moved: BTreeSet<(usize, TrackName)>,
    /// When time alone could move a track.
    wakes: BTreeMap<TrackName, Timestamp>,
    /// What happens when; the number keeps the order of what happens at the same time.
    due: BTreeMap<(Timestamp, u64), Due>,
    number: u64,
    /// Deployments that somebody will agree to. An approval that has lapsed is given once more.
    agreed: BTreeSet<u64>,
    moments: Vec<Moment>,
    steps: usize,
}

impl<'p> Clock<'p> {
    pub(super) fn new(
        mut scene: Scene,
        pace: &'p Pace,
        fail: &'p BTreeSet<TrackName>,
        now: Timestamp,
    ) -> Self {
        for name in scene.compiled.tracks.keys() {
            if !scene.tracks.contains_key(name) {
                scene.tracks.insert(name.clone(), Track::new(name.clone()));
            }
        }
        let index = Index::of(&scene.compiled);
        let mut clock = Self {
            freezes: freezes(&scene),
            scene,
            pace,
            fail,
            index,
            now,
            moved: BTreeSet::new(),
            wakes: BTreeMap::new(),
            due: BTreeMap::new(),
            number: 0,
            agreed: BTreeSet::new(),
            moments: Vec::new(),
            steps: 0,
        };
        clock.begin();
        clock
    }

    /// What was under way already comes to its end, and every track is stepped once.
    fn begin(&mut self) {
        let names: Vec<TrackName> = self.scene.tracks.keys().cloned().collect();
        for name in names {
            let track = &self.scene.tracks[&name];
            let placed: Vec<(TargetName, Point)> = track
                .placements
                .iter()
                .map(|(target, placement)| (target.clone(), placement.point.clone()))
                .collect();
            for (target, point) in placed {
                if !self.is_settled(&name, &target) {
                    self.placed(&name, target, point);
                }
            }
            self.outstanding(&name);
            self.step_soon(&name);
        }
    }

    fn is_settled(&self, name: &TrackName, target: &TargetName) -> bool {
        let member = self.scene.targets.get(target);
        let seen = member.and_then(|member| member.seen.get(&name.service));
        seen.is_some_and(|seen| matches!(seen, Seen::Ready { .. } | Seen::Failed { .. }))
    }

    fn outstanding(&mut self, name: &TrackName) {
        let Some(track) = self.scene.tracks.get(name) else {
            return;
        };
        let asks = check::outstanding(track, &self.inputs(name));
        for ask in asks {
            self.asked(name, ask);
        }
    }

    pub(super) fn run(mut self, until: Timestamp) -> Timeline {
        let end = self.play(until);
        let tracks = self.scene.tracks.iter();
        let waiting = tracks
            .filter(|(_, track)| !track.waits.is_empty())
            .map(|(name, track)| (name.clone(), track.waits.clone()));
        Timeline {
            ended_at: self.now,
            end,
            waiting: waiting.collect(),
            moments: self.moments,
        }
    }

    fn play(&mut self, until: Timestamp) -> End {
        loop {
            while let Some((_, name)) = self.moved.pop_first() {
                self.step(&name);
                if self.steps > STEPS_MAX || self.moments.len() >= MOMENTS_MAX {
                    return End::TooLong;
                }
            }
            let Some(next) = self.next() else {
                return End::AtRest;
            };
            if next > until {
                self.now = until;
                return End::Until;
            }
            self.now = self.now.max(next);
            self.happen();
        }
    }

    fn next(&self) -> Option<Timestamp> {
        let wake = self.wakes.values().min().copied();
        let due = self.due.first_key_value().map(|((at, _), _)| *at);
        wake.into_iter().chain(due).min()
    }

    /// Everything that is due by now.
    fn happen(&mut self) {
        let later = self.due.split_off(&(self.now, u64::MAX));
        for due in std::mem::replace(&mut self.due, later).into_values() {
            self.take(due);
        }
        let now = self.now;
        let woken: Vec<TrackName> = self
            .wakes
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in woken {
            self.wakes.remove(&name);
            self.step_soon(&name);
        }
    }

    fn take(&mut self, due: Due) {
        match due {
            Due::Done {
                track,
                target,
                point,
            } => self.done(&track, &target, &point),
            Due::Answer { track, ask } => self.answered(&track, ask),
            Due::Agree { track, deployment } => self.agreed(&track, deployment),
        }
    }

    fn done(&mut self, name: &TrackName, target: &TargetName, point: &Point) {
        let Some(track) = self.scene.tracks.get(name) else {
            return;
        };
        let placement = track.placements.get(target);
        if !placement.is_some_and(|placement| placement.point.is(point)) {
            return;
        }
        let is_new = !track.stable.as_ref().is_some_and(|stable| stable.is(point));
        let seen = if is_new && self.fail.contains(name) {
            Seen::Failed {
                message: "was told to fail".to_owned(),
            }
        } else {
            Seen::Ready { since: self.now }
        };
        if let Some(member) = self.scene.targets.get_mut(target) {
            member.seen.insert(name.service.clone(), seen);
        }
        self.step_soon(name);
    }

    fn answered(&mut self, name: &TrackName, ask: Ask) {
        let Some(track) = self.scene.tracks.get(name) else {
            return;
        };
        let answer = Answer {
            guard: ask.guard,
            when: ask.when,
            deployment: ask.deployment,
            asked_at: ask.asked_at,
            result: CheckResult::Passed,
            output: "passes, as usual".to_owned(),
        };
        let outcome = check::answer(track, &answer, &self.inputs(name), self.now);
        self.commit(name, outcome);
    }

    /// Everybody agrees who is asked to.
    fn agreed(&mut self, name: &TrackName, deployment: u64) {
        self.agreed.remove(&deployment);
        let spec = self.scene.compiled.tracks.get(name).cloned();
        let (Some(spec), Some(track)) = (spec, self.scene.tracks.get_mut(name)) else {
            return;
        };
        let Some(shown) = track
            .current
            .as_ref()
            .filter(|current| current.id == deployment)
            .map(|current| check::shown(track, current))
        else {
            return;
        };
        let at = self.now;
        let mut approvals = Vec::new();
        for guard in &spec.guards {
            if let Check::Approval(approval) = &guard.protection.check {
                approvals.extend((1..=approval.count).map(|person| Approved {
                    by: format!("person {person}"),
                    roles: approval.roles.clone(),
                    at,
                    shown,
                    reason: None,
                }));
            }
        }
        if let Some(current) = &mut track.current {
            current.approvals = approvals;
        }
        self.step_soon(name);
    }

    fn step(&mut self, name: &TrackName) {
        let Some(track) = self.scene.tracks.get(name) else {
            return;
        };
        self.steps += 1;
        let outcome = step(track, &self.inputs(name), self.now);
        self.commit(name, outcome);
    }

    fn commit(&mut self, name: &TrackName, outcome: Outcome) {
        let progress = self
            .scene
            .tracks
            .get(name)
            .is_some_and(|before| seen_by_others(before) != seen_by_others(&outcome.track));
        match outcome.wake_at {
            Some(at) => self.wakes.insert(name.clone(), at),
            None => self.wakes.remove(name),
        };
        self.scene.tracks.insert(name.clone(), outcome.track);
        for effect in outcome.effects {
            self.take_effect(name, effect);
        }
        self.ask_for_approval(name);
        if progress {
            let touched = self.index.touched(Change::Progress(name));
            let touched: Vec<TrackName> = touched.into_iter().cloned().collect();
            for name in touched {
                self.step_soon(&name);
            }
        }
    }

    fn take_effect(&mut self, name: &TrackName, effect: Effect) {
        match effect {
            Effect::Place { target, point } => self.placed(name, target, point),
            Effect::Displace { target } => {
                if let Some(member) = self.scene.targets.get_mut(&target) {
                    member.seen.remove(&name.service);
                }
            }
            Effect::Save(deployment) => {
                self.scene.last_deployment = self.scene.last_deployment.max(deployment.id);
            }
            Effect::Check(ask) => self.asked(name, ask),
            Effect::Record(record) => self.moments.push(Moment {
                at: self.now,
                track: name.clone(),
                kind: record.kind,
                message: record.message,
            }),
        }
    }

    fn placed(&mut self, name: &TrackName, target: TargetName, point: Point) {
        let Some(member) = self.scene.targets.get_mut(&target) else {
            return;
        };
        member.seen.insert(name.service.clone(), Seen::Unknown);
        if member.connected {
            let took = self.pace.ready.get(name).copied();
            let at = self.now.after(took.unwrap_or(self.pace.ready_else));
            let track = name.clone();
            self.later(
                at,
                Due::Done {
                    track,
                    target,
                    point,
                },
            );
        }
    }

    fn asked(&mut self, name: &TrackName, ask: Ask) {
        let track = name.clone();
        self.later(self.now.after(self.pace.check), Due::Answer { track, ask });
    }

    fn ask_for_approval(&mut self, name: &TrackName) {
        let Some(track) = self.scene.tracks.get(name) else {
            return;
        };
        let waits = track.waits.iter();
        let asked = waits.filter(|wait| wait.kind == WaitKind::Approval).count() > 0;
        let Some(current) = track.current.as_ref().filter(|_| asked) else {
            return;
        };
        let deployment = current.id;
        if self.agreed.insert(deployment) {
            let track = name.clone();
            self.later(
                self.now.after(self.pace.approval),
                Due::Agree { track, deployment },
            );
        }
    }

    fn later(&mut self, at: Timestamp, due: Due) {
        self.number += 1;
        self.due.insert((at, self.number), due);
    }

    fn step_soon(&mut self, name: &TrackName) {
        self.moved.insert((self.index.place(name), name.clone()));
    }

    fn inputs(&self, name: &TrackName) -> Inputs<'_> {
        let scene = &self.scene;
        let spec = scene.compiled.tracks.get(name).map(AsRef::as_ref);
        let at = |service: &_, environment: &_| {
            scene.tracks.get(&TrackName {
                service: Clone::clone(service),
                environment: Clone::clone(environment),
            })
        };
        let mut inputs = Inputs {
            revision: scene.revision,
            releases: scene.releases.get(name).map_or(&[], Vec::as_slice),
            targets: self.views(name, spec),
            next_deployment: scene.last_deployment + 1,
            freezes: self
                .freezes
                .get(&name.environment)
                .map_or(&[], Vec::as_slice),
            ..Inputs::of(spec.map_or(Declared::Removed { confirmed: false }, Declared::Runs))
        };
        let Some(spec) = spec else {
            return inputs;
        };
        let upstream = spec.upstream().map(|environment| {
            let before = TrackName {
                service: name.service.clone(),
                environment: environment.clone(),
            };
            let declared = scene.compiled.tracks.get(&before).map(AsRef::as_ref);
            Upstream::of(environment, scene.tracks.get(&before), declared)
        });
        inputs.upstream = upstream.collect();
        let depends = spec.depends_on.iter();
        let depends =
            depends.map(|service| Dependency::of(service, at(service, &name.environment)));
        inputs.dependencies = depends.collect();
        let elsewhere = spec.guards.iter().filter_map(|guard| {
            let (service, environment) = guard.protection.check.stable_elsewhere(&spec.name)?;
            let track = at(service, environment);
            Some(Elsewhere::of((service, environment), track))
        });
        inputs.elsewhere = elsewhere.collect();
        inputs
    }

    fn views(&self, name: &TrackName, spec: Option<&TrackSpec>) -> BTreeMap<TargetName, View> {
        let track = self.scene.tracks.get(name);
        let placed =
            |target: &TargetName| track.is_some_and(|track| track.placements.contains_key(target));
        let meant = |(target, member): &(&TargetName, &Member)| {
            member.environment == name.environment
                && spec.map_or_else(
                    || placed(target),
                    |spec| spec.selector.matches(&member.labels),
                )
        };
        let view = |(target, member): (&TargetName, &Member)| {
            let seen = member.seen.get(&name.service).filter(|_| placed(target));
            let view = View {
                connected: member.connected,
                since: member.since,
                seen: seen.cloned().unwrap_or(Seen::Unknown),
                labels: std::sync::Arc::clone(&member.labels),
                held: member.held.clone(),
                keyless: false,
            };
            (target.clone(), view)
        };
        self.scene.targets.iter().filter(meant).map(view).collect()
    }
}

fn freezes(scene: &Scene) -> BTreeMap<EnvironmentName, Vec<Freeze>> {
    let of = |environment: &EnvironmentName| {
        let here = |freeze: &&Freeze| {
            let only = freeze.environment.as_ref();
            only.is_none_or(|only| only == environment)
        };
        scene.freezes.iter().filter(here).cloned().collect()
    };
    let environments = scene.compiled.environments.keys();
    environments
        .map(|environment| (environment.clone(), of(environment)))
        .collect()
}

/// What other tracks read of one.
fn seen_by_others(track: &Track) -> impl PartialEq + '_ {
    let current = track
        .current
        .as_ref()
        .map(|current| (current.phase.name(), &current.point.version));
    (&track.stable, &track.proven, current)
}
