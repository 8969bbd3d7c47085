//! Checks: when each is asked, what its answers mean, and what people said.
//!
//! *Expected flow.* Before every decision of a step, [`tend`] looks at the guards of the track: those
//! that no asking is needed for (an expression, approvals, another track) are judged on the spot; of
//! the others, those that are due are asked by [`Effect::Check`]. The answer comes back by [`answer`],
//! is folded into what the track remembers of the check, and the track is stepped.
//!
//! | asked | while | about | failed means |
//! | --- | --- | --- | --- |
//! | `pre` | `Waiting` | the deployment | it waits |
//! | `post` | a wave holds, for its soak | the deployment | it has failed |
//! | `always` | nothing rolls | what is stable | an incident |
//!
//! *Guarantees.*
//! - A check is asked at once when its turn comes, and again an interval after its last answer. Where
//!   no answer came within its time limit and [`ANSWER_GRACE`], that is an answer too: unknown.
//! - An answer counts only where it was waited for: of this deployment, to this asking. All others
//!   change nothing, so a late or repeated one does no harm.
//! - A pass is gone by for two intervals and its time limit: what passed before a restart, or by a clock
//!   that was set back since, has to pass again before anything starts, goes on or is stable.
//! - Unknown is neither a pass nor a failure. Before a deployment it stands as long as it lasts; after
//!   a wave, unknown without a break for `progressDeadline` is a failure. What was never asked of
//!   people is none: an approval that is not given just stands.
//! - Only what says something new is kept: an answer that is as the last one was causes no write.
//! - A deployment may pass by what a person skipped, before and after. A hotfix passes by every check
//!   before it that anyone may skip, and each is noted. Checks that are asked only after a wave hold a
//!   hotfix as they hold everything else.
//! - A rollback that is urgent, by a person or by a check, is asked nothing.
//!
//! *Assumptions.* Whoever performs asks does those of [`outstanding`] again after a restart.

mod approval;
mod gate;
pub(crate) mod incident;
mod instant;
mod subject;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::Duration;

use holdfast_protocol::name::ProtectionName;
use holdfast_protocol::time::{Timestamp, friendly};

pub use self::approval::shown;
pub(crate) use self::approval::{either, fits, tally};
pub(crate) use self::gate::{failure, standing, unproven};
use self::instant::Judged;
pub(crate) use self::subject::subject;
use crate::compiled::TrackSpec;
use crate::compiled::protection::{Check, Guard, Skippable, When};
use crate::effect::{Ask, Effect, Record};
use crate::input::Inputs;
use crate::step::{Outcome, Turn, spec};
use crate::track::check::{CheckResult, CheckState, Skipped};
use crate::track::{Deployment, Phase, Point, Track};

/// What came of an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The check, as the track calls it.
    pub guard: ProtectionName,
    /// For what it was asked.
    pub when: When,
    /// About which deployment; none where it was asked about what is stable.
    pub deployment: Option<u64>,
    /// When it was asked, as the ask said.
    pub asked_at: Timestamp,
    /// What it came to.
    pub result: CheckResult,
    /// What it said; what is too long is cut.
    pub output: String,
}

/// Takes an answer into account, and takes the next step. An answer that nobody waits for changes
/// nothing.
#[must_use]
pub fn answer(track: &Track, answer: &Answer, inputs: &Inputs<'_>, now: Timestamp) -> Outcome {
    let mut turn = Turn::new(track.clone(), inputs, now);
    verdict::fold(&mut turn, answer);
    turn.run(&track.waits)
}

/// What was asked and not answered: to be asked again after a restart, under the same time.
#[must_use]
pub fn outstanding(track: &Track, inputs: &Inputs<'_>) -> Vec<Ask> {
    let Some(spec) = spec(inputs) else {
        return Vec::new();
    };
    let mut asks = Vec::new();
    if let Some((deployment, round)) = track.current.as_ref().and_then(|d| Some((d, round(d)?))) {
        let states = deployment.checks.iter();
        let states = states.filter(|state| state.when == round.when && state.since >= round.since);
        let about = (Some(deployment.id), &deployment.point);
        asks.extend(states.filter_map(|state| asked(spec, state, about)));
    }
    if let Some(stable) = track
        .stable
        .as_ref()
        .filter(|_| incident::is_watched(track))
    {
        let states = track.watched.iter();
        asks.extend(states.filter_map(|state| asked(spec, state, (None, stable))));
    }
    asks
}

fn asked(spec: &TrackSpec, state: &CheckState, about: (Option<u64>, &Point)) -> Option<Ask> {
    let guard = spec.guards.iter().find(|guard| guard.name == state.name)?;
    timeout(&guard.protection.check)?;
    Some(Ask {
        guard: state.name.clone(),
        when: state.when,
        deployment: about.0,
        point: about.1.clone(),
        asked_at: state.asked_at?,
    })
}

