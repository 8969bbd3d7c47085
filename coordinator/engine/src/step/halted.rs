//! `Halted` and `RollbackFailed`: a person is needed, or something newer.

use holdfast_protocol::api::wait::WaitKind;

use super::{Next, Turn, resting};
use crate::compiled::TrackSpec;
use crate::gates::words;
use crate::track::Deployment;
use crate::wait::by_command;

/// What else is wanted begins as ever; otherwise the reason is shown for as long as this stands.
pub(super) fn next(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Next {
    match resting::next(turn, spec) {
        Next::Stay(mut waits) => {
            let phase = deployment.phase.name();
            let message = format!(
                "{} {}: {}",
                deployment.point.version,
                words(phase),
                deployment.reason
            );
            let wait = waits.push(
                WaitKind::Failed,
                format!("deployment {}", deployment.id),
                message,
            );
            by_command(wait, "retry", &turn.track.name);
            by_command(wait, "rollback", &turn.track.name);
            Next::Stay(waits)
        }
        other => other,
    }
}
