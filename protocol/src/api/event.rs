//! The history of decisions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::name::{EnvironmentName, ServiceName, TargetName};
use crate::time::Timestamp;

/// One entry of the append-only record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// What happened: `deployment.stable`, `target.connected`, `security.refused`.
    pub kind: String,
    /// Who did it: a user, `target/NAME`, or `coordinator`.
    pub actor: String,
    /// In one sentence.
    pub message: String,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The environment it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// The target it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// The deployment it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// When it happened, where that was earlier: a target was away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// SHA-256 over the hash of the entry before and this entry.
    pub hash: Digest,
}

/// The outcome of checking the record's hash chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Whether every entry follows from the one before.
    pub valid: bool,
    /// Entries checked.
    pub entries: u64,
    /// Hash of the last one.
    pub head: Option<Digest>,
    /// The first entry that does not follow, if there is one.
    pub broken_at: Option<u64>,
    /// What is wrong with it.
    pub message: String,
}
