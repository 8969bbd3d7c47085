//! A simulation tells what would happen, in virtual time, with the same step: to the end where every
//! gate passes, and no further than a person's word.

#![allow(clippy::unwrap_used, reason = "a test of what surely is there")]

#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::compile::{Known, compile};
use holdfast_engine::input::Seen;
use holdfast_engine::manifest;
use holdfast_engine::track::TrackName;
use holdfast_engine::whatif::simulate::{End, Member, Pace, Scene, Timeline, simulate};
use holdfast_protocol::api::apply::ManifestFile;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::name::InputSetName;
use holdfast_protocol::time::parse_span;
use model::World;

const MANIFESTS: &str = "
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging}
spec: {rollout: {waves: [100%], soak: 10s}}
---
apiVersion: holdfast/v1
kind: Environment
metadata: {name: production}
spec:
  after: [staging]
  rollout: {waves: [1, 100%], soak: 1m}
  windows: [{start: '0 12 * * *', duration: 2h, timezone: UTC}]
  protections: [{use: alerts, when: [pre, post]}, {use: approved, when: [pre]}]
---
apiVersion: holdfast/v1
kind: Protection
metadata: {name: alerts}
spec: {http: {url: 'http://alerts/'}, interval: 10m}
---
apiVersion: holdfast/v1
kind: Protection
metadata: {name: approved}
spec: {approval: {roles: [release-manager], count: 2}}
---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web}
spec: {runtime: process}
";

/// A world with these manifests, three targets, and what a script does to it.
fn world(script: &str) -> World {
    let file = ManifestFile {
        path: "all.yaml".to_owned(),
        content: MANIFESTS.to_owned(),
    };
    let (set, problems) = manifest::parse(&[file]);
    assert!(problems.is_empty(), "{problems:?}");
    let name: InputSetName = "default".parse().unwrap();
    let sets = BTreeMap::from([(name.clone(), set)]);
    let compiled = compile(&sets, &name, &Known::default(), &|_| Vec::new()).unwrap();
    let mut world = World::new();
    world.apply(compiled);
    let joins = "join s1 staging\njoin p1 production\njoin p2 production";
    for line in joins.lines().chain(script.lines()) {
        world.happen(&line.trim().parse().expect("a line of the script"));
    }
    world
}

fn scene(world: &World) -> Scene {
    let members = world.targets.iter().map(|(name, target)| {
        // What was reported of another release says nothing of what is placed now.
        let seen = target.runs.iter().filter(|(service, (point, _))| {
            let track = TrackName {
                service: Clone::clone(*service),
                environment: target.environment.clone(),
            };
            let placed = world.tracks[&track].placements.get(name);
            placed.is_some_and(|placement| placement.point.is(point))
        });
        let member = Member {
            environment: target.environment.clone(),
            labels: Arc::clone(&target.labels),
            connected: target.connected,
            since: target.since,
            held: target.held.clone(),
            seen: seen
                .map(|(service, (_, seen))| (service.clone(), Seen::clone(seen)))
                .collect(),
        };
        (name.clone(), member)
    });
    let tracks = world.compiled.tracks.keys();
    let releases = tracks.map(|name| {
        let all = world.releases.get(&name.service);
        (name.clone(), all.cloned().unwrap_or_default())
    });
    Scene {
        compiled: Arc::new(world.compiled.clone()),
        revision: world.revision,
        tracks: world.tracks.clone(),
        releases: releases.collect(),
        targets: members.collect(),
        freezes: world.freezes.clone(),
        last_deployment: world.last_deployment,
    }
}

fn simulated(world: &World, fail: &[&str], until: &str) -> Timeline {
    let pace = Pace {
        ready: BTreeMap::new(),
        ready_else: Duration::from_secs(5),
        check: Duration::from_secs(1),
        approval: Duration::from_secs(1_800),
    };
    let fail: BTreeSet<TrackName> = fail.iter().map(|name| track(name)).collect();
    let until = world.now.after(parse_span(until).unwrap());
    let timeline = simulate(scene(world), &pace, &fail, world.now, until);
    let again = simulate(scene(world), &pace, &fail, world.now, until);
    assert_eq!(timeline, again, "the same scene tells the same");
    timeline
}

