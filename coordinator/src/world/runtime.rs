//! Which runtime a service has on which target: it may be another one on each.

use std::collections::BTreeMap;

use holdfast_engine::track::TrackName;
use holdfast_protocol::name::{ServiceName, TargetName};

use super::{Target, World};

impl World {
    /// The targets on which a track is placed, by the runtime that it is placed in.
    pub(super) fn placed_in(&self, name: &TrackName) -> BTreeMap<String, Vec<TargetName>> {
        let mut by_runtime: BTreeMap<String, Vec<TargetName>> = BTreeMap::new();
        for (target, there) in self.targets.of(&name.environment) {
            if let Some(runtime) = self.placed_runtime(&name.service, there) {
                let same = by_runtime.entry(runtime.to_owned()).or_default();
                same.push(target.clone());
            }
        }
        by_runtime
    }

    /// On how many targets a track is placed, by the runtime that it is placed in.
    pub(super) fn counts_by_runtime(&self, name: &TrackName) -> BTreeMap<String, u32> {
        let placed = self.placed_in(name).into_iter();
        placed
            .map(|(runtime, targets)| (runtime, u32::try_from(targets.len()).unwrap_or(u32::MAX)))
            .collect()
    }

    /// The runtime in which a service is placed on a target.
    pub(super) fn placed_runtime(&self, service: &ServiceName, there: &Target) -> Option<&str> {
        let point = &there.placed.get(service)?.point;
        let configuration = self.configurations.get(&point.configuration)?;
        Some(&configuration.on(&there.labels).1.runtime)
    }

    /// The targets that a track means, by the runtime that each has under the configuration in force.
    pub(super) fn meant_in(
        &self,
        name: &TrackName,
        only: Option<&TargetName>,
    ) -> BTreeMap<String, Vec<TargetName>> {
        let mut by_runtime: BTreeMap<String, Vec<TargetName>> = BTreeMap::new();
        let Some(spec) = self.compiled.tracks.get(name) else {
            return by_runtime;
        };
        for (target, there) in self.targets.of(&name.environment) {
            let named = only.is_none_or(|only| only == target);
            if named && there.kept.revoked_at.is_none() && spec.selector.matches(&there.labels) {
                let runtime = &spec.configuration.on(&there.labels).1.runtime;
                by_runtime
                    .entry(runtime.clone())
                    .or_default()
                    .push(target.clone());
            }
        }
        by_runtime
    }
}
