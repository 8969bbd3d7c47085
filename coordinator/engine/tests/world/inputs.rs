//! What a step is told of the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_engine::compiled::TrackSpec;
use holdfast_engine::compiled::protection::Guard;
use holdfast_engine::input::{
    Declared, Dependency, Elsewhere, Freeze, Inputs, ReleaseRef, Seen, Upstream, View,
};
use holdfast_engine::track::{Deployment, Track, TrackName};
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName};

use super::World;

impl World {
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
                    seen,
                    labels: Arc::clone(&target.labels),
                    held: target.held.clone(),
                    ..View::connected(since)
                },
            );
        }
        let spec = self.compiled.tracks.get(name).cloned();
        let meant = |freeze: &&Freeze| {
            let here = freeze.environment.as_ref();
            here.is_none_or(|environment| *environment == name.environment)
        };
        Parts {
            spec,
            freezes: self.freezes.iter().filter(meant).cloned().collect(),
            targets,
            tracks: self.read_by(name),
            releases: self
                .releases
                .get(&name.service)
                .cloned()
                .unwrap_or_default(),
        }
    }
}

impl World {
    /// What a step of this track may read of others: stable release, proven releases, phase.
    fn read_by(&self, name: &TrackName) -> BTreeMap<TrackName, Track> {
        let Some(spec) = self.compiled.tracks.get(name) else {
            return BTreeMap::new();
        };
        let upstream = spec.upstream().map(|before| (&name.service, before));
        let depends = spec.depends_on.iter().map(|on| (on, &name.environment));
        let guards = spec.guards.iter();
        let asked = guards.filter_map(|guard| guard.protection.check.stable_elsewhere(name));
        let there = upstream.chain(depends).chain(asked);
        let name = |(service, environment): (&ServiceName, &EnvironmentName)| TrackName {
            service: service.clone(),
            environment: environment.clone(),
        };
        let known = there.filter_map(|there| self.tracks.get(&name(there)));
        known
            .map(|track| (track.name.clone(), seen_by_others(track)))
            .collect()
    }
}

/// A track with nothing but what others may read of it.
fn seen_by_others(track: &Track) -> Track {
    let current = track.current.as_ref().map(|current| Deployment {
        checks: Vec::new(),
        results: Vec::new(),
        approvals: Vec::new(),
        skipped: Vec::new(),
        ..current.clone()
    });
    Track {
        stable: track.stable.clone(),
        proven: track.proven.clone(),
        batch: track.batch.clone(),
        current,
        ..Track::new(track.name.clone())
    }
}

/// What the inputs of a step borrow. Owned, so that the world may change meanwhile.
pub(crate) struct Parts {
    pub(super) spec: Option<Arc<TrackSpec>>,
    pub(super) targets: BTreeMap<TargetName, View>,
    tracks: BTreeMap<TrackName, Track>,
    freezes: Vec<Freeze>,
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
            let declared = world.compiled.tracks.get(&name).map(AsRef::as_ref);
            Upstream::of(environment, self.tracks.get(&name), declared)
        };
        let dependency = |service| {
            let name = TrackName {
                service: Clone::clone(service),
                environment: name.environment.clone(),
            };
            let track = self.tracks.get(&name);
            Dependency::of(service, track)
        };
        let confirmed = world.removed.get(name) == Some(&true);
        Inputs {
            declared: spec.map_or(Declared::Removed { confirmed }, Declared::Runs),
            revision: world.revision,
            releases: &self.releases,
            upstream: spec
                .map(|spec| spec.upstream().map(upstream).collect())
                .unwrap_or_default(),
            dependencies: spec
                .map(|spec| spec.depends_on.iter().map(dependency).collect())
                .unwrap_or_default(),
            targets: self.targets.clone(),
            next_deployment: world.last_deployment + 1,
            freezes: &self.freezes,
            elsewhere: spec.map(|spec| self.elsewhere(spec)).unwrap_or_default(),
        }
    }

    fn elsewhere<'p>(&'p self, spec: &'p TrackSpec) -> Vec<Elsewhere<'p>> {
        let asked = |guard: &'p Guard| guard.protection.check.stable_elsewhere(&spec.name);
        let there = spec.guards.iter().filter_map(asked);
        let track = |(service, environment): (&ServiceName, &EnvironmentName)| {
            let (service, environment) = (service.clone(), environment.clone());
            self.tracks.get(&TrackName {
                service,
                environment,
            })
        };
        there.map(|of| Elsewhere::of(of, track(of))).collect()
    }
}