fn track(text: &str) -> TrackName {
    let (service, environment) = text.split_once('@').unwrap();
    TrackName {
        service: service.parse().unwrap(),
        environment: environment.parse().unwrap(),
    }
}

/// What happens to one track, without what is only told of checks.
fn kinds<'t>(timeline: &'t Timeline, name: &str) -> Vec<&'t str> {
    let moments = timeline.moments.iter();
    let of = moments.filter(|moment| moment.track == track(name));
    of.map(|moment| moment.kind).collect()
}

fn ends(timeline: &Timeline, name: &str, kind: &str) -> Duration {
    let mut moments = timeline.moments.iter().rev();
    let moment = moments.find(|moment| moment.track == track(name) && moment.kind == kind);
    let moment = moment.unwrap_or_else(|| unreachable!("{name}: no {kind} in {timeline:?}"));
    moment.at.since(timeline.moments[0].at)
}

#[test]
fn everything_that_time_and_usual_answers_end_comes_to_its_end() {
    let world = world("release web 1.0");
    let timeline = simulated(&world, &[], "2d");
    assert_eq!(timeline.end, End::AtRest);
    assert_eq!(timeline.waiting, []);
    assert_eq!(
        kinds(&timeline, "web@staging"),
        ["deployment.verifying", "deployment.stable"]
    );
    assert_eq!(
        kinds(&timeline, "web@production"),
        [
            "deployment.started",
            "approval.requested",
            "deployment.rolling",
            "deployment.wave",
            "deployment.verifying",
            "deployment.stable"
        ]
    );
    // Two waves, each ready after 5 s and soaking for a minute.
    let rolling = ends(&timeline, "web@production", "deployment.rolling");
    let stable = ends(&timeline, "web@production", "deployment.stable");
    let took = stable.checked_sub(rolling).unwrap();
    assert!(took >= Duration::from_secs(130), "{took:?}");
    assert!(took < Duration::from_secs(200), "{took:?}");
    // Nothing of it has happened.
    assert_eq!(world.tracks[&track("web@production")].stable, None);
}

#[test]
fn what_is_told_to_fail_goes_back_and_nothing_comes_after_it() {
    let mut world = world("answers alerts pass\nrelease web 1.0\nsettle 3d");
    for line in [
        "approve web@production ada release-manager",
        "approve web@production bob release-manager",
        "settle 3d",
        "release web 1.1",
    ] {
        world.happen(&line.parse().unwrap());
    }
    let stable = world.tracks[&track("web@production")].stable.clone();
    assert_eq!(
        stable.map(|point| point.version.to_string()).as_deref(),
        Some("1.0")
    );
    let timeline = simulated(&world, &["web@staging"], "7d");
    assert_eq!(
        kinds(&timeline, "web@staging"),
        ["deployment.failed", "deployment.rolledBack"]
    );
    assert_eq!(kinds(&timeline, "web@production"), [""; 0]);
    let waiting: BTreeSet<String> = timeline
        .waiting
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert!(waiting.contains("web@staging") && waiting.contains("web@production"));

    let timeline = simulated(&world, &["web@production"], "7d");
    assert!(kinds(&timeline, "web@staging").ends_with(&["deployment.stable"]));
    assert!(kinds(&timeline, "web@production").ends_with(&["deployment.rolledBack"]));
}

#[test]
fn what_only_a_person_can_end_is_told_at_the_end() {
    for (line, kind) in [
        ("freeze production ada quarter end", WaitKind::Freeze),
        ("pause web@production", WaitKind::Pause),
    ] {
        let world = world(&format!("{line}\nrelease web 1.0"));
        let timeline = simulated(&world, &[], "3d");
        let (_, waits) = timeline
            .waiting
            .iter()
            .find(|(name, _)| *name == track("web@production"))
            .unwrap();
        assert!(waits.iter().any(|wait| wait.kind == kind), "{waits:?}");
        assert!(!kinds(&timeline, "web@production").contains(&"deployment.rolling"));
    }
}

#[test]
fn the_clock_stops_where_it_is_told_to() {
    let world = world("release web 1.0");
    let timeline = simulated(&world, &[], "12s");
    assert_eq!(timeline.end, End::Until);
    assert_eq!(timeline.ended_at, world.now.after(Duration::from_secs(12)));
    assert_eq!(kinds(&timeline, "web@production"), [""; 0]);
}
