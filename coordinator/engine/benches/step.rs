//! What one step costs that has nothing to do: on a track at rest, on one that waits and on one that
//! rolls, over a few and over many targets; and of a hundred thousand tracks, each stepped once.
//! Prints a table and one JSON object.
//! `cargo bench -p holdfast-engine --bench step`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use holdfast_engine::compiled::{Configuration, Extent, Rollout, TrackSpec};
use holdfast_engine::input::{Declared, Inputs, ReleaseRef, Seen, View};
use holdfast_engine::step::step;
use holdfast_engine::track::{Pause, Track, TrackName};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::Rollback;

#[expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]
fn main() {
    println!("{:<8} {:>8} {:>12}", "track", "targets", "ns a step");
    let mut figures = serde_json::Map::new();
    for targets in [3, 100, 10_000] {
        for (situation, track, views) in situations(targets) {
            let (spec, releases) = (spec(), releases());
            let cost = nanoseconds(&track, &inputs(&spec, &releases, views)).round();
            println!("{situation:<8} {targets:>8} {cost:>12}");
            figures.insert(format!("{situation} {targets}"), cost.into());
        }
    }
    let all = milliseconds_of_all().round();
    println!("{TRACKS} tracks at rest, each stepped once: {all} ms");
    figures.insert(format!("ms for {TRACKS} tracks"), all.into());
    println!(
        "{}",
        serde_json::json!({"benchmark": "engine step, ns", "figures": figures})
    );
}

/// A track at rest, one whose deployment waits for a person, and one that rolls, each at a point where
/// nothing is to be done.
fn situations(targets: usize) -> Vec<(&'static str, Track, BTreeMap<TargetName, View>)> {
    let (spec, releases) = (spec(), releases());
    let mut track = Track::new(spec.name.clone());
    let mut views: BTreeMap<TargetName, View> = (0..targets).map(unheard).collect();
    let mut rolling = None;
    // Every target becomes ready as soon as it is given something.
    for round in 0..ROUNDS {
        track = step(&track, &inputs(&spec, &releases, views.clone()), at(round)).track;
        rolling.get_or_insert_with(|| (track.clone(), views.clone()));
        for name in track.placements.keys() {
            let view = views.get_mut(name).expect("it is covered");
            view.seen = Seen::Ready { since: at(round) };
        }
    }
    let mut waiting = Track::new(spec.name.clone());
    let (by, reason, since) = ("alice".to_owned(), String::new(), at(0));
    waiting.paused = Some(Pause { by, reason, since });
    let waiting = step(
        &waiting,
        &inputs(&spec, &releases, views.clone()),
        at(ROUNDS),
    )
    .track;
    let (rolling, unheard) = rolling.expect("there were rounds");
    vec![
        ("at rest", track, views.clone()),
        ("waiting", waiting, views),
        ("rolling", rolling, unheard),
    ]
}

/// What it costs to step [`TRACKS`] tracks that are at rest on three targets each. No two lie in the
/// same place, so that the processor's cache helps as little as it would.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn milliseconds_of_all() -> f64 {
    let (spec, releases) = (spec(), releases());
    let (_, track, views) = situations(3).swap_remove(0);
    let tracks: Vec<(Track, BTreeMap<TargetName, View>)> = (0..TRACKS)
        .map(|_| (track.clone(), views.clone()))
        .collect();
    let tracks: Vec<(Track, Inputs<'_>)> = tracks
        .into_iter()
        .map(|(track, views)| (track, inputs(&spec, &releases, views)))
        .collect();
    let begin = Instant::now();
    for (track, inputs) in &tracks {
        black_box(step(black_box(track), black_box(inputs), at(ROUNDS)));
    }
    begin.elapsed().as_secs_f64() * 1_000.0
}

fn unheard(number: usize) -> (TargetName, View) {
    let name = format!("target-{number}").parse().expect("a name");
    (name, View::connected(at(0)))
}

/// The mean cost of a step that has nothing to do, over at least [`MEASURED`].
#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn nanoseconds(track: &Track, inputs: &Inputs<'_>) -> f64 {
    let now = at(ROUNDS);
    assert!(
        step(track, inputs, now).effects.is_empty(),
        "there is something to do"
    );
    let mut rounds = 1_u32;
    loop {
        let begin = Instant::now();
        for _ in 0..rounds {
            black_box(step(black_box(track), black_box(inputs), now));
        }
        let took = begin.elapsed();
        if took > MEASURED {
            return took.as_nanos() as f64 / f64::from(rounds);
        }
        rounds = rounds.saturating_mul(2);
    }
}

fn inputs<'a>(
    spec: &'a TrackSpec,
    releases: &'a [ReleaseRef],
    targets: BTreeMap<TargetName, View>,
) -> Inputs<'a> {
    Inputs {
        releases,
        targets,
        ..Inputs::of(Declared::Runs(spec))
    }
}

fn releases() -> Vec<ReleaseRef> {
    let version = |sequence| format!("1.{sequence}").parse().expect("a version");
    let release = |sequence| ReleaseRef::bare(version(sequence), sequence);
    (1..=50).map(release).collect()
}

fn spec() -> TrackSpec {
    let (service, environment) = ("web", "production");
    let name = TrackName {
        service: service.parse().expect("a name"),
        environment: environment.parse().expect("a name"),
    };
    let configuration = Configuration {
        service: name.service.clone(),
        environment: name.environment.clone(),
        runtime: "process".to_owned(),
        template: serde_json::Value::Null,
        vars: BTreeMap::new(),
        artifacts: BTreeMap::new(),
        images: BTreeMap::new(),
        secrets: BTreeMap::new(),
        credentials: BTreeMap::new(),
        health: None,
        depends_on: Vec::new(),
        rollback: Rollback::Central,
        progress_deadline_ms: 600_000,
        job: None,
        variants: BTreeMap::new(),
    };
    TrackSpec {
        rollout: Rollout {
            max_unavailable: Extent::Percent(100),
            ..Rollout::default()
        },
        ..TrackSpec::plain(name, configuration)
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Tracks of a large installation.
const TRACKS: usize = 100_000;
/// How long each figure is measured.
const MEASURED: Duration = Duration::from_millis(200);
/// Steps until the track is at rest.
const ROUNDS: u64 = 4;
