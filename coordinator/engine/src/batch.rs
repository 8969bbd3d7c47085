//! Jobs: what runs to completion instead of for ever.
//!
//! *Expected flow:* a job takes the same way as every service, through gates and waves, and what a
//! target reports as ready has run to completion. So `Stable` means that it has succeeded.
//!
//! **Once for each release**: each target runs it once for each release and configuration; one that
//! joins later runs the stable one, and one that was away catches up. What has succeeded on a target
//! is not run there again by a retry.
//! **On a schedule**: each opening of the schedule is a run, with a deployment of its own
//! ([`Point::run`] tells when it was due), which all gates stand before, as before every deployment. A
//! release alone does not run it: the next run takes the newest one. Of the runs that were due while
//! nobody could start them, only the newest is made up for; while one is going, the next waits. Nobody
//! runs one late: neither a target that joins afterwards nor one that was away.
//! **Once**: one elected target runs it, the others get nothing. It is the first connected one by name,
//! and stays so for as long as it exists. Another is elected when it has left, or is away for good when a
//! deployment starts, but never while it may still be running: that it is silent does not tell that
//! it is idle, and two migrations at a time are worse than one that waits. It is known to be idle if
//! the last that was heard of what it was given is that it ended, one way or the other. Whether
//! that is so a person knows: to revoke the target lets another be elected.
//!
//! *Failures:* what a job has done cannot be taken back by running an older one, so a failed one ends
//! `Halted`, which nothing stands behind: services that depend on it wait, and `retry`, a new
//! release or the next scheduled run starts anew. Nobody can roll one back.
//! *Guarantee:* a target runs the same point once, as far as it can tell (see the agent): at least once.

use std::time::Duration;

use holdfast_protocol::api::deployment::Phase as PhaseName;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use crate::compiled::{Job, TrackSpec};
use crate::input::{Seen, View};
use crate::rollback::stop;
use crate::step::{Turn, spec};
use crate::track::{Batch, Deployment, Phase, Placement, Point, Scheduled, Track};
use crate::verify::returning_until;
use crate::wait::Waits;
use crate::wanted;

/// Whether the job runs by a schedule.
pub(crate) fn is_scheduled(spec: &TrackSpec) -> bool {
    spec.job.as_ref().is_some_and(|job| job.schedule.is_some())
}

/// Whether the track is one of a job.
pub(crate) fn is_job(turn: &Turn<'_>) -> bool {
    job(turn).is_some()
}

/// Whether it runs on one target only.
pub(crate) fn is_once(turn: &Turn<'_>) -> bool {
    job(turn).is_some_and(|job| job.once)
}

/// Takes note of the run that is due now, or that there is no job any more.
pub(crate) fn note(track: &mut Track, spec: &TrackSpec, now: Timestamp) {
    let Some(job) = &spec.job else {
        (track.batch, track.elected) = (None, None);
        return;
    };
    if !job.once {
        track.elected = None;
    }
    let batch = track.batch.get_or_insert_with(Batch::default);
    let Some(window) = &job.schedule else {
        batch.schedule = None;
        return;
    };
    let written = window.to_string();
    let known = batch.schedule.take().filter(|old| old.window == written);
    let mut schedule = known.unwrap_or(Scheduled {
        window: written,
        since: now,
        due: None,
    });
    let floor = schedule.due.unwrap_or(schedule.since);
    schedule.due = window.opened(now, floor).or(schedule.due);
    batch.schedule = Some(schedule);
}

/// When the next run is due, if the job has a schedule.
pub(crate) fn next_due(turn: &Turn<'_>) -> Option<Timestamp> {
    job(turn)?.schedule.as_ref()?.opens(turn.now)
}

/// The scheduled run that is going: no other starts before it is at its end.
pub(crate) fn running<'t>(track: &'t Track, spec: &TrackSpec) -> Option<&'t Point> {
    let current = track.current.as_ref().filter(|_| is_scheduled(spec))?;
    matches!(
        current.phase,
        Phase::Rolling { .. } | Phase::Verifying { .. }
    )
    .then_some(&current.point)
}

