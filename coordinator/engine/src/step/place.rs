//! Converging: what each target should be given, against what it is given.
//!
//! *Expected flow:* while a deployment rolls, the targets that its wave reaches get the new point and
//! all others keep what they have; otherwise every target gets the stable point. *Guarantees:* a
//! target that has nothing gets the stable point at once, in every phase; nothing is taken from a
//! target but what left the track's selector, a confirmed removal, or a failed first release.
//! *Assumptions:* the phase is right; only `step` and `steer` change it.

use holdfast_protocol::name::TargetName;

use super::Turn;
use crate::batch;
use crate::compiled::TrackSpec;
use crate::gates::presence;
use crate::input::{Declared, Seen, View};
use crate::track::{Deployment, Phase, Placement, Point};
use crate::verify::returning_until;
use crate::waves;

/// Gives every target what it should have.
pub(super) fn converge(turn: &mut Turn<'_>) {
    match turn.inputs.declared {
        Declared::Runs(spec) => {
            displace_leavers(turn);
            converge_declared(turn, spec);
        }
        Declared::Removed { confirmed: true } => {
            displace_all(turn);
            // Declared again, it starts from nothing, through every gate.
            turn.track.stable = None;
            (turn.track.asked, turn.track.pinned) = (None, None);
        }
        Declared::Removed { confirmed: false } => {}
    }
}

/// Targets that the track does not cover but that still have something of it.
fn displace_leavers(turn: &mut Turn<'_>) {
    let targets = &turn.inputs.targets;
    let placed = turn.track.placements.keys();
    let leavers: Vec<TargetName> = placed
        .filter(|name| !targets.contains_key(*name))
        .cloned()
        .collect();
    for name in leavers {
        turn.displace(name);
    }
}

pub(super) fn displace_all(turn: &mut Turn<'_>) {
    while let Some((name, _)) = turn.track.placements.first_key_value() {
        let name = name.clone();
        turn.displace(name);
    }
}

fn converge_declared(turn: &mut Turn<'_>, spec: &TrackSpec) {
    let Some(deployment) = turn.track.current.clone() else {
        return rest(turn, spec, &Rule::All);
    };
    match deployment.phase {
        Phase::Rolling { wave, since, .. } => roll(turn, spec, &deployment, (wave, since)),
        Phase::Verifying { since, .. } => roll(turn, spec, &deployment, (u32::MAX, since)),
        Phase::Waiting => rest(turn, spec, &Rule::Stragglers),
        Phase::Halted => rest(turn, spec, &Rule::Joiners),
        Phase::RollingBack { .. } | Phase::RolledBack | Phase::RollbackFailed => {
            restore(turn, spec, &deployment.point);
        }
        Phase::Stable | Phase::Rejected | Phase::Superseded => rest(turn, spec, &Rule::All),
    }
}

/// The wave's targets get the new point, those that have nothing get the stable one meanwhile.
fn roll(
    turn: &mut Turn<'_>,
    spec: &TrackSpec,
    deployment: &Deployment,
    at: (u32, holdfast_protocol::time::Timestamp),
) {
    let (wave, since) = at;
    if starts(turn, deployment) {
        batch::elect(turn);
        let survey = waves::survey(turn, &spec.rollout, deployment, since);
        if survey.failures().len() > spec.rollout.max_failures as usize {
            // It is about to end: nobody else is given it.
            return rest(turn, spec, &Rule::Joiners);
        }
        let waves = waves::waves(spec, deployment);
        let joiners_wait = turn.track.stable.is_none();
        let picks: Vec<TargetName> = survey
            .picks((waves, wave), joiners_wait)
            .into_iter()
            .cloned()
            .collect();
        for name in picks {
            turn.place(name, deployment.point.clone());
        }
    }
    rest(turn, spec, &Rule::Joiners);
}

