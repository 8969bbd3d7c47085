//! The consequences of the engine, over random histories in virtual time.
//!
//! Each history is played once, and everything that must hold is looked at in every step; then it is
//! ended, and what must be so then is looked at. A history that breaks something is shrunk and printed
//! as a script, which can be saved in `scenarios/`.
//!
//! | setting | what it is |
//! | --- | --- |
//! | `HOLDFAST_HISTORIES` | how many histories are played in all; 10,000 where it is not set |
//! | `HOLDFAST_SEED` | a number that other histories grow from; the same number, the same histories |

#[path = "properties/available.rs"]
mod available;
#[path = "properties/ends.rs"]
mod ends;
#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "properties/explained.rs"]
mod explained;
#[path = "oracle/gates.rs"]
mod gates;
#[path = "world/history.rs"]
mod history;
#[path = "properties/left_alone.rs"]
mod left_alone;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;
#[path = "properties/never_worse.rs"]
mod never_worse;
#[path = "properties/reached.rs"]
mod reached;
#[path = "world/script.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod script;

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::Event;
use history::{History, history};
use holdfast_engine::step::step;
use holdfast_protocol::time::{Timestamp, millis};
use model::{Stepped, World};
use never_worse::Failed;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use reached::Reached;

/// Histories of a run in which nobody says how many.
const HISTORIES: u64 = 10_000;
/// Tests that share them, so that two cores have something to do.
const SHARES: u64 = 4;
/// One in so many histories is also played in other ways, to compare.
const COMPARED: u8 = 8;

#[test]
fn the_consequences_hold_over_the_first_share_of_histories() {
    hold(0);
}

#[test]
fn the_consequences_hold_over_the_second_share_of_histories() {
    hold(1);
}

#[test]
fn the_consequences_hold_over_the_third_share_of_histories() {
    hold(2);
}

#[test]
fn the_consequences_hold_over_the_fourth_share_of_histories() {
    hold(3);
}

/// Plays one share of the histories, and prints what they reached.
fn hold(share: u64) {
    let histories = setting("HOLDFAST_HISTORIES").unwrap_or(HISTORIES) / SHARES;
    let seed = setting("HOLDFAST_SEED").unwrap_or(0);
    let reached = Arc::new(Mutex::new(Reached::default()));
    let config = Config {
        cases: u32::try_from(histories).expect("so many can be played"),
        // The history itself is printed; nothing else is needed to see it again.
        failure_persistence: None,
        max_shrink_time: 20_000,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&share.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = (history(), any::<[u8; 6]>());
    let outcome = runner.run(&strategy, |(history, dice)| {
        check(&history, dice, &reached).map_err(TestCaseError::fail)
    });
    let objection = match outcome {
        Ok(()) => None,
        Err(TestError::Fail(reason, (history, dice))) => Some(format!(
            "{reason}\n\nwith the dice {dice:?}, in this history, which can be saved as a scenario:\n\n{}",
            told(&history)
        )),
        Err(TestError::Abort(reason)) => Some(format!("no history could be played: {reason}")),
    };
    assert!(objection.is_none(), "{}", objection.unwrap_or_default());
    let reached = reached.lock().expect("no look panics");
    // Printed by hand, so that a run that passes tells it, too.
    let mut out = std::io::stderr().lock();
    writeln!(
        out,
        "{histories} histories of share {share}, with\n{reached}"
    )
    .expect("it is open");
    assert_eq!(reached.missing(histories), Vec::<String>::new());
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no other place to take its settings from"
)]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// A world in which every step is looked at.
fn watched(reached: &Arc<Mutex<Reached>>) -> World {
    let mut world = World::new();
    world.tells = false;
    world.repeats = true;
    let mut failed = Failed::default();
    let mut sent_back = left_alone::SentBack::default();
    let reached = Arc::clone(reached);
    let look = move |stepped: &Stepped<'_>| {
        reached.lock().expect("no look panics").look(stepped);
        failed.look(stepped)?;
        available::look(stepped)?;
        gates::look(stepped)?;
        left_alone::look(stepped)?;
        sent_back.look(stepped)?;
        explained::look(stepped)?;
        deterministic(stepped)
    };
    world.watch = Some(Arc::new(Mutex::new(look)));
    world
}

/// The history with what was decided, up to what was objected to.
fn told(history: &History) -> String {
    let mut world = watched(&Arc::default());
    world.tells = true;
    script::played(&mut world, &history.to_string())
}

/// Consequence 7: the same arguments give the same result.
fn deterministic(stepped: &Stepped<'_>) -> Result<(), String> {
    if stepped.wish.is_some() {
        return Ok(());
    }
    let one = step(stepped.before, stepped.inputs, stepped.now);
    let other = step(
        &stepped.before.clone(),
        &stepped.inputs.clone(),
        stepped.now,
    );
    if one == other {
        Ok(())
    } else {
        Err(format!("{one:?} became {other:?}"))
    }
}

