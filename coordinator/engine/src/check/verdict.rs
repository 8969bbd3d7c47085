//! Taking an answer into account: failures in a row, silence, and what is kept of it.

use crate::check::Answer;
use crate::compiled::protection::{Check, Guard, When};
use crate::step::{Turn, spec};
use crate::track::check::{
    CheckResult, CheckState, KeptResult, OUTPUT_MAX_BYTES, RESULTS_MAX, Verdict,
};
use crate::track::{Deployment, Phase, Track};

/// Folds an answer into the state that waits for it, if one does.
pub(super) fn fold(turn: &mut Turn<'_>, answer: &Answer) {
    let guards = spec(turn.inputs).map_or(&[][..], |spec| spec.guards.as_slice());
    let Some(guard) = guards.iter().find(|guard| guard.name == answer.guard) else {
        return;
    };
    let waits = |state: &&mut CheckState| {
        let it = state.name == answer.guard && state.when == answer.when;
        it && state.asked_at == Some(answer.asked_at)
    };
    let states = states(&mut turn.track, answer.deployment);
    let Some(state) = states.and_then(|states| states.iter_mut().find(waits)) else {
        return;
    };
    let mut folded = state.clone();
    take(
        turn,
        guard,
        &mut folded,
        (answer.result, answer.output.clone()),
    );
    let states = self::states(&mut turn.track, answer.deployment);
    let place = states.and_then(|states| {
        let mut states = states.iter_mut();
        states.find(|state| state.name == folded.name && state.when == folded.when)
    });
    if let Some(place) = place {
        *place = folded;
    }
}

/// The states of a deployment under way, or of what is stable.
fn states(track: &mut Track, deployment: Option<u64>) -> Option<&mut Vec<CheckState>> {
    let Some(id) = deployment else {
        return Some(&mut track.watched);
    };
    let current = track.current.as_mut();
    let current = current.filter(|current| current.id == id && !current.is_final());
    current.map(|current| &mut current.checks)
}

/// Notes what was judged on the spot. A failure that goes on is one more only an interval later, so
/// that it does not matter how often somebody looks.
pub(super) fn judged(
    turn: &mut Turn<'_>,
    guard: &Guard,
    state: &mut CheckState,
    (result, output): (CheckResult, String),
) {
    let unfinished = state.failures < threshold(guard);
    let next = state.verdict.as_ref().and_then(|verdict| {
        let goes_on = (verdict.result, result) == (CheckResult::Failed, CheckResult::Failed);
        goes_on.then(|| super::over(verdict.at, guard.protection.interval, turn.now))
    });
    match (next, &state.verdict) {
        (Some(next), Some(verdict)) if !unfinished || turn.now < next => {
            let at = verdict.at;
            note(turn, state, Verdict { result, output, at });
        }
        (None, Some(verdict)) if (verdict.result, &verdict.output) == (result, &output) => {}
        (_, _) => take(turn, guard, state, (result, output)),
    }
    if let (CheckResult::Failed, Some(verdict)) = (result, &state.verdict)
        && state.failures < threshold(guard)
    {
        let next = super::over(verdict.at, guard.protection.interval, turn.now);
        turn.check_wakes(next);
    }
}

/// Takes an answer: counts it, and notes it.
pub(super) fn take(
    turn: &mut Turn<'_>,
    guard: &Guard,
    state: &mut CheckState,
    (result, output): (CheckResult, String),
) {
    let now = turn.now;
    state.asked_at = None;
    let before = state.failures;
    state.failures = match result {
        CheckResult::Passed => 0,
        CheckResult::Failed => before.saturating_add(1).min(threshold(guard)),
        CheckResult::Unknown => before,
    };
    state.unknown_since = match result {
        CheckResult::Unknown => state.unknown_since.or(Some(now)),
        CheckResult::Passed | CheckResult::Failed => None,
    };
    if super::has_passed(state) && result != CheckResult::Passed {
        // It is waited for once more; not before its round, whatever the clock shows.
        state.since = now.max(state.since);
        state.notified = false;
    }
    if before != state.failures && state.when != When::Always {
        turn.unsaved();
    }
    note(
        turn,
        state,
        Verdict {
            result,
            output,
            at: now,
        },
    );
}

/// Notes an answer, and keeps it where it says something new. A pass after a pass does not, whatever
/// it said: or a check that tells the time would be written for as long as it is asked.
fn note(turn: &mut Turn<'_>, state: &mut CheckState, mut verdict: Verdict) {
    cut(&mut verdict.output);
    let same = state.verdict.as_ref().is_some_and(|old| old.says(&verdict));
    if !same {
        let kept = KeptResult {
            name: state.name.clone(),
            when: state.when,
            verdict: verdict.clone(),
        };
        keep(turn, kept);
    }
    state.verdict = Some(verdict);
}

/// Keeps a result with the deployment that it says something of.
fn keep(turn: &mut Turn<'_>, result: KeptResult) {
    let stable = turn.track.stable.clone();
    let is_meant = |deployment: &&mut Deployment| match result.when {
        When::Pre | When::Post => true,
        When::Always => {
            let is_stable = stable.is_some_and(|stable| stable.is(&deployment.point));
            is_stable && deployment.phase == Phase::Stable
        }
    };
    let Some(deployment) = turn.track.current.as_mut().filter(is_meant) else {
        return;
    };
    deployment.results.push(result);
    while deployment.results.len() > RESULTS_MAX {
        let at = least_worth(&deployment.results);
        deployment.results.remove(at);
    }
    turn.unsaved();
}

/// The oldest result that is not the first of its check; the oldest, where all are.
pub(super) fn least_worth(results: &[KeptResult]) -> usize {
    let is_first = |(at, result): &(usize, &KeptResult)| {
        let before = results.iter().take(*at);
        !before
            .into_iter()
            .any(|before| (&before.name, before.when) == (&result.name, result.when))
    };
    let mut results = results.iter().enumerate();
    results
        .find(|result| !is_first(result))
        .map_or(0, |(at, _)| at)
}

/// Failures in a row from which on it has failed.
pub(super) fn threshold(guard: &Guard) -> u32 {
    guard.protection.failure_threshold.max(1)
}

/// The newest answer for people: `alerts failed: 2 alerts fire`.
pub(super) fn words(guard: &Guard, state: &CheckState) -> String {
    let name = &state.name;
    let Some(verdict) = &state.verdict else {
        return format!("{name} has not answered yet");
    };
    let said = match verdict.result {
        CheckResult::Passed => "passed",
        CheckResult::Failed if matches!(guard.protection.check, Check::Resource(_)) => {
            "is not there yet"
        }
        CheckResult::Failed => "failed",
        CheckResult::Unknown if super::timeout(&guard.protection.check).is_none() => {
            "could not be judged"
        }
        CheckResult::Unknown => "could not be asked",
    };
    match shown(&verdict.output) {
        output if output.is_empty() => format!("{name} {said}"),
        output => format!("{name} {said}: {output}"),
    }
}

/// The beginning of an output, on one line.
fn shown(output: &str) -> String {
    let line = output.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(OUTPUT_SHOWN_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Cuts an output to what is kept of it.
fn cut(output: &mut String) {
    if output.len() > OUTPUT_MAX_BYTES {
        output.truncate(output.floor_char_boundary(OUTPUT_MAX_BYTES));
    }
}

/// Most characters of an output that a sentence repeats.
const OUTPUT_SHOWN_MAX_CHARS: usize = 200;
