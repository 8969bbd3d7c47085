//! A world in which the engine decides: environments, services, targets with agents, people, time.
//! It does what the coordinator's driver does with effects, in memory and in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::compiled::{
    Compiled, Configuration, Disconnected, Extent, OnFailure, Rollout, Selector, TrackSpec,
};
use holdfast_engine::effect::Effect;
use holdfast_engine::input::{Declared, Dependency, Inputs, ReleaseRef, Seen, Upstream, View};
use holdfast_engine::steer::{Wish, steer};
use holdfast_engine::step::{Outcome, step};
use holdfast_engine::track::{Point, Track, TrackName};
use holdfast_engine::wake::{Change, Index};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use holdfast_protocol::time::{Timestamp, parse_span};
use holdfast_protocol::workload::Rollback;

use super::event::Event;

/// Most steps that one event may lead to. A world of this size never needs as many.
pub(crate) const STEPS_MAX: usize = 5_000;

/// Everything that there is.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) environments: BTreeMap<EnvironmentName, Shape>,
    pub(crate) services: BTreeMap<ServiceName, Vec<ServiceName>>,
    pub(crate) compiled: Compiled,
    pub(crate) index: Index,
    /// Tracks that are declared no more, and whether that was confirmed.
    pub(crate) removed: BTreeMap<TrackName, bool>,
    pub(crate) releases: BTreeMap<ServiceName, Vec<ReleaseRef>>,
    pub(crate) bad: BTreeSet<(ServiceName, Version, Option<TargetName>)>,
    pub(crate) tracks: BTreeMap<TrackName, Track>,
    pub(crate) targets: BTreeMap<TargetName, Target>,
    pub(crate) wakes: BTreeMap<TrackName, Timestamp>,
    pub(crate) revision: u64,
    pub(crate) last_deployment: u64,
    /// What was decided since the last event, for people.
    pub(crate) said: Vec<String>,
    /// Who looks at every step.
    pub(crate) watch: Option<Watch>,
    /// The first thing that a watch objected to.
    pub(crate) objection: Option<String>,
    /// Whether every step is repeated, to see that it was the whole of it.
    pub(crate) repeats: bool,
    /// Whether the next step is lost.
    lose: bool,
    moved: BTreeSet<(usize, TrackName)>,
}

/// What a watch sees of one step.
pub(crate) struct Stepped<'s> {
    pub(crate) before: &'s Track,
    pub(crate) inputs: &'s Inputs<'s>,
    pub(crate) outcome: &'s Outcome,
    pub(crate) now: Timestamp,
    /// The wish that led to the step, if one did.
    pub(crate) wish: Option<&'s Wish>,
}

/// Looks at every step and may object.
pub(crate) type Watch = Arc<std::sync::Mutex<dyn FnMut(&Stepped<'_>) -> Result<(), String> + Send>>;

/// An environment's place and guardrails.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) after: Vec<EnvironmentName>,
    pub(crate) rollout: Rollout,
}

