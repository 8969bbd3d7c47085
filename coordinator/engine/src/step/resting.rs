//! No deployment is under way: should there be one?

use holdfast_protocol::api::deployment::{Trigger, TriggerKind};
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::TargetName;

use super::{Next, Turn, goal};
use crate::batch;
use crate::check;
use crate::compiled::TrackSpec;
use crate::gates::{self, presence};
use crate::input::{Seen, View};
use crate::track::{Deployment, Phase, Point};
use crate::verify::returning_until;
use crate::wait::{self, Waits, by_command};
use crate::wanted::{Rule, failed_point, rule, supply, wanted};

/// A deployment of what is wanted, unless that is what the track rests on.
pub(super) fn begin(turn: &Turn<'_>) -> Option<Next> {
    let (point, rule) = wanted(&turn.track, turn.inputs)?;
    if !turn.may_begin() || rests_on(turn, &point) {
        return None;
    }
    let trigger = trigger(turn, &point, rule);
    Some(Next::Begin(point, trigger))
}

fn rests_on(turn: &Turn<'_>, point: &Point) -> bool {
    let stable = turn.track.stable.as_ref();
    stable.is_some_and(|stable| stable.is(point))
}

fn trigger(turn: &Turn<'_>, point: &Point, rule: Rule) -> Trigger {
    let asked = turn.track.asked.as_ref().filter(|_| rule == Rule::Deploy);
    if let Some(trigger) = turn.asked.as_ref().or(asked.map(|asked| &asked.trigger)) {
        return trigger.clone();
    }
    let pinned = turn.track.pinned.as_ref().filter(|_| rule == Rule::Pin);
    let stable = turn.track.stable.as_ref();
    let same_release = stable.is_some_and(|stable| stable.sequence == point.sequence);
    let first_stage = turn.inputs.upstream.is_empty();
    let kind = match rule {
        _ if point.run.is_some() => TriggerKind::Schedule,
        _ if same_release => TriggerKind::Configuration,
        Rule::Newest => TriggerKind::Release,
        Rule::Train if first_stage => TriggerKind::Release,
        Rule::After | Rule::Train | Rule::Manual => TriggerKind::Promotion,
        Rule::Follow => TriggerKind::Mirror,
        Rule::Pin => TriggerKind::Pin,
        Rule::Deploy => TriggerKind::Deploy,
        Rule::Rollback => TriggerKind::Rollback,
    };
    let reason = pinned.map(|pinned| pinned.reason.clone());
    Trigger {
        kind,
        by: pinned.map(|pinned| pinned.by.clone()),
        reason: reason.filter(|reason| !reason.is_empty()),
    }
}

/// Why the track is not further than it is, and which targets are not as far as the track.
pub(super) fn explain(turn: &Turn<'_>, spec: &TrackSpec) -> Waits {
    let mut waits = supply::supply(turn, spec);
    batch::explain(&mut waits, turn, spec);
    failed(&mut waits, turn, spec);
    // Nothing waits for it yet, and whoever asks why nothing new comes shall not have to guess.
    waits.join(gates::paused(turn));
    check::incident::explain(&mut waits, turn, spec);
    outstanding(&mut waits, turn);
    waits
}

/// What the rules would bring, had it not failed here.
fn failed(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let track = &turn.track;
    let Some(best) = failed_point(track, turn.inputs, spec) else {
        return;
    };
    let current = track
        .current
        .as_ref()
        .filter(|current| current.point.is(&best));
    if current.is_some_and(|current| needs_a_person(&current.phase)) {
        // Told by `halted`, with more.
        return;
    }
    let why = match (current, &track.current) {
        (Some(current), _) => current.reason.clone(),
        (None, Some(Deployment { trigger, .. })) if trigger.kind == TriggerKind::Protection => {
            trigger.reason.clone().unwrap_or_default()
        }
        (None, _) => "it failed or was rolled back here".to_owned(),
    };
    let message = format!("{} is passed over: {why}", best.version);
    let wait = waits.push(WaitKind::Failed, &best.version, message);
    by_command(wait, "retry", &track.name);
    match rule(track, spec) {
        Rule::Pin if track.pinned.is_some() => by_command(wait, "unpin", &track.name),
        Rule::Newest | Rule::After | Rule::Train => wait.ends_by.push(format!(
            "holdfast release create {} --version V",
            track.name.service
        )),
        Rule::Manual => by_command(wait, "promote", &track.name),
        Rule::Pin | Rule::Follow | Rule::Deploy | Rule::Rollback => {}
    }
}

