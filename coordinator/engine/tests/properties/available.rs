//! No more targets that serve are stopped at a time than may be.

use std::collections::BTreeMap;

use holdfast_engine::compiled::TrackSpec;
use holdfast_engine::effect::Effect;
use holdfast_engine::input::{Declared, Seen, View};
use holdfast_engine::track::Deployment;
use holdfast_protocol::name::TargetName;

use super::model::Stepped;
use super::never_worse::{Key, has_failed, key};

pub(crate) fn look(stepped: &Stepped<'_>) -> Result<(), String> {
    let Declared::Runs(spec) = stepped.inputs.declared else {
        return Ok(());
    };
    if spec.job.is_some() || is_urgent(stepped) {
        return Ok(());
    }
    let targets = stepped.inputs.targets.values();
    let connected = targets.filter(|view| view.connected).count();
    let allowed = spec.rollout.max_unavailable.of(connected).max(1);
    for (point, stopped) in stopped(stepped) {
        let views = stepped.inputs.targets.iter();
        let under_way = views.filter(|view| is_under_way(stepped, spec, point, *view));
        let under_way = under_way.count();
        if stopped + under_way > allowed {
            return Err(format!(
                "{under_way} under way, {stopped} stopped, {allowed} allowed"
            ));
        }
    }
    Ok(())
}

/// Whether what failed goes back, or a person goes back: that waits for nobody.
fn is_urgent(stepped: &Stepped<'_>) -> bool {
    let urgent = |deployment: &Deployment| has_failed(deployment) || deployment.is_urgent();
    let saved = stepped.outcome.effects.iter().any(|effect| match effect {
        Effect::Save(deployment) => urgent(deployment),
        Effect::Place { .. } | Effect::Displace { .. } | Effect::Check(_) | Effect::Record(_) => {
            false
        }
    });
    let tracks = [stepped.before, &stepped.outcome.track];
    let mut currents = tracks.iter().filter_map(|track| track.current.as_ref());
    saved || currents.any(urgent)
}

/// How many targets that serve are given each point.
fn stopped(stepped: &Stepped<'_>) -> BTreeMap<Key, usize> {
    let mut stopped = BTreeMap::new();
    for effect in &stepped.outcome.effects {
        if let Effect::Place { target, point } = effect {
            let view = &stepped.inputs.targets[target];
            if view.connected && matches!(view.seen, Seen::Ready { .. }) {
                *stopped.entry(key(point)).or_default() += 1;
            }
        }
    }
    stopped
}

fn is_under_way(
    stepped: &Stepped<'_>,
    spec: &TrackSpec,
    point: Key,
    (name, view): (&TargetName, &View),
) -> bool {
    let placed = stepped.before.placements.get(name);
    let Some(placed) = placed.filter(|placed| key(&placed.point) == point) else {
        return false;
    };
    let settled = matches!(view.seen, Seen::Ready { .. } | Seen::Failed { .. });
    let began = placed.since.max(view.since);
    let failed = began.after(spec.rollout.progress_deadline) <= stepped.now;
    let held = view
        .held
        .as_ref()
        .is_some_and(|held| stepped.now < held.until);
    view.connected && !settled && !failed && !held
}
