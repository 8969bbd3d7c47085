//! What a step wants done. All effects are idempotent: a crash between committing and performing
//! them costs a repetition.

use holdfast_protocol::name::{NotifierName, ProtectionName, TargetName};
use holdfast_protocol::time::Timestamp;

use crate::compiled::protection::When;
use crate::track::{Deployment, Point};

/// One thing to do.
#[expect(
    clippy::large_enum_variant,
    reason = "a step has a handful of effects, and they are consumed at once"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The target's assignment shall hold this point from now on. The track's placements already
    /// say so.
    Place {
        /// The target.
        target: TargetName,
        /// The release and configuration.
        point: Point,
    },
    /// The target's assignment shall not hold this service any more.
    Displace {
        /// The target.
        target: TargetName,
    },
    /// The deployment is new or has changed: keep it.
    Save(Deployment),
    /// Ask a check. It has to be answered by [`crate::check::answer`] within its time limit; where no
    /// answer comes, it is asked again.
    Check(Ask),
    /// Something for the history.
    Record(Record),
}

/// A check to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The check, as the track calls it.
    pub guard: ProtectionName,
    /// For what.
    pub when: When,
    /// The deployment; none where it is asked for what is stable.
    pub deployment: Option<u64>,
    /// The release and configuration that it is asked about.
    pub point: Point,
    /// When it was asked; the answer has to name it.
    pub asked_at: Timestamp,
}

/// An entry for the history, about this track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What happened: `deployment.started`, `deployment.stable`, `deployment.rolledBack`.
    pub kind: &'static str,
    /// In one sentence.
    pub message: String,
    /// The deployment.
    pub deployment: Option<u64>,
    /// Who, where it was a person; the coordinator otherwise.
    pub by: Option<String>,
    /// Whom to tell besides those who listen to this kind.
    pub notify: Option<NotifierName>,
}
