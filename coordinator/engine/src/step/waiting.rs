//! `Waiting`: gates stand before the deployment, or a newer one takes its place.

use super::{Next, Turn};
use crate::compiled::TrackSpec;
use crate::gates;
use crate::track::{Deployment, Phase};
use crate::wanted::wanted;

/// `Rolling` once no gate stands; `Superseded` where something else is wanted.
pub(super) fn next(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Next {
    let rolling = |reason: &str| {
        let (wave, since, holding_since) = (0, turn.now, None);
        let phase = Phase::Rolling {
            wave,
            since,
            holding_since,
        };
        Next::Enter(phase, "deployment.rolling", reason.to_owned())
    };
    if deployment.is_manual_rollback() {
        return rolling("a person asked for it: no gate applies");
    }
    if let Some(reason) = overtaken(turn, deployment) {
        return Next::Enter(Phase::Superseded, "deployment.superseded", reason);
    }
    let waits = gates::standing(turn, spec, &deployment.point);
    if waits.is_empty() {
        rolling("no gate stands")
    } else {
        Next::Stay(waits)
    }
}

/// Why the deployment is not wanted any more, if so.
pub(super) fn overtaken(turn: &Turn<'_>, deployment: &Deployment) -> Option<String> {
    let version = &deployment.point.version;
    match wanted(&turn.track, turn.inputs) {
        None => Some(format!("{version} is not wanted any more")),
        Some((point, _)) if point.is(&deployment.point) => None,
        Some((point, _)) if point.sequence > deployment.point.sequence => {
            Some(format!("{} is newer", point.version))
        }
        Some((point, _)) if point.sequence == deployment.point.sequence => Some(format!(
            "revision {} configures it otherwise",
            point.revision
        )),
        Some((point, _)) => Some(format!("{} is wanted instead", point.version)),
    }
}
