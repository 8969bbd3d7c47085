//! Consequence 6: a track that could be further and does nothing says why, and each chain of reasons
//! ends with one that a person, time or an event can end.

use holdfast_engine::effect::Effect;
use holdfast_engine::input::{Declared, Inputs, Seen, View};
use holdfast_engine::track::{Point, Track};
use holdfast_engine::why::why;
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::name::TargetName;

use super::model::{Stepped, World};

pub(crate) fn look(stepped: &Stepped<'_>) -> Result<(), String> {
    for wait in &stepped.outcome.waits {
        if wait.message.is_empty() || wait.subject.is_empty() {
            return Err(format!("a poor wait: {wait:?}"));
        }
    }
    let effects = &stepped.outcome.effects;
    let moves = effects
        .iter()
        .any(|effect| !matches!(effect, Effect::Check(_)));
    let track = &stepped.outcome.track;
    if moves || !stepped.outcome.waits.is_empty() || is_complete(track, stepped.inputs) {
        return Ok(());
    }
    Err(format!("does nothing and says nothing: {track:?}"))
}

/// Every chain of reasons has a root, and who or what can end each root is told.
pub(crate) fn chains(world: &World) -> Result<(), String> {
    for (name, track) in &world.tracks {
        let reasons = why(name, &world.compiled, &world.tracks);
        if reasons.is_empty() != track.waits.is_empty() {
            return Err(format!("{name}: the chain leaves out its waits"));
        }
        if !reasons.is_empty() && !reasons.iter().any(|reason| reason.root) {
            return Err(format!("{name}: the chain has no root: {reasons:?}"));
        }
        if let Some(endless) = reasons.iter().find(|reason| !can_end(&reason.wait)) {
            return Err(format!("{name}: nobody can end {:?}", endless.wait));
        }
    }
    Ok(())
}

fn can_end(wait: &Wait) -> bool {
    !wait.ends_by.is_empty() || wait.until.is_some()
}

/// Whether there is nothing that could be better: the newest release with the configuration in force
/// is stable, and every target is ready with it.
fn is_complete(track: &Track, inputs: &Inputs<'_>) -> bool {
    let Declared::Runs(spec) = inputs.declared else {
        return track.placements.is_empty();
    };
    let Some((wanted, _)) = holdfast_engine::wanted::wanted(track, inputs) else {
        return false;
    };
    let is_wanted = |point: &Point| {
        point.sequence == wanted.sequence && point.configuration == wanted.configuration
    };
    let takes_part = |(name, view): &(&TargetName, &View)| {
        spec.job.is_none() || track.placements.contains_key(*name) || !view.connected
    };
    let ready = |(name, view): (&TargetName, &View)| {
        let placed = track.placements.get(name);
        spec.job.is_some()
            || placed.is_some_and(|placed| is_wanted(&placed.point))
                && matches!(view.seen, Seen::Ready { .. })
    };
    let mut targets = inputs.targets.iter().filter(takes_part);
    track.stable.as_ref().is_some_and(is_wanted) && targets.all(ready)
}
