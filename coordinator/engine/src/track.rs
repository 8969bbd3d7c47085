//! Tracks and deployments: the state of the engine, as it is stored.

pub mod check;
pub mod kept;

use std::collections::BTreeMap;
use std::fmt;

use holdfast_protocol::api::deployment::{Trigger, TriggerKind};
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use self::check::{Approved, CheckState, KeptResult, Skipped};

/// One service in one environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackName {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
}

/// What can be brought onto a track: a release with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The release.
    pub version: Version,
    /// Its place in the order of the service's releases.
    pub sequence: u64,
    /// Digest of the configuration.
    pub configuration: Digest,
    /// The revision that the configuration came from, for people.
    pub revision: u64,
    /// Which run of a job with a schedule: when it was due. None for all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Timestamp>,
}

/// The unit that the engine moves, on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// Which.
    pub name: TrackName,
    /// What has held here.
    pub stable: Option<Point>,
    /// What was stable before that, oldest first; at most [`EARLIER_MAX`].
    pub earlier: Vec<Point>,
    /// Sequence numbers of the releases that became stable here and were not rolled back since,
    /// ascending; at most [`PROVEN_MAX`].
    pub proven: Vec<u64>,
    /// What failed or was rolled back here: passed over until a person retries it or the
    /// configuration changes; at most [`PASSED_OVER_MAX`], the oldest forgotten first.
    pub passed_over: Vec<PassedOver>,
    /// The newest deployment.
    pub current: Option<Deployment>,
    /// Set while a person has paused the track.
    pub paused: Option<Pause>,
    /// The one version that a person wants here; stronger than the manifest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pinned>,
    /// What a person asked for once; gone when it has come to an end, whichever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// How the checks that always hold do, for what is stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<CheckState>,
    /// Whether a check that always has to hold has put back what is stable. It is not sent back by a
    /// check once more.
    #[serde(default)]
    pub sent_back: bool,
    /// The target elected for a job that runs on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elected: Option<TargetName>,
    /// What is remembered of a job; none for what runs for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// The waits of the last step, so that each keeps its beginning.
    pub waits: Vec<Wait>,
    /// What each target is assigned. Stored row by row (see [`crate::effect::Effect`]), not here.
    #[serde(skip)]
    pub placements: BTreeMap<TargetName, Placement>,
}

/// What a track remembers of the job that runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Its schedule, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Scheduled>,
}

/// A schedule in force, and the newest run that was due by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduled {
    /// The schedule as people wrote it: another one starts from nothing.
    pub window: String,
    /// Since when it is in force here. What would have been due before is not made up for.
    pub since: Timestamp,
    /// When the newest run was due, whether or not it has begun.
    pub due: Option<Timestamp>,
}

/// What one target is assigned on a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The release and configuration.
    pub point: Point,
    /// Since when.
    pub since: Timestamp,
}

/// Releases that are not to be tried again by themselves with one configuration. A range, because
/// a rollback by hand passes over everything that is newer, however much that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// Sequence number of the first release.
    pub first: u64,
    /// Sequence number of the last release, never before the first.
    pub last: u64,
    /// Digest of the configuration.
    pub configuration: Digest,
}

/// A person's pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A person's pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// The version.
    pub version: Version,
    /// Who.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A release that a person asked for, once: `deploy`, `promote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Its version.
    pub version: Version,
    /// Its place in the order of the service's releases.
    pub sequence: u64,
    /// Whether order, windows and checks that may be skipped do not apply.
    pub hotfix: bool,
    /// Why, as the deployment that it leads to will tell.
    pub trigger: Trigger,
}

