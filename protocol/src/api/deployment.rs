//! Deployments: attempts to bring a release and a configuration onto a track.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::wait::Wait;
use crate::digest::Digest;
use crate::name::{EnvironmentName, RoleName, ServiceName, TargetName, Version};
use crate::time::Timestamp;

/// One attempt, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its number, unique in the installation.
    pub id: u64,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The release.
    pub version: Version,
    /// The revision whose configuration it brings.
    pub revision: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Why it stands there, for people.
    pub reason: String,
    /// When it was made.
    pub started_at: Timestamp,
    /// When it reached a phase that is final.
    pub finished_at: Option<Timestamp>,
    /// How its targets do.
    pub targets: TargetCounts,
    /// Why it does not move.
    pub waits: Vec<Wait>,
    /// Which wave.
    pub waves: WaveCount,
    /// Why it was made.
    pub trigger: Trigger,
    /// The release that was stable before.
    pub previous: Option<Version>,
    /// Results of its protections.
    #[serde(default)]
    pub protections: Vec<ProtectionResult>,
    /// Protections that a person skipped.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// Who agreed to it.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Whether it goes past order, windows and checks that may be skipped.
    #[serde(default)]
    pub hotfix: bool,
    /// Digest of what an approver is shown, while it waits: an approval names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Digest>,
    /// Digest of the configuration that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Digest>,
    /// The end of what the service wrote on targets where it failed, by target. Told of one deployment
    /// that is asked for by its number, not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<LastLines>,
}

/// The end of what a service wrote on a target where a deployment failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastLines {
    /// The target.
    pub target: TargetName,
    /// When they were read.
    pub at: Timestamp,
    /// The lines, oldest first; at most 16 KiB.
    pub lines: Vec<String>,
}

/// A person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Who.
    pub by: String,
    /// In which of their roles.
    pub roles: Vec<RoleName>,
    /// When.
    pub at: Timestamp,
    /// Why, where they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a deployment stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub enum Phase {
    /// Gates stand before it.
    Waiting,
    /// It is being brought to targets, wave by wave.
    Rolling,
    /// Every wave is done; it has to hold for the soak time.
    Verifying,
    /// It has held.
    Stable,
    /// It failed, and the release before it is being put back.
    RollingBack,
    /// The release before it is back.
    RolledBack,
    /// The release before it could not be put back everywhere. A person is needed.
    RollbackFailed,
    /// It was stopped where it stood.
    Halted,
    /// It was not let through.
    Rejected,
    /// A newer one took its place before it began.
    Superseded,
}

impl Phase {
    /// Whether the deployment will never leave this phase.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Waiting | Self::Rolling | Self::Verifying | Self::RollingBack => false,
            Self::Stable
            | Self::RolledBack
            | Self::RollbackFailed
            | Self::Halted
            | Self::Rejected
            | Self::Superseded => true,
        }
    }
}

/// How the targets of a deployment do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetCounts {
    /// Targets that the track covers.
    pub total: u32,
    /// Assigned the wanted release.
    pub updated: u32,
    /// Ready with what they are assigned.
    pub ready: u32,
    /// Failed with what they are assigned.
    pub failed: u32,
    /// Not connected now.
    pub disconnected: u32,
}

/// Which wave of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveCount {
    /// The wave under way, from 1; 0 before the first.
    pub current: u32,
    /// How many there are.
    pub total: u32,
}

/// Why a deployment was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// What kind of reason.
    pub kind: TriggerKind,
    /// Who, where it was a person.
    #[serde(default)]
    pub by: Option<String>,
    /// Why, where somebody said so.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The kinds of reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum TriggerKind {
    /// A new release.
    Release,
    /// A new configuration.
    Configuration,
    /// A release became stable upstream.
    Promotion,
    /// A person asked for an earlier release.
    Rollback,
    /// A person asked for another try.
    Retry,
    /// A person asked for a certain release.
    Deploy,
    /// A person asked for a certain release past order and checks that may be skipped.
    Hotfix,
    /// The track is pinned to a release.
    Pin,
    /// The environment that is mirrored has it.
    Mirror,
    /// A job was due.
    Schedule,
    /// A check that always has to hold has failed.
    Protection,
}

/// One run of a protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectionResult {
    /// The protection.
    pub name: String,
    /// `pre`, `post`, `always`.
    pub when: String,
    /// `passed`, `failed`, `unknown`.
    pub result: String,
    /// What it said.
    pub output: String,
    /// When it ran.
    pub at: Timestamp,
}

/// A protection that a person skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// The protection.
    pub name: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}
