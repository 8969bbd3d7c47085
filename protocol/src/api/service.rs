//! Services.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ArtifactName, EnvironmentName, ServiceName, Version};

/// One service as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Who owns it.
    pub owner: String,
    /// Its runtime.
    pub runtime: String,
    /// The artifacts that a release has to give.
    pub artifacts: Vec<ArtifactName>,
    /// The services that must be stable before it.
    pub depends_on: Vec<ServiceName>,
    /// The environments it runs in.
    pub environments: Vec<EnvironmentName>,
    /// Its newest release.
    pub latest: Option<Version>,
}
