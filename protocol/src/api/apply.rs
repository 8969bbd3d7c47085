//! Applying manifests, and asking what an apply would do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::wait::Wait;
use crate::name::{EnvironmentName, InputSetName, ServiceName, TargetName, Version};
use crate::time::Timestamp;

/// Most bytes of manifests in one apply.
pub const MANIFESTS_MAX_BYTES: usize = 32 * 1024 * 1024;

/// One input set, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    /// The set; everything it held before and does not hold now is removed.
    #[serde(default = "default_set")]
    pub set: InputSetName,
    /// Its files, in a stable order.
    pub files: Vec<ManifestFile>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Confirm beforehand that what is removed shall be removed.
    #[serde(default)]
    pub confirm_removal: bool,
    /// The plan that this apply carries out; refused when the world has moved on since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanBase>,
}

/// The set that is meant when none is named.
#[must_use]
pub fn default_set() -> InputSetName {
    InputSetName::parse("default").expect("a DNS label")
}

/// One manifest file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestFile {
    /// How to name it in messages.
    pub path: String,
    /// YAML or JSON.
    pub content: String,
}

/// The manifests of an input set, as they were applied last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputSet {
    /// The set.
    pub set: InputSetName,
    /// The revision in force: what a change to the set is made against.
    pub revision: u64,
    /// Its files, in the order in which they were given.
    pub files: Vec<ManifestFile>,
}

/// What a plan was made against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanBase {
    /// The revision in force then; 0 before the first.
    pub revision: u64,
}

/// The outcome of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The revision now in force; unchanged when nothing changed.
    pub revision: u64,
    /// The set.
    pub set: InputSetName,
    /// Whether this apply made the revision.
    pub changed: bool,
    /// What changed, document by document, unchanged ones left out.
    pub changes: Vec<Change>,
    /// Removals that wait for a person.
    pub held: Vec<Wait>,
    /// Deployments that this apply started.
    #[serde(default)]
    pub deployments: Vec<u64>,
    /// Set on a dry run: nothing was changed.
    #[serde(default)]
    pub dry_run: bool,
}

/// What happened to one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `Environment`, `Service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What happened.
    pub action: ChangeAction,
    /// The fields that differ, as `spec.vars.port: 8080 -> 9090`.
    #[serde(default)]
    pub fields: Vec<String>,
}

/// What can happen to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeAction {
    /// It is new.
    Added,
    /// It differs from before.
    Changed,
    /// It is gone.
    Removed,
}

/// What an apply would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What the plan was made against.
    pub base: PlanBase,
    /// The request that was planned, to be applied as it is.
    pub request: ApplyRequest,
    /// Document by document.
    pub changes: Vec<Change>,
    /// Track by track, those that would move.
    pub tracks: Vec<PlannedTrack>,
    /// Removals that would wait for a person.
    pub held: Vec<Wait>,
}

/// What would happen to one track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTrack {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What would be done.
    pub action: PlannedAction,
    /// The release in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// The release that would be deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Version>,
    /// The configuration's fields that differ, secrets as `(changed)`.
    #[serde(default)]
    pub fields: Vec<String>,
    /// The targets that it touches, sorted.
    pub targets: Vec<TargetName>,
    /// The same by the runtime that each has or would have; those of which that is not known are left out.
    #[serde(default)]
    pub runtimes: BTreeMap<String, Vec<TargetName>>,
    /// The gates that would stand.
    pub waits: Vec<Wait>,
}

/// What can happen to a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum PlannedAction {
    /// A new deployment.
    Deploy,
    /// It is removed from every target.
    Remove,
    /// It is declared, and waits for a first release.
    Await,
}

/// The numbered result of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its number, from 1.
    pub number: u64,
    /// The set that was applied.
    pub set: InputSetName,
    /// When.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// What changed.
    pub changes: Vec<Change>,
}
