//! Every pre-deploy gate, all of them evaluated, so that a person sees the whole list.

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::wait::WaitKind;

use crate::compiled::TrackSpec;
use crate::input::{Dependency, Inputs, ReleaseRef, Upstream};
use crate::step::Turn;
use crate::track::{Point, Track, TrackName};
use crate::wait::{Waits, by_command};

/// The gates that stand before `point`. It may roll when there are none.
pub(crate) fn standing(turn: &Turn<'_>, spec: &TrackSpec, point: &Point) -> Waits {
    let mut waits = Waits::default();
    for upstream in &turn.inputs.upstream {
        order(&mut waits, turn, upstream, point);
    }
    for dependency in &turn.inputs.dependencies {
        depends(&mut waits, turn, dependency);
    }
    pause(&mut waits, turn);
    present(&mut waits, turn, spec);
    waits
}

/// A release or a configuration is not taken on while an environment before this one is in the middle
/// of it, nor a new configuration while one there has not come to hold: it goes through the
/// environments in their order, as releases do.
fn order(waits: &mut Waits, turn: &Turn<'_>, upstream: &Upstream<'_>, point: &Point) {
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
    if upstream
        .current
        .is_some_and(|(phase, _)| phase.is_final() && phase != Phase::Stable)
    {
        by_command(wait, "retry", &name);
    }
}

fn brings_configuration(turn: &Turn<'_>, point: &Point) -> bool {
    let stable = turn.track.stable.as_ref();
    stable.is_none_or(|stable| stable.configuration != point.configuration)
}

fn depends(waits: &mut Waits, turn: &Turn<'_>, dependency: &Dependency<'_>) {
    let Dependency {
        service,
        stable,
        phase,
    } = dependency;
    let environment = &turn.track.name.environment;
    let message = match (stable, phase) {
        (None, _) => format!("{service} has no stable release in {environment} yet"),
        (Some(_), Some(phase)) if is_moving(*phase) => {
            format!("{service} is {} in {environment}", words(*phase))
        }
        (Some(_), _) => return,
    };
    let wait = waits.push(WaitKind::Dependency, service, message);
    wait.ends_by
        .push(format!("{service}@{environment} becoming stable"));
}

fn pause(waits: &mut Waits, turn: &Turn<'_>) {
    let Some(pause) = &turn.track.paused else {
        return;
    };
    let message = if pause.reason.is_empty() {
        format!("paused by {}", pause.by)
    } else {
        format!("paused by {}: {}", pause.by, pause.reason)
    };
    let wait = waits.push(WaitKind::Pause, &pause.by, message);
    by_command(wait, "resume", &turn.track.name);
}

/// Somebody has to be there: an environment without targets proves nothing.
fn present(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let environment = &turn.track.name.environment;
    let targets = &turn.inputs.targets;
    if targets.is_empty() {
        let labels: Vec<String> = spec
            .selector
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let message = if labels.is_empty() {
            format!("{environment} has no target yet")
        } else {
            format!("no target of {environment} matches {}", labels.join(", "))
        };
        let wait = waits.push(WaitKind::Target, environment, message);
        wait.ends_by
            .push(format!("holdfast token create -e {environment}"));
    } else if targets.values().all(|view| !view.connected) {
        let away = crate::wait::targets(targets.keys());
        let message = format!("no target of {environment} is connected: {away}");
        let wait = waits.push(WaitKind::Target, environment, message);
        wait.ends_by.push(format!("{away} connecting again"));
    }
}

/// A pause, where the deployment is already rolling.
pub(crate) fn paused(turn: &Turn<'_>) -> Waits {
    let mut waits = Waits::default();
    pause(&mut waits, turn);
    waits
}

/// What a track waits for that could be newer than it is: releases that are not through the
/// environments before it, or none at all.
pub(crate) fn supply(turn: &Turn<'_>, spec: &TrackSpec) -> Waits {
    let mut waits = Waits::default();
    let Some(newest) = turn.inputs.releases.last() else {
        no_release(&mut waits, &turn.track);
        return waits;
    };
    if behind(&turn.track, newest) {
        for environment in &spec.after {
            let mut upstreams = turn.inputs.upstream.iter();
            match upstreams.find(|upstream| upstream.environment == environment) {
                Some(upstream) => unproven(&mut waits, turn, upstream, newest),
                None => nowhere(&mut waits, turn.inputs, environment, newest),
            }
        }
    }
    waits
}

fn behind(track: &Track, newest: &ReleaseRef) -> bool {
    let stable = track.stable.as_ref();
    stable.is_none_or(|stable| newest.sequence > stable.sequence)
}

fn no_release(waits: &mut Waits, track: &Track) {
    if track.stable.is_some() {
        // There was one; what the configuration uses now is in none. The stable one goes on.
        let message = "no release gives every artifact that the configuration uses".to_owned();
        let wait = waits.push(WaitKind::Order, &track.name.service, message);
        wait.ends_by.push(format!(
            "holdfast release create {} --version V",
            track.name.service
        ));
        return;
    }
    let wait = waits.push(
        WaitKind::Order,
        &track.name.service,
        "no release yet".to_owned(),
    );
    wait.ends_by.push(format!(
        "holdfast release create {} --version V",
        track.name.service
    ));
}

fn unproven(waits: &mut Waits, turn: &Turn<'_>, upstream: &Upstream<'_>, newest: &ReleaseRef) {
    if upstream.proven.binary_search(&newest.sequence).is_ok() {
        return;
    }
    let (environment, version) = (upstream.environment, &newest.version);
    let current = upstream.current.filter(|(_, current)| *current == version);
    let message = match current {
        Some((phase, _)) => format!("{version} is {} in {environment}", words(phase)),
        None => format!("{version} is not stable in {environment} yet"),
    };
    let name = upstream_name(turn, upstream);
    let wait = waits.push(WaitKind::Order, environment, message);
    wait.ends_by
        .push(format!("{version} becoming stable on {name}"));
    if current.is_some_and(|(phase, _)| phase.is_final() && phase != Phase::Stable) {
        let service = &turn.track.name.service;
        wait.ends_by
            .push(format!("holdfast retry {service} -e {environment}"));
    }
}

fn nowhere(
    waits: &mut Waits,
    inputs: &Inputs<'_>,
    environment: &holdfast_protocol::name::EnvironmentName,
    newest: &ReleaseRef,
) {
    let version = &newest.version;
    let message = format!(
        "{version} has to be stable in {environment} first, where the service does not run (revision {})",
        inputs.revision
    );
    waits.push(WaitKind::Order, environment, message);
}

fn upstream_name(turn: &Turn<'_>, upstream: &Upstream<'_>) -> TrackName {
    TrackName {
        service: turn.track.name.service.clone(),
        environment: upstream.environment.clone(),
    }
}

const fn is_moving(phase: Phase) -> bool {
    match phase {
        Phase::Rolling | Phase::Verifying | Phase::RollingBack => true,
        Phase::Waiting
        | Phase::Stable
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => false,
    }
}

/// A phase as the middle of a sentence.
pub(crate) const fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Rolling => "rolling out",
        Phase::Verifying => "being verified",
        Phase::Stable => "stable",
        Phase::RollingBack => "being rolled back",
        Phase::RolledBack => "rolled back",
        Phase::RollbackFailed => "failed and could not be rolled back",
        Phase::Halted => "halted",
        Phase::Rejected => "rejected",
        Phase::Superseded => "superseded",
    }
}
