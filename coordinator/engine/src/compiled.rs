//! A compiled revision: what every input set together declares, for each track.

pub mod notifier;
pub mod policy;
pub mod protection;
mod secret;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{
    ArtifactName, EnvironmentName, InputSetName, LabelKey, LabelValue, NotifierName, PolicyName,
    ProtectionName, SecretName, ServiceName, VariantName, Version,
};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::workload::Rollback;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::notifier::Notifier;
pub use self::policy::{Policy, Requirement};
pub use self::protection::{Guard, Protection};
use crate::calendar::Window;
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
    /// The checks, whether or not a track uses them.
    pub protections: BTreeMap<ProtectionName, Arc<Protection>>,
    /// The rules of other stakeholders.
    pub policies: BTreeMap<PolicyName, Arc<Policy>>,
    /// Where events are told outside.
    pub notifiers: BTreeMap<NotifierName, Arc<Notifier>>,
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
    /// Which of the releases that may come here is taken.
    pub promotion: Promotion,
    /// The environment whose stable releases are mirrored here.
    pub follow: Option<EnvironmentName>,
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
    /// The files a release gives, each with its file name.
    pub artifacts: BTreeMap<ArtifactName, String>,
    /// The images a release gives, each with its repository.
    pub images: BTreeMap<ArtifactName, String>,
    /// Services that must be stable first.
    pub depends_on: Vec<ServiceName>,
    /// Words to find it by.
    pub labels: BTreeMap<LabelKey, LabelValue>,
}

/// One service in one environment, as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackSpec {
    /// Which.
    pub name: TrackName,
    /// Environments in which a release must have been stable; empty for the rule *newest*.
    pub after: Vec<EnvironmentName>,
    /// Which of the releases that may come here is taken.
    pub promotion: Promotion,
    /// The environment whose stable release is mirrored; with one, `after` and `promotion` say nothing.
    pub follow: Option<EnvironmentName>,
    /// This version and nothing else.
    pub pin: Option<Version>,
    /// The releases that may come here at all; all where there is none.
    pub admits: Option<Admission>,
    /// The guardrails in force here.
    pub rollout: Rollout,
    /// When deployments may start; at any time where there is none.
    pub windows: Vec<Window>,
    /// The checks in force here, by name; no two have the same.
    pub guards: Vec<Guard>,
    /// What policies require of a release, checked before it starts.
    pub requirements: Vec<Requirement>,
    /// How it runs to completion; none for what runs for ever.
    pub job: Option<Job>,
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
    /// The waves in their order. Those by count or share are counted from the first target, never
    /// less than the wave before; those by label reach the targets with that label, besides all of
    /// the waves before. Whoever is in none belongs to the last.
    pub waves: Vec<Wave>,
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
    /// Targets that may be away while a wave begins.
    pub max_disconnected: Extent,
    /// What a rollout does when the last open window closes.
    pub on_window_close: OnWindowClose,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wave {
    /// So far, counted from the first target.
    Extent(Extent),
    /// The targets with these labels.
    Labels(Selector),
}

/// Which of the releases that may come to an environment is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promotion {
    /// The newest one; those between are skipped.
    #[default]
    Latest,
    /// Each in turn: a release train.
    Every,
    /// None, until a person promotes one.
    Manual,
}

/// Which releases may come onto a track at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The range of versions, as people wrote it: `^1.4`, `>=2, <3`. A version that is none of
    /// semantic versioning is in no range.
    pub semver: semver::VersionReq,
}

/// What a rollout does when the last open window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnWindowClose {
    /// It goes on to its end.
    #[default]
    Finish,
    /// No further wave begins before a window opens again.
    Hold,
    /// The stable release is put back.
    Rollback,
}

/// How a service runs to completion instead of for ever. `Stable` means that it has succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    /// On one elected target instead of on each.
    pub once: bool,
    /// When it runs again; once for each release where there is none. A run takes no time of the
    /// window: each opening is one run.
    pub schedule: Option<Window>,
    /// What a run is bounded by on its target. The same as in the track's [`Configuration`], from
    /// which bodies are rendered.
    pub terms: JobTerms,
}

/// What a run of a job is bounded by on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobTerms {
    /// How often it is started before it has failed; at least 1.
    pub attempts: u32,
    /// How long one attempt may take, in milliseconds; then it is stopped and has failed.
    pub time_limit_ms: u64,
}

