//! What differs between two deployments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{EnvironmentName, ServiceName, Version};

/// What differs between two deployments. Secrets are named, never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentDiff {
    /// The first.
    pub from: Side,
    /// The second.
    pub to: Side,
    /// What differs in the release: `artifacts.app`, `commit`, `meta.ticket`.
    pub release: Vec<FieldChange>,
    /// What differs in the configuration: `vars.port`, `template.command[0]`.
    pub configuration: Vec<FieldChange>,
    /// What differs in the manifests of the two revisions, as a unified diff that `apply` accepts;
    /// empty where nothing does.
    pub patch: String,
}

/// One deployment of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Its number.
    pub id: u64,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The release.
    pub version: Version,
    /// The revision that its configuration came from.
    pub revision: u64,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Its path.
    pub path: String,
    /// What it was, as JSON; none where it was not there.
    pub from: Option<String>,
    /// What it is, as JSON; none where it is not there any more.
    pub to: Option<String>,
}