/// Judges what can be judged on the spot, and asks what is due. The same at the same time changes
/// nothing.
pub(crate) fn tend(turn: &mut Turn<'_>) {
    turn.checks_wake_at = None;
    let Some(spec) = spec(turn.inputs) else {
        return;
    };
    if spec.guards.is_empty() && turn.track.watched.is_empty() {
        return;
    }
    pass_by(turn, spec);
    tend_deployment(turn, spec);
    incident::tend(turn, spec);
}

/// The checks that a deployment is asked now.
#[derive(Debug, Clone, Copy)]
struct Round {
    when: When,
    /// When it began: what was answered before does not count.
    since: Timestamp,
}

fn round(deployment: &Deployment) -> Option<Round> {
    let (when, since) = match deployment.phase {
        Phase::Waiting => (When::Pre, deployment.started_at),
        Phase::Rolling { holding_since, .. } | Phase::Verifying { holding_since, .. } => {
            (When::Post, holding_since?)
        }
        Phase::Stable
        | Phase::RollingBack { .. }
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => return None,
    };
    (!deployment.is_urgent()).then_some(Round { when, since })
}

fn tend_deployment(turn: &mut Turn<'_>, spec: &TrackSpec) {
    let current = turn.track.current.as_ref();
    let Some((deployment, round)) = current.and_then(|d| Some((d, round(d)?))) else {
        return;
    };
    let (id, point) = (deployment.id, deployment.point.clone());
    let mut states = deployment.checks.clone();
    states.retain(|state| spec.guards.iter().any(|guard| guard.name == state.name));
    for guard in guards(spec, deployment_of(turn), round.when) {
        let at = enrol(turn, &mut states, guard, round);
        let state = &mut states[at];
        tend_one(turn, guard, state, (Some(id), &point));
        tell(turn, guard, state);
        if round.when == When::Post
            && let Some(since) = state.unknown_since
        {
            turn.check_wakes(since.after(spec.rollout.progress_deadline));
        }
    }
    if let Some(deployment) = &mut turn.track.current {
        deployment.checks = states;
    }
}

/// The guards that a deployment has to pass then, without those that it may pass by.
fn guards<'s>(spec: &'s TrackSpec, deployment: Option<&Deployment>, when: When) -> Vec<&'s Guard> {
    let passed_by = |name| deployment.is_some_and(|deployment| is_skipped(deployment, name));
    let guards = spec.guards.iter();
    guards
        .filter(|guard| guard.is_asked(when) && !passed_by(&guard.name))
        .collect()
}

fn deployment_of<'t>(turn: &'t Turn<'_>) -> Option<&'t Deployment> {
    turn.track.current.as_ref()
}

/// Whether the deployment may pass by this check.
pub(crate) fn is_skipped(deployment: &Deployment, name: &ProtectionName) -> bool {
    deployment
        .skipped
        .iter()
        .any(|skipped| skipped.name == *name)
}

/// The place of the state of a check; a new one where the round has just begun.
fn enrol(turn: &mut Turn<'_>, states: &mut Vec<CheckState>, guard: &Guard, round: Round) -> usize {
    // A clock that was set back shows a time before the round began.
    let since = turn.now.max(round.since);
    let new = || CheckState::new(guard.name.clone(), round.when, since);
    let is_it = |state: &CheckState| state.name == guard.name && state.when == round.when;
    if let Some(at) = states.iter().position(is_it) {
        if states[at].since < round.since {
            states[at] = new();
        }
        return at;
    }
    let known = states.iter().any(|state| state.name == guard.name);
    states.push(new());
    if let (false, Check::Approval(wanted)) = (known, &guard.protection.check) {
        approval::request(turn, guard, wanted);
    }
    states.len() - 1
}

/// Judges or asks one check.
fn tend_one(
    turn: &mut Turn<'_>,
    guard: &Guard,
    state: &mut CheckState,
    about: (Option<u64>, &Point),
) {
    match instant::judge(turn, guard, about.1) {
        Judged::Outside { timeout } => ask(turn, guard, state, about, timeout),
        Judged::Open { changes } => {
            state.verdict = None;
            changes.into_iter().for_each(|at| turn.check_wakes(at));
        }
        Judged::Said {
            result,
            output,
            changes,
        } => {
            verdict::judged(turn, guard, state, (result, output));
            changes.into_iter().for_each(|at| turn.check_wakes(at));
        }
    }
}

/// Asks where that is due, and notes when it will be.
fn ask(
    turn: &mut Turn<'_>,
    guard: &Guard,
    state: &mut CheckState,
    about: (Option<u64>, &Point),
    timeout: Duration,
) {
    let now = turn.now;
    if due(guard, state, now) <= now {
        if state.asked_at.is_some() {
            let output = format!("no answer within {}", friendly(timeout));
            verdict::take(turn, guard, state, (CheckResult::Unknown, output));
        }
        state.asked_at = Some(now);
        turn.effect(Effect::Check(Ask {
            guard: guard.name.clone(),
            when: state.when,
            deployment: about.0,
            point: about.1.clone(),
            asked_at: now,
        }));
    }
    turn.check_wakes(due(guard, state, now));
    if let Some(stale) = fresh_until(guard, state).filter(|stale| *stale >= now) {
        turn.check_wakes(stale.after(Duration::from_millis(1)));
    }
}

