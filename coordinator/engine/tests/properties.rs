//! One property for each numbered consequence of the engine, over random histories in virtual time.
//!
//! A history is a script like those in `scenarios/`; a failing one is printed and can be saved there.
//! `PROPTEST_CASES` sets how many histories each property sees, 256 by default.

#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "world/history.rs"]
mod history;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::Event;
use history::{DAY_MILLIS, History, history};
use holdfast_engine::compiled::TrackSpec;
use holdfast_engine::effect::Effect;
use holdfast_engine::input::{Declared, Inputs, Seen};
use holdfast_engine::steer::Wish;
use holdfast_engine::step::step;
use holdfast_engine::track::{Deployment, Phase, Point, Track, TrackName};
use holdfast_protocol::api;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::{ServiceName, TargetName};
use holdfast_protocol::time::{Timestamp, millis};
use model::{Stepped, Watch, World};
use proptest::prelude::*;

fn config() -> ProptestConfig {
    ProptestConfig {
        // The history itself is printed; nothing else is needed to see it again.
        failure_persistence: None,
        // Histories on which tracks never come to rest are slow to try.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    }
}

/// Plays a history to its end.
fn played(history: &History, watch: Option<Watch>) -> Result<World, TestCaseError> {
    let mut world = World::new();
    world.watch = watch;
    play(&mut world, &history.events)?;
    Ok(world)
}

fn play(world: &mut World, events: &[Event]) -> Result<(), TestCaseError> {
    for event in events {
        world.happen(event);
        if let Some(objection) = &world.objection {
            return Err(TestCaseError::fail(format!("at {event}: {objection}")));
        }
    }
    Ok(())
}

fn watch(look: impl FnMut(&Stepped<'_>) -> Result<(), String> + Send + 'static) -> Option<Watch> {
    Some(Arc::new(Mutex::new(look)))
}

proptest! {
    #![proptest_config(config())]

    /// However often the coordinator is killed, also before it kept what it decided, the end is the
    /// same; and a step that is repeated has nothing left to do.
    #[test]
    fn invariant_1_restartable(
        history in history().prop_map(|history| history.without(history::restarts)),
        kills in prop::collection::vec((any::<bool>(), 0_u64..40_000), 1..6),
    ) {
        let mut undisturbed = World::new();
        undisturbed.repeats = true;
        play(&mut undisturbed, &history.events)?;
        let mut killed = undisturbed.clone();
        play(&mut undisturbed, &[Event::Settle { millis: DAY_MILLIS }])?;
        for (lose, millis) in kills {
            let kill = if lose { Event::Lose } else { Event::Restart };
            play(&mut killed, &[kill, Event::Settle { millis }])?;
        }
        play(&mut killed, &[Event::Settle { millis: DAY_MILLIS }])?;
        prop_assert_eq!(ends(&undisturbed), ends(&killed));
    }

    /// What becomes of one service is no concern of those that do not depend on it.
    #[test]
    fn invariant_2_isolated(
        history in history().prop_map(|history| history.without(|event| *event == Event::Lose)),
    ) {
        let victim = history.last_service();
        let spared = history.clone().without(|event| history::is_about(event, &victim));
        let with = played(&history, None)?;
        let without = played(&spared, None)?;
        prop_assert_eq!(others(&with, &victim), others(&without, &victim));
    }

    /// What failed or was rolled back on a track is given to no target of it again, unless a person
    /// says so; nor is anything older than what is stable.
    #[test]
    fn invariant_3_never_worse(history in history()) {
        let mut failed: BTreeMap<TrackName, BTreeSet<(u64, String)>> = BTreeMap::new();
        let look = move |stepped: &Stepped<'_>| {
            never_worse(failed.entry(stepped.before.name.clone()).or_default(), stepped)
        };
        played(&history, watch(look))?;
    }

    /// Nothing but the stable release is given to a target before every gate was open.
    #[test]
    fn invariant_4_no_early_start(history in history()) {
        played(&history, watch(no_early_start))?;
    }

    /// When nothing happens any more, every track comes to rest.
    #[test]
    fn invariant_5_terminates(history in history()) {
        let mut world = played(&history, None)?;
        play(&mut world, &[Event::Settle { millis: 30 * DAY_MILLIS }])?;
        prop_assert_eq!(&world.wakes, &BTreeMap::new());
        let silent = watch(|stepped| match stepped.outcome.effects.first() {
            Some(effect) => Err(format!("still does {effect:?}")),
            None => Ok(()),
        });
        world.watch = silent;
        world.everything();
        play(&mut world, &[Event::Pass { millis: 30 * DAY_MILLIS }])?;
    }

    /// A track that could be further and does nothing says why.
    #[test]
    fn invariant_6_explained(history in history()) {
        played(&history, watch(explained))?;
    }

    /// The same arguments give the same result, to the last byte.
    #[test]
    fn invariant_7_deterministic(history in history()) {
        let look = |stepped: &Stepped<'_>| {
            if stepped.wish.is_some() {
                return Ok(());
            }
            let again = step(&stepped.before.clone(), &stepped.inputs.clone(), stepped.now);
            let same = format!("{:?}", stepped.outcome) == format!("{again:?}");
            if same { Ok(()) } else { Err(format!("{:?} became {again:?}", stepped.outcome)) }
        };
        let once = played(&history, watch(look))?;
        let twice = played(&history, None)?;
        prop_assert_eq!(format!("{:?}", once.tracks), format!("{:?}", twice.tracks));
    }

    /// Before the time that a step names, time alone changes nothing.
    #[test]
    fn time_alone_changes_nothing_before_it_is_said_to(
        history in history(),
        percent in 0_u64..100,
    ) {
        let world = played(&history, None)?;
        for name in world.tracks.keys() {
            let parts = world.parts(name);
            let at = world.wakes.get(name);
            let end = at.map_or(Duration::from_millis(DAY_MILLIS), |at| at.since(world.now));
            let share = millis(end).saturating_sub(1) * percent / 100;
            let later = world.now.after(Duration::from_millis(share));
            let outcome = step(&world.tracks[name], &parts.inputs(&world, name), later);
            prop_assert_eq!(outcome.effects, vec![], "{} at {}", name, later);
        }
    }

    /// No more targets that serve are stopped at a time than may be.
    #[test]
    fn no_more_than_allowed_are_unavailable(history in history()) {
        played(&history, watch(available))?;
    }

    /// A history can be written down and read back.
    #[test]
    fn a_history_is_a_scenario(history in history()) {
        for event in &history.events {
            prop_assert_eq!(event.to_string().parse::<Event>(), Ok(event.clone()));
        }
    }
}

