//! What a track that rests waits for: releases that are not through the environments before it, that a
//! person has to promote or make, or none at all.

use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::{EnvironmentName, Version};

use super::{Rule, followed, is_admitted, is_proven, pin, rule, train};
use crate::compiled::TrackSpec;
use crate::input::{Inputs, ReleaseRef};
use crate::order::unproven;
use crate::step::Turn;
use crate::track::Track;
use crate::wait::{Waits, by_command};

/// Most releases that one message names.
const NAMED_MAX: usize = 3;

/// Why nothing newer comes.
pub(crate) fn supply(turn: &Turn<'_>, spec: &TrackSpec) -> Waits {
    let mut waits = Waits::default();
    let track = &turn.track;
    match rule(track, spec) {
        Rule::Deploy => asked(&mut waits, turn),
        Rule::Pin => pinned(&mut waits, turn, spec),
        Rule::Follow | Rule::Train | Rule::Manual | Rule::After | Rule::Newest | Rule::Rollback
            if turn.inputs.releases.is_empty() =>
        {
            no_release(&mut waits, track);
        }
        Rule::Follow => mirrored(&mut waits, turn, spec),
        Rule::Train if track.stable.is_some() => in_turn(&mut waits, turn, spec),
        Rule::Manual => {
            newest(&mut waits, turn, spec);
            promotable(&mut waits, turn, spec);
        }
        Rule::Train | Rule::After | Rule::Newest | Rule::Rollback => {
            newest(&mut waits, turn, spec);
        }
    }
    waits
}

/// The releases that could be promoted here, newest first.
pub(crate) fn candidates<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
) -> impl Iterator<Item = &'i ReleaseRef> {
    let stable = track.stable.as_ref().map_or(0, |stable| stable.sequence);
    let releases = inputs.releases.iter().rev();
    let newer = releases.take_while(move |release| release.sequence > stable);
    newer.filter(move |release| {
        is_admitted(spec, release) && is_proven(inputs, spec, release.sequence)
    })
}