/// One attempt to bring a point onto a track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its number, unique in the installation.
    pub id: u64,
    /// What is brought.
    pub point: Point,
    /// What was stable before.
    pub previous: Option<Point>,
    /// Why it was made.
    pub trigger: Trigger,
    /// Where it stands.
    pub phase: Phase,
    /// Why it stands there, for people.
    pub reason: String,
    /// When it was made.
    pub started_at: Timestamp,
    /// When it reached a final phase.
    pub finished_at: Option<Timestamp>,
    /// Whether order, windows and checks that may be skipped do not apply.
    #[serde(default)]
    pub hotfix: bool,
    /// How its checks do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckState>,
    /// What its checks came to, oldest first; at most [`check::RESULTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<KeptResult>,
    /// Who agreed to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approved>,
    /// What it may pass by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// Where a deployment stands, with what only that phase needs.
///
/// *Expected flow:* `Waiting` → `Rolling` → `Verifying` → `Stable`; see `engine.md` for the failures.
/// *Guarantees:* a final phase is never left. *Assumptions:* only `step` and `steer` change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum Phase {
    /// Gates stand before it.
    Waiting,
    /// It is being brought to targets.
    Rolling {
        /// The wave under way, from 0.
        wave: u32,
        /// When this wave began, or when it last stopped holding.
        since: Timestamp,
        /// Since when every target of this wave is done and holds, if so.
        holding_since: Option<Timestamp>,
    },
    /// Every wave is done; it has to hold. This is the soak of the last wave.
    Verifying {
        /// Since when the targets under way have had time to become ready again.
        since: Timestamp,
        /// Since when every target is done and holds; none while one is not.
        holding_since: Option<Timestamp>,
    },
    /// It has held.
    Stable,
    /// The release before it is being put back.
    RollingBack {
        /// Since when.
        since: Timestamp,
    },
    /// The release before it is back.
    RolledBack,
    /// The release before it could not be put back everywhere.
    RollbackFailed,
    /// It was stopped where it stood.
    Halted,
    /// It was not let through.
    Rejected,
    /// A newer one took its place before it began.
    Superseded,
}

/// Most earlier stable points that a track remembers itself; all are in the history.
pub const EARLIER_MAX: usize = 20;
/// Most releases that a track remembers as proven.
pub const PROVEN_MAX: usize = 256;
/// Most releases that a track remembers as passed over.
pub const PASSED_OVER_MAX: usize = 256;

impl Track {
    /// A track on which nothing has happened yet.
    #[must_use]
    pub const fn new(name: TrackName) -> Self {
        Self {
            name,
            stable: None,
            earlier: Vec::new(),
            proven: Vec::new(),
            passed_over: Vec::new(),
            current: None,
            paused: None,
            pinned: None,
            asked: None,
            watched: Vec::new(),
            sent_back: false,
            elected: None,
            batch: None,
            waits: Vec::new(),
            placements: BTreeMap::new(),
        }
    }
}

impl Point {
    /// Whether both bring the same release with the same configuration (and, for a job, in the same
    /// run), whatever revision that configuration was first seen in.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.configuration == other.configuration
            && self.run == other.run
    }
}

impl Deployment {
    /// Whether a person asked for an earlier release, or a check that always has to hold did. That is
    /// urgent: no gates, one wave, no soak.
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        matches!(
            self.trigger.kind,
            TriggerKind::Rollback | TriggerKind::Protection
        )
    }

    /// Whether it will never leave its phase.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.phase.name().is_final()
    }
}

impl Phase {
    /// The phase's name, without what it holds.
    #[must_use]
    pub const fn name(&self) -> holdfast_protocol::api::deployment::Phase {
        use holdfast_protocol::api::deployment::Phase as Name;
        match self {
            Self::Waiting => Name::Waiting,
            Self::Rolling { .. } => Name::Rolling,
            Self::Verifying { .. } => Name::Verifying,
            Self::Stable => Name::Stable,
            Self::RollingBack { .. } => Name::RollingBack,
            Self::RolledBack => Name::RolledBack,
            Self::RollbackFailed => Name::RollbackFailed,
            Self::Halted => Name::Halted,
            Self::Rejected => Name::Rejected,
            Self::Superseded => Name::Superseded,
        }
    }
}

impl fmt::Display for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.environment)
    }
}
