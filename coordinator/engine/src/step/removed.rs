//! The track is declared no more: everything of it goes, once that is confirmed.

use holdfast_protocol::api::wait::WaitKind;

use super::{Next, Turn};
use crate::track::{Deployment, Phase};
use crate::wait::{Waits, count};

/// Ends what is under way, or says that a person has to confirm.
pub(super) fn next(turn: &Turn<'_>, confirmed: bool) -> Next {
    let mut waits = Waits::default();
    if !confirmed {
        if !turn.track.placements.is_empty() {
            hold(&mut waits, turn);
        }
        return Next::Stay(waits);
    }
    let under_way = |deployment: &Deployment| !deployment.is_final();
    if turn.track.current.as_ref().is_some_and(under_way) {
        let reason = "the service is declared no more".to_owned();
        return Next::Enter(Phase::Superseded, "deployment.superseded", reason);
    }
    Next::Stay(waits)
}

fn hold(waits: &mut Waits, turn: &Turn<'_>) {
    let message = format!(
        "{} is declared no more; it stays on {} until a person confirms that it goes",
        turn.track.name,
        count(turn.track.placements.len())
    );
    let wait = waits.push(WaitKind::Removal, &turn.track.name, message);
    wait.ends_by
        .push(format!("holdfast confirm {}", turn.inputs.revision));
    wait.ends_by.push("declaring it again".to_owned());
}
