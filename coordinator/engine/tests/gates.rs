//! Random histories with checks, people, freezes, windows and held targets, and a slow, obvious oracle of
//! the gates that every start is compared with.
//!
//! `PROPTEST_CASES` sets four times how many histories each property sees, 256 by default.

#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "world/history.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod history;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use event::Event;
use history::{DAY_MILLIS, History, history};
use holdfast_engine::calendar;
use holdfast_engine::compiled::TrackSpec;
use holdfast_engine::compiled::protection::{Check, Guard, When};
use holdfast_engine::effect::Effect;
use holdfast_engine::input::{Declared, Inputs, Seen};
use holdfast_engine::step::step;
use holdfast_engine::track::check::CheckResult;
use holdfast_engine::track::kept::differs;
use holdfast_engine::track::{Deployment, Phase, Point, Track, TrackName};
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::time::Timestamp;
use model::{Stepped, Watch, World};
use proptest::prelude::*;

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        // Days in which checks are asked take a while to play.
        cases: (default.cases / 4).max(1),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..default
    }
}

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

/// Days in which nothing happens but that checks are asked.
fn rest(world: &mut World, days: usize) -> Result<(), TestCaseError> {
    let piece = Event::Settle {
        millis: DAY_MILLIS / 4,
    };
    play(world, &vec![piece; 4 * days])
}

/// What may be said of gates in any history. `E`, `T`, `H` are an environment, a track and a target.
const SAYINGS: &[&str] = &[
    "answers alerts pass",
    "answers alerts pass",
    "answers alerts fail 1 alert fires",
    "answers alerts fail 2 alerts fire",
    "answers alerts unknown connection refused",
    "answers alerts nothing",
    "answers slo pass",
    "answers slo pass",
    "answers slo fail slow",
    "answers slo unknown refused",
    "answers slo nothing",
    "answers scan pass",
    "answers scan fail one CVE",
    "approve T alice release-manager",
    "approve T alice release-manager",
    "approve T bob release-manager,dba",
    "approve T bob release-manager",
    "approve T mallory dev",
    "reject T alice no",
    "skip T alerts alice - it is fine",
    "skip T scan dora dba it is fine",
    "skip T change alice - it is fine",
    "freeze E bob an audit",
    "unfreeze E",
    "unfreeze E",
    "freeze all bob an audit",
    "unfreeze all",
    "unfreeze all",
    "hold H 1h inventory",
    "hold H 0s",
    "protect E alerts when=pre,post interval=2h threshold=2",
    "protect E slo when=always interval=3h onIncident=rollback",
    "unprotect E slo",
    "unprotect E change",
    "require E calm deployment.hotfix||observed.failed<3 too many have failed",
    "allow E calm",
];

/// The checks of an environment, when a history begins.
const GUARDS: &[&str] = &[
    "protect E alerts when=pre,post interval=2h threshold=1",
    "protect E alerts when=pre interval=4h",
    "protect E slo when=always interval=3h threshold=2 onIncident=rollback",
    "protect E slo when=post,always interval=6h",
    "protect E scan when=pre skippable=dba interval=4h timeout=1m notify=6h:dba-channel",
    "protect E change when=pre kind=approval count=2 expires=12h",
    "protect E change when=pre kind=approval",
    "protect E calm when=post,always kind=expression holds=observed.failed==0 interval=5m",
];

