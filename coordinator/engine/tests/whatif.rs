//! What would happen is what does happen: a plan says of each track what the step then does.

#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;

use holdfast_engine::input::ReleaseRef;
use holdfast_engine::track::TrackName;
use holdfast_engine::whatif::plan;
use holdfast_protocol::api::apply::{PlannedAction, PlannedTrack};
use holdfast_protocol::api::wait::WaitKind;
use model::World;

fn world(script: &str) -> World {
    let mut world = World::new();
    for line in script.lines() {
        world.happen(&line.trim().parse().expect("a line of the script"));
    }
    world
}

fn planned(world: &World, track: &TrackName) -> Option<PlannedTrack> {
    let parts = world.parts(track);
    let inputs = parts.inputs(world, track);
    plan(&world.tracks[track], &inputs, Vec::new(), world.now)
}

fn track() -> TrackName {
    TrackName {
        service: "web".parse().expect("a name"),
        environment: "production".parse().expect("a name"),
    }
}

const STABLE: &str = "environment production
    service web
    join p1 production
    join p2 production
    release web 1.0
    settle";

#[test]
fn a_track_at_rest_would_not_move() {
    assert_eq!(planned(&world(STABLE), &track()), None);
}

#[test]
fn a_track_without_a_release_would_wait_for_one() {
    let planned = planned(&world("environment production\nservice web"), &track()).unwrap();
    assert_eq!(planned.action, PlannedAction::Await);
    assert_eq!(planned.waits.len(), 1);
    assert_eq!(planned.waits[0].kind, WaitKind::Order);
}

#[test]
fn a_new_release_would_be_deployed_and_the_gate_that_stands_is_named() {
    let mut world = world(STABLE);
    world.happen(&"pause web@production".parse().unwrap());
    // The release is there, and no step has been taken yet.
    let version = "1.1".parse().unwrap();
    let releases = world.releases.get_mut("web").unwrap();
    releases.push(ReleaseRef::bare(version, 2));
    let planned = planned(&world, &track()).unwrap();
    assert_eq!(planned.action, PlannedAction::Deploy);
    assert_eq!(planned.from.unwrap().as_str(), "1.0");
    assert_eq!(planned.to.unwrap().as_str(), "1.1");
    assert_eq!(planned.targets.len(), 2);
    assert_eq!(planned.waits[0].kind, WaitKind::Pause);
    // Nothing of it has happened.
    assert_eq!(world.tracks[&track()].current.as_ref().unwrap().id, 1);
}

#[test]
fn a_removal_would_wait_for_a_person() {
    let mut world = world(STABLE);
    world.happen(&"remove web@production".parse().unwrap());
    let planned = planned(&world, &track()).unwrap();
    assert_eq!(planned.action, PlannedAction::Remove);
    assert_eq!(planned.targets.len(), 2);
    assert_eq!(planned.waits[0].kind, WaitKind::Removal);
}
