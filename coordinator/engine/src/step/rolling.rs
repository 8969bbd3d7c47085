//! `Rolling`: wave by wave, each done and held before the next.
//!
//! *Expected flow:* place, wait until every target of the wave is done, hold for the soak, next wave.
//! The last wave's soak is `Verifying`. A wave that reaches nobody new is left out, with its soak.
//! *Guarantees:* only between waves does a newer deployment interrupt; a pause stops the next
//! placement, not the judgement; a freeze, a window that closes under `hold`, and too many targets away
//! stop the next wave, and nothing of the one under way. *Assumptions:* [`place`](super::place) has given the wave's targets
//! the point as far as it may.

use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::time::{Timestamp, friendly};

use super::place::starts;
use super::waiting::overtaken;
use super::{Next, Turn};
use crate::batch;
use crate::check;
use crate::compiled::TrackSpec;
use crate::gates::{self, presence};
use crate::track::{Deployment, Phase};
use crate::verify::Standing;
use crate::wait::{self, Waits, by_command};
use crate::waves::{self, Survey};

/// Where the phase is: which wave, since when, and since when it holds.
pub(super) type At = (u32, Timestamp, Option<Timestamp>);

/// The next wave, `Verifying`, a failure, or why none of them yet.
pub(super) fn next(turn: &Turn<'_>, spec: &TrackSpec, at: At) -> Next {
    let Some(deployment) = &turn.track.current else {
        return Next::Stay(Waits::default());
    };
    let survey = waves::survey(turn, &spec.rollout, deployment, at.1);
    if let Some(reason) = failure(turn, spec, &survey) {
        return Next::Fail(reason);
    }
    if let Some(reason) = check::failure(turn, spec, deployment) {
        return Next::Fail(reason);
    }
    if let Some(reason) = gates::calendar::over(turn, spec, deployment) {
        return Next::GoBack(reason);
    }
    let mut next = judge(turn, spec, deployment, &survey, at);
    if let Next::Stay(waits) = &mut next {
        survey.next_changes().for_each(|at| waits.wake(at));
        let elects = batch::elects_again(turn);
        elects.into_iter().for_each(|at| waits.wake(at));
        gates::calendar::closes(waits, turn, spec);
    }
    next
}

fn judge(
    turn: &Turn<'_>,
    spec: &TrackSpec,
    deployment: &Deployment,
    survey: &Survey<'_>,
    at: At,
) -> Next {
    let (wave, _, holding_since) = at;
    let waves = waves::waves(spec, deployment);
    let full = survey.room(waves, wave) == 0;
    let settled = survey.any_done() || !survey.failures().is_empty();
    // Who went away a moment ago may be back before anything is lost.
    let may_settle = settled || holding_since.is_some() && survey.any_returning();
    let holds = full && may_settle && survey.holds(holding_since);
    if full
        && survey.holders.is_empty()
        && let Some(next_wave) = survey.next_wave(waves, wave)
    {
        let waits = gates::before_wave(turn, spec, deployment);
        if !waits.is_empty() {
            return Next::Stay(waits);
        }
        return enter_wave(turn, spec, deployment, next_wave);
    }
    let note = |since, holding_since| {
        Next::Note(Phase::Rolling {
            wave,
            since,
            holding_since,
        })
    };
    match holding_since {
        Some(_) if !holds => return note(turn.now, None),
        Some(_) | None if !(holds && settled) => {
            return Next::Stay(under_way(turn, spec, survey, wave));
        }
        Some(_) | None => {}
    }
    let Some(next_wave) = survey.next_wave(waves, wave) else {
        return verify(turn, spec, survey, wave);
    };
    if let (false, Some(reason)) = (deployment.is_urgent(), overtaken(turn, deployment)) {
        return Next::Enter(Phase::Superseded, "deployment.superseded", reason);
    }
    match holding_since {
        Some(holding) => proceed(turn, spec, deployment, (wave, next_wave, holding)),
        None => note(at.1, Some(turn.now)),
    }
}

/// After a wave that holds: the next one, once it has held for the soak, its checks have passed and
/// nobody stops it.
fn proceed(
    turn: &Turn<'_>,
    spec: &TrackSpec,
    deployment: &Deployment,
    at: (u32, u32, Timestamp),
) -> Next {
    let (wave, next_wave, holding) = at;
    let until = holding.after(spec.rollout.soak);
    let mut waits = Waits::default();
    if turn.now < until {
        waits.join(soak(turn, spec, until, &format!("wave {}", wave + 1)));
    }
    check::unproven(&mut waits, turn, spec, deployment);
    waits.join(gates::before_wave(turn, spec, deployment));
    if !starts(turn, deployment) {
        waits.join(gates::paused(turn));
    }
    if !waits.is_empty() {
        return Next::Stay(waits);
    }
    enter_wave(turn, spec, deployment, next_wave)
}

fn enter_wave(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment, wave: u32) -> Next {
    let (since, holding_since) = (turn.now, None);
    let total = waves::waves(spec, deployment).len();
    let reason = format!("wave {} of {total}", wave + 1);
    Next::Enter(
        Phase::Rolling {
            wave,
            since,
            holding_since,
        },
        "deployment.wave",
        reason,
    )
}

