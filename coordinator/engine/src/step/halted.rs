//! `Halted` and `RollbackFailed`: a person is needed, or something newer.

use holdfast_protocol::api::wait::WaitKind;

use super::{Next, Turn, resting};
use crate::compiled::TrackSpec;
use crate::gates::words;
use crate::track::Deployment;
use crate::wait::by_command;

/// What else is wanted begins as ever; otherwise the reason is shown for as long as this stands.
pub(super) fn next(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Next {
    let mut next = resting::next(turn, spec);
    if let Next::Stay(waits) = &mut next {
        let phase = words(deployment.phase.name());
        let message = format!(
            "{} {phase}: {}",
            deployment.point.version, deployment.reason
        );
        let wait = waits.push(WaitKind::Failed, &deployment.point.version, message);
        by_command(wait, "retry", &turn.track.name);
        by_command(wait, "rollback", &turn.track.name);
    }
    next
}
