//! Waits: why nothing more happens now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// One reason why a track does not move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// What kind of reason.
    pub kind: WaitKind,
    /// What it waits for: an environment, a service, a target, a protection.
    pub subject: String,
    /// The reason in one sentence.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// Who or what can end it, as commands where there are some.
    pub ends_by: Vec<String>,
    /// When time alone ends it.
    pub until: Option<Timestamp>,
}

/// The kinds of reason.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum WaitKind {
    /// A release has to become stable in an earlier environment, or there is none yet.
    Order,
    /// Another service has to be stable first.
    Dependency,
    /// A policy forbids it.
    Policy,
    /// A protection has not passed, or has to hold for the soak time.
    Protection,
    /// A person has to agree.
    Approval,
    /// The calendar does not allow it now.
    Window,
    /// A person has paused the track.
    Pause,
    /// A person has frozen the environment.
    Freeze,
    /// A person has to confirm that something goes away.
    Removal,
    /// The target's own site holds it back.
    Hold,
    /// As many targets as allowed are unavailable.
    Capacity,
    /// Targets are on their way, or there are none.
    Target,
    /// It failed, and a person or a new release has to change something.
    Failed,
}
