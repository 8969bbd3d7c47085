//! Promise: a target's own site may say that it is busy. It keeps what it runs, the centre shows it and
//! plans round it, and when it is over the target follows by itself.

use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::Value;

/// A service on a target in staging and two in production.
fn fleet() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet.join("production-2", "production", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "production", "1.0.0");
    fleet
}

/// Asks the agent of one target something on its own machine.
fn ask(fleet: &Fleet, name: &str, arguments: &[&str]) -> String {
    let data = fleet.agent(name).data.display().to_string();
    let arguments = [&["--data", &data][..], arguments].concat();
    fleet.run("holdfast-agent", &arguments, &[]).succeeds()
}

fn hold(fleet: &Fleet, name: &str) {
    let hold = ["hold", "--for", "2h", "--reason", "inventory"];
    let said = ask(fleet, name, &hold);
    assert!(said.starts_with("held until"), "{said}");
}

/// The wait of kind `hold` that `why` shows.
fn wait_of_hold(fleet: &Fleet) -> Result<Value, String> {
    let why = ["why", "web", "-e", "production", "-o", "json"];
    let why = fleet.operator(&why).json();
    let waits = why["items"].as_array().ok_or("no items")?;
    let wait = waits.iter().find(|wait| wait["kind"] == "hold");
    wait.cloned().ok_or_else(|| why.to_string())
}

fn release_of(fleet: &Fleet, name: &str) -> Option<String> {
    fleet.agent(name).one("web").variable("RELEASE")
}

fn kinds(fleet: &Fleet) -> Vec<(String, String)> {
    let events = fleet.events().into_iter();
    let own = events.filter(|one| ["target.held", "target.released"].contains(&one.kind.as_str()));
    own.map(|one| (one.kind, one.message)).collect()
}

#[test]
fn a_rollout_goes_round_a_held_target_which_follows_when_the_hold_is_ended() {
    let fleet = fleet();
    let before = fleet.agent("production-1").one("web");
    hold(&fleet, "production-1");
    wait_for("the centre shows it", PATIENCE, || {
        let target = fleet.target("production-1")?;
        let reason = target.hold.as_ref().map(|hold| hold.reason.as_str());
        expect(reason == Some("inventory"), &target)
    });
    let table = fleet.operator(&["get", "targets"]).succeeds();
    assert!(table.contains("inventory"), "{table}");
    let all = fleet
        .operator(&["describe", "target", "production-1"])
        .succeeds();
    let mut lines = all.lines().skip_while(|line| line.trim() != "hold");
    let hold: String = lines.by_ref().take(3).collect();
    assert!(hold.contains("reason  inventory"), "{all}");
    assert!(hold.contains("until   2"), "{all}");

    fleet.release("web", "1.1.0", &[]);
    fleet.wait_stable("web", "production", "1.1.0");
    assert_ne!(
        release_of(&fleet, "production-2"),
        release_of(&fleet, "production-1")
    );
    let wait = wait_for("why shows it", PATIENCE, || wait_of_hold(&fleet));
    let message = wait["message"].as_str().unwrap();
    assert!(message.contains("production-1 (inventory)"), "{wait}");
    assert!(wait["until"].is_string(), "{wait}");
    assert!(
        wait["endsBy"].to_string().contains("holdfast-agent unhold"),
        "{wait}"
    );

    // The agent and the coordinator each remember it.
    fleet.agent("production-1").program.kill9();
    fleet.coordinator.kill9();
    fleet.start_coordinator();
    fleet.agent("production-1").program.start();
    fleet.wait_connected("production-1", true);
    assert!(wait_of_hold(&fleet).is_ok());
    assert_eq!(fleet.agent("production-1").one("web"), before);

    let said = ask(&fleet, "production-1", &["unhold"]);
    assert_eq!(said, "held no more\n");
    wait_for("it follows", PATIENCE, || {
        let (one, two) = (
            release_of(&fleet, "production-1"),
            release_of(&fleet, "production-2"),
        );
        expect(one == two, (one, two))
    });
    fleet.wait_converged("production-1");
    let told = kinds(&fleet);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter()
            .all(|(_, message)| message.contains("inventory")),
        "{told:?}"
    );
    fleet.assert_record_holds();
}

#[test]
fn a_hold_that_began_while_the_coordinator_was_away_is_heard_of_when_it_is_back() {
    let fleet = fleet();
    let before = fleet.agent("production-2").one("web");
    fleet.coordinator.kill9();
    hold(&fleet, "production-2");
    fleet.start_coordinator();
    wait_for("the centre shows it", PATIENCE, || {
        let target = fleet.target("production-2")?;
        expect(target.hold.is_some(), &target)
    });
    fleet.release("web", "1.1.0", &[]);
    fleet.wait_stable("web", "production", "1.1.0");
    assert_eq!(fleet.agent("production-2").one("web"), before);
    assert_eq!(
        fleet.target("production-2").unwrap().hold.unwrap().reason,
        "inventory"
    );
}