/// Targets that do not do yet what the track rests on.
fn outstanding(waits: &mut Waits, turn: &Turn<'_>) {
    let Some(goal) = goal(&turn.track) else {
        return;
    };
    let (mut away, mut slow, mut failing, mut blocked) = (vec![], vec![], vec![], vec![]);
    let mut held = vec![];
    for (name, view) in &turn.inputs.targets {
        let placement = turn.track.placements.get(name);
        let has_it = placement.is_some_and(|p| batch::has(turn, name, view, p, goal));
        if !has_it && batch::spares(turn, name) {
            continue;
        }
        if !has_it && let Some(until) = returning_until(view, turn.now) {
            waits.wake(until);
        }
        if !has_it && presence::hold(view, turn.now).is_some() {
            held.push((name, view));
            continue;
        }
        match placed(turn, name, view) {
            Seen::Ready { .. } if has_it => {}
            _ if !view.connected => away.push(name),
            Seen::Failed { message } if has_it => failing.push((name, message.as_str())),
            Seen::Progressing { message } if has_it => slow.push((name, message.as_str())),
            Seen::Unknown if has_it => slow.push((name, "nothing heard yet")),
            Seen::Ready { .. } | Seen::Failed { .. } | Seen::Progressing { .. } | Seen::Unknown => {
                blocked.push(name);
            }
        }
    }
    let version = &goal.version;
    presence::held(waits, held, turn.now);
    say_away(waits, version, &away);
    say(waits, WaitKind::Target, "targets", version, &slow);
    say(waits, WaitKind::Failed, "targets", version, &failing);
    if !blocked.is_empty() && !is_halted(turn) {
        let names = wait::targets(blocked);
        let message = format!("{names} get {version} one after another, as maxUnavailable allows");
        let wait = waits.push(WaitKind::Capacity, "targets", message);
        wait.ends_by
            .push("the targets before them becoming ready".to_owned());
    }
}

fn is_halted(turn: &Turn<'_>) -> bool {
    let current = turn.track.current.as_ref();
    current.is_some_and(|current| current.phase == Phase::Halted)
}

const fn needs_a_person(phase: &Phase) -> bool {
    matches!(phase, Phase::Halted | Phase::RollbackFailed)
}

fn placed<'v>(turn: &Turn<'_>, name: &TargetName, view: &'v View) -> &'v Seen {
    if turn.fresh.contains(name) {
        &Seen::Unknown
    } else {
        &view.seen
    }
}

fn say_away(waits: &mut Waits, version: &impl std::fmt::Display, away: &[&TargetName]) {
    if away.is_empty() {
        return;
    }
    let names = wait::targets(away.iter().copied());
    let message = format!(
        "{} away, and not known to run {version}: {names}",
        wait::count(away.len())
    );
    let wait = waits.push(WaitKind::Target, "away", message);
    wait.ends_by.push(format!("{names} connecting again"));
}

fn say(
    waits: &mut Waits,
    kind: WaitKind,
    subject: &str,
    version: &impl std::fmt::Display,
    saying: &[(&TargetName, &str)],
) {
    if saying.is_empty() {
        return;
    }
    let names = wait::targets_saying(saying.iter().copied());
    let message = format!(
        "{} not ready with {version}: {names}",
        wait::count(saying.len())
    );
    let wait = waits.push(kind, subject, message);
    wait.ends_by.push(format!(
        "{} becoming ready",
        wait::targets(saying.iter().map(|(name, _)| *name))
    ));
}
