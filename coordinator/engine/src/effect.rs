//! What a step wants done. All effects are idempotent: a crash between committing and performing
//! them costs a repetition.

use holdfast_protocol::name::TargetName;

use crate::track::{Deployment, Point};

/// One thing to do.
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
    /// Something for the history.
    Record(Record),
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
}