/// When a check has to be asked next.
fn due(guard: &Guard, state: &CheckState, now: Timestamp) -> Timestamp {
    let timeout = timeout(&guard.protection.check).unwrap_or_default();
    let answered = state.verdict.as_ref().map(|verdict| verdict.at);
    match (state.asked_at, answered) {
        (Some(asked), _) => over(asked, timeout + ANSWER_GRACE, now),
        (None, Some(answered)) => over(answered, guard.protection.interval, now),
        (None, None) => now,
    }
}

/// When a span that began at `begun` is over: now, where it would begin further ahead than it is long.
/// Then the clock was set back, and nothing would be asked until it is there again.
fn over(begun: Timestamp, span: Duration, now: Timestamp) -> Timestamp {
    if begun > now.after(span) {
        now
    } else {
        begun.after(span)
    }
}

/// Until when the newest answer is recent enough to go by.
fn fresh_until(guard: &Guard, state: &CheckState) -> Option<Timestamp> {
    Some(state.verdict.as_ref()?.at.after(freshness(guard)?))
}

/// Whether the newest answer is recent enough to go by: one of before a restart, or of a time that is
/// still to come, says nothing of now.
fn is_fresh(guard: &Guard, state: &CheckState, now: Timestamp) -> bool {
    let Some((span, verdict)) = freshness(guard).zip(state.verdict.as_ref()) else {
        return true;
    };
    now <= verdict.at.after(span) && verdict.at <= now.after(span)
}

/// How long an answer can be gone by; none where it is judged anew whenever somebody looks.
fn freshness(guard: &Guard) -> Option<Duration> {
    let timeout = timeout(&guard.protection.check)?;
    Some(guard.protection.interval * 2 + timeout)
}

/// Time that a check may take; none where it is judged on the spot.
fn timeout(check: &Check) -> Option<Duration> {
    match check {
        Check::Run(run) | Check::Resource(run) => Some(run.timeout),
        Check::Http(http) => Some(http.timeout),
        Check::Prometheus(prometheus) => Some(prometheus.timeout),
        Check::Expression(_) | Check::Approval(_) | Check::Stable { .. } => None,
    }
}

/// Whether the newest answer is a pass.
fn has_passed(state: &CheckState) -> bool {
    let verdict = state.verdict.as_ref();
    verdict.is_some_and(|verdict| verdict.result == CheckResult::Passed)
}

/// Tells those who can help that a check has been waited for too long; once.
fn tell(turn: &mut Turn<'_>, guard: &Guard, state: &mut CheckState) {
    let Some(notify) = &guard.protection.notify else {
        return;
    };
    if state.notified || has_passed(state) {
        return;
    }
    let at = state.since.after(notify.after);
    if turn.now < at {
        return turn.check_wakes(at);
    }
    state.notified = true;
    turn.unsaved();
    let message = format!(
        "{} has waited for {} for {}: {}",
        turn.track.name,
        guard.name,
        friendly(notify.after),
        verdict::words(guard, state),
    );
    turn.effect(Effect::Record(Record {
        kind: "protection.waiting",
        message,
        deployment: turn.track.current.as_ref().map(|current| current.id),
        by: None,
        notify: Some(notify.to.clone()),
    }));
}

/// Notes what a hotfix passes by.
fn pass_by(turn: &mut Turn<'_>, spec: &TrackSpec) {
    let Some(deployment) = &turn.track.current else {
        return;
    };
    if !deployment.hotfix || deployment.phase != Phase::Waiting {
        return;
    }
    let trigger = deployment.trigger.clone();
    let passed = guards(spec, Some(deployment), When::Pre).into_iter();
    let passed = passed.filter(|guard| guard.protection.skippable == Skippable::Anyone);
    for guard in passed {
        let skipped = Skipped {
            name: guard.name.clone(),
            by: trigger.by.clone().unwrap_or_default(),
            reason: trigger.reason.clone().unwrap_or_default(),
            at: turn.now,
        };
        skip(turn, skipped);
    }
}

/// Lets the current deployment pass by a check.
pub(crate) fn skip(turn: &mut Turn<'_>, skipped: Skipped) {
    let message = format!(
        "{} was skipped by {} on {}: {}",
        skipped.name, skipped.by, turn.track.name, skipped.reason
    );
    let by = Some(skipped.by.clone());
    if let Some(deployment) = &mut turn.track.current {
        deployment.skipped.push(skipped);
    }
    turn.unsaved();
    turn.record("protection.skipped", message, by);
}

/// How long after a check's own time limit an answer is waited for: the way to a target and back.
pub const ANSWER_GRACE: Duration = Duration::from_secs(30);
