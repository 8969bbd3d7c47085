//! The gate of the order: a release comes when the environments before have proven it.
//!
//! By most rules only what is proven is wanted at all. What a person asked for or pinned, and what was
//! proven when it was taken up and is not any more, is held here until it is. What was stable on this
//! track itself, and was not rolled back since, has proven itself. A mirror asks for nothing but that
//! the environment it follows is stable on the release. A hotfix passes.

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::name::Version;

use crate::compiled::TrackSpec;
use crate::gates::{is_moving, words};
use crate::input::Upstream;
use crate::step::Turn;
use crate::track::{Point, Track, TrackName};
use crate::wait::{Waits, by_command};

/// Adds why `point` may not start yet, one wait for each environment that stands before it.
pub(crate) fn stands(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec, point: &Point) {
    let deployment = turn.track.current.as_ref();
    if deployment.is_some_and(|current| current.hotfix) {
        return;
    }
    let proven_here = is_proven_here(&turn.track, point.sequence);
    for upstream in &turn.inputs.upstream {
        let proven = upstream.proven.binary_search(&point.sequence).is_ok();
        if proven || proven_here {
            if spec.follow.is_none() {
                unsettled(waits, turn, upstream, point);
            }
            continue;
        }
        let release = (&point.version, point.sequence);
        if let Some(wait) = unproven(waits, turn, upstream, release) {
            let TrackName {
                service,
                environment,
            } = &turn.track.name;
            wait.ends_by.push(format!(
                "holdfast deploy {service} -e {environment} --version {} --hotfix --reason WHY",
                point.version
            ));
        }
    }
}

/// The track of the same service in an environment before.
fn upstream_name(turn: &Turn<'_>, upstream: &Upstream<'_>) -> TrackName {
    TrackName {
        service: turn.track.name.service.clone(),
        environment: upstream.environment.clone(),
    }
}

/// Whether a deployment there is over and has not held.
const fn has_ended_badly(phase: Phase) -> bool {
    match phase {
        Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => true,
        Phase::Stable | Phase::Waiting | Phase::Rolling | Phase::Verifying | Phase::RollingBack => {
            false
        }
    }
}

fn is_proven_here(track: &Track, sequence: u64) -> bool {
    let stable = track.stable.as_ref();
    stable.is_some_and(|stable| stable.sequence == sequence)
        || track.proven.binary_search(&sequence).is_ok()
}

/// Says that a release has to become stable in an environment before. None where it is already.
pub(crate) fn unproven<'w>(
    waits: &'w mut Waits,
    turn: &Turn<'_>,
    upstream: &Upstream<'_>,
    (version, sequence): (&Version, u64),
) -> Option<&'w mut Wait> {
    if upstream.proven.binary_search(&sequence).is_ok() {
        return None;
    }
    let environment = upstream.environment;
    let current = upstream.current.filter(|(_, there)| *there == version);
    let message = match current {
        Some((phase, _)) => format!("{version} is {} in {environment}", words(phase)),
        None => format!("{version} is not stable in {environment} yet"),
    };
    let name = upstream_name(turn, upstream);
    let wait = waits.push(WaitKind::Order, environment, message);
    wait.ends_by
        .push(format!("{version} becoming stable on {name}"));
    if current.is_some_and(|(phase, _)| has_ended_badly(phase)) {
        by_command(wait, "retry", &name);
    }
    Some(wait)
}

/// A release or a configuration is not taken on while an environment before this one is in the middle
/// of it, nor a new configuration while one there has not come to hold: it goes through the
/// environments in their order, as releases do.
fn unsettled(waits: &mut Waits, turn: &Turn<'_>, upstream: &Upstream<'_>, point: &Point) {
    let environment = upstream.environment;
    let message = match upstream.current {
        Some((phase, version)) if *version == point.version && is_moving(phase) => {
            format!("{version} is {} in {environment}", words(phase))
        }
        Some(_) if !upstream.settled && brings_configuration(turn, point) => {
            format!("the configuration in force has not been stable in {environment} yet")
        }
        Some(_) | None => return,
    };
    let name = upstream_name(turn, upstream);
    let wait = waits.push(WaitKind::Order, environment, message);
    wait.ends_by.push(format!("{name} becoming stable"));
    let current = upstream.current;
    if current.is_some_and(|(phase, _)| has_ended_badly(phase)) {
        by_command(wait, "retry", &name);
    }
}

fn brings_configuration(turn: &Turn<'_>, point: &Point) -> bool {
    let stable = turn.track.stable.as_ref();
    stable.is_none_or(|stable| stable.configuration != point.configuration)
}
