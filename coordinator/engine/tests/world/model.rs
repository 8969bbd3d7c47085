//! A world in which the engine decides: environments, services, targets with agents, people, time.
//! It does what the coordinator's driver does with effects, in memory and in virtual time.

mod agent;
mod drive;
mod inputs;
mod people;
mod shape;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_engine::compiled::{Compiled, Configuration, Job, Rollout, TrackSpec};
use holdfast_engine::effect::Ask;
use holdfast_engine::input::{Freeze, Held, Inputs, ReleaseRef, Seen};
use holdfast_engine::steer::Wish;
use holdfast_engine::step::Outcome;
use holdfast_engine::track::check::CheckResult;
use holdfast_engine::track::{Point, Track, TrackName};
use holdfast_engine::wake::{Change, Index};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, ProtectionName, ServiceName, TargetName, Version};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::Rollback;

use super::event::Event;
use shape::{job, shape};

/// Most steps that one event may lead to. A world of this size never needs as many.
pub(crate) const STEPS_MAX: usize = 5_000;

/// Everything that there is.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) environments: BTreeMap<EnvironmentName, Shape>,
    pub(crate) services: BTreeMap<ServiceName, Vec<ServiceName>>,
    /// The services that run to completion.
    pub(crate) jobs: BTreeMap<ServiceName, Job>,
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
    /// What checks answer; those that are not here do not.
    pub(crate) answers: BTreeMap<ProtectionName, (CheckResult, String)>,
    /// What was asked and not answered yet.
    pub(crate) asks: Vec<(TrackName, Ask)>,
    /// What was asked and answered, newest last.
    pub(crate) answered: Vec<(TrackName, Ask)>,
    /// What the store holds of each track.
    pub(crate) stored: BTreeMap<TrackName, Track>,
    /// Whether what is decided is told.
    pub(crate) tells: bool,
    /// What people have frozen.
    pub(crate) freezes: Vec<Freeze>,
    /// What authors will say of their releases.
    pub(crate) about: BTreeMap<(ServiceName, Version), BTreeMap<String, String>>,
    /// What was decided since the last event, for people.
    pub(crate) said: Vec<String>,
    /// Who looks at every step.
    pub(crate) watch: Option<Watch>,
    /// The first thing that a watch objected to.
    pub(crate) objection: Option<String>,
    /// Steps that did more than ask.
    pub(crate) moves: u64,
    /// Tracks that were worth a write.
    pub(crate) writes: u64,
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
    /// Of which guards, requirements, windows and rules are those of every track.
    pub(crate) gates: TrackSpec,
}

