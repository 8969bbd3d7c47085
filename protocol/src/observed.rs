//! Observed state: what an adapter last saw, as conditions. *Unknown* is a value of its own: not yet
//! observed is not absent, and disconnected is not failed.

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::assignment::Generation;
use crate::digest::Digest;
use crate::name::{LabelKey, LabelValue, ServiceName, Version};
use crate::time::Timestamp;

/// Longest message of a status, in bytes; longer ones are cut.
pub const MESSAGE_MAX_BYTES: usize = 2_048;

/// Longest reason of a hold, in bytes.
pub const HOLD_REASON_MAX_BYTES: usize = 256;
/// Longest hold: who needs more says so again.
pub const HOLD_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A target's labels.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// What is known of one workload on one target.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WorkloadStatus {
    /// The service.
    pub service: ServiceName,
    /// Digest of the body that the target was asked to run; none when it shall run nothing.
    pub wanted: Option<Digest>,
    /// Digest of the body that it does run; none when nothing runs.
    pub running: Option<Digest>,
    /// The release that runs, if one does.
    pub version: Option<Version>,
    /// How the wanted body is doing.
    pub state: State,
    /// Why, for people: the last check's answer, the error, what it waits for.
    pub message: String,
    /// Since when `state` holds, by the target's clock.
    pub since: Timestamp,
    /// How often it was started again without being asked to, since it was first started.
    pub restarts: u32,
}

/// How a target is doing with the body that it was asked to run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Nothing has been observed yet.
    Unknown,
    /// It waits: for an artifact, for a service it depends on, for a pause after a failure.
    Pending,
    /// It is being made so, or runs and is not ready yet.
    Progressing,
    /// It runs and is ready.
    Ready,
    /// It ran and was ready, and now is not.
    NotReady,
    /// It could not be made ready; the agent goes on trying unless the cause cannot change.
    Failed,
    /// It was asked to go, and is gone.
    Removed,
}

/// A change of a workload's state, with its own time, as journaled while disconnected.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Transition {
    /// The service.
    pub service: ServiceName,
    /// When, by the target's clock.
    pub at: Timestamp,
    /// Digest of the body that was wanted then.
    pub wanted: Option<Digest>,
    /// What it became.
    pub state: State,
    /// Why.
    pub message: String,
}

/// Something about the target itself that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TargetCondition {
    /// What kind.
    pub kind: TargetConditionKind,
    /// Why, for people.
    pub message: String,
    /// Since when, by the target's clock.
    pub since: Timestamp,
}

/// What can be wrong with a target.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum TargetConditionKind {
    /// The newest record of the cache could not be read; the one before it is in force.
    CacheDamaged,
    /// The cache cannot be written: disk full, or worse. The old state stays in force.
    CacheUnwritable,
    /// An assignment was refused: bad signature, lower number, other content for the same number.
    AssignmentRefused,
    /// Little disk space is left.
    DiskPressure,
    /// Little memory is left.
    MemoryPressure,
    /// More work is waiting than the cores can do.
    LoadHigh,
    /// The target's clock disagrees with the coordinator's.
    ClockSkew,
    /// The journal overflowed: some transitions were dropped, the newest states were kept.
    JournalOverflow,
}

/// What a target is, as it sees itself; becomes labels under `host.` and conditions.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Operating system: `debian`.
    pub os: String,
    /// Its version: `12`.
    pub os_version: String,
    /// Kernel version.
    pub kernel: String,
    /// Processor architecture: `x86_64`.
    pub arch: String,
    /// Host name.
    pub hostname: String,
    /// Logical processors.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory available in bytes.
    pub memory_available_bytes: u64,
    /// Size of the file system that holds the agent's data, in bytes.
    pub disk_bytes: u64,
    /// Space left on it, in bytes.
    pub disk_available_bytes: u64,
    /// Load average over one minute, in hundredths.
    pub load_hundredths: u32,
}

/// The wish of a target's own site to be left alone: it keeps what it runs and takes no new release.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Until when, by the target's clock.
    pub until: Timestamp,
    /// Why, for people; at most [`HOLD_REASON_MAX_BYTES`].
    pub reason: String,
}

/// What an agent observed, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Counts the reports of this connection, from 1; acknowledged once stored.
    pub sequence: u64,
    /// The assignment in force when this was observed.
    pub generation: Option<Generation>,
    /// Whether everything assigned runs as assigned and is ready.
    pub converged: bool,
    /// Whether `statuses` names every workload, so that one it does not name is not there.
    pub complete: bool,
    /// The newest state of each workload that changed, or of all.
    pub statuses: Vec<WorkloadStatus>,
    /// What happened before that, oldest first.
    pub transitions: Vec<Transition>,
    /// All conditions of the target, where they changed.
    pub conditions: Option<Vec<TargetCondition>>,
    /// What the target is, where that changed.
    pub facts: Option<Facts>,
}

/// Cuts a message to [`MESSAGE_MAX_BYTES`] at a character boundary.
#[must_use]
pub fn cut_message(mut text: String) -> String {
    if text.len() > MESSAGE_MAX_BYTES {
        let end = (0..=MESSAGE_MAX_BYTES - 3)
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = cut_message("ü".repeat(3_000));
        assert!(cut.len() <= MESSAGE_MAX_BYTES && cut.ends_with('…'));
        assert_eq!(cut_message("short".to_owned()), "short");
    }
}
