//! A slow, obvious model of the gates, written from the design: which of them stand before a
//! deployment. The engine has to name the same ones, and nothing may start while one stands.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_engine::calendar;
use holdfast_engine::compiled::TrackSpec;
use holdfast_engine::compiled::protection::{Check, Guard, When};
use holdfast_engine::input::{Declared, Dependency, Inputs, Seen, Upstream};
use holdfast_engine::track::check::CheckResult;
use holdfast_engine::track::{Deployment, Phase, Point, Track};
use holdfast_protocol::api::deployment::Phase as PhaseName;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use super::model::Stepped;

/// How long a target that went away is taken to be on its way back.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// Gates by kind and subject.
type Gates = BTreeSet<(String, String)>;

/// Compares what the engine waits for, or that it started, with the model.
pub(crate) fn look(stepped: &Stepped<'_>) -> Result<(), String> {
    let (track, inputs) = (&stepped.outcome.track, stepped.inputs);
    let (Declared::Runs(spec), Some(current)) = (inputs.declared, &track.current) else {
        return Ok(());
    };
    if current.is_urgent() {
        return Ok(());
    }
    let gates = gates(track, inputs, spec, (current, stepped.now));
    match current.phase {
        Phase::Waiting => same(&gates, &named(stepped)),
        Phase::Rolling { .. } if !rolled(stepped.before, current) && !gates.is_empty() => {
            let version = &current.point.version;
            Err(format!("{version} started while {gates:?} stood"))
        }
        _ => Ok(()),
    }
}

/// A check that passed may have to be asked again, and only the engine knows when it was asked: those
/// the engine may name besides.
fn same(gates: &Gates, named: &Gates) -> Result<(), String> {
    let besides = |(kind, _): &&(String, String)| kind != "Protection" && kind != "Policy";
    let missing: Vec<_> = gates.difference(named).collect();
    let surplus: Vec<_> = named.difference(gates).filter(besides).collect();
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    Err(format!(
        "by the model these gates stand, too: {missing:?}; and these do not: {surplus:?}"
    ))
}

fn named(stepped: &Stepped<'_>) -> Gates {
    let waits = stepped.outcome.waits.iter();
    waits.map(|wait| gate(wait.kind, &wait.subject)).collect()
}

fn gate(kind: WaitKind, subject: impl ToString) -> (String, String) {
    (format!("{kind:?}"), subject.to_string())
}

/// Whether this deployment had started before the step.
fn rolled(before: &Track, current: &Deployment) -> bool {
    let old = before.current.as_ref().filter(|old| old.id == current.id);
    old.is_some_and(|old| old.phase != Phase::Waiting)
}

fn gates(
    track: &Track,
    inputs: &Inputs<'_>,
    spec: &TrackSpec,
    (of, now): (&Deployment, Timestamp),
) -> Gates {
    let mut gates = Gates::new();
    for freeze in inputs.freezes {
        let all = || "everything".to_owned();
        let what = freeze
            .environment
            .as_ref()
            .map_or_else(all, ToString::to_string);
        gates.insert(gate(WaitKind::Freeze, what));
    }
    if let Some(pause) = &track.paused {
        gates.insert(gate(WaitKind::Pause, &pause.by));
    }
    if !of.hotfix && !calendar::at(&spec.windows, now).is_open() {
        gates.insert(gate(WaitKind::Window, &track.name.environment));
    }
    for dependency in &inputs.dependencies {
        if !is_ready(dependency) {
            gates.insert(gate(WaitKind::Dependency, dependency.service));
        }
    }
    for upstream in &inputs.upstream {
        if !of.hotfix && !is_through(track, spec, upstream, &of.point) {
            gates.insert(gate(WaitKind::Order, upstream.environment));
        }
    }
    for guard in &spec.guards {
        let skipped = of.skipped.iter().any(|skipped| skipped.name == guard.name);
        if guard.when.contains(&When::Pre) && !skipped && !is_open(track, guard, of, now) {
            let people = matches!(guard.protection.check, Check::Approval(_));
            let kind = if people {
                WaitKind::Approval
            } else {
                WaitKind::Protection
            };
            gates.insert(gate(kind, &guard.name));
        }
    }
    presence(&mut gates, track, inputs, spec, now);
    if let Some(elected) = may_still_run(track, inputs, spec, now) {
        gates.insert(gate(WaitKind::Target, elected));
    }
    gates
}

