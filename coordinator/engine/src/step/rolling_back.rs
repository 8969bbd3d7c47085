//! `RollingBack`: the stable release is being put back wherever the failed one was.
//!
//! *Guarantees:* no gate stands before it, and targets that are away do not hold it; they are given
//! the stable release when they return. What cannot be put back ends it as `RollbackFailed`.

use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use super::{Next, Turn};
use crate::compiled::TrackSpec;
use crate::rollback::restored;
use crate::track::Phase;
use crate::verify::{Standing, Terms, standing};
use crate::wait::{self, Waits, by_command};

/// `RolledBack`, `RollbackFailed`, or who is still on the way.
pub(super) fn next(turn: &Turn<'_>, spec: &TrackSpec, since: Timestamp) -> Next {
    let Some(deployment) = &turn.track.current else {
        return Next::Stay(Waits::default());
    };
    let (mut on_the_way, mut failed) = (Vec::new(), Vec::new());
    let mut waits = Waits::default();
    for (name, standing) in restoring(turn, spec, since) {
        match standing {
            Standing::Done
            | Standing::Away {
                returning_until: None,
            } => {}
            Standing::Settling { until } => {
                waits.wake(until);
                on_the_way.push((name, "ready, not for long enough yet".to_owned()));
            }
            Standing::UnderWay { message, until } => {
                waits.wake(until);
                on_the_way.push((name, message));
            }
            Standing::Away {
                returning_until: Some(until),
            } => {
                waits.wake(until);
                on_the_way.push((name, "away".to_owned()));
            }
            Standing::Failed { message } => failed.push((name, message)),
        }
    }
    let until = waits.wakes_at();
    if !on_the_way.is_empty() {
        let names =
            wait::targets_saying(on_the_way.iter().map(|(name, said)| (*name, said.as_str())));
        let message = format!(
            "{} still to go back: {names}",
            wait::count(on_the_way.len())
        );
        let wait = waits.push(WaitKind::Target, "targets", message);
        wait.until = until;
        wait.ends_by.push("the targets becoming ready".to_owned());
        by_command(wait, "halt", &turn.track.name);
        return Next::Stay(waits);
    }
    if failed.is_empty() {
        let reason = restored(&turn.track, deployment);
        return Next::Enter(Phase::RolledBack, "deployment.rolledBack", reason);
    }
    let names = wait::targets_saying(failed.iter().map(|(name, said)| (*name, said.as_str())));
    let reason = format!(
        "could not be rolled back on {names}, after: {}",
        deployment.reason
    );
    Next::Enter(Phase::RollbackFailed, "deployment.rollbackFailed", reason)
}

/// The targets that were given the stable point since the rollback began, and how they do.
fn restoring<'t>(
    turn: &'t Turn<'_>,
    spec: &TrackSpec,
    since: Timestamp,
) -> Vec<(&'t TargetName, Standing)> {
    let (Some(deployment), Some(stable)) = (&turn.track.current, &turn.track.stable) else {
        return Vec::new();
    };
    let terms = Terms {
        began: since,
        ..Terms::of(&spec.rollout, deployment, since)
    };
    let mut found = Vec::new();
    for (name, view) in &turn.inputs.targets {
        let placement = turn.track.placements.get(name);
        if let Some(placement) = placement.filter(|p| p.point.is(stable) && p.since >= since) {
            found.push((name, standing(turn, name, view, placement, terms)));
        }
    }
    found
}