/// How every track ended, without what depends on how long it took.
fn ends(world: &World) -> BTreeMap<TrackName, String> {
    let end = |track: &Track| {
        let point = |point: &Point| (point.sequence, point.configuration.short());
        let placed: Vec<_> = track
            .placements
            .iter()
            .map(|(name, placed)| (name.clone(), point(&placed.point)))
            .collect();
        let current = track.current.as_ref();
        let current = current.map(|current| (point(&current.point), current.phase.name()));
        format!(
            "{:?}",
            (
                track.stable.as_ref().map(point),
                current,
                placed,
                &track.passed_over
            )
        )
    };
    world
        .tracks
        .iter()
        .map(|(name, track)| (name.clone(), end(track)))
        .collect()
}

/// Every track but those of `victim`, without numbers that are shared by all.
fn others(world: &World, victim: &ServiceName) -> Vec<Track> {
    let mut tracks: Vec<Track> = world
        .tracks
        .values()
        .filter(|track| track.name.service != *victim)
        .cloned()
        .collect();
    for track in &mut tracks {
        let points = track.stable.iter_mut().chain(&mut track.earlier);
        points.for_each(|point| point.revision = 0);
        track
            .placements
            .values_mut()
            .for_each(|placed| placed.point.revision = 0);
        if let Some(current) = &mut track.current {
            current.id = 0;
            current.point.revision = 0;
            current
                .previous
                .iter_mut()
                .for_each(|point| point.revision = 0);
        }
        for wait in &mut track.waits {
            // A removal is confirmed by the number of its revision.
            wait.ends_by.retain(|end| !end.contains("confirm"));
        }
        if let Some(current) = &mut track.current {
            // So is a change of configuration told.
            current.reason.clear();
        }
    }
    tracks
}

fn key(point: &Point) -> (u64, String) {
    (point.sequence, point.configuration.to_string())
}

