//! The removal guard: a revision that takes away more than an environment's limit waits for a person.

use std::collections::BTreeMap;

use holdfast_protocol::name::EnvironmentName;

use crate::compiled::{Compiled, RemovalLimit};
use crate::track::TrackName;

/// Tracks of one environment that are declared no more, and too many to go by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The environment.
    pub environment: EnvironmentName,
    /// The tracks that would go, sorted.
    pub tracks: Vec<TrackName>,
    /// The workloads that would go with them.
    pub workloads: usize,
    /// What would go and what is allowed, in one sentence.
    pub message: String,
}

/// The removals that have to be confirmed before `after` takes the place of `before`. `placed` is the
/// number of workloads of each track on targets; a track without any goes freely. The limit is the one
/// that was in force before, so that one revision cannot lift it and use that.
#[must_use]
pub fn removals(
    before: &Compiled,
    after: &Compiled,
    placed: &BTreeMap<TrackName, usize>,
) -> Vec<Removal> {
    let mut environments: BTreeMap<&EnvironmentName, Census<'_>> = BTreeMap::new();
    for track in before.tracks.keys() {
        let workloads = placed.get(track).copied().unwrap_or(0);
        let census = environments.entry(&track.environment).or_default();
        census.workloads += workloads;
        if workloads > 0 && !after.tracks.contains_key(track) {
            census.removed.push(track);
            census.removed_workloads += workloads;
        }
    }
    environments
        .into_iter()
        .filter_map(|(name, census)| {
            let limit = before.environments.get(name)?.removal_limit;
            (!census.is_within(limit)).then(|| census.removal(name, limit))
        })
        .collect()
}

/// What one environment has and what would go.
#[derive(Default)]
struct Census<'a> {
    workloads: usize,
    removed: Vec<&'a TrackName>,
    removed_workloads: usize,
}

impl Census<'_> {
    /// The larger of the two bounds holds.
    fn is_within(&self, limit: RemovalLimit) -> bool {
        let allowed = self.workloads * usize::from(limit.workloads_percent) / 100;
        self.removed.len() <= limit.services as usize || self.removed_workloads <= allowed
    }

    fn removal(&self, environment: &EnvironmentName, limit: RemovalLimit) -> Removal {
        let services: Vec<&str> = self
            .removed
            .iter()
            .map(|track| track.service.as_str())
            .collect();
        let named = services.len().min(NAMED_MAX);
        let more = match services.len() - named {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{} services with {} of {} workloads would go from {environment}: {}{more}; without \
             confirmation at most {} or {} % may",
            services.len(),
            self.removed_workloads,
            self.workloads,
            services[..named].join(", "),
            limit.services,
            limit.workloads_percent,
        );
        Removal {
            environment: environment.clone(),
            tracks: self.removed.iter().map(|track| (*track).clone()).collect(),
            workloads: self.removed_workloads,
            message,
        }
    }
}

/// Most services that a message names.
const NAMED_MAX: usize = 5;