/// What is to be run for `point`, which the rules want: itself, for what is no job. None where no run
/// is due.
pub(crate) fn due(track: &Track, spec: &TrackSpec, point: Point) -> Option<Point> {
    if spec.job.is_none() {
        return Some(point);
    }
    let current = track.current.as_ref();
    if !is_scheduled(spec) {
        let under_way = current.filter(|current| !current.is_final());
        let known = under_way.map(|current| &current.point).into_iter();
        let mut known = known.chain(&track.stable);
        let run = known.find(|known| is_same(known, &point));
        let run = run.and_then(|known| known.run);
        return Some(Point { run, ..point });
    }
    let schedule = track
        .batch
        .as_ref()
        .and_then(|batch| batch.schedule.as_ref());
    let due = schedule.and_then(|schedule| schedule.due);
    let newest = current.and_then(|current| current.point.run);
    let run = if current.is_some_and(|current| current.phase == Phase::Waiting) {
        due.max(newest)
    } else {
        let last = newest.max(track.stable.as_ref().and_then(|stable| stable.run));
        due.filter(|due| last.is_none_or(|last| *due > last))
    };
    run.map(|run| Point {
        run: Some(run),
        ..point
    })
}

/// Whether services that depend on a job have to wait while its newest deployment is in this phase.
pub(crate) const fn holds_dependants(phase: PhaseName) -> bool {
    match phase {
        PhaseName::Waiting
        | PhaseName::Rolling
        | PhaseName::Verifying
        | PhaseName::RollingBack
        | PhaseName::RollbackFailed
        | PhaseName::Halted
        | PhaseName::Rejected => true,
        PhaseName::Stable | PhaseName::RolledBack | PhaseName::Superseded => false,
    }
}

/// Whether a target runs what the track brings: each, but for a job that runs on one.
pub(crate) fn takes_part(turn: &Turn<'_>, name: &TargetName) -> bool {
    !is_once(turn) || turn.track.elected.as_ref() == Some(name)
}

/// Whether a target has what `point` brings: the point itself or, for a job without a schedule, the
/// same in an earlier run that succeeded there.
pub(crate) fn has(
    turn: &Turn<'_>,
    name: &TargetName,
    view: &View,
    placement: &Placement,
    point: &Point,
) -> bool {
    let succeeded = || {
        let ready = matches!(view.seen, Seen::Ready { .. }) && !turn.fresh.contains(name);
        let once_each = job(turn).is_some_and(|job| job.schedule.is_none());
        once_each && ready && is_same(&placement.point, point)
    };
    placement.point.is(point) || succeeded()
}

/// Whether a target without the stable point is to be given it: of a job that is at rest, those that
/// joined after it ran, or were away. `at_rest` where nothing newer was begun.
pub(crate) fn gives_stable(turn: &Turn<'_>, placement: Option<&Placement>, at_rest: bool) -> bool {
    let Some(job) = job(turn) else {
        return true;
    };
    let earlier = |placement: &Placement| {
        let mut earlier = turn.track.earlier.iter();
        let stable = turn.track.stable.as_ref();
        earlier.any(|point| point.is(&placement.point))
            && !stable.is_some_and(|stable| is_same(stable, &placement.point))
    };
    at_rest && job.schedule.is_none() && !job.once && placement.is_none_or(earlier)
}

/// Whether a target without what the track rests on is not to be given it: it takes no part, or the run
/// is over.
pub(crate) fn spares(turn: &Turn<'_>, name: &TargetName) -> bool {
    job(turn).is_some_and(|job| job.schedule.is_some()) || !takes_part(turn, name)
}

/// Elects the target that runs a job that runs on one, where it has to be another than before.
/// Everybody else loses what is left of earlier runs.
pub(crate) fn elect(turn: &mut Turn<'_>) {
    if !is_once(turn) {
        return;
    }
    if !must_stay(turn) {
        let mut targets = turn.inputs.targets.iter();
        let connected = targets.find(|(_, view)| view.connected);
        if let Some((name, _)) = connected {
            turn.track.elected = Some(name.clone());
        }
    }
    let elected = turn.track.elected.clone();
    let placed = turn.track.placements.keys();
    let others: Vec<TargetName> = placed
        .filter(|name| elected.as_ref() != Some(*name))
        .cloned()
        .collect();
    for name in others {
        turn.displace(name);
    }
}

/// When another target may be elected, where the elected one went away a moment ago.
pub(crate) fn elects_again(turn: &Turn<'_>) -> Option<Timestamp> {
    let elected = turn.track.elected.as_ref().filter(|_| is_once(turn))?;
    returning_until(turn.inputs.targets.get(elected)?, turn.now)
}