fn verify(turn: &Turn<'_>, spec: &TrackSpec, survey: &Survey<'_>, wave: u32) -> Next {
    if !survey.any_done() {
        // Every failure was tolerated, and nobody is left who could prove it.
        return if survey.any_returning() {
            Next::Stay(under_way(turn, spec, survey, wave))
        } else {
            Next::Fail(describe(survey))
        };
    }
    let (since, holding_since) = (turn.now, Some(turn.now));
    let reason = "every wave is done".to_owned();
    Next::Enter(
        Phase::Verifying {
            since,
            holding_since,
        },
        "deployment.verifying",
        reason,
    )
}

/// Why the deployment has failed, if more targets did than may.
pub(super) fn failure(turn: &Turn<'_>, spec: &TrackSpec, survey: &Survey<'_>) -> Option<String> {
    let manual = turn
        .track
        .current
        .as_ref()
        .is_some_and(Deployment::is_urgent);
    let failures = survey.failures().len();
    let pending = |standing: &Standing| {
        matches!(
            standing,
            Standing::UnderWay { .. } | Standing::Settling { .. }
        )
    };
    // What a person asked for goes everywhere: its failures are told when all of them are known.
    if manual
        && survey
            .holders
            .iter()
            .any(|holder| pending(&holder.standing))
    {
        return None;
    }
    (failures > spec.rollout.max_failures as usize).then(|| describe(survey))
}

/// The failures in one sentence.
pub(super) fn describe(survey: &Survey<'_>) -> String {
    let failures = survey.failures();
    let (failed, of) = (failures.len(), survey.holders.len());
    let names = wait::targets_saying(failures);
    format!("{failed} of {} failed: {names}", wait::count(of))
}

/// The wait for a soak, which time ends.
pub(super) fn soak(turn: &Turn<'_>, spec: &TrackSpec, until: Timestamp, what: &str) -> Waits {
    let mut waits = Waits::default();
    waits.wake(until);
    let message = format!("{what} has to hold for {}", friendly(spec.rollout.soak));
    let wait = waits.push(WaitKind::Protection, "soak", message);
    wait.until = Some(until);
    by_command(wait, "halt", &turn.track.name);
    waits
}

/// Why the targets of a deployment are not done yet.
pub(super) fn under_way(
    turn: &Turn<'_>,
    spec: &TrackSpec,
    survey: &Survey<'_>,
    wave: u32,
) -> Waits {
    let mut waits = Waits::default();
    let mut saying = Vec::new();
    let mut until: Option<Timestamp> = None;
    let mut earliest = |at: Timestamp| until = Some(until.map_or(at, |until| until.min(at)));
    for holder in &survey.holders {
        match &holder.standing {
            Standing::Done | Standing::Failed { .. } => {}
            Standing::UnderWay { message, until } => {
                earliest(*until);
                saying.push((holder.name, message.as_str()));
            }
            Standing::Settling { until } => {
                earliest(*until);
                saying.push((holder.name, "ready, not for long enough yet"));
            }
            Standing::Away { returning_until } => {
                returning_until.iter().copied().for_each(&mut earliest);
                if survey.waits_for_away || returning_until.is_some() {
                    saying.push((holder.name, "away"));
                }
            }
        }
    }
    let room = room(turn, spec, survey, wave) > 0;
    for returning in survey.returning.iter().filter(|_| room) {
        earliest(returning.until);
        saying.push((returning.name, "away"));
    }
    if !saying.is_empty() {
        let names = wait::targets_saying(saying.iter().copied());
        let message = format!("{} on the way: {names}", wait::count(saying.len()));
        let wait = waits.push(WaitKind::Target, "targets", message);
        wait.until = until;
        wait.ends_by.push("the targets becoming ready".to_owned());
        by_command(wait, "halt", &turn.track.name);
    }
    held_back(&mut waits, turn, spec, survey, wave);
    waits
}

fn room(turn: &Turn<'_>, spec: &TrackSpec, survey: &Survey<'_>, wave: u32) -> usize {
    let deployment = turn.track.current.as_ref();
    deployment.map_or(0, |deployment| {
        survey.room(waves::waves(spec, deployment), wave)
    })
}

/// Why targets that are in the wave have not been given the point.
fn held_back(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec, survey: &Survey<'_>, wave: u32) {
    let Some(deployment) = &turn.track.current else {
        return;
    };
    let environment = &turn.track.name.environment;
    let room = room(turn, spec, survey, wave);
    let turns = room.min(survey.candidates.len());
    if turns > 0 && !starts(turn, deployment) {
        waits.join(gates::paused(turn));
    } else if turns > 0 {
        let message = format!(
            "{} to go: {} unavailable, of at most {}",
            wait::count(turns),
            survey.unavailable,
            survey.budget
        );
        let wait = waits.push(WaitKind::Capacity, environment, message);
        wait.ends_by
            .push("unavailable targets becoming ready".to_owned());
        by_command(wait, "halt", &turn.track.name);
    }
    let without = turn.inputs.targets.iter().filter(|(name, _)| {
        let placement = turn.track.placements.get(*name);
        !placement.is_some_and(|placement| placement.point.is(&deployment.point))
    });
    presence::held(waits, without, turn.now);
    if waits.is_empty() {
        let message = format!("no target of {environment} is connected that could prove it");
        let wait = waits.push(WaitKind::Target, environment, message);
        wait.ends_by.push("a target connecting again".to_owned());
        by_command(wait, "halt", &turn.track.name);
    }
}