fn never_worse(failed: &mut BTreeSet<(u64, String)>, stepped: &Stepped<'_>) -> Result<(), String> {
    let Stepped {
        before,
        outcome,
        wish,
        inputs,
        ..
    } = stepped;
    let current = outcome.track.current.as_ref();
    let manual = current.filter(|current| current.is_urgent());
    match wish {
        Some(Wish::Retry) => {
            failed
                .retain(|point| Some(point) != current.map(|current| key(&current.point)).as_ref());
        }
        Some(Wish::Deploy { .. } | Wish::Promote { .. }) => {
            if let (Some(asked), Declared::Runs(spec)) = (&outcome.track.asked, inputs.declared) {
                failed.remove(&(asked.sequence, spec.digest.to_string()));
            }
        }
        Some(Wish::Rollback { .. }) => {
            let begun = manual.filter(|manual| manual.id == inputs.next_deployment);
            if let (Some(manual), Declared::Runs(spec)) = (begun, inputs.declared) {
                let newer = inputs
                    .releases
                    .iter()
                    .filter(|r| r.sequence > manual.point.sequence);
                failed.extend(newer.map(|release| (release.sequence, spec.digest.to_string())));
                failed.remove(&key(&manual.point));
            }
        }
        Some(Wish::Halt | Wish::Pause | Wish::Resume | Wish::Pin { .. } | Wish::Unpin) | None => {}
    }
    for effect in &outcome.effects {
        if let Effect::Place { target, point } = effect {
            if failed.contains(&key(point)) {
                return Err(format!(
                    "{target} was given {}, which failed here",
                    point.version
                ));
            }
            let stable = before.stable.as_ref();
            let older = stable.is_some_and(|stable| point.sequence < stable.sequence);
            let asked = manual.is_some_and(|manual| manual.point.is(point))
                || goes_back(&outcome.track, inputs, point);
            if older && !asked && !outcome.track.stable.as_ref().is_some_and(|s| s.is(point)) {
                return Err(format!(
                    "{target} was given {}, which is older",
                    point.version
                ));
            }
        }
    }
    for effect in &outcome.effects {
        if let Effect::Save(deployment) = effect
            && has_failed(deployment)
        {
            failed.insert(key(&deployment.point));
        }
    }
    Ok(())
}

/// Whether the track is pinned to this release, or mirrors it.
fn goes_back(track: &Track, inputs: &Inputs<'_>, point: &Point) -> bool {
    let Declared::Runs(spec) = inputs.declared else {
        return false;
    };
    let pinned = track.pinned.as_ref();
    spec.follow.is_some() || pinned.is_some_and(|pinned| pinned.version == point.version)
}

fn has_failed(deployment: &Deployment) -> bool {
    let failed = matches!(
        deployment.phase,
        Phase::RollingBack { .. } | Phase::RolledBack | Phase::RollbackFailed | Phase::Halted
    );
    failed && !deployment.is_urgent()
}

fn no_early_start(stepped: &Stepped<'_>) -> Result<(), String> {
    let Stepped {
        before,
        outcome,
        inputs,
        ..
    } = stepped;
    let Declared::Runs(spec) = inputs.declared else {
        let placed = outcome
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Place { .. }));
        return if placed {
            Err("placed what is declared no more".to_owned())
        } else {
            Ok(())
        };
    };
    for effect in &outcome.effects {
        let Effect::Place { target, point } = effect else {
            continue;
        };
        let is_stable = |track: &Track| track.stable.as_ref().is_some_and(|s| s.is(point));
        if is_stable(before) || is_stable(&outcome.track) {
            continue;
        }
        let early = |why: String| Err(format!("{target} was given {} early: {why}", point.version));
        let Some(current) = outcome.track.current.as_ref().filter(|c| c.point.is(point)) else {
            return early("no deployment brings it".to_owned());
        };
        if current.is_urgent() || current.hotfix {
            continue;
        }
        if !matches!(
            current.phase,
            Phase::Rolling { .. } | Phase::Verifying { .. }
        ) {
            return early(format!("it is {:?}", current.phase));
        }
        if before.paused.is_some() && outcome.track.paused.is_some() {
            return early("the track is paused".to_owned());
        }
        let went_on = before
            .current
            .as_ref()
            .is_some_and(|old| old.id == current.id && !matches!(old.phase, Phase::Waiting));
        if let (false, Some(gate)) = (went_on, closed_gate(before, inputs, spec, point)) {
            return early(gate);
        }
    }
    Ok(())
}

/// The gates once more, the slow and obvious way.
fn closed_gate(
    track: &Track,
    inputs: &Inputs<'_>,
    spec: &TrackSpec,
    point: &Point,
) -> Option<String> {
    use api::deployment::Phase::{Rolling, RollingBack, Verifying};
    let moving = |phase| [Rolling, Verifying, RollingBack].contains(&phase);
    let ours = track
        .stable
        .as_ref()
        .is_some_and(|stable| stable.sequence == point.sequence)
        || track.proven.contains(&point.sequence);
    for environment in spec.upstream() {
        let upstream = inputs
            .upstream
            .iter()
            .find(|upstream| upstream.environment == environment);
        let proven = upstream.is_some_and(|upstream| upstream.proven.contains(&point.sequence));
        if !proven && !ours {
            return Some(format!("it is not stable in {environment}"));
        }
    }
    for dependency in &inputs.dependencies {
        let failed = dependency.phase == Some(api::deployment::Phase::Halted);
        let waits = dependency.phase == Some(api::deployment::Phase::Waiting);
        if dependency.stable.is_none()
            || dependency.phase.is_some_and(moving)
            || dependency.job && (failed || waits)
        {
            return Some(format!("{} is not stable", dependency.service));
        }
    }
    if !inputs.targets.values().any(|view| view.connected) {
        return Some("nobody is connected".to_owned());
    }
    None
}