/// The gate of a job that runs on one target: nobody else may start while that one may be running.
pub(crate) fn stands(waits: &mut Waits, turn: &Turn<'_>) {
    let Some(elected) = turn.track.elected.as_ref().filter(|_| is_once(turn)) else {
        return;
    };
    let away = turn.inputs.targets.get(elected);
    if away.is_none_or(|view| view.connected) || !must_stay(turn) {
        return;
    }
    let message = format!("{elected} is away, and may still be running what it was given");
    let until = away.and_then(|view| returning_until(view, turn.now));
    until.into_iter().for_each(|until| waits.wake(until));
    let wait = waits.push(WaitKind::Target, elected, message);
    wait.until = until;
    wait.ends_by.push(format!("{elected} connecting again"));
    wait.ends_by
        .push(format!("holdfast target revoke {elected}"));
}

/// Ends a job that failed. The next scheduled run starts by itself.
pub(crate) fn fail(turn: &mut Turn<'_>, reason: String) {
    let Some(deployment) = turn.track.current.clone() else {
        return;
    };
    if !spec(turn.inputs).is_some_and(is_scheduled) {
        stop(turn, &deployment.point);
    }
    turn.enter(Phase::Halted, "deployment.failed", reason);
}

/// What a retry of a job runs, in a run of its own: what failed, also on a target that joined late.
pub(crate) fn failed(turn: &Turn<'_>, spec: &TrackSpec) -> Option<Point> {
    let track = &turn.track;
    let ended_badly =
        |current: &&Deployment| matches!(current.phase, Phase::Halted | Phase::Rejected);
    let last = track.current.as_ref().filter(ended_badly);
    let of_schedule = || {
        let last = last.filter(|_| is_scheduled(spec))?;
        let mut releases = turn.inputs.releases.iter();
        let release = releases.find(|release| release.sequence == last.point.sequence)?;
        Some(wanted::point(spec, turn.inputs, release))
    };
    let on_a_joiner = || {
        let stable = track.stable.as_ref().filter(|_| !is_scheduled(spec))?;
        let failed = |(name, view): (&TargetName, &View)| {
            let placement = track.placements.get(name);
            placement.is_some_and(|placement| is_same(&placement.point, stable))
                && matches!(view.seen, Seen::Failed { .. })
        };
        turn.inputs
            .targets
            .iter()
            .any(failed)
            .then(|| stable.clone())
    };
    let failed = wanted::failed_point(track, turn.inputs, spec);
    let failed = failed.or_else(of_schedule).or_else(on_a_joiner)?;
    Some(Point {
        run: Some(turn.now),
        ..failed
    })
}

/// How long a target may be silent about a run: as long as all attempts may take, and the deadline of
/// the rollout.
pub(crate) fn patience(turn: &Turn<'_>, deadline: Duration) -> Duration {
    let Some(job) = job(turn) else {
        return deadline;
    };
    let limit = Duration::from_millis(job.terms.time_limit_ms);
    deadline.saturating_add(limit.saturating_mul(job.terms.attempts))
}

/// What a job at rest runs next, where that is not what it ran last.
pub(crate) fn explain(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let next = wanted::admitted(&turn.track, turn.inputs, spec);
    let Some(next) = next.filter(|_| is_scheduled(spec)) else {
        return;
    };
    let stable = turn.track.stable.as_ref();
    if stable.is_some_and(|stable| is_same(stable, &next)) {
        return;
    }
    let until = next_due(turn);
    let message = format!("{} runs when the schedule says so", next.version);
    let wait = waits.push(WaitKind::Window, "schedule", message);
    wait.ends_by.push("the next run".to_owned());
    wait.until = until;
}

fn job<'a>(turn: &Turn<'a>) -> Option<&'a Job> {
    spec(turn.inputs)?.job.as_ref()
}

/// Whether both are the same release and configuration, in whichever run.
fn is_same(one: &Point, other: &Point) -> bool {
    one.sequence == other.sequence && one.configuration == other.configuration
}

/// Whether no other target may be elected.
fn must_stay(turn: &Turn<'_>) -> bool {
    let Some(elected) = &turn.track.elected else {
        return false;
    };
    let Some(view) = turn.inputs.targets.get(elected) else {
        return false;
    };
    let ended = matches!(view.seen, Seen::Ready { .. } | Seen::Failed { .. });
    let idle = ended && !turn.fresh.contains(elected);
    let may_be_back = returning_until(view, turn.now).is_some();
    view.connected || may_be_back || turn.track.placements.contains_key(elected) && !idle
}
