//! Promise: what a person says is done, once, and recorded, and what it would do can be asked before.

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::operator::Said;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};

/// Two environments, the second only for who is promoted, past a check that never passes.
fn declared() -> String {
    let guarded = "after: [staging]\n  promotion: manual\n  \
                   protections: [{use: never, when: [pre]}]";
    let never = "apiVersion: holdfast/v1\nkind: Protection\nmetadata: {name: never, owner: sre}\n\
                 spec: {expression: \"service == 'nothing'\"}\n";
    let environments = ENVIRONMENTS.replace("after: [staging]", guarded);
    [&environments, never, &sleeper("web")].join("---\n")
}

/// The same with another grace: a change of the configuration.
fn changed() -> String {
    declared().replace("grace: 2s", "grace: 3s")
}

fn told(fleet: &Fleet, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    fleet.operator(&words)
}

/// What a command prints that succeeds, once that holds a text.
fn prints(fleet: &Fleet, line: &str, text: &str) -> String {
    wait_for(&format!("{line} prints {text:?}"), PATIENCE, || {
        let seen = told(fleet, line).succeeds();
        expect(seen.contains(text), &seen)?;
        let wide = seen.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{line}");
        Ok(seen)
    })
}

/// A fleet with one target in each environment.
fn fleet() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(&declared());
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet.wait_connected("staging-1", true);
    fleet.wait_connected("production-1", true);
    fleet
}

#[test]
fn freezes_pins_promotions_and_judgements_do_what_they_say() {
    let fleet = fleet();
    let _ = told(&fleet, "freeze -e staging --reason inventory").succeeds();
    let _ = told(&fleet, "freeze -e staging --reason inventory").succeeds();
    fleet.release("web", "1", &[]);
    prints(&fleet, "why web -e staging", "holdfast unfreeze -e staging");
    prints(&fleet, "get freezes", "inventory");
    let _ = told(&fleet, "unfreeze -e staging").succeeds();
    fleet.wait_stable("web", "staging", "1");

    prints(
        &fleet,
        "why web -e production",
        "holdfast promote web -e production",
    );
    let _ = told(&fleet, "promote web -e production").succeeds();
    prints(&fleet, "why web -e production", "holdfast skip 2 never");
    let _ = told(&fleet, "skip 2 never --reason known").succeeds();
    fleet.wait_stable("web", "production", "1");
    prints(&fleet, "show 2", "never by admin: known");

    let _ = told(&fleet, "pin web -e staging 1 --reason contract").succeeds();
    fleet.release("web", "2", &[]);
    prints(&fleet, "status web -e staging", "1");
    let wanted = fleet.status("web", "staging").unwrap().wanted.unwrap();
    assert_eq!(wanted.version.as_str(), "1");
    let _ = told(&fleet, "unpin web -e staging").succeeds();
    fleet.wait_stable("web", "staging", "2");

    let _ = told(&fleet, "deploy web --version 2 -e production").succeeds();
    fleet.wait_phase(("web", "production"), "2", Phase::Waiting);
    let _ = told(&fleet, "reject 4 --reason later").succeeds();
    fleet.wait_phase(("web", "production"), "2", Phase::Rejected);
    prints(&fleet, "where web --version 2 --ever", "Rejected");
    let _ = told(&fleet, "repeat 1 --reason slow").succeeds();
    fleet.wait_stable("web", "staging", "1");
    fleet.assert_record_holds();
}

#[test]
fn what_a_change_would_do_is_told_before_and_what_it_did_can_be_applied_again() {
    let fleet = fleet();
    let path = fleet.write("default.yaml", &declared());
    let _ = told(&fleet, &format!("apply -f {path}")).succeeds();
    fleet.release("web", "1", &[]);
    fleet.wait_stable("web", "staging", "1");
    let _ = told(&fleet, "promote web -e production").succeeds();
    fleet.wait_phase(("web", "production"), "1", Phase::Waiting);
    let path = fleet.write("default.yaml", &changed());
    prints(&fleet, &format!("plan -f {path}"), "web");
    let plan = told(&fleet, &format!("plan -f {path} -o json")).json();
    let gates = |environment: &str| -> Vec<(String, String)> {
        let tracks = plan["tracks"].as_array().unwrap();
        let track = tracks.iter().find(|one| one["environment"] == environment);
        let waits = track.unwrap()["waits"].as_array().unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let gate = |wait: &serde_json::Value| (text(&wait["kind"]), text(&wait["subject"]));
        // What is on its way is no gate.
        let gates = waits.iter().filter(|wait| wait["kind"] != "target");
        gates.map(gate).collect()
    };
    assert_eq!(gates("staging"), []);
    let stands = |kind: &str, subject: &str| (kind.to_owned(), subject.to_owned());
    assert_eq!(
        gates("production"),
        [stands("order", "staging"), stands("protection", "never")]
    );
    let failing = format!("simulate -f {path} --fail web@staging");
    prints(&fleet, &failing, "told to fail");
    let _ = told(&fleet, &format!("apply -f {path}")).succeeds();
    wait_for("the change is stable", PATIENCE, || {
        let history = fleet.history("web", "staging")?;
        let stable = |one: &&_| {
            matches!(
                one,
                holdfast_protocol::api::deployment::Deployment {
                    phase: Phase::Stable,
                    ..
                }
            )
        };
        expect(history.iter().filter(stable).count() == 2, &history)
    });
    let last = fleet.history("web", "staging").unwrap().pop().unwrap().id;
    prints(&fleet, &format!("diff 1 {last}"), "grace");
    // Back to how it was, by the difference itself.
    let patch = told(&fleet, &format!("diff {last} 1 -o patch")).succeeds();
    let patch = fleet.write("back.patch", &patch);
    let _ = told(&fleet, &format!("apply -f {patch}")).succeeds();
    prints(&fleet, "explain web -e staging", "\"2s\"");
    fleet.assert_record_holds();
}
