//! Where each value of a compiled workload comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{EnvironmentName, ServiceName, TargetName, Version};

/// The compiled workload of a track, or of one target, with the provenance of every field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The target it was rendered for, if one was named.
    pub target: Option<TargetName>,
    /// The targets that it means, by the runtime that each has: one alone if it was named.
    #[serde(default)]
    pub runtimes: BTreeMap<String, Vec<TargetName>>,
    /// The release it was rendered with, if there is one.
    pub version: Option<Version>,
    /// The revision it comes from.
    pub revision: u64,
    /// Every field, sorted by path.
    pub fields: Vec<Field>,
}

/// One field and who set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// Its path: `template.command[0]`, `rollout.soak`.
    pub path: String,
    /// Its value as JSON; secrets as `(secret NAME)`.
    pub value: String,
    /// Which layer set it: `default`, `service`, `environment`, `override`, `policy`.
    pub layer: String,
    /// Whose.
    pub owner: String,
    /// The file; none for a built-in default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The policy that set it: nobody else can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_by: Option<String>,
}