/// A target with its agent.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) environment: EnvironmentName,
    pub(crate) connected: bool,
    pub(crate) since: Timestamp,
    /// What its agent last reported of each service.
    pub(crate) runs: BTreeMap<ServiceName, (Point, Seen)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Timestamp::from_millis(START_MILLIS),
            environments: BTreeMap::new(),
            services: BTreeMap::new(),
            compiled: Compiled::default(),
            index: Index::default(),
            removed: BTreeMap::new(),
            releases: BTreeMap::new(),
            bad: BTreeSet::new(),
            tracks: BTreeMap::new(),
            targets: BTreeMap::new(),
            wakes: BTreeMap::new(),
            revision: 0,
            last_deployment: 0,
            said: Vec::new(),
            watch: None,
            objection: None,
            repeats: false,
            lose: false,
            moved: BTreeSet::new(),
        }
    }

    /// Lets one thing happen, and everything that follows from it without time passing.
    pub(crate) fn happen(&mut self, event: &Event) {
        self.cause(event);
        self.settle_tracks();
    }

    fn cause(&mut self, event: &Event) {
        match event {
            Event::Environment { name, settings } => {
                self.environments.insert(name.clone(), shape(settings));
            }
            Event::Service { name, depends_on } => self.declare_service(name, depends_on),
            Event::Release { service, version } => self.release(service, version),
            Event::Bad {
                service,
                version,
                on,
            } => {
                self.bad
                    .insert((service.clone(), version.clone(), on.clone()));
            }
            Event::Good { service, version } => {
                self.bad.retain(|(s, v, _)| (s, v) != (service, version));
            }
            Event::Config { track, number } => self.configure(track, *number),
            Event::Join {
                target,
                environment,
            } => self.join(target, environment),
            Event::Leave { target } => {
                if let Some(left) = self.targets.remove(target) {
                    self.touch(Change::Targets(&left.environment));
                }
            }
            Event::Connect { target } => self.link(target, true),
            Event::Disconnect { target } => self.link(target, false),
            Event::Work { target } => {
                self.work(target);
            }
            Event::Settle { millis } => self.pass(*millis, true),
            Event::Break { target, service } => self.break_down(target, service),
            Event::Wish { track, wish } => self.wish(track, wish),
            Event::Remove { track } => self.remove(track),
            Event::Confirm { track } => {
                if let Some(confirmed) = self.removed.get_mut(track) {
                    *confirmed = true;
                    self.move_track(track);
                }
            }
            Event::Declare { track } => self.declare_again(track),
            Event::Pass { millis } => self.pass(*millis, false),
            Event::Restart => self.restart(),
            Event::Lose => self.lose = true,
        }
    }

    fn declare_service(&mut self, service: &ServiceName, depends_on: &[ServiceName]) {
        self.services.insert(service.clone(), depends_on.to_vec());
        let environments: Vec<_> = self.environments.keys().cloned().collect();
        for environment in environments {
            let name = TrackName {
                service: service.clone(),
                environment,
            };
            let spec = self.spec(&name, 0);
            self.compiled.tracks.insert(name.clone(), Arc::new(spec));
            self.tracks
                .entry(name.clone())
                .or_insert_with(|| Track::new(name));
        }
        self.revised();
    }

    fn spec(&self, name: &TrackName, number: u64) -> TrackSpec {
        let shape = &self.environments[&name.environment];
        let depends_on = self.services[&name.service].clone();
        let configuration = Configuration {
            service: name.service.clone(),
            environment: name.environment.clone(),
            runtime: "process".to_owned(),
            template: number.into(),
            vars: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            health: None,
            depends_on: depends_on.clone(),
            rollback: Rollback::Central,
            progress_deadline_ms: 0,
        };
        TrackSpec {
            name: name.clone(),
            after: shape.after.clone(),
            rollout: shape.rollout.clone(),
            depends_on,
            selector: Selector::default(),
            configuration: Arc::new(configuration),
            digest: Digest::of(format!("{name} {number}").as_bytes()),
            provenance: Arc::new(Vec::new()),
        }
    }

    fn revised(&mut self) {
        self.revision += 1;
        self.index = Index::of(&self.compiled);
        self.touch(Change::Everything);
        for name in self.removed.keys().cloned().collect::<Vec<_>>() {
            self.move_track(&name);
        }
    }

    fn release(&mut self, service: &ServiceName, version: &Version) {
        let releases = self.releases.entry(service.clone()).or_default();
        if releases.iter().any(|release| release.version == *version) {
            return;
        }
        let sequence = releases.len() as u64 + 1;
        releases.push(ReleaseRef {
            version: version.clone(),
            sequence,
        });
        self.touch(Change::Release(service));
    }

    fn configure(&mut self, track: &TrackName, number: u64) {
        if self.compiled.tracks.contains_key(track) {
            let spec = self.spec(track, number);
            self.compiled.tracks.insert(track.clone(), Arc::new(spec));
            self.revised();
        }
    }

    fn remove(&mut self, track: &TrackName) {
        if self.compiled.tracks.remove(track).is_some() {
            self.removed.insert(track.clone(), false);
            self.revised();
        }
    }

    fn declare_again(&mut self, track: &TrackName) {
        let known = self.environments.contains_key(&track.environment);
        if known
            && self.services.contains_key(&track.service)
            && !self.compiled.tracks.contains_key(track)
        {
            self.removed.remove(track);
            let spec = self.spec(track, 0);
            self.compiled.tracks.insert(track.clone(), Arc::new(spec));
            self.tracks
                .entry(track.clone())
                .or_insert_with(|| Track::new(track.clone()));
            self.revised();
        }
    }

    fn join(&mut self, target: &TargetName, environment: &EnvironmentName) {
        if !self.targets.contains_key(target) && self.environments.contains_key(environment) {
            let (environment, connected, since) = (environment.clone(), true, self.now);
            let runs = BTreeMap::new();
            self.touch(Change::Targets(&environment));
            self.targets.insert(
                target.clone(),
                Target {
                    environment,
                    connected,
                    since,
                    runs,
                },
            );
        }
    }

    fn link(&mut self, name: &TargetName, connected: bool) {
        let now = self.now;
        let Some(target) = self.targets.get_mut(name) else {
            return;
        };
        if target.connected != connected {
            (target.connected, target.since) = (connected, now);
            let environment = target.environment.clone();
            self.touch(Change::Targets(&environment));
        }
    }

    /// One step of a target's agent. Whether anything changed.
    fn work(&mut self, name: &TargetName) -> bool {
        let now = self.now;
        let Some(target) = self.targets.get(name).filter(|target| target.connected) else {
            return false;
        };
        let mut runs = BTreeMap::new();
        for (track, state) in &self.tracks {
            if track.environment != target.environment {
                continue;
            }
            let Some(placement) = state.placements.get(name) else {
                continue;
            };
            let run = target
                .runs
                .get(&track.service)
                .filter(|(p, _)| p.is(&placement.point));
            let seen = match run.map(|(_, seen)| seen) {
                None => Seen::Progressing {
                    message: "starting".to_owned(),
                },
                Some(Seen::Progressing { .. } | Seen::Unknown) => {
                    self.end_of_start(&track.service, &placement.point.version, name, now)
                }
                Some(settled) => settled.clone(),
            };
            runs.insert(track.service.clone(), (placement.point.clone(), seen));
        }
        let environment = target.environment.clone();
        let changed: Vec<ServiceName> = runs
            .iter()
            .filter(|(service, run)| target.runs.get(*service) != Some(run))
            .map(|(service, _)| service.clone())
            .collect();
        self.targets.get_mut(name).expect("it was there").runs = runs;
        for service in &changed {
            let track = TrackName {
                service: service.clone(),
                environment: environment.clone(),
            };
            self.move_track(&track);
        }
        !changed.is_empty()
    }

    fn end_of_start(
        &self,
        service: &ServiceName,
        version: &Version,
        target: &TargetName,
        since: Timestamp,
    ) -> Seen {
        let bad =
            |on: Option<TargetName>| self.bad.contains(&(service.clone(), version.clone(), on));
        if bad(None) || bad(Some(target.clone())) {
            Seen::Failed {
                message: "exit code 1".to_owned(),
            }
        } else {
            Seen::Ready { since }
        }
    }

    fn settle_agents(&mut self) {
        for _ in 0..STEPS_MAX {
            self.settle_tracks();
            let names: Vec<TargetName> = self.targets.keys().cloned().collect();
            let worked = names.iter().filter(|name| self.work(name)).count();
            if worked == 0 {
                return;
            }
        }
        self.object("agents and coordinator never came to rest");
    }

    fn break_down(&mut self, target: &TargetName, service: &ServiceName) {
        let Some(there) = self
            .targets
            .get_mut(target)
            .filter(|target| target.connected)
        else {
            return;
        };
        let Some((_, seen)) = there.runs.get_mut(service) else {
            return;
        };
        *seen = Seen::Failed {
            message: "killed".to_owned(),
        };
        let track = TrackName {
            service: service.clone(),
            environment: there.environment.clone(),
        };
        self.move_track(&track);
    }

    fn wish(&mut self, name: &TrackName, wish: &Wish) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        match steer(&track, wish, "alice", "", &inputs, self.now) {
            Ok(steered) => {
                self.watched(&track, &inputs, &steered.outcome, Some(wish));
                let changed = if steered.changed { "" } else { " (already so)" };
                self.said
                    .push(format!("{name}: {}{changed}", steered.message));
                self.commit(name, steered.outcome);
                self.move_track(name);
            }
            Err(refusal) => {
                self.said.push(format!(
                    "{name}: refused: {}; {}",
                    refusal.message, refusal.help
                ));
            }
        }
    }

    /// Time passes, stopping wherever time alone may move a track. Agents are at work all the while,
    /// or silent.
    fn pass(&mut self, millis: u64, at_work: bool) {
        let end = self.now.after(Duration::from_millis(millis));
        for _ in 0..STEPS_MAX {
            self.settle_tracks();
            if at_work {
                self.settle_agents();
            }
            let next = self.wakes.values().min().copied().filter(|at| *at <= end);
            let Some(at) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            let due: Vec<TrackName> = self
                .wakes
                .iter()
                .filter(|(_, at)| **at <= self.now)
                .map(|(n, _)| n.clone())
                .collect();
            for name in due {
                self.wakes.remove(&name);
                self.move_track(&name);
            }
        }
        self.object("time alone kept tracks moving");
    }

    /// Everything that is not in the store is forgotten, then agents come back.
    fn restart(&mut self) {
        for track in self.tracks.values_mut() {
            let text = serde_json::to_string(track).expect("tracks are plain values");
            let mut stored: Track = serde_json::from_str(&text).expect("what was written");
            stored.placements = std::mem::take(&mut track.placements);
            *track = stored;
        }
        self.wakes.clear();
        let now = self.now;
        let mut back = Vec::new();
        for (name, target) in &mut self.targets {
            if target.connected {
                (target.connected, target.since) = (false, now);
                back.push(name.clone());
            }
        }
        self.everything();
        self.settle_tracks();
        for name in back {
            self.link(&name, true);
            self.settle_tracks();
        }
    }

    /// Steps every track once more.
    pub(crate) fn everything(&mut self) {
        for name in self.tracks.keys().cloned().collect::<Vec<_>>() {
            self.move_track(&name);
        }
    }

    fn touch(&mut self, change: Change<'_>) {
        let names: Vec<TrackName> = self.index.touched(change).into_iter().cloned().collect();
        for name in names {
            self.move_track(&name);
        }
        if let Change::Targets(environment) = change {
            let removed = self
                .removed
                .keys()
                .filter(|name| name.environment == *environment);
            for name in removed.cloned().collect::<Vec<_>>() {
                self.move_track(&name);
            }
        }
    }

    fn move_track(&mut self, name: &TrackName) {
        self.moved.insert((self.index.place(name), name.clone()));
    }

    fn settle_tracks(&mut self) {
        for _ in 0..STEPS_MAX {
            let Some((_, name)) = self.moved.pop_first() else {
                return;
            };
            self.step(&name);
        }
        self.object("tracks kept moving each other");
    }

    fn step(&mut self, name: &TrackName) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        let outcome = step(&track, &inputs, self.now);
        if std::mem::take(&mut self.lose) {
            return self.restart();
        }
        self.watched(&track, &inputs, &outcome, None);
        let placed: Vec<TargetName> = outcome.effects.iter().filter_map(placed).collect();
        self.commit(name, outcome);
        if self.repeats {
            self.repeat(name, &placed);
        }
    }

    /// What was just stepped, stepped again before anything was heard of what it did, has nothing
    /// left to do and waits for the same.
    fn repeat(&mut self, name: &TrackName, placed: &[TargetName]) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let mut parts = self.parts(name);
        for target in placed {
            if let Some(view) = parts.targets.get_mut(target) {
                view.seen = Seen::Unknown;
            }
        }
        let again = step(&track, &parts.inputs(self, name), self.now);
        if !again.effects.is_empty() || again.track != track {
            let waits = (&track.waits, &again.waits);
            self.object(&format!("{name}: repeated: {:?}, {waits:?}", again.effects));
        }
    }

    fn watched(
        &mut self,
        before: &Track,
        inputs: &Inputs<'_>,
        outcome: &Outcome,
        wish: Option<&Wish>,
    ) {
        let Some(watch) = self.watch.clone() else {
            return;
        };
        let now = self.now;
        let stepped = Stepped {
            before,
            inputs,
            outcome,
            now,
            wish,
        };
        let objection = watch.lock().expect("no watch panics")(&stepped).err();
        if let Some(objection) = objection {
            self.object(&format!("{}: {objection}", before.name));
        }
    }

    fn object(&mut self, objection: &str) {
        self.objection.get_or_insert_with(|| objection.to_owned());
    }

    /// One transaction: the track, its placements, what is kept.
    fn commit(&mut self, name: &TrackName, outcome: Outcome) {
        let before = &self.tracks[name];
        let seen_by_others = |track: &Track| {
            let current = track
                .current
                .as_ref()
                .map(|d| (d.phase.name(), d.point.version.clone()));
            (track.stable.clone(), track.proven.clone(), current)
        };
        let progress = seen_by_others(before) != seen_by_others(&outcome.track);
        if before.waits != outcome.waits {
            for wait in &outcome.waits {
                self.said
                    .push(format!("{name} waits: {}", wait_text(wait, self.now)));
            }
            if outcome.waits.is_empty() {
                self.said.push(format!("{name} waits for nothing"));
            }
        }
        for effect in &outcome.effects {
            if let Effect::Save(deployment) = effect {
                self.last_deployment = self.last_deployment.max(deployment.id);
            }
            self.said.extend(effect_text(name, effect));
        }
        match outcome.wake_at {
            Some(at) => self.wakes.insert(name.clone(), at),
            None => self.wakes.remove(name),
        };
        self.tracks.insert(name.clone(), outcome.track);
        if progress {
            self.touch(Change::Progress(name));
        }
        let gone = self.removed.get(name) == Some(&true) && self.tracks[name].placements.is_empty();
        if gone {
            self.tracks.remove(name);
            self.removed.remove(name);
            self.wakes.remove(name);
        }
    }

    /// What the inputs of a step borrow besides the world.
    pub(crate) fn parts(&self, name: &TrackName) -> Parts {
        let mut targets = BTreeMap::new();
        let track = &self.tracks[name];
        let declared = self.compiled.tracks.contains_key(name);
        for (target_name, target) in &self.targets {
            let placement = track.placements.get(target_name);
            if target.environment != name.environment || !declared && placement.is_none() {
                continue;
            }
            let run = target.runs.get(&name.service);
            let run = run.filter(|(point, _)| placement.is_some_and(|p| p.point.is(point)));
            let seen = run.map_or(Seen::Unknown, |(_, seen)| seen.clone());
            let (connected, since) = (target.connected, target.since);
            targets.insert(
                target_name.clone(),
                View {
                    connected,
                    since,
                    seen,
                },
            );
        }
        let spec = self.compiled.tracks.get(name).cloned();
        Parts {
            spec,
            targets,
            tracks: self.tracks.clone(),
            releases: self
                .releases
                .get(&name.service)
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// What the inputs of a step borrow. Owned, so that the world may change meanwhile.
pub(crate) struct Parts {
    spec: Option<Arc<TrackSpec>>,
    targets: BTreeMap<TargetName, View>,
    tracks: BTreeMap<TrackName, Track>,
    releases: Vec<ReleaseRef>,
}

impl Parts {
    pub(crate) fn inputs(&self, world: &World, name: &TrackName) -> Inputs<'_> {
        let spec = self.spec.as_deref();
        let upstream = |environment| {
            let name = TrackName {
                service: name.service.clone(),
                environment: Clone::clone(environment),
            };
            let track = self.tracks.get(&name);
            Upstream {
                environment,
                proven: track.map_or(&[][..], |track| track.proven.as_slice()),
                current: track
                    .and_then(|track| track.current.as_ref())
                    .map(|current| (current.phase.name(), &current.point.version)),
            }
        };
        let dependency = |service| {
            let name = TrackName {
                service: Clone::clone(service),
                environment: name.environment.clone(),
            };
            let track = self.tracks.get(&name);
            Dependency {
                service,
                stable: track
                    .and_then(|track| track.stable.as_ref())
                    .map(|point| &point.version),
                phase: track
                    .and_then(|track| track.current.as_ref())
                    .map(|d| d.phase.name()),
            }
        };
        let confirmed = world.removed.get(name) == Some(&true);
        Inputs {
            declared: spec.map_or(Declared::Removed { confirmed }, Declared::Runs),
            revision: world.revision,
            releases: &self.releases,
            upstream: spec
                .map(|spec| spec.after.iter().map(upstream).collect())
                .unwrap_or_default(),
            dependencies: spec
                .map(|spec| spec.depends_on.iter().map(dependency).collect())
                .unwrap_or_default(),
            targets: self.targets.clone(),
            next_deployment: world.last_deployment + 1,
        }
    }
}

/// A wait as one line.
pub(crate) fn wait_text(wait: &holdfast_protocol::api::wait::Wait, now: Timestamp) -> String {
    let kind = serde_json::to_value(wait.kind).expect("a word");
    let kind = kind.as_str().expect("a word").to_owned();
    let until = match wait.until {
        Some(until) => format!(
            ", for {}",
            holdfast_protocol::time::friendly(until.since(now))
        ),
        None => String::new(),
    };
    let ends = if wait.ends_by.is_empty() {
        String::new()
    } else {
        format!(" [{}]", wait.ends_by.join(" | "))
    };
    format!("{kind} {}: {}{until}{ends}", wait.subject, wait.message)
}

fn placed(effect: &Effect) -> Option<TargetName> {
    match effect {
        Effect::Place { target, .. } => Some(target.clone()),
        Effect::Displace { .. } | Effect::Save(_) | Effect::Record(_) => None,
    }
}

fn effect_text(name: &TrackName, effect: &Effect) -> Option<String> {
    match effect {
        Effect::Place { target, point } => {
            let configuration = if point.configuration == Digest::of(format!("{name} 0").as_bytes())
            {
                String::new()
            } else {
                format!(" with configuration {}", point.configuration.short())
            };
            Some(format!(
                "{name} places {} on {target}{configuration}",
                point.version
            ))
        }
        Effect::Displace { target } => Some(format!("{name} displaces {target}")),
        Effect::Save(_) => None,
        Effect::Record(record) => Some(format!(
            "{name} records {}: {}",
            record.kind, record.message
        )),
    }
}

fn shape(settings: &[(String, String)]) -> Shape {
    let mut shape = Shape {
        after: Vec::new(),
        rollout: Rollout {
            waves: vec![Extent::Percent(100)],
            max_unavailable: Extent::Count(1),
            max_failures: 0,
            soak: Duration::ZERO,
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(60),
            on_failure: OnFailure::Rollback,
            disconnected: Disconnected::Skip,
        },
    };
    let span = |text: &str| parse_span(text).expect("a span");
    for (key, value) in settings {
        let rollout = &mut shape.rollout;
        match key.as_str() {
            "after" => {
                shape.after = value
                    .split(',')
                    .map(|name| name.parse().expect("a name"))
                    .collect();
            }
            "waves" => rollout.waves = value.split(',').map(extent).collect(),
            "maxUnavailable" => rollout.max_unavailable = extent(value),
            "maxFailures" => rollout.max_failures = value.parse().expect("a number"),
            "soak" => rollout.soak = span(value),
            "minReady" => rollout.min_ready = span(value),
            "progressDeadline" => rollout.progress_deadline = span(value),
            "onFailure" if value == "halt" => rollout.on_failure = OnFailure::Halt,
            "disconnected" if value == "wait" => rollout.disconnected = Disconnected::Wait,
            _ => panic!("no such setting: {key}={value}"),
        }
    }
    shape
}

fn extent(text: &str) -> Extent {
    match text.strip_suffix('%') {
        Some(share) => Extent::Percent(share.parse().expect("a share")),
        None => Extent::Count(text.parse().expect("a number")),
    }
}

/// 2026-11-21T06:36:00Z
const START_MILLIS: u64 = 1_795_242_960_000;