/// Everything that must hold in one history.
fn check(history: &History, dice: [u8; 6], reached: &Arc<Mutex<Reached>>) -> Result<(), String> {
    let mut world = watched(reached);
    play(&mut world, history)?;
    let [kills @ .., percent, lot] = dice;
    early(&world, u64::from(percent) * 100 / 256)?;
    let killed = world.clone();
    world.watch = None;
    let rests = ends::finish(&mut world);
    unbroken(&world)?;
    explained::chains(&world)?;
    if rests {
        ends::is_silent(&mut world)?;
        unbroken(&world)?;
    }
    match lot % COMPARED {
        0 | 1 if rests => restartable(world, killed, kills),
        2 => isolated(history),
        3 => replayed(history),
        _ => Ok(()),
    }
}

fn play(world: &mut World, history: &History) -> Result<(), String> {
    for event in &history.events {
        world.happen(event);
        if let Some(objection) = &world.objection {
            return Err(format!("at {event}: {objection}"));
        }
        explained::chains(world).map_err(|objection| format!("after {event}: {objection}"))?;
    }
    Ok(())
}

fn unbroken(world: &World) -> Result<(), String> {
    world.objection.clone().map_or(Ok(()), Err)
}

/// Before the time that a step names, time alone changes nothing.
fn early(world: &World, percent: u64) -> Result<(), String> {
    for (name, track) in &world.tracks {
        let parts = world.parts(name);
        let at = world.wakes.get(name);
        if at.is_some_and(|at| at.since(world.now) <= Duration::from_millis(1)) {
            // It looks again at what it has just placed.
            continue;
        }
        let end = at.map_or(Duration::from_secs(86_400), |at| at.since(world.now));
        let share = millis(end).saturating_sub(1) * percent / 100;
        let later = world.now.after(Duration::from_millis(share));
        let outcome = step(track, &parts.inputs(world, name), later);
        if !outcome.effects.is_empty() {
            let effects = &outcome.effects;
            return Err(format!(
                "{name} was to rest until {at:?}, and did {effects:?} at {later}"
            ));
        }
    }
    Ok(())
}

/// Consequence 1: however often the coordinator is killed, also before it kept what it decided, the
/// end is the same.
fn restartable(undisturbed: World, mut killed: World, kills: [u8; 4]) -> Result<(), String> {
    killed.watch = None;
    for kill in kills {
        let lose = kill.is_multiple_of(2);
        killed.happen(if lose { &Event::Lose } else { &Event::Restart });
        killed.happen(&Event::Settle {
            millis: u64::from(kill) * 100,
        });
    }
    if !ends::finish(&mut killed) {
        return Ok(());
    }
    unbroken(&killed)?;
    let (one, other) = (ends::ends(&undisturbed), ends::ends(&killed));
    for (name, end) in &one {
        if other.get(name) != Some(end) {
            let other = other.get(name);
            return Err(format!(
                "killed, {name} ended otherwise: {end} became {other:?}"
            ));
        }
    }
    Ok(())
}

/// Consequence 2: what becomes of one service is no concern of those that do not depend on it.
fn isolated(history: &History) -> Result<(), String> {
    let history = history.without(|event| *event == Event::Lose);
    let victim = history.last_service();
    let spared = history.without(|event| history::is_about(event, &victim));
    let played = |history: &History| {
        let mut world = World::new();
        world.tells = false;
        history.events.iter().for_each(|event| world.happen(event));
        ends::others(&world, &victim)
    };
    let (with, without) = (played(&history), played(&spared));
    for (with, without) in with.iter().zip(&without) {
        if with != without {
            return Err(format!(
                "{victim} is of concern: {with:?} became {without:?}"
            ));
        }
    }
    Ok(())
}

/// A history that is written down with its decisions is a scenario: it is played again to the same
/// decisions, to the last byte.
fn replayed(history: &History) -> Result<(), String> {
    let once = script::played(&mut World::new(), &history.to_string());
    let lines = once
        .lines()
        .filter(|line| !line.starts_with(script::DECISION));
    let events = lines.map(str::parse).collect::<Result<Vec<Event>, _>>()?;
    if events != history.events {
        return Err("what was written is not what was read".to_owned());
    }
    let twice = script::played(&mut World::new(), &once);
    if once == twice {
        Ok(())
    } else {
        Err(format!("{once}\nbecame\n{twice}"))
    }
}

/// The time that histories begin at is one that people can read.
#[test]
fn virtual_time_begins_at_a_readable_time() {
    let begin: Timestamp = "2026-11-21T06:36:00Z".parse().unwrap();
    assert_eq!(World::new().now, begin);
}
