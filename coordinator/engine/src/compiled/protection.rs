//! Protections: checks that must pass before, during or after a deployment, and their use by a track.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::name::{
    EnvironmentName, InputSetName, NotifierName, ProtectionName, RoleName, ServiceName,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expression::Expression;
use crate::track::TrackName;

/// A check as declared, for whoever uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Protection {
    /// Its name.
    pub name: ProtectionName,
    /// Who owns it; empty where nobody said.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// What is asked.
    pub check: Check,
    /// Parameters for `{{ parameters.NAME }}`, each with its default; one without has to be given by
    /// whoever uses it.
    pub parameters: BTreeMap<String, Option<Value>>,
    /// Time between two checks.
    pub interval: Duration,
    /// Checks in a row that must fail before it has failed; at least 1.
    pub failure_threshold: u32,
    /// Who may skip it for one deployment.
    pub skippable: Skippable,
    /// Whom to tell when it has been waited for too long.
    pub notify: Option<Notify>,
}

/// What is asked. Texts may hold `{{ }}` over `service`, `environment`, `release`, `deployment`,
/// `env`, `vars` and `parameters`; they are rendered when it is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// A program that passes with exit code 0.
    Run(Run),
    /// A program that passes with exit code 0 when something outside is there: waited for, and whoever
    /// can bring it is told.
    Resource(Run),
    /// A GET.
    Http(Http),
    /// A query.
    Prometheus(Prometheus),
    /// CEL over `service`, `environment`, `release`, `deployment` and `observed`.
    Expression(Expression),
    /// People who agree.
    Approval(Approval),
    /// Another service that is stable, and not moving.
    Stable {
        /// Which.
        service: ServiceName,
        /// Where; in the same environment where none is named.
        environment: Option<EnvironmentName>,
    },
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Its environment; nothing else is in it but `PATH` and `HOLDFAST_…`.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub on: Place,
    /// Time it may take.
    pub timeout: Duration,
}

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// On one connected target of the environment that the track runs on, by its agent.
    Target,
    /// On the coordinator, where its operator allows that.
    Coordinator,
}

/// A GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `http://…` or `https://…`
    pub url: String,
    /// The one status that passes; 200 to 299 where there is none.
    pub expect: Option<u16>,
    /// What the body has to contain.
    pub contains: Option<String>,
    /// Time it may take.
    pub timeout: Duration,
}

/// A query of a Prometheus server.
#[derive(Debug, Clone, PartialEq)]
pub struct Prometheus {
    /// The server: `http://HOST:PORT`
    pub url: String,
    /// `PromQL`
    pub query: String,
    /// What passes.
    pub expect: Samples,
    /// Time it may take.
    pub timeout: Duration,
}

/// Which result of a query passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Samples {
    /// No sample.
    Empty,
    /// At least one sample.
    Some,
    /// At least one sample, and each of them compares so with the bound.
    Each(Comparison, f64),
}

/// How a sample compares with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    Differs,
}

/// People who agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Any one of these roles may; never empty.
    pub roles: Vec<RoleName>,
    /// How many different people; at least 1.
    pub count: u32,
    /// How long an approval holds before the deployment starts; then it has to be given again.
    pub expires: Duration,
}

/// Who may skip a check for one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skippable {
    /// Whoever may steer the track.
    Anyone,
    /// Only people with one of these roles.
    Roles(Vec<RoleName>),
    /// Nobody.
    Nobody,
}

/// Whom to tell when a check has been waited for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// How long is too long.
    pub after: Duration,
    /// Whom.
    pub to: NotifierName,
}

/// The use of a check by a track.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// What it is called here: the protection's name unless it is used twice.
    pub name: ProtectionName,
    /// The check. Interval, threshold and who may skip it are in force as they stand in it.
    pub protection: Arc<Protection>,
    /// When it is asked; never empty.
    pub when: BTreeSet<When>,
    /// Parameters, complete.
    pub parameters: BTreeMap<String, Value>,
    /// What a failure under `always` does to what is stable.
    pub on_incident: OnIncident,
}

/// When a check is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Before a deployment starts.
    Pre,
    /// After each wave, for the whole soak.
    Post,
    /// As `post`, and for as long as the release is stable.
    Always,
}

/// What a check that fails under `always` does to what is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnIncident {
    /// It is told.
    #[default]
    Tell,
    /// The release before is put back.
    Rollback,
}

impl When {
    /// As it stands in manifests and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Post => "post",
            Self::Always => "always",
        }
    }
}

impl Check {
    /// The service and the environment that a check of kind `stable` asks about, for a track.
    #[must_use]
    pub fn stable_elsewhere<'c>(
        &'c self,
        track: &'c TrackName,
    ) -> Option<(&'c ServiceName, &'c EnvironmentName)> {
        match self {
            Self::Stable {
                service,
                environment,
            } => Some((service, environment.as_ref().unwrap_or(&track.environment))),
            Self::Run(_)
            | Self::Resource(_)
            | Self::Http(_)
            | Self::Prometheus(_)
            | Self::Expression(_)
            | Self::Approval(_) => None,
        }
    }

    /// The kind, as it stands in manifests.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Resource(_) => "resource",
            Self::Http(_) => "http",
            Self::Prometheus(_) => "prometheus",
            Self::Expression(_) => "expression",
            Self::Approval(_) => "approval",
            Self::Stable { .. } => "stable",
        }
    }
}

impl Guard {
    /// Whether it is asked then.
    #[must_use]
    pub fn is_asked(&self, when: When) -> bool {
        self.when.contains(&when) || (when == When::Post && self.when.contains(&When::Always))
    }
}
