//! What checks keep a deployment from: starting, going on after a wave, being stable.

use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::time::{Timestamp, friendly};

use super::{due, guards, has_passed, is_fresh, round, tally, timeout, verdict};
use crate::compiled::TrackSpec;
use crate::compiled::protection::{Approval, Check, Guard, Skippable, When};
use crate::step::Turn;
use crate::track::Deployment;
use crate::track::check::{CheckResult, CheckState};
use crate::wait::Waits;

/// The checks that stand before a deployment.
pub(crate) fn standing(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec, of: &Deployment) {
    for guard in guards(spec, Some(of), When::Pre) {
        let state = state(of, guard, When::Pre);
        let open = state.is_some_and(|state| has_passed(state) && is_fresh(guard, state, turn.now));
        if !open {
            stand(waits, turn, (guard, state), of);
        }
    }
}

/// The checks that keep a wave that holds from being enough.
pub(crate) fn unproven(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec, of: &Deployment) {
    let Some(round) = round(of).filter(|round| round.when == When::Post) else {
        return;
    };
    for guard in guards(spec, Some(of), When::Post) {
        let state = state(of, guard, When::Post).filter(|state| state.since >= round.since);
        let proven = |state| has_passed(state) && is_fresh(guard, state, turn.now);
        if !state.is_some_and(proven) {
            stand(waits, turn, (guard, state), of);
        }
    }
}

/// Why the deployment has failed, if a check after a wave has: too often in a row, or by not being
/// answered at all for as long as a target may take.
pub(crate) fn failure(turn: &Turn<'_>, spec: &TrackSpec, of: &Deployment) -> Option<String> {
    let round = round(of).filter(|round| round.when == When::Post)?;
    let failed = |guard: &&Guard| -> Option<String> {
        let state = state(of, guard, When::Post).filter(|state| state.since >= round.since)?;
        let limit = spec.rollout.progress_deadline;
        let silent = |since: Timestamp| turn.now >= since.after(limit);
        if state.unknown_since.is_some_and(silent) {
            let words = verdict::words(guard, state);
            return Some(format!(
                "no answer to go by for {}: {words}",
                friendly(limit)
            ));
        }
        (fails(state) && state.failures >= verdict::threshold(guard)).then(|| {
            let words = verdict::words(guard, state);
            match state.failures {
                1 => words,
                many => format!("{words} ({many} times in a row)"),
            }
        })
    };
    let guards = guards(spec, Some(of), When::Post);
    let reasons: Vec<String> = guards.iter().filter_map(failed).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Whether the newest answer is a failure.
pub(super) fn fails(state: &CheckState) -> bool {
    let verdict = state.verdict.as_ref();
    verdict.is_some_and(|verdict| verdict.result == CheckResult::Failed)
}

fn state<'d>(of: &'d Deployment, guard: &Guard, when: When) -> Option<&'d CheckState> {
    let mut states = of.checks.iter();
    states.find(|state| state.name == guard.name && state.when == when)
}

fn stand(
    waits: &mut Waits,
    turn: &Turn<'_>,
    (guard, state): (&Guard, Option<&CheckState>),
    of: &Deployment,
) {
    if let Check::Approval(approval) = &guard.protection.check {
        return ask_people(waits, turn, (guard, approval), of);
    }
    let name = &guard.name;
    let message = match state {
        None => format!("{name} has not been asked yet"),
        Some(state) if has_passed(state) => {
            format!("{name} passed too long ago, and is asked again")
        }
        Some(state) => verdict::words(guard, state),
    };
    let wait = waits.push(WaitKind::Protection, name, message);
    // What is judged on the spot is judged again when something changes: no time is set for that.
    let is_asked = timeout(&guard.protection.check).is_some();
    wait.until = state
        .filter(|_| is_asked)
        .map(|state| due(guard, state, turn.now))
        .filter(|at| *at > turn.now);
    wait.ends_by.push(format!("{name} passing"));
    by_skipping(wait, guard, of);
}

fn ask_people(
    waits: &mut Waits,
    turn: &Turn<'_>,
    (guard, approval): (&Guard, &Approval),
    of: &Deployment,
) {
    let tally = tally(&turn.track, of, approval, turn.now);
    let message = tally.missing(approval);
    let wait = waits.push(WaitKind::Approval, &guard.name, message);
    wait.ends_by.push(format!("holdfast approve {}", of.id));
    wait.ends_by.push(format!("holdfast reject {}", of.id));
    by_skipping(wait, guard, of);
}

fn by_skipping(wait: &mut Wait, guard: &Guard, of: &Deployment) {
    match &guard.protection.skippable {
        Skippable::Nobody => {}
        Skippable::Anyone | Skippable::Roles(_) => wait.ends_by.push(format!(
            "holdfast skip {} {} --reason WHY",
            of.id, guard.name
        )),
    }
}
