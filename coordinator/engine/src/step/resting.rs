//! No deployment is under way: should there be one?

use holdfast_protocol::api::deployment::{Trigger, TriggerKind};
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::TargetName;

use super::{Next, Turn, goal};
use crate::compiled::TrackSpec;
use crate::gates;
use crate::input::{Seen, View};
use crate::track::{Phase, Point};
use crate::verify::returning_until;
use crate::wait::{self, Waits, by_command};
use crate::wanted::{Rule, admitted_newest, is_passed_over, wanted};

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
    if let Some(asked) = &turn.asked {
        return asked.clone();
    }
    let stable = turn.track.stable.as_ref();
    let same_release = stable.is_some_and(|stable| stable.sequence == point.sequence);
    let kind = match rule {
        _ if same_release => TriggerKind::Configuration,
        Rule::Newest => TriggerKind::Release,
        Rule::After => TriggerKind::Promotion,
        Rule::Rollback => TriggerKind::Rollback,
    };
    Trigger {
        kind,
        by: None,
        reason: None,
    }
}

/// Why the track is not further than it is, and which targets are not as far as the track.
pub(super) fn explain(turn: &Turn<'_>, spec: &TrackSpec) -> Waits {
    let mut waits = gates::supply(turn, spec);
    failed(&mut waits, turn, spec);
    // Nothing waits for it yet, and whoever asks why nothing new comes shall not have to guess.
    waits.join(gates::paused(turn));
    outstanding(&mut waits, turn);
    waits
}

/// What the rules would bring, had it not failed here.
fn failed(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let track = &turn.track;
    let Some(best) = admitted_newest(track, turn.inputs, spec) else {
        return;
    };
    if !is_passed_over(track, spec, best.sequence) || rests_on(turn, &best) {
        return;
    }
    let current = track
        .current
        .as_ref()
        .filter(|current| current.point.is(&best));
    if current.is_some_and(|current| needs_a_person(&current.phase)) {
        // Told by `halted`, with more.
        return;
    }
    let message = match current {
        Some(current) => format!("{} is passed over: {}", best.version, current.reason),
        None => format!(
            "{} is passed over: it failed or was rolled back here",
            best.version
        ),
    };
    let wait = waits.push(WaitKind::Failed, &best.version, message);
    by_command(wait, "retry", &track.name);
    wait.ends_by.push(format!(
        "holdfast release create {} --version V",
        track.name.service
    ));
}

/// Targets that do not do yet what the track rests on.
fn outstanding(waits: &mut Waits, turn: &Turn<'_>) {
    let Some(goal) = goal(&turn.track) else {
        return;
    };
    let (mut away, mut slow, mut failing, mut blocked) = (vec![], vec![], vec![], vec![]);
    for (name, view) in &turn.inputs.targets {
        let has_it = turn
            .track
            .placements
            .get(name)
            .is_some_and(|p| p.point.is(goal));
        if !has_it && let Some(until) = returning_until(view, turn.now) {
            waits.wake(until);
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
    say_away(waits, version, &away);
    say(waits, WaitKind::Target, "targets", version, &slow);
    say(waits, WaitKind::Failed, "targets", version, &failing);
    if !blocked.is_empty() && !is_halted(turn) {
        let names = wait::targets(blocked);
        let message = format!("{names} get {version} one after another, as maxUnavailable allows");
        waits.push(WaitKind::Capacity, "targets", message);
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
