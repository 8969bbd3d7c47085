//! A compiled revision: what every input set together declares, for each track.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{
    ArtifactName, EnvironmentName, InputSetName, LabelKey, LabelValue, ServiceName,
};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::workload::Rollback;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::track::TrackName;

/// Everything that is declared, compiled together. Immutable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    /// The environments.
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Every service in every environment that it runs in.
    pub tracks: BTreeMap<TrackName, Arc<TrackSpec>>,
}

/// An environment as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// Who owns it; empty where nobody said.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// Its place in the order.
    pub after: Vec<EnvironmentName>,
    /// Its guardrails.
    pub rollout: Rollout,
    /// How much one revision may remove here before a person has to confirm it.
    pub removal_limit: RemovalLimit,
}

/// The bounds of the removal guard; the larger of the two holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalLimit {
    /// So many services of the environment.
    pub services: u32,
    /// Such a share of its workloads in percent, rounded down.
    pub workloads_percent: u8,
}

/// A service as declared, across environments.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Who owns it; empty where nobody said.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// The runtime it has unless an environment says otherwise.
    pub runtime: String,
    /// The artifacts a release gives, each with its file name.
    pub artifacts: BTreeMap<ArtifactName, String>,
    /// Services that must be stable first.
    pub depends_on: Vec<ServiceName>,
}

/// One service in one environment, as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackSpec {
    /// Which.
    pub name: TrackName,
    /// Environments in which a release must have been stable; empty for the rule *newest*.
    pub after: Vec<EnvironmentName>,
    /// The guardrails in force here.
    pub rollout: Rollout,
    /// Services that must be stable in this environment first.
    pub depends_on: Vec<ServiceName>,
    /// The targets of the environment that it runs on.
    pub selector: Selector,
    /// What workload bodies are rendered from.
    pub configuration: Arc<Configuration>,
    /// Digest of `configuration`.
    pub digest: Digest,
}

/// How a release spreads over the targets of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// How far each wave reaches, counted from the first target: never less than the wave before.
    /// The last one reaches every target.
    pub waves: Vec<Extent>,
    /// Targets that may be unavailable at a time, of those connected; at least one.
    pub max_unavailable: Extent,
    /// Targets that may fail before the deployment has.
    pub max_failures: u32,
    /// How long all checks must hold after each wave.
    pub soak: Duration,
    /// How long a target has to be ready before it counts as done.
    pub min_ready: Duration,
    /// How long a target may take to become ready.
    pub progress_deadline: Duration,
    /// What a failed deployment does.
    pub on_failure: OnFailure,
    /// What targets that are away do to a wave.
    pub disconnected: Disconnected,
}

/// A number of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// So many.
    Count(u32),
    /// A share in percent, from 1 to 100, rounded up.
    Percent(u8),
}

/// What a failed deployment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The stable release is put back.
    #[default]
    Rollback,
    /// It stays as it is, and a person decides.
    Halt,
}

/// What targets that are away do to a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disconnected {
    /// They are passed over, and converge when they return.
    #[default]
    Skip,
    /// The wave waits for them.
    Wait,
}

/// Which targets of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// Labels that must all be there with these values; none means every target.
    pub labels: BTreeMap<LabelKey, LabelValue>,
}

/// What workload bodies of a track are rendered from, but for release and target. Stored by digest,
/// so that a rollback brings back the configuration that a release was stable with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The adapter.
    pub runtime: String,
    /// The adapter's template; strings may hold `{{ }}`.
    pub template: Value,
    /// Variables for `{{ vars.NAME }}`.
    pub vars: BTreeMap<String, Value>,
    /// The artifacts that it uses, each with its file name.
    pub artifacts: BTreeMap<ArtifactName, String>,
    /// How to tell that it is ready; strings may hold `{{ }}`.
    pub health: Option<HealthSpec>,
    /// Services that must be ready on the same target before it starts.
    pub depends_on: Vec<ServiceName>,
    /// Who puts the previous release back on a target.
    pub rollback: Rollback,
    /// How long it may take to become ready, in milliseconds.
    pub progress_deadline_ms: u64,
}

/// A health check before rendering. Spans in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthSpec {
    /// What is asked.
    pub check: CheckSpec,
    /// Time between two checks.
    pub interval_ms: u64,
    /// Time one check may take.
    pub timeout_ms: u64,
    /// Checks in a row that must pass.
    pub success_threshold: u32,
    /// Checks in a row that must fail.
    pub failure_threshold: u32,
    /// Time after a start in which failures do not count.
    pub start_period_ms: u64,
}

/// One kind of health check before rendering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckSpec {
    /// A GET on a URL.
    Http {
        /// The URL.
        url: String,
        /// The one status that passes, if not 200 to 399.
        expect: Option<u16>,
    },
    /// A TCP connection.
    Tcp {
        /// `HOST:PORT`
        address: String,
    },
    /// A program's exit code.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// Who set one field of a track, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// The field's path: `template.command[0]`, `vars.port`, `rollout.soak`.
    pub path: String,
    /// Its value as JSON.
    pub value: String,
    /// Which layer set it.
    pub layer: Layer,
    /// Whose.
    pub owner: String,
    /// The file; none for a built-in default.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

/// The layers of a compile, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    /// Built in.
    Default,
    /// The service's own.
    Service,
    /// The environment's.
    Environment,
    /// The service's, for that environment.
    Override,
    /// A policy's.
    Policy,
}

impl Layer {
    /// Its name, as people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Service => "service",
            Self::Environment => "environment",
            Self::Override => "override",
            Self::Policy => "policy",
        }
    }
}

/// As in manifests: `5`, `25%`.
impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl Extent {
    /// How many of `total` targets this is; a share is rounded up.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).min(total),
            Self::Percent(share) => (total * usize::from(share)).div_ceil(100).min(total),
        }
    }
}

impl Selector {
    /// Whether a target with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}
