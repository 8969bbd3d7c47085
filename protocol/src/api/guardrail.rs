//! Guardrails as declared: protections, policies, notifiers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{InputSetName, NotifierName, PolicyName, ProtectionName};

/// A check that must pass before, during or after deployments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protection {
    /// Its name.
    pub name: ProtectionName,
    /// Who owns it.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// What is asked: `run`, `http`, `prometheus`, `expression`, `approval`, `stable`, `resource`.
    pub kind: String,
    /// Time between two checks.
    pub interval: String,
    /// Checks in a row that must fail before it has failed.
    pub failure_threshold: u32,
    /// Who may skip it: `anyone`, `nobody`, or the roles.
    pub skippable: Vec<String>,
    /// The tracks that use it, as `web@production`.
    pub tracks: Vec<String>,
}

/// A rule over the compiled desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Who owns it.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// What it does, in a few words.
    pub summary: String,
}

/// Where events are told outside. Addresses and keys are not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notifier {
    /// Its name.
    pub name: NotifierName,
    /// Who owns it.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// `webhook`, `slack`, `teams`.
    pub channel: String,
    /// The kinds of event that it tells.
    pub on: Vec<String>,
}
