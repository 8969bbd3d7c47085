//! What a step is told: everything it may know besides its own track.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::time::Timestamp;

use crate::compiled::TrackSpec;
use crate::track::{Point, Track};

/// The arguments of one step besides track and time.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// What is declared.
    pub declared: Declared<'a>,
    /// The revision in force; for a track that is declared no more, the one that removed it.
    pub revision: u64,
    /// The service's releases that give every artifact the configuration uses, ascending.
    pub releases: &'a [ReleaseRef],
    /// The tracks of the same service in the environments that come before, in declared order.
    pub upstream: Vec<Upstream<'a>>,
    /// The tracks of the services that this one depends on, in declared order.
    pub dependencies: Vec<Dependency<'a>>,
    /// The targets of the environment that the selector matches.
    pub targets: BTreeMap<TargetName, View>,
    /// The number that a new deployment gets. The driver advances it whenever one was made.
    pub next_deployment: u64,
    /// The freezes that stop starts here: those of this environment, and those of all.
    pub freezes: &'a [Freeze],
    /// The tracks that checks of kind `stable` ask about.
    pub elsewhere: Vec<Elsewhere<'a>>,
}

/// A person's freeze of one environment or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Which environment; all where there is none.
    pub environment: Option<EnvironmentName>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A track that a check of kind `stable` asks about.
#[derive(Debug, Clone)]
pub struct Elsewhere<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// Its stable release.
    pub stable: Option<&'a Version>,
    /// Phase of its newest deployment.
    pub phase: Option<Phase>,
}

/// What is declared for a track.
#[derive(Debug, Clone, Copy)]
pub enum Declared<'a> {
    /// It shall run like this.
    Runs(&'a TrackSpec),
    /// It is declared no more: its workloads shall go.
    Removed {
        /// Whether that may happen; otherwise a person has to confirm it.
        confirmed: bool,
    },
}

/// A release by version and place in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRef {
    /// Its version.
    pub version: Version,
    /// Its place, from 1.
    pub sequence: u64,
    /// All that is known of it, for expressions and checks.
    pub about: Option<Arc<Release>>,
}

/// The same service in an environment that comes before.
#[derive(Debug, Clone)]
pub struct Upstream<'a> {
    /// That environment.
    pub environment: &'a EnvironmentName,
    /// What is stable there.
    pub stable: Option<&'a Point>,
    /// Sequence numbers of the releases that became stable there, ascending.
    pub proven: &'a [u64],
    /// Whether what is stable there has the configuration in force there: a new configuration has not
    /// been proven where it has not.
    pub settled: bool,
    /// Phase of the newest deployment there and the release it brings.
    pub current: Option<(Phase, &'a Version)>,
}

/// A service that this one depends on, in the same environment.
#[derive(Debug, Clone)]
pub struct Dependency<'a> {
    /// That service.
    pub service: &'a ServiceName,
    /// Its stable release.
    pub stable: Option<&'a Version>,
    /// Phase of its newest deployment.
    pub phase: Option<Phase>,
    /// Whether it is a job, so that stable means that its newest run has succeeded.
    pub job: bool,
}

/// One target as seen from the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether it is connected.
    pub connected: bool,
    /// Since when it is connected, or is not.
    pub since: Timestamp,
    /// How it does with what this track has placed on it; meaningless where nothing is placed.
    pub seen: Seen,
    /// Its labels, for waves by label.
    pub labels: Arc<Labels>,
    /// Set while its own site asks to be left alone: it keeps what it runs.
    pub held: Option<Held>,
    /// It said no key that secrets could be sealed to, since its agent is of an earlier release, and the
    /// track has some: it counts as away.
    pub keyless: bool,
}

/// A target whose own site asks to be left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

/// How a target does with the point that is placed on it. Judged by digest: what is known of an
/// earlier body is `Unknown` here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing was heard of it yet.
    Unknown,
    /// It is under way.
    Progressing {
        /// What it does or waits for.
        message: String,
    },
    /// It is ready.
    Ready {
        /// Since when, by the coordinator's clock.
        since: Timestamp,
    },
    /// It failed, or was ready and is not any more.
    Failed {
        /// Why.
        message: String,
    },
}

impl<'a> Inputs<'a> {
    /// Inputs that say nothing but what is declared: what tests and stand-ins start from.
    #[must_use]
    pub const fn of(declared: Declared<'a>) -> Self {
        Self {
            declared,
            revision: 1,
            releases: &[],
            upstream: Vec::new(),
            dependencies: Vec::new(),
            targets: BTreeMap::new(),
            next_deployment: 1,
            freezes: &[],
            elsewhere: Vec::new(),
        }
    }
}

impl View {
    /// A connected target of which nothing was heard yet, without labels.
    #[must_use]
    pub fn connected(since: Timestamp) -> Self {
        Self {
            connected: true,
            since,
            seen: Seen::Unknown,
            labels: Arc::default(),
            held: None,
            keyless: false,
        }
    }
}

impl ReleaseRef {
    /// A release of which only version and place are known.
    #[must_use]
    pub const fn bare(version: Version, sequence: u64) -> Self {
        Self {
            version,
            sequence,
            about: None,
        }
    }
}

impl<'a> Dependency<'a> {
    /// What is read of the track of `service` in the same environment, if there is one.
    #[must_use]
    pub fn of(service: &'a ServiceName, track: Option<&'a Track>) -> Self {
        Self {
            service,
            stable: track.and_then(stable_version),
            phase: track.and_then(newest_phase),
            job: track.is_some_and(|track| track.batch.is_some()),
        }
    }
}

impl<'a> Elsewhere<'a> {
    /// What is read of the track of `service` in `environment`, if there is one.
    #[must_use]
    pub fn of(
        (service, environment): (&'a ServiceName, &'a EnvironmentName),
        track: Option<&'a Track>,
    ) -> Self {
        Self {
            service,
            environment,
            stable: track.and_then(stable_version),
            phase: track.and_then(newest_phase),
        }
    }
}

fn stable_version(track: &Track) -> Option<&Version> {
    track.stable.as_ref().map(|point| &point.version)
}

fn newest_phase(track: &Track) -> Option<Phase> {
    track.current.as_ref().map(|current| current.phase.name())
}

impl<'a> Upstream<'a> {
    /// What is read of the track in `environment`, if there is one, and of its declaration.
    #[must_use]
    pub fn of(
        environment: &'a EnvironmentName,
        track: Option<&'a Track>,
        declared: Option<&TrackSpec>,
    ) -> Self {
        let stable = track.and_then(|track| track.stable.as_ref());
        let in_force = declared.map(|declared| declared.digest);
        Self {
            environment,
            stable,
            proven: track.map_or(&[][..], |track| track.proven.as_slice()),
            settled: stable.map(|stable| stable.configuration) == in_force,
            current: track
                .and_then(|track| track.current.as_ref())
                .map(|current| (current.phase.name(), &current.point.version)),
        }
    }
}
