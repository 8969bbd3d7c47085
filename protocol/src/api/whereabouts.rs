//! What runs where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{EnvironmentName, ServiceName, TargetName, Version};
use crate::time::Timestamp;

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
    /// Whether it is ready.
    pub ready: bool,
    /// Since when.
    pub since: Timestamp,
}
