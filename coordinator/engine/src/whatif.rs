//! What would happen: the same step, and nothing of it performed.

pub mod simulate;

use std::collections::BTreeMap;

use holdfast_protocol::api::apply::{PlannedAction, PlannedTrack};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use crate::input::{Declared, Inputs};
use crate::step::{goal, step};
use crate::track::Track;
use crate::wanted::wanted;

/// What would become of a track under `inputs`, which hold the revision that is only planned. None
/// where it would not move. `fields` are those of its configuration that differ.
#[must_use]
pub fn plan(
    track: &Track,
    inputs: &Inputs<'_>,
    fields: Vec<String>,
    now: Timestamp,
) -> Option<PlannedTrack> {
    let action = action(track, inputs)?;
    let outcome = step(track, inputs, now);
    let to = match action {
        PlannedAction::Deploy => wanted(track, inputs).map(|(point, _)| point.version),
        PlannedAction::Remove | PlannedAction::Await => None,
    };
    let targets = match action {
        PlannedAction::Remove => track.placements.keys().cloned().collect(),
        PlannedAction::Deploy | PlannedAction::Await => inputs.targets.keys().cloned().collect(),
    };
    let mut runtimes: BTreeMap<String, Vec<TargetName>> = BTreeMap::new();
    if let Declared::Runs(spec) = inputs.declared {
        for (target, view) in &inputs.targets {
            let (_, there) = spec.configuration.on(&view.labels);
            let same = runtimes.entry(there.runtime.clone()).or_default();
            same.push(target.clone());
        }
    }
    Some(PlannedTrack {
        service: track.name.service.clone(),
        environment: track.name.environment.clone(),
        action,
        from: goal(track).map(|point| point.version.clone()),
        to,
        fields,
        targets,
        runtimes,
        waits: outcome.waits,
    })
}

fn action(track: &Track, inputs: &Inputs<'_>) -> Option<PlannedAction> {
    match inputs.declared {
        Declared::Removed { .. } => (!track.placements.is_empty()).then_some(PlannedAction::Remove),
        Declared::Runs(_) => match wanted(track, inputs) {
            None => Some(PlannedAction::Await),
            Some((point, _)) if goal(track).is_some_and(|goal| goal.is(&point)) => None,
            Some(_) => Some(PlannedAction::Deploy),
        },
    }
}
