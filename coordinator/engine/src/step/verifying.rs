//! `Verifying`: every wave is done; the release has to hold for the soak. This is the soak of the
//! last wave, so nothing is waited for twice.

use holdfast_protocol::time::Timestamp;

use super::rolling::{describe, failure, soak, under_way};
use super::{Next, Turn};
use crate::compiled::TrackSpec;
use crate::track::{Deployment, Phase};
use crate::wait::Waits;
use crate::waves;

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
    let proving = survey.any_done();
    if !proving && !survey.failures().is_empty() && survey.holds(None) && !survey.any_returning() {
        return Next::Fail(describe(&survey));
    }
    // Who went away a moment ago may be back before anything is lost.
    let holds = survey.holds(holding_since) && (proving || survey.any_returning());
    match holding_since {
        Some(_) if !holds => {
            let (since, holding_since) = (turn.now, None);
            Next::Note(Phase::Verifying {
                since,
                holding_since,
            })
        }
        None if holds && proving => {
            let holding_since = Some(turn.now);
            Next::Note(Phase::Verifying {
                since,
                holding_since,
            })
        }
        Some(holding) if proving && turn.now >= soak_end(spec, deployment, holding) => Next::Prove,
        Some(holding) if turn.now < soak_end(spec, deployment, holding) => {
            let mut waits = soak(
                turn,
                spec,
                soak_end(spec, deployment, holding),
                deployment.point.version.as_str(),
            );
            if !proving {
                waits.join(under_way(turn, spec, &survey, u32::MAX));
            }
            Next::Stay(waits)
        }
        Some(_) | None => Next::Stay(under_way(turn, spec, &survey, u32::MAX)),
    }
}

fn soak_end(spec: &TrackSpec, deployment: &Deployment, holding: Timestamp) -> Timestamp {
    if deployment.is_manual_rollback() {
        holding
    } else {
        holding.after(spec.rollout.soak)
    }
}
