//! Nothing starts that lacks a secret.

use holdfast_protocol::api::wait::WaitKind;

use crate::compiled::TrackSpec;
use crate::step::Turn;
use crate::wait::Waits;

/// Stands for each secret that the configuration names and that has no value yet.
pub(super) fn unset(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let environment = &turn.track.name.environment;
    for name in spec.configuration.unset() {
        let message = format!("secret {name} is not set in {environment}");
        let wait = waits.push(WaitKind::Policy, name, message);
        wait.ends_by
            .push(format!("holdfast secret set {name} -e {environment}"));
    }
}
