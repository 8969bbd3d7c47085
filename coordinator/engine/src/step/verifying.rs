//! `Verifying`: every wave is done; the release has to hold for the soak. This is the soak of the
//! last wave, so nothing is waited for twice.

use holdfast_protocol::time::Timestamp;

use super::rolling::{describe, failure, soak, under_way};
use super::{Next, Turn};
use crate::check;
use crate::compiled::TrackSpec;
use crate::track::{Deployment, Phase};
use crate::wait::Waits;
use crate::waves::{self, Survey};

/// `Stable` once it has held, a failure, or why neither yet.
pub(super) fn next(
    turn: &Turn<'_>,
    spec: &TrackSpec,
    since: Timestamp,
    holding_since: Option<Timestamp>,
) -> Next {
    let Some(deployment) = &turn.track.current else {
        return Next::Stay(Waits::default());
    };
    let survey = waves::survey(turn, &spec.rollout, deployment, since);
    if let Some(reason) = failure(turn, spec, &survey) {
        return Next::Fail(reason);
    }
    if let Some(reason) = check::failure(turn, spec, deployment) {
        return Next::Fail(reason);
    }
    let proving = survey.any_done();
    if !proving && !survey.failures().is_empty() && survey.holds(None) && !survey.any_returning() {
        return Next::Fail(describe(&survey));
    }
    let mut next = judge(turn, spec, deployment, &survey, (since, holding_since));
    if let Next::Stay(waits) = &mut next {
        survey.next_changes().for_each(|at| waits.wake(at));
    }
    next
}

fn judge(
    turn: &Turn<'_>,
    spec: &TrackSpec,
    deployment: &Deployment,
    survey: &Survey<'_>,
    at: (Timestamp, Option<Timestamp>),
) -> Next {
    let (since, holding_since) = at;
    let proving = survey.any_done();
    // Who went away a moment ago may be back before anything is lost.
    let holds = survey.holds(holding_since) && (proving || survey.any_returning());
    let note = |since, holding_since| {
        Next::Note(Phase::Verifying {
            since,
            holding_since,
        })
    };
    let end = holding_since.map(|holding| soak_end(spec, deployment, holding));
    match end {
        Some(_) if !holds => note(turn.now, None),
        None if holds && proving => note(since, Some(turn.now)),
        Some(end) if proving && turn.now >= end => prove(turn, spec, deployment),
        Some(end) if turn.now < end => {
            let mut waits = soak(turn, spec, end, deployment.point.version.as_str());
            check::unproven(&mut waits, turn, spec, deployment);
            if !proving {
                waits.join(under_way(turn, spec, survey, u32::MAX));
            }
            Next::Stay(waits)
        }
        Some(_) | None => Next::Stay(under_way(turn, spec, survey, u32::MAX)),
    }
}

/// `Stable`, unless a check has not passed yet.
fn prove(turn: &Turn<'_>, spec: &TrackSpec, deployment: &Deployment) -> Next {
    let mut waits = Waits::default();
    check::unproven(&mut waits, turn, spec, deployment);
    if waits.is_empty() {
        Next::Prove
    } else {
        Next::Stay(waits)
    }
}

fn soak_end(spec: &TrackSpec, deployment: &Deployment, holding: Timestamp) -> Timestamp {
    if deployment.is_urgent() {
        holding
    } else {
        holding.after(spec.rollout.soak)
    }
}
