//! Gates about targets: whether anybody is there, and how many are away.

use std::collections::BTreeMap;

use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use crate::compiled::TrackSpec;
use crate::input::{Held, View};
use crate::step::Turn;
use crate::wait::{self, Waits};

/// Somebody has to be there: an environment without targets proves nothing.
pub(crate) fn present(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let environment = &turn.track.name.environment;
    let targets = &turn.inputs.targets;
    if targets.is_empty() {
        let labels: Vec<String> = spec
            .selector
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let message = if labels.is_empty() {
            format!("{environment} has no target yet")
        } else {
            format!("no target of {environment} matches {}", labels.join(", "))
        };
        let wait = waits.push(WaitKind::Target, environment, message);
        wait.ends_by
            .push(format!("holdfast token create -e {environment}"));
    } else if targets.values().all(|view| !view.connected) {
        let message = format!("no target of {environment} is connected: {}", gone(targets));
        let wait = waits.push(WaitKind::Target, environment, message);
        wait.ends_by = returning(targets);
    } else if !targets
        .values()
        .any(|view| view.connected && hold(view, turn.now).is_none())
    {
        held(waits, targets, turn.now);
    }
}

/// No wave begins while more targets are away than may be.
pub(crate) fn away(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let targets = &turn.inputs.targets;
    let away = targets.values().filter(|view| !view.connected).count();
    let allowed = spec.rollout.max_disconnected.of(targets.len());
    if away <= allowed {
        return;
    }
    let message = format!(
        "{} away, of at most {allowed} ({} of {}): {}",
        wait::count(away),
        spec.rollout.max_disconnected,
        targets.len(),
        gone(targets)
    );
    let wait = waits.push(WaitKind::Target, "away", message);
    wait.ends_by = returning(targets);
}

/// Who is away, and who is there and as good as away.
fn gone(targets: &BTreeMap<TargetName, View>) -> String {
    let gone = |keyless: bool| {
        let gone = targets.iter().filter(|(_, view)| !view.connected);
        gone.filter(move |(_, view)| view.keyless == keyless)
    };
    let names = gone(false).map(|(name, _)| name.to_string());
    let names = names.chain(gone(true).map(|(name, _)| {
        format!("{name} (its agent is of an earlier release, which cannot be given secrets)")
    }));
    wait::listed(names.collect())
}

fn returning(targets: &BTreeMap<TargetName, View>) -> Vec<String> {
    let named = |keyless: bool| {
        let gone = targets.iter().filter(|(_, view)| !view.connected);
        let named: Vec<&TargetName> = gone
            .filter(|(_, view)| view.keyless == keyless)
            .map(|(name, _)| name)
            .collect();
        (!named.is_empty()).then(|| wait::targets(named))
    };
    let back = named(false).map(|names| format!("{names} connecting again"));
    let upgraded = named(true).map(|names| format!("upgrading the agent of {names}"));
    back.into_iter().chain(upgraded).collect()
}

/// The hold of a target's own site, while it lasts.
pub(crate) fn hold(view: &View, now: Timestamp) -> Option<&Held> {
    view.held.as_ref().filter(|held| now < held.until)
}

/// The targets whose own sites ask to be left alone, until the first does no more.
pub(crate) fn held<'t>(
    waits: &mut Waits,
    targets: impl IntoIterator<Item = (&'t TargetName, &'t View)>,
    now: Timestamp,
) {
    let held = targets.into_iter();
    let held: Vec<(&TargetName, &Held)> = held
        .filter_map(|(name, view)| Some((name, hold(view, now)?)))
        .collect();
    let Some(until) = held.iter().map(|(_, held)| held.until).min() else {
        return;
    };
    let names = wait::targets_saying(
        held.iter()
            .map(|(name, held)| (*name, held.reason.as_str())),
    );
    let whose = if held.len() == 1 {
        "its own site"
    } else {
        "their own sites"
    };
    let message = format!("{} held by {whose}: {names}", wait::count(held.len()));
    waits.wake(until);
    let wait = waits.push(WaitKind::Hold, "targets", message);
    wait.until = Some(until);
    wait.ends_by
        .push("holdfast-agent unhold, on the target".to_owned());
}