/// Whether targets may be given the new point: a paused track starts nothing but what is urgent.
pub(super) const fn starts(turn: &Turn<'_>, deployment: &Deployment) -> bool {
    turn.track.paused.is_none()
        || matches!(
            deployment.trigger.kind,
            holdfast_protocol::api::deployment::TriggerKind::Rollback
        )
}

/// The stable point is put back at once wherever the failed one is, also where nobody is connected:
/// the assignment waits for them. Where nothing was stable, the failed one goes.
fn restore(turn: &mut Turn<'_>, spec: &TrackSpec, failed: &Point) {
    let Some(stable) = turn.track.stable.clone() else {
        return displace_all(turn);
    };
    let holds = |placement: &Placement| placement.point.is(failed) && !failed.is(&stable);
    let holders: Vec<TargetName> = turn
        .track
        .placements
        .iter()
        .filter(|(_, placement)| holds(placement))
        .map(|(name, _)| name.clone())
        .collect();
    for name in holders {
        turn.place(name, stable.clone());
    }
    rest(turn, spec, &Rule::All);
}

/// Which targets are given the stable point.
enum Rule {
    /// Those that have nothing.
    Joiners,
    /// Also those that have what was stable before.
    Stragglers,
    /// All.
    All,
}

fn rest(turn: &mut Turn<'_>, spec: &TrackSpec, rule: &Rule) {
    let Some(stable) = turn.track.stable.clone() else {
        return;
    };
    for name in due(turn, spec, rule, &stable) {
        turn.place(name, stable.clone());
    }
}

/// The targets that are to be given the stable point now. One that serves with another point is
/// stopped for it only while few enough are being changed; one that is away is given it once it is
/// not expected back any moment, so that a fleet that returns together is not stopped together.
fn due(turn: &Turn<'_>, spec: &TrackSpec, rule: &Rule, stable: &Point) -> Vec<TargetName> {
    let placements = &turn.track.placements;
    let mut in_flight = None;
    let mut due = Vec::new();
    for (name, view) in &turn.inputs.targets {
        let placement = placements.get(name);
        let at_rest = matches!(rule, Rule::All);
        let has_it = placement.is_some_and(|placement| placement.point.is(stable))
            || !batch::gives_stable(turn, placement, at_rest);
        if has_it || presence::hold(view, turn.now).is_some() {
            continue;
        }
        let Some(placement) = placement else {
            due.push(name.clone());
            continue;
        };
        if !covers(turn, rule, placement) || returning_until(view, turn.now).is_some() {
            continue;
        }
        if view.connected && matches!(view.seen, Seen::Ready { .. }) {
            let (under_way, budget) = in_flight.get_or_insert_with(|| flight(turn, spec, stable));
            if *under_way >= *budget {
                continue;
            }
            *under_way += 1;
        }
        due.push(name.clone());
    }
    due
}

fn covers(turn: &Turn<'_>, rule: &Rule, placement: &Placement) -> bool {
    match rule {
        Rule::Joiners => false,
        Rule::Stragglers => turn
            .track
            .earlier
            .iter()
            .any(|point| point.is(&placement.point)),
        Rule::All => true,
    }
}

/// How many connected targets are on their way to the stable point, and how many may be.
fn flight(turn: &Turn<'_>, spec: &TrackSpec, stable: &Point) -> (usize, usize) {
    let connected = turn
        .inputs
        .targets
        .values()
        .filter(|view| view.connected)
        .count();
    let moving = |(name, view): &(&TargetName, &View)| {
        let placement = turn.track.placements.get(*name);
        let fresh = turn.fresh.contains(*name);
        let settled = !fresh && matches!(view.seen, Seen::Ready { .. } | Seen::Failed { .. });
        let here = view.connected || returning_until(view, turn.now).is_some();
        let here = here && presence::hold(view, turn.now).is_none();
        here && placement.is_some_and(|p| p.point.is(stable)) && !settled
    };
    let under_way = turn.inputs.targets.iter().filter(moving).count();
    (under_way, spec.rollout.max_unavailable.of(connected).max(1))
}