/// `a, b, c and 4 more`
pub(crate) fn versions<'r>(releases: impl Iterator<Item = &'r ReleaseRef>) -> String {
    let names: Vec<&Version> = releases.map(|release| &release.version).collect();
    let shown: Vec<String> = names
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn no_release(waits: &mut Waits, track: &Track) {
    let service = &track.name.service;
    let message = match track.stable {
        None => "no release yet".to_owned(),
        // There was one; what the configuration uses now is in none. The stable one goes on.
        Some(_) => "no release gives every artifact that the configuration uses".to_owned(),
    };
    let wait = waits.push(WaitKind::Order, service, message);
    wait.ends_by
        .push(format!("holdfast release create {service} --version V"));
}

/// What a person asked for is usable no more; otherwise there would be a deployment of it.
fn asked(waits: &mut Waits, turn: &Turn<'_>) {
    let track = &turn.track;
    let Some(asked) = &track.asked else {
        return;
    };
    let version = &asked.version;
    let mut releases = turn.inputs.releases.iter();
    if releases.any(|release| release.sequence == asked.sequence) {
        return;
    }
    let message = format!(
        "{version} was asked for, and does not give every artifact that the configuration uses"
    );
    let wait = waits.push(WaitKind::Order, version, message);
    let service = &track.name.service;
    let environment = &track.name.environment;
    wait.ends_by.push(format!(
        "holdfast deploy {service} -e {environment} --version V"
    ));
}

fn pinned(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let track = &turn.track;
    let Some(version) = pin(track, spec) else {
        return;
    };
    let mut releases = turn.inputs.releases.iter();
    if releases.any(|release| release.version == *version) {
        return;
    }
    let by = match &track.pinned {
        Some(pinned) => format!("by {}", pinned.by),
        None => "in the manifest".to_owned(),
    };
    let message = format!("pinned to {version} {by}, and there is no such release yet");
    let wait = waits.push(WaitKind::Order, version, message);
    let service = &track.name.service;
    wait.ends_by.push(format!(
        "holdfast release create {service} --version {version}"
    ));
    if track.pinned.is_some() {
        by_command(wait, "unpin", &track.name);
    }
}

fn mirrored(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let Some(environment) = &spec.follow else {
        return;
    };
    let mut upstreams = turn.inputs.upstream.iter();
    let upstream = upstreams.find(|upstream| upstream.environment == environment);
    let there = upstream.and_then(|upstream| upstream.stable);
    let followed = followed(turn.inputs, spec);
    let message = match (there, followed) {
        (Some(_), Some(release)) if is_admitted(spec, release) => return,
        (Some(there), Some(_)) => format!(
            "{} is stable in {environment}, and not among the versions that may come here",
            there.version
        ),
        (Some(there), None) => format!(
            "{} is stable in {environment}, and does not give every artifact that the configuration uses here",
            there.version
        ),
        (None, _) => format!("nothing is stable in {environment} yet, which is mirrored here"),
    };
    let service = &turn.track.name.service;
    let wait = waits.push(WaitKind::Order, environment, message);
    wait.ends_by.push(format!(
        "another release becoming stable on {service}@{environment}"
    ));
}

/// The release whose turn it is, where it is, and which ones come after it.
fn in_turn(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let (track, inputs) = (&turn.track, turn.inputs);
    let free = |release: &ReleaseRef| !super::is_passed_over(track, spec, release.sequence);
    let Some(next) = train::turn(track, inputs, spec, &free) else {
        return;
    };
    let behind =
        train::queue(track, inputs, spec).filter(|release| release.sequence > next.sequence);
    let behind = versions(behind.filter(|release| free(release)));
    for upstream in &inputs.upstream {
        let wait = unproven(waits, turn, upstream, (&next.version, next.sequence));
        if let (Some(wait), false) = (wait, behind.is_empty()) {
            wait.message = format!("{}; after it comes {behind}", wait.message);
            let (service, environment) = (&track.name.service, upstream.environment);
            wait.ends_by.push(format!(
                "a later one becoming stable on {service}@{environment} without it"
            ));
        }
    }
}

/// The newest release, where it is not through the environments before.
fn newest(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let mut newest = turn.inputs.releases.iter().rev();
    let Some(newest) = newest.find(|release| is_admitted(spec, release)) else {
        return none_admitted(waits, turn);
    };
    let stable = turn.track.stable.as_ref();
    if stable.is_some_and(|stable| newest.sequence <= stable.sequence) {
        return;
    }
    for environment in &spec.after {
        let mut upstreams = turn.inputs.upstream.iter();
        match upstreams.find(|upstream| upstream.environment == environment) {
            Some(upstream) => {
                unproven(waits, turn, upstream, (&newest.version, newest.sequence));
            }
            None => nowhere(waits, turn.inputs, environment, newest),
        }
    }
}

fn none_admitted(waits: &mut Waits, turn: &Turn<'_>) {
    if turn.track.stable.is_some() {
        return;
    }
    let service = &turn.track.name.service;
    let message = "no release is among the versions that may come here".to_owned();
    let wait = waits.push(WaitKind::Order, service, message);
    wait.ends_by
        .push(format!("holdfast release create {service} --version V"));
}

fn nowhere(
    waits: &mut Waits,
    inputs: &Inputs<'_>,
    environment: &EnvironmentName,
    newest: &ReleaseRef,
) {
    let version = &newest.version;
    let message = format!(
        "{version} has to be stable in {environment} first, where the service does not run (revision {})",
        inputs.revision
    );
    let wait = waits.push(WaitKind::Order, environment, message);
    wait.ends_by
        .push("holdfast apply with the service declared there, or without that environment before this one".to_owned());
}

/// What a person could promote.
fn promotable(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let (track, inputs) = (&turn.track, turn.inputs);
    let free = |release: &&ReleaseRef| !super::is_passed_over(track, spec, release.sequence);
    let list: Vec<&ReleaseRef> = candidates(track, inputs, spec).filter(free).collect();
    let Some(newest) = list.first() else {
        return withdrawn(waits, turn, spec);
    };
    let names = versions(list.iter().copied());
    let message = match list.len() {
        1 => format!("{names} waits for a person who promotes it"),
        _ => format!("{names} wait for a person who promotes one of them"),
    };
    let wait = waits.push(WaitKind::Order, "promotion", message);
    by_command(wait, "promote", &track.name);
    if list.len() > 1 {
        let last = list.last().unwrap_or(newest);
        let end = format!(
            "holdfast promote {} -e {} --version {}",
            track.name.service, track.name.environment, last.version
        );
        wait.ends_by.push(end);
    }
}

/// All that could be promoted was given up here.
fn withdrawn(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    let track = &turn.track;
    let told = super::failed_point(track, turn.inputs, spec).is_some();
    let Some(newest) = candidates(track, turn.inputs, spec)
        .next()
        .filter(|_| !told)
    else {
        return;
    };
    let version = &newest.version;
    let message = format!("{version} is passed over: it failed or was rolled back here");
    let wait = waits.push(WaitKind::Failed, version, message);
    let (service, environment) = (&track.name.service, &track.name.environment);
    wait.ends_by.push(format!(
        "holdfast promote {service} -e {environment} --version {version}"
    ));
}