/// The one target of a job that runs on one, while it is away and not known to be idle.
fn may_still_run<'t>(
    track: &'t Track,
    inputs: &Inputs<'_>,
    spec: &TrackSpec,
    now: Timestamp,
) -> Option<&'t TargetName> {
    let elected = track.elected.as_ref()?;
    spec.job.as_ref().filter(|job| job.once)?;
    let view = inputs.targets.get(elected)?;
    let may_be_back = now < view.since.after(BACK_WITHIN);
    let ended = matches!(view.seen, Seen::Ready { .. } | Seen::Failed { .. });
    let runs = track.placements.contains_key(elected) && !ended;
    (!view.connected && (may_be_back || runs)).then_some(elected)
}

/// Somebody has to be there who may start, and not too many may be away.
fn presence(
    gates: &mut Gates,
    track: &Track,
    inputs: &Inputs<'_>,
    spec: &TrackSpec,
    now: Timestamp,
) {
    let targets = || inputs.targets.values();
    let away = targets().filter(|view| !view.connected).count();
    if away > spec.rollout.max_disconnected.of(inputs.targets.len()) {
        gates.insert(gate(WaitKind::Target, "away"));
    }
    let free = |held: &Option<holdfast_engine::input::Held>| {
        held.as_ref().is_none_or(|held| held.until <= now)
    };
    if away == inputs.targets.len() {
        gates.insert(gate(WaitKind::Target, &track.name.environment));
    } else if !targets().any(|view| view.connected && free(&view.held)) {
        gates.insert(gate(WaitKind::Hold, "targets"));
    }
}

fn moves(phase: PhaseName) -> bool {
    [
        PhaseName::Rolling,
        PhaseName::Verifying,
        PhaseName::RollingBack,
    ]
    .contains(&phase)
}

/// A dependency is stable and does not move; a job has succeeded with its newest run.
fn is_ready(dependency: &Dependency<'_>) -> bool {
    let unfinished = [
        PhaseName::Waiting,
        PhaseName::RollbackFailed,
        PhaseName::Halted,
        PhaseName::Rejected,
    ];
    let busy = |phase| moves(phase) || dependency.job && unfinished.contains(&phase);
    dependency.stable.is_some() && !dependency.phase.is_some_and(busy)
}

/// An environment before has proven the release, is not in the middle of it, and has proven the
/// configuration, where that is new here.
fn is_through(track: &Track, spec: &TrackSpec, upstream: &Upstream<'_>, point: &Point) -> bool {
    let here = track.stable.as_ref();
    let proven_here = here.is_some_and(|stable| stable.sequence == point.sequence)
        || track.proven.contains(&point.sequence);
    if !upstream.proven.contains(&point.sequence) && !proven_here {
        return false;
    }
    if spec.follow.is_some() {
        return true;
    }
    let Some((phase, version)) = upstream.current else {
        return true;
    };
    let in_the_middle = *version == point.version && moves(phase);
    let new = here.is_none_or(|stable| stable.configuration != point.configuration);
    !in_the_middle && (upstream.settled || !new)
}

/// Enough people agree, and nobody's word has lapsed; or the newest answer is that it passes.
fn is_open(track: &Track, guard: &Guard, of: &Deployment, now: Timestamp) -> bool {
    let Check::Approval(approval) = &guard.protection.check else {
        let mut results = of.results.iter().rev();
        let newest = results.find(|result| result.name == guard.name && result.when == When::Pre);
        return newest.is_some_and(|newest| newest.verdict.result == CheckResult::Passed);
    };
    let shown = holdfast_engine::check::shown(track, of);
    let holds = of.approvals.iter().filter(|given| {
        let fits = given.roles.iter().any(|role| approval.roles.contains(role));
        fits && given.shown == shown && now < given.at.after(approval.expires)
    });
    let people: BTreeSet<&String> = holds.map(|given| &given.by).collect();
    people.len() >= approval.count as usize
}
