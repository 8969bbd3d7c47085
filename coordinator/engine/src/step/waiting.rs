//! `Waiting`: gates stand before the deployment, a policy forbids it, or a newer one takes its place.

use super::{Next, Turn};
use crate::check;
use crate::compiled::TrackSpec;
use crate::gates;
use crate::track::{Deployment, Phase};
use crate::wanted::wanted;

/// `Rolling` once no gate stands; `Superseded` where something else is wanted, `Rejected` where a policy
/// forbids it.
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
    if deployment.is_urgent() {
        return rolling(match &deployment.trigger.by {
            Some(_) => "a person asked for it: no gate applies",
            None => "a check asked for it: no gate applies",
        });
    }
    if let Some(reason) = overtaken(turn, deployment) {
        return Next::Enter(Phase::Superseded, "deployment.superseded", reason);
    }
    if let Some(reason) = gates::policy::forbids(turn, spec, &deployment.point) {
        return Next::Reject(reason);
    }
    let mut waits = gates::standing(turn, spec, deployment);
    if waits.is_empty() {
        return rolling("no gate stands");
    }
    check::incident::explain(&mut waits, turn, spec);
    Next::Stay(waits)
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
        Some((point, _)) if point.run > deployment.point.run => {
            Some("a newer run is due".to_owned())
        }
        Some((point, _)) if point.sequence == deployment.point.sequence => Some(format!(
            "revision {} configures it otherwise",
            point.revision
        )),
        Some((point, _)) => Some(format!("{} is wanted instead", point.version)),
    }
}
