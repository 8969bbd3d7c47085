//! `Halted` and `RollbackFailed`: a person is needed, or something newer.

use holdfast_protocol::api::wait::WaitKind;

use super::{Turn, resting};
use crate::compiled::TrackSpec;
use crate::gates::words;
use crate::track::Deployment;
use crate::wait::{Waits, by_command};

/// The reason, for as long as this stands.
pub(super) fn explain(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Waits {
    let mut waits = resting::explain(turn, spec);
    let phase = words(deployment.phase.name());
    let message = format!(
        "{} {phase}: {}",
        deployment.point.version, deployment.reason
    );
    let wait = waits.push(WaitKind::Failed, &deployment.point.version, message);
    by_command(wait, "retry", &turn.track.name);
    if spec.job.is_none() {
        by_command(wait, "rollback", &turn.track.name);
    }
    waits
}
