//! Targets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{EnvironmentName, TargetName};
use crate::observed::{Hold, TargetConditionKind};
use crate::time::Timestamp;

/// One joined host or cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its name.
    pub name: TargetName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Its labels: given ones and facts under `host.`.
    pub labels: BTreeMap<String, String>,
    /// Whether it is connected now.
    pub connected: bool,
    /// Since when it is connected, or is not.
    pub since: Timestamp,
    /// Number of its newest assignment; 0 before the first.
    pub generation: u64,
    /// Number of the newest assignment that it has made so; 0 before the first.
    pub converged_generation: u64,
    /// The agent's release.
    pub agent_version: String,
    /// When its certificate ends.
    pub certificate_expires: Timestamp,
    /// What is wrong with it.
    pub conditions: Vec<Condition>,
    /// Set while its own site asks for it to be left alone: it keeps what it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Whether its certificate was revoked.
    #[serde(default)]
    pub revoked: bool,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// Something about a target that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What kind.
    #[schema(value_type = String)]
    pub kind: TargetConditionKind,
    /// Why.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// Labels to set, and with a value of null to take away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// Key to value, or to null.
    pub labels: BTreeMap<String, Option<String>>,
}
