//! What is left alone: targets that their own sites hold, and tracks that a check has put back once.

use std::collections::BTreeSet;

use holdfast_engine::effect::Effect;
use holdfast_engine::track::{Deployment, Phase, Track, TrackName};
use holdfast_protocol::api::deployment::TriggerKind;

use super::model::Stepped;
use super::never_worse::key;

/// A target that its site holds is given nothing but what puts a failed release back.
pub(crate) fn look(stepped: &Stepped<'_>) -> Result<(), String> {
    for effect in &stepped.outcome.effects {
        let Effect::Place { target, point } = effect else {
            continue;
        };
        let held = &stepped.inputs.targets[target].held;
        let held = held.as_ref().is_some_and(|held| stepped.now < held.until);
        if held && !goes_back(&stepped.outcome.track) {
            return Err(format!("{target} is held and was given {}", point.version));
        }
    }
    Ok(())
}

fn goes_back(track: &Track) -> bool {
    let back = |current: &Deployment| {
        let failed = matches!(
            current.phase,
            Phase::RollingBack { .. } | Phase::RolledBack | Phase::RollbackFailed
        );
        failed || current.is_urgent()
    };
    track.current.as_ref().is_some_and(back)
}

/// The tracks that a check has put back, until something else becomes stable.
#[derive(Default)]
pub(crate) struct SentBack(BTreeSet<TrackName>);

impl SentBack {
    pub(crate) fn look(&mut self, stepped: &Stepped<'_>) -> Result<(), String> {
        let (before, after) = (stepped.before, &stepped.outcome.track);
        let stable = |track: &Track| track.stable.as_ref().map(key);
        if stable(before) == stable(after) {
            return Ok(());
        }
        let by_check = |current: &Deployment| current.trigger.kind == TriggerKind::Protection;
        if !after.current.as_ref().is_some_and(by_check) {
            self.0.remove(&before.name);
        } else if !self.0.insert(before.name.clone()) {
            return Err("a check has put it back twice".to_owned());
        }
        Ok(())
    }
}
