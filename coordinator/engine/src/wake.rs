//! Which tracks a change touches, in the order in which they should be stepped: what others wait for
//! comes first, so that those see it under way.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::name::{EnvironmentName, ServiceName};

use crate::compiled::Compiled;
use crate::track::TrackName;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'c> {
    /// Anything: a new revision, or a start.
    Everything,
    /// A service has a new release.
    Release(&'c ServiceName),
    /// A target of this environment joined, left, connected, went away or was given other labels.
    Targets(&'c EnvironmentName),
    /// A target reported on one track's workload, or a person steered it.
    Track(&'c TrackName),
    /// A track's stable release, proven releases or phase are not what they were.
    Progress(&'c TrackName),
}

/// Finds the tracks that a change touches. Made once for each revision.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Every declared track, what others wait for first.
    order: Vec<TrackName>,
    /// The place of each in `order`.
    places: BTreeMap<TrackName, usize>,
    /// The tracks of each service.
    services: BTreeMap<ServiceName, Vec<usize>>,
    /// The tracks of each environment.
    environments: BTreeMap<EnvironmentName, Vec<usize>>,
    /// The tracks that read something of this one, which need not be declared itself any more.
    readers: BTreeMap<TrackName, Vec<usize>>,
}

impl Index {
    /// The index of a revision.
    #[must_use]
    pub fn of(compiled: &Compiled) -> Self {
        let order = ordered(compiled);
        let mut index = Self {
            places: order
                .iter()
                .cloned()
                .enumerate()
                .map(|(place, name)| (name, place))
                .collect(),
            ..Self::default()
        };
        for (place, name) in order.iter().enumerate() {
            index
                .services
                .entry(name.service.clone())
                .or_default()
                .push(place);
            index
                .environments
                .entry(name.environment.clone())
                .or_default()
                .push(place);
            for before in reads(compiled, name) {
                index.readers.entry(before).or_default().push(place);
            }
        }
        index.order = order;
        index
    }

    /// The declared tracks that `change` touches, in the order in which to step them.
    #[must_use]
    pub fn touched(&self, change: Change<'_>) -> Vec<&TrackName> {
        let none = Vec::new();
        let at = |name| self.places.get(name);
        match change {
            Change::Everything => self.order.iter().collect(),
            Change::Release(service) => self.named(self.services.get(service).unwrap_or(&none)),
            Change::Targets(environment) => {
                self.named(self.environments.get(environment).unwrap_or(&none))
            }
            Change::Track(name) => at(name)
                .map(|place| self.named(&[*place]))
                .unwrap_or_default(),
            Change::Progress(name) => {
                let readers = self.readers.get(name);
                self.named(readers.unwrap_or(&none))
            }
        }
    }

    /// The place of a track in the order of steps; those that are not declared come last.
    #[must_use]
    pub fn place(&self, name: &TrackName) -> usize {
        self.places.get(name).copied().unwrap_or(usize::MAX)
    }

    fn named(&self, places: &[usize]) -> Vec<&TrackName> {
        places
            .iter()
            .filter_map(|place| self.order.get(*place))
            .collect()
    }
}

/// The tracks that `name` reads something of.
fn reads(compiled: &Compiled, name: &TrackName) -> Vec<TrackName> {
    let Some(spec) = compiled.tracks.get(name) else {
        return Vec::new();
    };
    let upstream = spec.upstream().map(|environment| TrackName {
        service: name.service.clone(),
        environment: environment.clone(),
    });
    let dependencies = spec.depends_on.iter().map(|service| TrackName {
        service: service.clone(),
        environment: name.environment.clone(),
    });
    let elsewhere = spec.guards.iter().filter_map(|guard| {
        let (service, environment) = guard.protection.check.stable_elsewhere(name)?;
        Some(TrackName {
            service: service.clone(),
            environment: environment.clone(),
        })
    });
    upstream.chain(dependencies).chain(elsewhere).collect()
}

/// Every track after all that it reads. A compiled revision has no cycles; were there one, its
/// tracks would still come, in the order of their names.
fn ordered(compiled: &Compiled) -> Vec<TrackName> {
    let mut order = Vec::with_capacity(compiled.tracks.len());
    let mut seen = BTreeSet::new();
    for first in compiled.tracks.keys() {
        // A stack of its own, so that no depth of manifests can exhaust the thread's.
        let mut stack = vec![(first.clone(), false)];
        while let Some((name, done)) = stack.pop() {
            if done {
                order.push(name);
            } else if compiled.tracks.contains_key(&name) && seen.insert(name.clone()) {
                let before = reads(compiled, &name);
                stack.push((name, true));
                stack.extend(before.into_iter().map(|before| (before, false)));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_protocol::workload::Rollback;

    use super::*;
    use crate::compiled::{Configuration, TrackSpec};

    /// `web` and what it depends on, `api`, in production, which comes after staging.
    fn compiled() -> Compiled {
        let mut compiled = Compiled::default();
        for name in [
            "web@production",
            "api@production",
            "web@staging",
            "api@staging",
        ] {
            let spec = spec(name);
            compiled.tracks.insert(spec.name.clone(), Arc::new(spec));
        }
        compiled
    }

    fn track(text: &str) -> TrackName {
        let (service, environment) = text.split_once('@').unwrap();
        TrackName {
            service: service.parse().unwrap(),
            environment: environment.parse().unwrap(),
        }
    }

    fn spec(text: &str) -> TrackSpec {
        let name = track(text);
        let depends_on = match name.service.as_str() {
            "web" => vec!["api".parse().unwrap()],
            _ => Vec::new(),
        };
        let after = match name.environment.as_str() {
            "production" => vec!["staging".parse().unwrap()],
            _ => Vec::new(),
        };
        let configuration = Configuration {
            service: name.service.clone(),
            environment: name.environment.clone(),
            runtime: "process".to_owned(),
            template: serde_json::Value::Null,
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
            after,
            ..TrackSpec::plain(name, configuration)
        }
    }

    fn touched(compiled: &Compiled, change: Change<'_>) -> Vec<String> {
        let index = Index::of(compiled);
        let touched = index.touched(change).into_iter();
        touched.map(ToString::to_string).collect()
    }

    #[test]
    fn what_others_wait_for_comes_first() {
        assert_eq!(
            touched(&compiled(), Change::Everything),
            [
                "api@staging",
                "api@production",
                "web@staging",
                "web@production"
            ]
        );
    }

    #[test]
    fn a_change_touches_only_who_reads_it() {
        let compiled = compiled();
        let (web, api) = ("web".parse().unwrap(), track("api@staging"));
        let production = "production".parse().unwrap();
        for (change, tracks) in [
            (Change::Release(&web), vec!["web@staging", "web@production"]),
            (
                Change::Targets(&production),
                vec!["api@production", "web@production"],
            ),
            (Change::Track(&api), vec!["api@staging"]),
            (
                Change::Progress(&api),
                vec!["api@production", "web@staging"],
            ),
            (Change::Progress(&track("web@production")), vec![]),
        ] {
            assert_eq!(touched(&compiled, change), tracks, "{change:?}");
        }
    }

    #[test]
    fn who_reads_a_track_that_is_gone_is_touched_by_its_going() {
        let mut compiled = compiled();
        compiled.tracks.remove(&track("web@staging"));
        let gone = track("web@staging");
        assert_eq!(
            touched(&compiled, Change::Progress(&gone)),
            ["web@production"]
        );
    }

    #[test]
    fn tracks_that_wait_for_each_other_are_all_there() {
        let mut compiled = compiled();
        let mut circle = spec("api@production");
        circle.depends_on = vec!["web".parse().unwrap()];
        compiled
            .tracks
            .insert(circle.name.clone(), Arc::new(circle));
        assert_eq!(touched(&compiled, Change::Everything).len(), 4);
    }
}
