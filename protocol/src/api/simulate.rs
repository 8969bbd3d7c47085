//! Simulating: what would happen when, with every gate passing after its usual time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::apply::ApplyRequest;
use crate::api::wait::Wait;
use crate::name::{EnvironmentName, ServiceName};
use crate::time::Timestamp;

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Simulation {
    /// Manifests that would be applied first; what is in force where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ApplyRequest>,
    /// How far the clock runs: `30d`.
    pub until: String,
    /// Deployments on these tracks fail: `web@production`.
    #[serde(default)]
    pub fail: Vec<String>,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Moment by moment.
    pub items: Vec<Moment>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// `atRest`, `until` or `tooLong`.
    pub end: String,
    /// The tracks that would still wait then, and why.
    pub waiting: Vec<Waiting>,
}

/// One thing that would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What: a kind of event.
    pub kind: String,
    /// In one sentence.
    pub message: String,
}

/// A track that would still wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// For what.
    pub waits: Vec<Wait>,
}
