//! Why a track does not move, down to the root: its own waits, then those of the tracks that it waits
//! for, through environments and dependencies.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::name::{EnvironmentName, ServiceName};

use crate::compiled::{Compiled, TrackSpec};
use crate::track::{Track, TrackName};

/// Most tracks that one answer goes through.
pub const CHAIN_MAX_TRACKS: usize = 64;

/// One wait of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Whose wait it is.
    pub track: TrackName,
    /// The wait.
    pub wait: Wait,
    /// How far it is from the track that was asked about: 0 for its own waits.
    pub depth: u32,
    /// Whether it is a root: it waits for no other track that waits itself.
    pub root: bool,
}

/// The waits of `name`, each followed by those of the track that it waits for. A track that is come
/// by twice is told once.
#[must_use]
pub fn why(
    name: &TrackName,
    compiled: &Compiled,
    tracks: &BTreeMap<TrackName, Track>,
) -> Vec<Reason> {
    let mut chain = Chain {
        compiled,
        tracks,
        told: BTreeSet::new(),
        reasons: Vec::new(),
    };
    chain.tell(name, 0);
    chain.reasons
}

struct Chain<'a> {
    compiled: &'a Compiled,
    tracks: &'a BTreeMap<TrackName, Track>,
    told: BTreeSet<TrackName>,
    reasons: Vec<Reason>,
}

impl Chain<'_> {
    fn tell(&mut self, name: &TrackName, depth: u32) {
        if self.told.len() >= CHAIN_MAX_TRACKS || !self.told.insert(name.clone()) {
            return;
        }
        let Some(track) = self.tracks.get(name) else {
            return;
        };
        let spec = self.compiled.tracks.get(name);
        for wait in &track.waits {
            let behind = behind(name, spec.map(AsRef::as_ref), wait)
                .filter(|behind| behind != name && self.waits(behind));
            self.reasons.push(Reason {
                track: name.clone(),
                wait: wait.clone(),
                depth,
                root: behind.is_none(),
            });
            if let Some(behind) = behind {
                self.tell(&behind, depth + 1);
            }
        }
    }

    fn waits(&self, name: &TrackName) -> bool {
        let track = self.tracks.get(name);
        track.is_some_and(|track| !track.waits.is_empty())
    }
}

/// The track that a wait is for, if it is for one.
fn behind(name: &TrackName, spec: Option<&TrackSpec>, wait: &Wait) -> Option<TrackName> {
    match wait.kind {
        WaitKind::Order => {
            let environment = EnvironmentName::parse(&wait.subject).ok()?;
            let before = |upstream: &EnvironmentName| *upstream == environment;
            spec?.upstream().any(before).then(|| TrackName {
                service: name.service.clone(),
                environment,
            })
        }
        WaitKind::Dependency => Some(TrackName {
            service: ServiceName::parse(&wait.subject).ok()?,
            environment: name.environment.clone(),
        }),
        WaitKind::Protection => {
            let guards = spec?.guards.iter();
            let guard = guards
                .clone()
                .find(|guard| guard.name.as_str() == wait.subject)?;
            let (service, environment) = guard.protection.check.stable_elsewhere(name)?;
            Some(TrackName {
                service: service.clone(),
                environment: environment.clone(),
            })
        }
        WaitKind::Policy
        | WaitKind::Approval
        | WaitKind::Window
        | WaitKind::Pause
        | WaitKind::Freeze
        | WaitKind::Removal
        | WaitKind::Hold
        | WaitKind::Capacity
        | WaitKind::Target
        | WaitKind::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_protocol::time::Timestamp;

    use super::*;
    use crate::compiled::Configuration;

    fn name(text: &str) -> TrackName {
        let (service, environment) = text.split_once('@').unwrap();
        TrackName {
            service: service.parse().unwrap(),
            environment: environment.parse().unwrap(),
        }
    }

    fn spec(text: &str, after: &[&str]) -> (TrackName, Arc<TrackSpec>) {
        let name = name(text);
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
            depends_on: Vec::new(),
            rollback: holdfast_protocol::workload::Rollback::Central,
            progress_deadline_ms: 0,
            job: None,
            variants: BTreeMap::new(),
        };
        let spec = TrackSpec {
            after: after.iter().map(|name| name.parse().unwrap()).collect(),
            ..TrackSpec::plain(name.clone(), configuration)
        };
        (name, Arc::new(spec))
    }

    fn waiting(text: &str, waits: &[(WaitKind, &str)]) -> (TrackName, Track) {
        let wait = |(kind, subject): &(WaitKind, &str)| Wait {
            kind: *kind,
            subject: (*subject).to_owned(),
            message: String::new(),
            since: Timestamp::default(),
            ends_by: Vec::new(),
            until: None,
        };
        let mut track = Track::new(name(text));
        track.waits = waits.iter().map(wait).collect();
        (name(text), track)
    }

    fn told(reasons: &[Reason]) -> Vec<String> {
        let tell = |reason: &Reason| {
            let root = if reason.root { " root" } else { "" };
            format!(
                "{} {} {}{root}",
                reason.depth, reason.track, reason.wait.subject
            )
        };
        reasons.iter().map(tell).collect()
    }

    #[test]
    fn the_chain_leads_through_environments_and_dependencies_to_the_root() {
        let compiled = Compiled {
            tracks: BTreeMap::from([
                spec("web@production", &["staging"]),
                spec("web@staging", &[]),
                spec("api@staging", &[]),
            ]),
            ..Compiled::default()
        };
        let tracks = BTreeMap::from([
            waiting("web@production", &[(WaitKind::Order, "staging")]),
            waiting(
                "web@staging",
                &[(WaitKind::Dependency, "api"), (WaitKind::Pause, "alice")],
            ),
            waiting("api@staging", &[(WaitKind::Approval, "change")]),
        ]);
        assert_eq!(
            told(&why(&name("web@production"), &compiled, &tracks)),
            [
                "0 web@production staging",
                "1 web@staging api",
                "2 api@staging change root",
                "1 web@staging alice root",
            ]
        );
    }

    #[test]
    fn a_wait_for_a_track_that_waits_for_nothing_is_a_root() {
        let compiled = Compiled {
            tracks: BTreeMap::from([
                spec("web@production", &["staging"]),
                spec("web@staging", &[]),
            ]),
            ..Compiled::default()
        };
        let tracks = BTreeMap::from([
            waiting("web@production", &[(WaitKind::Order, "staging")]),
            waiting("web@staging", &[]),
        ]);
        assert_eq!(
            told(&why(&name("web@production"), &compiled, &tracks)),
            ["0 web@production staging root"]
        );
    }

    #[test]
    fn two_tracks_that_wait_for_each_other_are_told_once() {
        let compiled = Compiled {
            tracks: BTreeMap::from([spec("web@e", &[]), spec("api@e", &[])]),
            ..Compiled::default()
        };
        let tracks = BTreeMap::from([
            waiting("web@e", &[(WaitKind::Dependency, "api")]),
            waiting("api@e", &[(WaitKind::Dependency, "web")]),
        ]);
        assert_eq!(
            told(&why(&name("web@e"), &compiled, &tracks)),
            ["0 web@e api", "1 api@e web"]
        );
    }
}
