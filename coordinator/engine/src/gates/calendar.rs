//! Gates of the calendar and of people who stop everything: windows and freezes.

use holdfast_protocol::api::wait::WaitKind;

use crate::calendar::{self, Opening};
use crate::compiled::{OnWindowClose, TrackSpec};
use crate::step::Turn;
use crate::track::{Deployment, Phase};
use crate::wait::{Waits, by_command};

/// Stands while every window is closed.
pub(super) fn window(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let opening = calendar::at(&spec.windows, turn.now);
    opening.changes().into_iter().for_each(|at| waits.wake(at));
    let Opening::Closed { opens } = opening else {
        return;
    };
    let windows: Vec<String> = spec.windows.iter().map(ToString::to_string).collect();
    let message = match opens {
        Some(_) => format!("no window is open ({})", windows.join("; ")),
        None => format!("no window opens ever again ({})", windows.join("; ")),
    };
    let name = &turn.track.name;
    let wait = waits.push(WaitKind::Window, &name.environment, message);
    wait.until = opens;
    let version = turn.track.current.as_ref();
    let version = version.filter(|current| current.phase == Phase::Waiting);
    match version.map(|current| &current.point.version) {
        Some(version) => wait.ends_by.push(format!(
            "holdfast deploy {} {version} -e {} --hotfix --reason WHY",
            name.service, name.environment
        )),
        None => by_command(wait, "rollback", name),
    }
}

/// Why a deployment that rolls goes back, where that is what the end of its window means. Every target
/// that has it is then as before; the next opening tries it again.
pub(crate) fn over(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Option<String> {
    let exempt = deployment.hotfix || deployment.is_urgent();
    if exempt || spec.rollout.on_window_close != OnWindowClose::Rollback {
        return None;
    }
    match calendar::at(&spec.windows, turn.now) {
        Opening::Open { .. } => None,
        Opening::Closed { .. } => Some("the window closed before every wave was done".to_owned()),
    }
}

/// When the window of a deployment that rolls closes, where that means something.
pub(crate) fn closes(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    if spec.rollout.on_window_close != OnWindowClose::Finish {
        let changes = calendar::at(&spec.windows, turn.now).changes();
        changes.into_iter().for_each(|at| waits.wake(at));
    }
}

/// Stands while a person has frozen the environment, or all.
pub(super) fn freeze(waits: &mut Waits, turn: &Turn<'_>) {
    for freeze in turn.inputs.freezes {
        let (what, command) = match &freeze.environment {
            Some(environment) => (
                environment.to_string(),
                format!("holdfast unfreeze -e {environment}"),
            ),
            None => ("everything".to_owned(), "holdfast unfreeze".to_owned()),
        };
        let message = format!("{} froze {what}: {}", freeze.by, freeze.reason);
        let wait = waits.push(WaitKind::Freeze, what, message);
        wait.ends_by.push(command);
    }
}
