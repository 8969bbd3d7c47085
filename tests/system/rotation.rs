//! Promise: a new value of a secret goes from wave to wave, as any change does, and stops in the first wave
//! where it fails or where a person says so; whoever was not reached keeps the old value and goes on.

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::event::Event;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::process::Process;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};

/// One environment in two waves, with time between them to see where a value is.
const WAVES: &str = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
spec:
  rollout:
    waves: [{matchLabels: {wave: first}}, 100%]
    maxUnavailable: 100%
    soak: 5s
    progressDeadline: 20s
";

/// A workload that fails to start with a value that is `bad…`.
const SERVICE: &str = r#"---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  runtime: process
  template:
    command: ["/bin/sh", "-c", "case $TOKEN in bad*) exit 1;; esac; exec /bin/sleep 100000"]
    environment: {TOKEN: {secret: web-token}}
    restart: {policy: always, backoff: {initial: 100ms, max: 1s}}
    stop: {signal: SIGTERM, grace: 2s}
"#;

const SECOND: [&str; 2] = ["second-1", "second-2"];

fn set(fleet: &Fleet, value: &str) {
    let set = ["secret", "set", "web-token", "-e", "staging"];
    drop(fleet.operator_given(value.as_bytes(), &set).succeeds());
}

fn token(fleet: &Fleet, target: &str) -> Option<String> {
    fleet.agent(target).one("web").variable("TOKEN")
}

/// What the targets of the second wave run.
fn second(fleet: &Fleet) -> Vec<Process> {
    let of = |name: &&str| fleet.agent(name).one("web");
    SECOND.iter().map(of).collect()
}

/// Waits until the first wave has a value, while the second runs what it ran.
fn is_in_the_first_wave_alone(fleet: &Fleet, value: &str, before: &[Process]) {
    wait_for("the first wave has the value", PATIENCE, || {
        let first = token(fleet, "first-1");
        expect(first.as_deref() == Some(value), &first)
    });
    assert_eq!(second(fleet), before, "the second wave is not reached yet");
}

fn is_everywhere(fleet: &Fleet, value: &str) {
    for target in ["first-1"].into_iter().chain(SECOND) {
        wait_for(&format!("{target} has the value"), PATIENCE, || {
            let there = token(fleet, target);
            expect(there.as_deref() == Some(value), &there)
        });
    }
    fleet.wait_stable("web", "staging", "1.0.0");
}

#[test]
fn a_new_value_goes_from_wave_to_wave_and_stops_in_the_first_where_it_fails_or_a_person_pauses() {
    let mut fleet = Fleet::start();
    fleet.apply(&WAVES.replace("{matchLabels: {wave: first}}, ", ""));
    fleet.join("first-1", "staging", &[("wave", "first")]);
    for target in SECOND {
        fleet.join(target, "staging", &[]);
    }
    fleet.apply(&(WAVES.to_owned() + SERVICE));
    set(&fleet, "canary-one");
    fleet.release("web", "1.0.0", &[]);
    is_everywhere(&fleet, "canary-one");

    let before = second(&fleet);
    set(&fleet, "canary-two");
    is_in_the_first_wave_alone(&fleet, "canary-two", &before);
    is_everywhere(&fleet, "canary-two");

    let before = second(&fleet);
    set(&fleet, "bad-canary");
    fleet.wait_phase(("web", "staging"), "1.0.0", Phase::RolledBack);
    is_in_the_first_wave_alone(&fleet, "canary-two", &before);

    set(&fleet, "canary-four");
    is_in_the_first_wave_alone(&fleet, "canary-four", &before);
    let track = |verb: &str| fleet.operator(&[verb, "web", "-e", "staging"]).succeeds();
    drop(track("pause"));
    // Once the soak is over nothing else holds the second wave.
    wait_for("the pause alone is in the way", PATIENCE, || {
        let why = track("why");
        expect(why.contains("paused"), &why)
    });
    assert_eq!(second(&fleet), before);
    drop(track("resume"));
    is_everywhere(&fleet, "canary-four");
    let events: Vec<Event> = fleet.api.list("/v1/events").unwrap();
    let last = |kind: &str| events.iter().rposition(|event| event.kind == kind);
    let (paused, resumed) = (last("track.paused"), last("track.resumed"));
    let wave = last("deployment.wave");
    assert!(
        paused.is_some() && paused < resumed && resumed < wave,
        "the second wave began at {wave:?}, between {paused:?} and {resumed:?} nothing did"
    );
}