fn explained(stepped: &Stepped<'_>) -> Result<(), String> {
    let Stepped {
        outcome, inputs, ..
    } = stepped;
    for wait in &outcome.waits {
        if wait.since > stepped.now || wait.message.is_empty() || wait.subject.is_empty() {
            return Err(format!("a poor wait: {wait:?}"));
        }
        let who = wait.ends_by.is_empty() && wait.until.is_none();
        if who && wait.kind != WaitKind::Capacity && !wait.message.contains("does not run") {
            return Err(format!("nobody can end {wait:?}"));
        }
    }
    if !outcome.effects.is_empty() || !outcome.waits.is_empty() || complete(&outcome.track, inputs)
    {
        return Ok(());
    }
    Err(format!(
        "does nothing and says nothing: {:?}",
        outcome.track
    ))
}

/// Whether there is nothing that could be better: the release that the rule asks for, with the
/// configuration in force, is stable, and every target is ready with it.
fn complete(track: &Track, inputs: &Inputs<'_>) -> bool {
    let Declared::Runs(spec) = inputs.declared else {
        return track.placements.is_empty();
    };
    let newest = inputs.releases.last().map(|release| release.sequence);
    let followed = inputs.upstream.first().and_then(|up| up.stable);
    let asked_for = |point: &Point| match (&track.pinned, &spec.follow) {
        (Some(pinned), _) => pinned.version == point.version,
        (None, Some(_)) => followed.is_some_and(|there| there.sequence == point.sequence),
        (None, None) => Some(point.sequence) == newest,
    };
    let is_best = |point: &Point| asked_for(point) && point.configuration == spec.digest;
    let once = spec.job.as_ref().is_some_and(|job| job.once);
    let ready = |(name, view): (&TargetName, &holdfast_engine::input::View)| {
        let placed = track.placements.get(name);
        let best = placed.is_some_and(|placed| is_best(&placed.point));
        best && matches!(view.seen, Seen::Ready { .. }) || once && placed.is_none()
    };
    track.stable.as_ref().is_some_and(is_best) && inputs.targets.iter().all(ready)
}

fn available(stepped: &Stepped<'_>) -> Result<(), String> {
    let Stepped {
        before,
        outcome,
        inputs,
        ..
    } = stepped;
    let Declared::Runs(spec) = inputs.declared else {
        return Ok(());
    };
    let urgent = |deployment: &Deployment| has_failed(deployment) || deployment.is_urgent();
    let saved = outcome.effects.iter().any(|effect| match effect {
        Effect::Save(deployment) => urgent(deployment),
        Effect::Place { .. } | Effect::Displace { .. } | Effect::Check(_) | Effect::Record(_) => {
            false
        }
    });
    if saved
        || [before, &outcome.track]
            .iter()
            .any(|t| t.current.as_ref().is_some_and(urgent))
    {
        return Ok(());
    }
    let connected = inputs
        .targets
        .values()
        .filter(|view| view.connected)
        .count();
    let allowed = spec.rollout.max_unavailable.of(connected).max(1);
    let mut stopped: BTreeMap<(u64, String), usize> = BTreeMap::new();
    for effect in &outcome.effects {
        let Effect::Place { target, point } = effect else {
            continue;
        };
        let view = &inputs.targets[target];
        if view.connected && matches!(view.seen, Seen::Ready { .. }) {
            *stopped.entry(key(point)).or_default() += 1;
        }
    }
    for (point, stopped) in stopped {
        let under_way = inputs.targets.iter().filter(|(name, view)| {
            let placed = before
                .placements
                .get(*name)
                .is_some_and(|p| key(&p.point) == point);
            let settled = matches!(view.seen, Seen::Ready { .. } | Seen::Failed { .. });
            let since = before
                .placements
                .get(*name)
                .map(|placed| placed.since.max(view.since));
            let deadline = since.map(|since| since.after(spec.rollout.progress_deadline));
            let failed = deadline.is_some_and(|deadline| deadline <= stepped.now);
            view.connected && placed && !settled && !failed
        });
        let under_way = under_way.count();
        if stopped + under_way > allowed {
            return Err(format!(
                "{under_way} under way, {stopped} stopped, {allowed} allowed"
            ));
        }
    }
    Ok(())
}

/// The time that histories begin at is one that people can read.
#[test]
fn virtual_time_begins_at_a_readable_time() {
    let begin: Timestamp = "2026-11-21T06:36:00Z".parse().unwrap();
    assert_eq!(World::new().now, begin);
}
