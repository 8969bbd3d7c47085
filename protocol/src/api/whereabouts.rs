//! What runs where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::deployment::Phase;
use crate::name::{EnvironmentName, ServiceName, TargetName, Version};
use crate::time::Timestamp;

/// A release in one environment, over all time: `where --ever`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stay {
    /// The service.
    pub service: ServiceName,
    /// The release.
    pub version: Version,
    /// The environment.
    pub environment: EnvironmentName,
    /// The deployments that brought it, oldest first.
    pub deployments: Vec<u64>,
    /// When the first began.
    pub first: Timestamp,
    /// When it was first stable there.
    pub stable_since: Option<Timestamp>,
    /// When another one took its place there; none while it is stable.
    pub until: Option<Timestamp>,
    /// How the newest of its deployments there ended, or stands.
    pub phase: Phase,
    /// Names of the protections that passed for it there.
    pub passed: Vec<String>,
}

/// One workload on one target, as last observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Whereabouts {
    /// The service.
    pub service: ServiceName,
    /// The release that runs.
    pub version: Version,
    /// The environment.
    pub environment: EnvironmentName,
    /// The target.
    pub target: TargetName,
    /// The runtime that it is placed in there; empty where nothing is placed there any more.
    #[serde(default)]
    pub runtime: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Since when.
    pub since: Timestamp,
}