/// One attempt of an hour.
impl Default for JobTerms {
    fn default() -> Self {
        Self {
            attempts: 1,
            time_limit_ms: 3_600_000,
        }
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// The files that it uses, each with its file name.
    pub artifacts: BTreeMap<ArtifactName, String>,
    /// The images that it uses, each with its repository.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ArtifactName, String>,
    /// With what files are fetched from their homes, and images pulled, by artifact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<ArtifactName, Credentials>,
    /// The secrets that its template names, each with the number of the value that is used; 0 where
    /// there is none yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, u64>,
    /// How to tell that it is ready; strings may hold `{{ }}`.
    pub health: Option<HealthSpec>,
    /// Services that must be ready on the same target before it starts.
    pub depends_on: Vec<ServiceName>,
    /// Who puts the previous release back on a target.
    pub rollback: Rollback,
    /// How long it may take to become ready, in milliseconds.
    pub progress_deadline_ms: u64,
    /// What bounds its runs, where it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobTerms>,
    /// What it is instead on targets with certain labels. No target can be meant by two of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<VariantName, Variant>,
}

/// With what an artifact is fetched from its home, or an image pulled. Always with the newest value, whose
/// number is therefore no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The secret that is told.
    pub secret: SecretName,
    /// The one host that a file's is told to, with its port where it has one; without, the value says it
    /// by itself. An image's is told to its registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether the secret has a value.
    pub is_set: bool,
}

/// What a service is on targets of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variant {
    /// The labels of those targets.
    pub when: Selector,
    /// All that bodies are rendered from there. It has no variants.
    pub configuration: Arc<Configuration>,
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
    /// The policy that set it: nobody else can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_by: Option<String>,
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
    /// The service's, for targets of one kind.
    Variant,
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
            Self::Variant => "variant",
            Self::Policy => "policy",
        }
    }
}

impl Configuration {
    /// What it is on a target with these labels, and the variant that says so, if one does.
    #[must_use]
    pub fn on(&self, labels: &Labels) -> (Option<&VariantName>, &Self) {
        let mut variants = self.variants.iter();
        variants
            .find(|(_, variant)| variant.when.matches(labels))
            .map_or((None, self), |(name, variant)| {
                (Some(name), &*variant.configuration)
            })
    }

    /// Itself, and what it is instead somewhere.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        let variants = self.variants.values();
        std::iter::once(self).chain(variants.map(|variant| &*variant.configuration))
    }
}

impl Admission {
    /// Whether a release of this version may come.
    #[must_use]
    pub fn admits(&self, version: &Version) -> bool {
        semver::Version::parse(version.as_str()).is_ok_and(|version| self.semver.matches(&version))
    }
}

impl TrackSpec {
    /// The environments whose tracks of this service are read: the one that is mirrored, or those
    /// before.
    pub fn upstream(&self) -> impl Iterator<Item = &EnvironmentName> {
        let before = if self.follow.is_none() {
            self.after.as_slice()
        } else {
            &[]
        };
        self.follow.iter().chain(before)
    }

    /// A track with every guardrail at its default and no gates: what tests and stand-ins start from.
    #[must_use]
    pub fn plain(name: TrackName, configuration: Configuration) -> Self {
        Self {
            name,
            after: Vec::new(),
            promotion: Promotion::Latest,
            follow: None,
            pin: None,
            admits: None,
            rollout: Rollout::default(),
            windows: Vec::new(),
            guards: Vec::new(),
            requirements: Vec::new(),
            job: None,
            depends_on: configuration.depends_on.clone(),
            selector: Selector::default(),
            digest: configuration.digest(),
            configuration: Arc::new(configuration),
        }
    }
}

/// Everything at once, and nothing to hold.
impl Default for Rollout {
    fn default() -> Self {
        Self {
            waves: vec![Wave::Extent(Extent::Percent(100))],
            max_unavailable: Extent::Count(1),
            max_failures: 0,
            soak: Duration::ZERO,
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            on_failure: OnFailure::Rollback,
            disconnected: Disconnected::Skip,
            max_disconnected: Extent::Percent(100),
            on_window_close: OnWindowClose::Finish,
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

/// As in manifests, but for the word before the labels: `25%`, `region=eu`.
impl std::fmt::Display for Wave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Extent(extent) => extent.fmt(f),
            Self::Labels(selector) => selector.fmt(f),
        }
    }
}

/// `region=eu, role=web`
impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (key, value)) in self.labels.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
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
