//! What was once true is not true for ever: an old backup of the coordinator, and messages that were
//! signed long ago.

use std::time::Duration;

use holdfast_protocol::observed::TargetConditionKind;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest;
use holdfast_tests::program::{Program, built};
use holdfast_tests::wait::{PATIENCE, expect, holds_for, wait_for};

use super::{ENVIRONMENTS, recorded};

#[test]
fn an_old_backup_moves_nothing_backwards() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let file = fleet.directory().join("backup.tar");
    let data = fleet.coordinator_data();
    let backup = [
        "backup",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let _ = fleet.run("holdfast-coordinator", &backup, &[]).succeeds();
    for version in ["1.0.1", "1.0.2", "2.0.0"] {
        fleet.release("web", version, &[]);
        fleet.wait_stable("web", "staging", version);
    }
    fleet.wait_converged("staging-1");
    let process = fleet.agent("staging-1").one("web");
    assert_eq!(process.variable("RELEASE").as_deref(), Some("2.0.0"));

    fleet.coordinator.kill9();
    std::fs::rename(&data, fleet.directory().join("lost")).unwrap();
    let restore = [
        "restore",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let _ = fleet.run("holdfast-coordinator", &restore, &[]).succeeds();
    fleet.start_coordinator();
    fleet.wait_connected("staging-1", true);
    recorded(&fleet, "target.ahead", "staging-1 holds assignment");
    recorded(&fleet, "assignment.refused", "its number is lower");
    wait_for("the target says so", PATIENCE, || {
        let target = fleet.target("staging-1")?;
        let kinds: Vec<_> = target.conditions.iter().map(|c| c.kind).collect();
        expect(
            kinds.contains(&TargetConditionKind::AssignmentRefused),
            &target,
        )
    });
    holds_for("it runs on", Duration::from_secs(2), || {
        expect(process.lives(), "it was touched")
    });

    // Also an agent that is started anew remembers.
    fleet.agent("staging-1").program.restart();
    fleet.wait_connected("staging-1", true);
    holds_for("it runs on", Duration::from_secs(1), || {
        expect(process.lives(), "it was touched")
    });
    fleet.assert_record_holds();
    let check = ["check", "--data", data.to_str().unwrap()];
    fleet.coordinator.kill9();
    let _ = fleet.run("holdfast-coordinator", &check, &[]).succeeds();
}

#[test]
fn another_coordinator_on_the_same_address_is_no_coordinator() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let process = fleet.agent("staging-1").one("web");
    fleet.coordinator.kill9();
    // It has its own root, and an empty idea of what should run.
    let data = fleet.directory().join("impostor");
    let address = fleet.address().to_owned();
    let impostor = Program::new(
        "impostor",
        built("holdfast-coordinator"),
        [
            "serve",
            "--listen",
            &address,
            "--api",
            &address,
            "--data",
            data.to_str().unwrap(),
        ],
        &[],
        fleet.directory(),
    );
    impostor.start();
    wait_for("the impostor is ready", PATIENCE, || {
        expect(
            impostor.output().starts_with("ready "),
            impostor.last_words(),
        )
    });
    wait_for("the agent has tried it", PATIENCE, || {
        let log = fleet.agent("staging-1").program.log();
        let told = ["certificate", "UnknownIssuer"]
            .iter()
            .any(|word| log.contains(word));
        expect(told, log.len())
    });
    holds_for("it runs on", Duration::from_secs(1), || {
        expect(process.lives(), "it was touched")
    });
    impostor.kill9();
    fleet.start_coordinator();
    fleet.wait_connected("staging-1", true);
    assert!(process.lives());
}