/// A target with its agent.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) environment: EnvironmentName,
    pub(crate) connected: bool,
    pub(crate) since: Timestamp,
    pub(crate) labels: Arc<Labels>,
    pub(crate) held: Option<Held>,
    /// What its agent last reported of each service.
    pub(crate) runs: BTreeMap<ServiceName, (Point, Seen)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Timestamp::from_millis(START_MILLIS),
            environments: BTreeMap::new(),
            services: BTreeMap::new(),
            jobs: BTreeMap::new(),
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
            answers: BTreeMap::new(),
            asks: Vec::new(),
            answered: Vec::new(),
            stored: BTreeMap::new(),
            tells: true,
            freezes: Vec::new(),
            about: BTreeMap::new(),
            said: Vec::new(),
            watch: None,
            objection: None,
            moves: 0,
            writes: 0,
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

    pub(super) fn cause(&mut self, event: &Event) {
        match event {
            Event::Environment { name, settings } => self.declare_environment(name, settings),
            Event::Service { name, depends_on } => self.declare_service(name, depends_on),
            Event::Job { name, settings } => {
                self.jobs.insert(name.clone(), job(settings));
            }
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
            Event::Gate(gate) => self.gate(gate),
            Event::Remove { track } => self.remove(track),
            Event::Confirm { track } => {
                if let Some(confirmed) = self.removed.get_mut(track) {
                    *confirmed = true;
                    self.move_track(track);
                }
            }
            Event::Declare { track } => self.declare_again(track),
            Event::Pass { millis } => self.pass(*millis, false),
            Event::Ahead { millis } => self.clock(self.now.as_millis().saturating_add(*millis)),
            Event::Behind { millis } => self.clock(self.now.as_millis().saturating_sub(*millis)),
            Event::Restart => self.restart(),
            Event::Lose => self.lose = true,
        }
    }

    /// A new environment, or other guardrails for one; its checks and policies stay.
    fn declare_environment(&mut self, name: &EnvironmentName, settings: &[(String, String)]) {
        let mut new = shape(settings);
        let Some(old) = self.environments.get(name) else {
            self.environments.insert(name.clone(), new);
            return;
        };
        new.gates.guards.clone_from(&old.gates.guards);
        new.gates.requirements.clone_from(&old.gates.requirements);
        self.environments.insert(name.clone(), new.clone());
        self.redeclare(name, |spec| {
            spec.after.clone_from(&new.after);
            spec.rollout.clone_from(&new.rollout);
            spec.promotion = new.gates.promotion;
            spec.follow.clone_from(&new.gates.follow);
            spec.pin.clone_from(&new.gates.pin);
            spec.admits.clone_from(&new.gates.admits);
            spec.windows.clone_from(&new.gates.windows);
        });
    }

    pub(super) fn declare_service(&mut self, service: &ServiceName, depends_on: &[ServiceName]) {
        self.services.insert(service.clone(), depends_on.to_vec());
        let environments: Vec<_> = self.environments.keys().cloned().collect();
        for environment in environments {
            let name = TrackName {
                service: service.clone(),
                environment,
            };
            let spec = self.spec(&name, 0);
            self.removed.remove(&name);
            self.compiled.tracks.insert(name.clone(), Arc::new(spec));
            self.tracks
                .entry(name.clone())
                .or_insert_with(|| Track::new(name));
        }
        self.revised();
    }

    pub(super) fn spec(&self, name: &TrackName, number: u64) -> TrackSpec {
        let shape = &self.environments[&name.environment];
        let depends_on = self.services[&name.service].clone();
        let configuration = Configuration {
            service: name.service.clone(),
            environment: name.environment.clone(),
            runtime: "process".to_owned(),
            template: number.into(),
            vars: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            images: BTreeMap::new(),
            secrets: BTreeMap::new(),
            credentials: BTreeMap::new(),
            health: None,
            depends_on: depends_on.clone(),
            rollback: Rollback::Central,
            progress_deadline_ms: 0,
            job: None,
            variants: BTreeMap::new(),
        };
        TrackSpec {
            after: shape.after.clone(),
            rollout: shape.rollout.clone(),
            promotion: shape.gates.promotion,
            follow: shape.gates.follow.clone(),
            pin: shape.gates.pin.clone(),
            admits: shape.gates.admits.clone(),
            job: self.jobs.get(&name.service).cloned(),
            windows: shape.gates.windows.clone(),
            guards: shape.gates.guards.clone(),
            requirements: shape.gates.requirements.clone(),
            digest: Digest::of(format!("{name} {number}").as_bytes()),
            ..TrackSpec::plain(name.clone(), configuration)
        }
    }

    /// Puts compiled manifests into force.
    pub(crate) fn apply(&mut self, compiled: Compiled) {
        for environment in compiled.environments.values() {
            self.environments
                .insert(environment.name.clone(), shape(&[]));
        }
        for (service, spec) in &compiled.services {
            self.services
                .insert(service.clone(), spec.depends_on.clone());
        }
        for name in compiled.tracks.keys() {
            let fresh = || Track::new(name.clone());
            self.tracks.entry(name.clone()).or_insert_with(fresh);
        }
        self.compiled = compiled;
        self.revised();
        self.settle_tracks();
    }

    pub(super) fn revised(&mut self) {
        self.revision += 1;
        self.index = Index::of(&self.compiled);
        self.touch(Change::Everything);
        for name in self.removed.keys().cloned().collect::<Vec<_>>() {
            self.move_track(&name);
        }
    }

    pub(super) fn release(&mut self, service: &ServiceName, version: &Version) {
        let releases = self.releases.entry(service.clone()).or_default();
        if releases.iter().any(|release| release.version == *version) {
            return;
        }
        let sequence = releases.len() as u64 + 1;
        let about = self.release_about(service, version, sequence);
        let releases = self.releases.entry(service.clone()).or_default();
        releases.push(ReleaseRef {
            about,
            ..ReleaseRef::bare(version.clone(), sequence)
        });
        self.touch(Change::Release(service));
    }

    pub(super) fn configure(&mut self, track: &TrackName, number: u64) {
        if self.compiled.tracks.contains_key(track) {
            let spec = self.spec(track, number);
            self.compiled.tracks.insert(track.clone(), Arc::new(spec));
            self.revised();
        }
    }

    pub(super) fn remove(&mut self, track: &TrackName) {
        if self.compiled.tracks.remove(track).is_some() {
            self.removed.insert(track.clone(), false);
            self.revised();
        }
    }

    pub(super) fn declare_again(&mut self, track: &TrackName) {
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

    pub(super) fn join(&mut self, target: &TargetName, environment: &EnvironmentName) {
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
                    labels: Arc::default(),
                    held: None,
                    runs,
                },
            );
        }
    }

    pub(super) fn link(&mut self, name: &TargetName, connected: bool) {
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
}

/// 2026-11-21T06:36:00Z
const START_MILLIS: u64 = 1_795_242_960_000;
