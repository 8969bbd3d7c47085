//! What a simulation begins with: the world as it is, or as it would be after an apply.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::compiled::Compiled;
use holdfast_engine::track::TrackName;
use holdfast_engine::whatif::simulate::{Member, Scene};
use holdfast_protocol::observed::State;

use super::inputs::view;
use super::{Target, World};

/// Longest time to become ready that is taken for usual.
const READY_MAX: Duration = Duration::from_hours(1);

impl World {
    /// The scene under `compiled`, which is what is in force or would be.
    #[must_use]
    pub fn scene(&self, mut compiled: Arc<Compiled>) -> Scene {
        let in_force = Arc::ptr_eq(&compiled, &self.compiled);
        self.stamp(&mut compiled);
        let releases = compiled.tracks.iter().map(|(name, spec)| {
            let usable = self.usable_releases(&spec.configuration);
            (name.clone(), usable)
        });
        let present = |target: &&Target| target.kept.revoked_at.is_none();
        let members = self.targets.values().filter(present);
        Scene {
            releases: releases.collect(),
            revision: self.revision + u64::from(!in_force),
            tracks: self.tracks.clone(),
            targets: members
                .map(|target| (target.kept.name.clone(), member(target)))
                .collect(),
            freezes: self.freezes.clone(),
            last_deployment: self.last_deployment,
            compiled,
        }
    }

    /// How long the slowest target of each track took to become ready with what it has now.
    #[must_use]
    pub fn usual_readiness(&self) -> BTreeMap<TrackName, Duration> {
        let mut usual: BTreeMap<TrackName, Duration> = BTreeMap::new();
        for target in self.targets.values() {
            for (service, placed) in &target.placed {
                let observed = target.observed.get(service);
                let ready = observed.filter(|observed| {
                    observed.state == State::Ready && observed.heard_at >= placed.since
                });
                let Some(ready) = ready else {
                    continue;
                };
                let took = ready.heard_at.since(placed.since).min(READY_MAX);
                let name = TrackName {
                    service: service.clone(),
                    environment: target.kept.environment.clone(),
                };
                let slowest = usual.entry(name).or_default();
                *slowest = took.max(*slowest);
            }
        }
        usual
    }
}

fn member(target: &Target) -> Member {
    let mut member = Member {
        environment: target.kept.environment.clone(),
        labels: Arc::clone(&target.labels),
        connected: target.is_connected() && target.kept.ahead.is_none(),
        since: target.kept.since,
        held: None,
        seen: BTreeMap::new(),
    };
    for service in target.placed.keys() {
        let view = view(target, service);
        member.held = view.held;
        member.seen.insert(service.clone(), view.seen);
    }
    member
}
