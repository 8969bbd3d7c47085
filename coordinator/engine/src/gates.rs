//! Every pre-deploy gate, all of them evaluated, so that a person sees the whole list.

pub(crate) mod calendar;
pub(crate) mod policy;
pub(crate) mod presence;
mod secret;

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::wait::WaitKind;

use crate::batch;
use crate::check;
use crate::compiled::{OnWindowClose, TrackSpec};
use crate::input::Dependency;
use crate::order;
use crate::step::Turn;
use crate::track::Deployment;
use crate::wait::{Waits, by_command};

/// The gates that stand before a deployment. It may roll when there are none. A hotfix passes order
/// and windows, and what was noted for it among the checks.
pub(crate) fn standing(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Waits {
    let mut waits = Waits::default();
    order::stands(&mut waits, turn, spec, &deployment.point);
    for dependency in &turn.inputs.dependencies {
        depends(&mut waits, turn, dependency);
    }
    policy::unjudged(&mut waits, turn, spec, &deployment.point);
    check::standing(&mut waits, turn, spec, deployment);
    if !deployment.hotfix {
        calendar::window(&mut waits, turn, spec);
    }
    calendar::freeze(&mut waits, turn);
    pause(&mut waits, turn);
    secret::unset(&mut waits, turn, spec);
    presence::present(&mut waits, turn, spec);
    presence::away(&mut waits, turn, spec);
    batch::stands(&mut waits, turn);
    waits
}

/// What stands before a further wave of a deployment that rolls.
pub(crate) fn before_wave(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Waits {
    let mut waits = Waits::default();
    if deployment.is_urgent() {
        return waits;
    }
    if spec.rollout.on_window_close == OnWindowClose::Hold && !deployment.hotfix {
        calendar::window(&mut waits, turn, spec);
    }
    calendar::freeze(&mut waits, turn);
    presence::away(&mut waits, turn, spec);
    waits
}

fn depends(waits: &mut Waits, turn: &Turn<'_>, dependency: &Dependency<'_>) {
    let Dependency {
        service,
        stable,
        phase,
        job,
    } = dependency;
    let environment = &turn.track.name.environment;
    let message = match (stable, phase) {
        (None, _) => format!("{service} has no stable release in {environment} yet"),
        (Some(_), Some(phase)) if is_moving(*phase) || *job && batch::holds_dependants(*phase) => {
            format!("{service} is {} in {environment}", words(*phase))
        }
        (Some(_), _) => return,
    };
    let wait = waits.push(WaitKind::Dependency, service, message);
    wait.ends_by
        .push(format!("{service}@{environment} becoming stable"));
    if *job && *phase == Some(Phase::Halted) {
        wait.ends_by
            .push(format!("holdfast retry {service} -e {environment}"));
    }
}

fn pause(waits: &mut Waits, turn: &Turn<'_>) {
    let Some(pause) = &turn.track.paused else {
        return;
    };
    let message = if pause.reason.is_empty() {
        format!("paused by {}", pause.by)
    } else {
        format!("paused by {}: {}", pause.by, pause.reason)
    };
    let wait = waits.push(WaitKind::Pause, &pause.by, message);
    by_command(wait, "resume", &turn.track.name);
}

/// A pause, where the deployment is already rolling.
pub(crate) fn paused(turn: &Turn<'_>) -> Waits {
    let mut waits = Waits::default();
    pause(&mut waits, turn);
    waits
}

/// Whether targets are being given something in this phase.
pub(crate) const fn is_moving(phase: Phase) -> bool {
    match phase {
        Phase::Rolling | Phase::Verifying | Phase::RollingBack => true,
        Phase::Waiting
        | Phase::Stable
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => false,
    }
}

/// A phase as the middle of a sentence.
pub(crate) const fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Rolling => "rolling out",
        Phase::Verifying => "being verified",
        Phase::Stable => "stable",
        Phase::RollingBack => "being rolled back",
        Phase::RolledBack => "rolled back",
        Phase::RollbackFailed => "failed and could not be rolled back",
        Phase::Halted => "halted",
        Phase::Rejected => "rejected",
        Phase::Superseded => "superseded",
    }
}