fn gated() -> impl Strategy<Value = History> {
    let guards = prop::collection::vec(any::<[u8; 2]>(), 1..6);
    let sayings = prop::collection::vec(any::<[u8; 4]>(), 5..40);
    (history(), guards, sayings).prop_map(|(history, guards, sayings)| {
        let mut events = history.events;
        let is_set_up = |event: &Event| matches!(event, Event::Environment { .. });
        let begin = events.iter().take_while(|event| is_set_up(event)).count();
        let environments: Vec<String> = events[..begin]
            .iter()
            .map(|event| {
                event
                    .to_string()
                    .split(' ')
                    .nth(1)
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        let services = events
            .iter()
            .filter(|event| matches!(event, Event::Service { .. }))
            .count();
        let choose = |line: &str, with: u8, more: u8| -> Event {
            let environment = &environments[with as usize % environments.len()];
            let service = ["database", "api", "web", "jobs", "cache"][more as usize % services];
            let words = line.split(' ').map(|word| match word {
                "E" => environment.clone(),
                "T" => format!("{service}@{environment}"),
                "H" => format!("t{}", more % 12),
                word => word.to_owned(),
            });
            let line = words.collect::<Vec<_>>().join(" ");
            line.parse().expect("a line of the script")
        };
        for [which, with, more, place] in sayings {
            let line = SAYINGS[which as usize % SAYINGS.len()];
            let span = events.len() - begin - services;
            let at = begin + services + usize::from(place) * span / 256;
            events.insert(at, choose(line, with, more));
        }
        for [which, with] in guards {
            let line = GUARDS[which as usize % GUARDS.len()];
            events.insert(begin, choose(line, with, 0));
        }
        for line in [
            "answers alerts pass",
            "answers slo pass",
            "answers scan pass",
        ] {
            events.insert(begin, choose(line, 0, 0));
        }
        History { events }
    })
}

proptest! {
    #![proptest_config(config())]

    /// However often the coordinator is killed, the end is the same; a step that is repeated has
    /// nothing left to do.
    #[test]
    fn invariant_1_restartable(
        history in gated().prop_map(|history| history.without(history::restarts)),
        kills in prop::collection::vec((any::<bool>(), 0_u64..4_000_000), 1..5),
    ) {
        let mut undisturbed = World::new();
        undisturbed.repeats = true;
        play(&mut undisturbed, &history.events)?;
        let mut killed = undisturbed.clone();
        rest(&mut undisturbed, 2)?;
        for (lose, millis) in kills {
            let kill = if lose { Event::Lose } else { Event::Restart };
            play(&mut killed, &[kill, Event::Settle { millis }])?;
        }
        rest(&mut killed, 2)?;
        prop_assert_eq!(ends(&undisturbed), ends(&killed));
    }

    /// Nothing but the stable release is given to a target before every gate was open.
    #[test]
    fn invariant_4_no_early_start(history in gated()) {
        played(&history, watch(no_early_start))?;
    }

    /// When nothing happens any more, every track comes to rest: checks are asked, and nothing is
    /// worth a write.
    #[test]
    fn invariant_5_terminates(history in gated()) {
        let mut world = played(&history, None)?;
        // A kill that the history left pending happens now, and its agents come back.
        world.everything();
        rest(&mut world, 2)?;
        world.watch = watch(|stepped| {
            let asks = |effect: &Effect| matches!(effect, Effect::Check(_));
            if let Some(effect) = stepped.outcome.effects.iter().find(|effect| !asks(effect)) {
                return Err(format!("still does {effect:?}"));
            }
            if differs(stepped.before, &stepped.outcome.track) {
                return Err(format!("a write of {:?} after {:?}", stepped.outcome.track, stepped.before));
            }
            Ok(())
        });
        world.everything();
        rest(&mut world, 1)?;
    }

    /// A track that could be further and does nothing says why, and whoever reads it can do something.
    #[test]
    fn invariant_6_explained(history in gated()) {
        played(&history, watch(explained))?;
    }

    /// The same arguments give the same result, to the last byte.
    #[test]
    fn invariant_7_deterministic(history in gated()) {
        let once = played(&history, None)?;
        let twice = played(&history, None)?;
        prop_assert_eq!(format!("{:?}", once.tracks), format!("{:?}", twice.tracks));
    }

    /// Before the time that a step names, time alone changes nothing.
    #[test]
    fn time_alone_changes_nothing_before_it_is_said_to(history in gated(), percent in 0_u64..100) {
        let world = played(&history, None)?;
        for name in world.tracks.keys() {
            let parts = world.parts(name);
            let Some(at) = world.wakes.get(name).copied() else {
                continue;
            };
            let left = at.as_millis().saturating_sub(world.now.as_millis()).saturating_sub(1);
            let later = Timestamp::from_millis(world.now.as_millis() + left * percent / 100);
            let outcome = step(&world.tracks[name], &parts.inputs(&world, name), later);
            prop_assert_eq!(outcome.effects, vec![], "{} at {}", name, later);
        }
    }

    /// A check sends a track back once, until something else has become stable.
    #[test]
    fn a_check_does_not_send_back_twice(history in gated()) {
        let mut sent: BTreeSet<TrackName> = BTreeSet::new();
        let look = move |stepped: &Stepped<'_>| {
            let name = &stepped.before.name;
            let (before, after) = (&stepped.before, &stepped.outcome.track);
            if stable_of(before) != stable_of(after) {
                let current = after.current.as_ref();
                let by_check = current.is_some_and(is_by_check);
                if by_check && !sent.insert(name.clone()) {
                    return Err("sent back twice".to_owned());
                }
                if !by_check {
                    sent.remove(name);
                }
            }
            Ok(())
        };
        played(&history, watch(look))?;
    }

    /// A target that its site holds is given nothing but what puts a failed release back.
    #[test]
    fn a_held_target_is_left_alone(history in gated()) {
        played(&history, watch(held_is_left_alone))?;
    }

    /// A history can be written down and read back.
    #[test]
    fn a_history_is_a_scenario(history in gated()) {
        for event in &history.events {
            prop_assert_eq!(event.to_string().parse::<Event>(), Ok(event.clone()));
        }
    }
}

fn stable_of(track: &Track) -> Option<(u64, String)> {
    track.stable.as_ref().map(key)
}

fn is_by_check(deployment: &Deployment) -> bool {
    let kind = deployment.trigger.kind;
    kind == holdfast_protocol::api::deployment::TriggerKind::Protection
}

fn key(point: &Point) -> (u64, String) {
    (point.sequence, point.configuration.to_string())
}

/// How every track ended, without what depends on how long it took.
fn ends(world: &World) -> BTreeMap<TrackName, String> {
    let end = |track: &Track| {
        let placed: Vec<_> = track
            .placements
            .iter()
            .map(|(name, placed)| (name.clone(), key(&placed.point)))
            .collect();
        let current = track.current.as_ref();
        let current = current.map(|current| (key(&current.point), current.phase.name()));
        format!(
            "{:?}",
            (stable_of(track), current, placed, &track.passed_over)
        )
    };
    let ends = world.tracks.iter();
    ends.map(|(name, track)| (name.clone(), end(track)))
        .collect()
}

fn held_is_left_alone(stepped: &Stepped<'_>) -> Result<(), String> {
    let goes_back = |track: &Track| {
        let current = track.current.as_ref();
        current.is_some_and(|current| {
            let failed = matches!(
                current.phase,
                Phase::RollingBack { .. } | Phase::RolledBack | Phase::RollbackFailed
            );
            failed || current.is_urgent()
        })
    };
    for effect in &stepped.outcome.effects {
        let Effect::Place { target, point } = effect else {
            continue;
        };
        let held = &stepped.inputs.targets[target].held;
        let held = held.as_ref().is_some_and(|held| stepped.now < held.until);
        if held && !goes_back(&stepped.outcome.track) {
            return Err(format!("{target} is held and was given {}", point.version));
        }
    }
    Ok(())
}

fn no_early_start(stepped: &Stepped<'_>) -> Result<(), String> {
    let Declared::Runs(spec) = stepped.inputs.declared else {
        return Ok(());
    };
    let (before, after) = (stepped.before, &stepped.outcome.track);
    let Some(current) = &after.current else {
        return Ok(());
    };
    let rolls = |track: &Track| {
        let current = track.current.as_ref().filter(|old| old.id == current.id);
        current.is_some_and(|old| !matches!(old.phase, Phase::Waiting))
    };
    let placed = stepped.outcome.effects.iter().any(|effect| match effect {
        Effect::Place { point, .. } => {
            point.is(&current.point) && !before.stable.as_ref().is_some_and(|s| s.is(point))
        }
        Effect::Displace { .. } | Effect::Save(_) | Effect::Check(_) | Effect::Record(_) => false,
    });
    if !placed || current.is_urgent() || rolls(before) {
        return Ok(());
    }
    match closed_gate(stepped.inputs, spec, current, stepped.now) {
        Some(gate) => Err(format!("{} started early: {gate}", current.point.version)),
        None => Ok(()),
    }
}

/// The gates once more, the slow and obvious way.
fn closed_gate(
    inputs: &Inputs<'_>,
    spec: &TrackSpec,
    of: &Deployment,
    now: Timestamp,
) -> Option<String> {
    if let Some(freeze) = inputs.freezes.first() {
        return Some(format!("frozen by {}", freeze.by));
    }
    if !of.hotfix && !calendar::at(&spec.windows, now).is_open() {
        return Some("no window is open".to_owned());
    }
    let away = inputs
        .targets
        .values()
        .filter(|view| !view.connected)
        .count();
    if away > spec.rollout.max_disconnected.of(inputs.targets.len()) {
        return Some(format!("{away} are away"));
    }
    let skipped = |guard: &&Guard| !of.skipped.iter().any(|skipped| skipped.name == guard.name);
    let mut guards = spec
        .guards
        .iter()
        .filter(|guard| guard.when.contains(&When::Pre));
    let closed = guards.find(|guard| skipped(guard) && !open(guard, of, now))?;
    Some(format!("{} has not passed", closed.name))
}

fn open(guard: &Guard, of: &Deployment, now: Timestamp) -> bool {
    if let Check::Approval(approval) = &guard.protection.check {
        let mut people = BTreeSet::new();
        for given in &of.approvals {
            let fits = given.roles.iter().any(|role| approval.roles.contains(role));
            if fits && now < given.at.after(approval.expires) {
                people.insert(&given.by);
            }
        }
        return people.len() >= approval.count as usize;
    }
    let mut results = of.results.iter().rev();
    let newest = results.find(|result| result.name == guard.name && result.when == When::Pre);
    newest.is_some_and(|newest| newest.verdict.result == CheckResult::Passed)
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
    let silent = outcome.effects.is_empty() && outcome.waits.is_empty();
    if silent && !complete(&outcome.track, inputs) {
        return Err(format!(
            "does nothing and says nothing: {:?}",
            outcome.track
        ));
    }
    Ok(())
}

/// Whether there is nothing that could be better: what the rule of the track asks for is stable with the
/// configuration in force, and every target that should is ready with it.
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
    track.stable.as_ref().is_some_and(is_best)
        && inputs.targets.iter().all(|(name, view)| {
            let placed = track.placements.get(name);
            let best = placed.is_some_and(|placed| is_best(&placed.point));
            best && matches!(view.seen, Seen::Ready { .. }) || once && placed.is_none()
        })
}
