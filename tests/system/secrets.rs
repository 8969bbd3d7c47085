//! Promise: a secret reaches the workloads that name it and nothing else: no disk, log, message, answer
//! or history has it in the clear. A new value spreads as any other change does.

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::Value;

/// A workload that sleeps with a secret in its environment, and fails to start with one that is `bad…`.
const SERVICE: &str = r#"
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  runtime: process
  template:
    command: ["/bin/sh", "-c", "case $TOKEN in bad*) exit 1;; esac; exec /bin/sleep 100000"]
    environment: {RELEASE: "{{ release.version }}", TOKEN: {secret: web-token}}
    restart: {policy: always, backoff: {initial: 100ms, max: 1s}}
    stop: {signal: SIGTERM, grace: 2s}
"#;

fn fleet() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, SERVICE].join("---"));
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet
}

fn set(fleet: &Fleet, environment: &str, value: &str) -> String {
    let set = ["secret", "set", "web-token", "-e", environment];
    fleet.operator_given(value.as_bytes(), &set).succeeds()
}

fn token_of(fleet: &Fleet, target: &str) -> Option<String> {
    fleet.agent(target).one("web").variable("TOKEN")
}

/// Every file below a folder that holds one of these texts; a link that leads into memory is none.
pub(crate) fn files_with(folder: &Path, texts: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files_with(&path, texts, found);
        } else if path.is_file() && !path.is_symlink() {
            let content = fs::read(&path).unwrap_or_default();
            let has = |text: &&str| {
                let text = text.as_bytes();
                content.windows(text.len()).any(|window| window == text)
            };
            if texts.iter().any(has) {
                found.push(path);
            }
        }
    }
}

/// Nothing that the fleet wrote, and nothing that it answers, has one of these values in the clear.
fn assert_nowhere(fleet: &Fleet, values: &[&str]) {
    let backup = fleet.directory().join(format!("backup-{}", values.len()));
    let data = fleet.coordinator_data();
    let (data, file) = (data.to_str().unwrap(), backup.to_str().unwrap());
    let write = ["backup", file, "--data", data];
    let _said = fleet.run("holdfast-coordinator", &write, &[]).succeeds();
    let mut found = Vec::new();
    files_with(fleet.directory(), values, &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    let asked: [&[&str]; 9] = [
        &["secret", "list", "-o", "json"],
        &["get", "targets", "-o", "json"],
        &["get", "revisions", "-o", "json"],
        &["history", "-o", "json"],
        &["events", "-o", "json"],
        &["status", "-o", "json"],
        &[
            "explain",
            "web",
            "-e",
            "staging",
            "--target",
            "staging-1",
            "-o",
            "json",
        ],
        &["why", "web", "-e", "staging", "-o", "json"],
        &["diff", "1", "2", "-o", "json"],
    ];
    for arguments in asked {
        let said = fleet.operator(arguments);
        let said = format!("{said:?}");
        for value in values {
            assert!(!said.contains(value), "{arguments:?}: {said}");
        }
    }
    for (_, agent) in fleet.agents() {
        let lines = agent.workload("web");
        for process in &lines {
            let line = process.command_line();
            assert!(values.iter().all(|value| !line.contains(value)), "{line}");
        }
    }
}

#[test]
fn a_secret_reaches_its_workload_and_is_nowhere_else_in_the_clear() {
    let fleet = fleet();
    let (staging, production) = ("canary-a7f3-staging", "canary-99c1-production");
    set(&fleet, "staging", &format!("{staging}\n"));
    set(&fleet, "production", production);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "production", "1.0.0");
    // Each environment has its own, and one line end is left out.
    assert_eq!(token_of(&fleet, "staging-1").as_deref(), Some(staging));
    assert_eq!(
        token_of(&fleet, "production-1").as_deref(),
        Some(production)
    );
    let list = fleet.operator(&["secret", "list", "-o", "json"]).json();
    let first = &list["items"][0];
    assert_eq!(first["name"], "web-token", "{list}");
    assert_eq!(
        (&first["version"], &first["usedBy"][0]),
        (&1.into(), &"web".into())
    );
    assert_nowhere(&fleet, &[staging, production]);
}

#[test]
fn a_new_value_spreads_by_environments_and_a_bad_one_goes_back() {
    let fleet = fleet();
    set(&fleet, "staging", "canary-first-1");
    set(&fleet, "production", "canary-first-2");
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "production", "1.0.0");
    let before = fleet.agent("production-1").one("web");
    let said = set(&fleet, "staging", "canary-second");
    assert!(said.contains("version 2"), "{said}");
    wait_for("staging has the new value", PATIENCE, || {
        let token = token_of(&fleet, "staging-1");
        expect(token.as_deref() == Some("canary-second"), &token)
    });
    assert_eq!(fleet.agent("production-1").one("web"), before);
    // The same value again is no change.
    let said = set(&fleet, "staging", "canary-second\n");
    assert!(said.contains("version 2"), "{said}");
    fleet.wait_stable("web", "staging", "1.0.0");
    let rotate = ["secret", "rotate", "web-token", "-e", "staging"];
    let _said = fleet
        .operator_given(b"bad-canary-third", &rotate)
        .succeeds();
    fleet.wait_phase(("web", "staging"), "1.0.0", Phase::RolledBack);
    wait_for("the value before is back", PATIENCE, || {
        let token = token_of(&fleet, "staging-1");
        expect(token.as_deref() == Some("canary-second"), &token)
    });
    assert_nowhere(
        &fleet,
        &["canary-first", "canary-second", "bad-canary-third"],
    );
    let history = fleet.history("web", "staging").unwrap();
    let (second, first) = (history[1].id.to_string(), history[0].id.to_string());
    let diff = fleet.operator(&["diff", &first, &second]).succeeds();
    assert!(diff.contains("web-token"), "{diff}");
}

#[test]
fn a_release_waits_for_its_secret_and_says_which_command_ends_that() {
    let fleet = fleet();
    fleet.release("web", "1.0.0", &[]);
    let wait = wait_for("why names the secret", PATIENCE, || {
        let why = fleet
            .operator(&["why", "web", "-e", "staging", "-o", "json"])
            .json();
        let waits = why["items"].as_array().ok_or("no items")?.clone();
        let wait = waits
            .into_iter()
            .find(|wait| wait["subject"] == "web-token");
        wait.ok_or_else(|| why.to_string())
    });
    assert_eq!(wait["kind"], "policy", "{wait}");
    assert_eq!(wait["message"], "secret web-token is not set in staging");
    assert_eq!(
        wait["endsBy"][0],
        "holdfast secret set web-token -e staging"
    );
    let absent: [&[&str]; 3] = [
        &["secret", "rotate", "web-token", "-e", "staging"],
        &["secret", "set", "web-token", "-e", "nowhere"],
        &["secret", "delete", "web-token", "-e", "staging"],
    ];
    for arguments in absent {
        drop(fleet.operator_given(b"value", arguments).ends_with(3));
    }
    set(&fleet, "staging", "canary");
    fleet.wait_stable("web", "staging", "1.0.0");
    let delete = ["secret", "delete", "web-token", "-e", "staging"];
    drop(fleet.operator(&delete).ends_with(8));
}

#[test]
fn a_target_brings_its_secret_back_after_a_power_cut_without_the_coordinator() {
    let fleet = fleet();
    set(&fleet, "staging", "canary-kept");
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    fleet.coordinator.kill9();
    let agent = fleet.agent("staging-1");
    agent.cut_power();
    agent.program.start();
    assert_eq!(
        token_of(&fleet, "staging-1").as_deref(),
        Some("canary-kept")
    );
    let sealed = agent.data.join("secrets/web-token.1");
    assert!(sealed.exists());
    fleet.start_coordinator();
    fleet.wait_converged("staging-1");
    // What was changed on the disk is noticed at the next start and asked for again.
    fs::write(&sealed, "torn").unwrap();
    agent.cut_power();
    agent.program.start();
    assert_eq!(
        token_of(&fleet, "staging-1").as_deref(),
        Some("canary-kept")
    );
}

#[test]
fn all_values_move_under_a_new_key_and_still_open() {
    let fleet = fleet();
    set(&fleet, "staging", "canary-moved");
    let keys = fleet.coordinator_data().join("ca/secrets.key");
    let before = fs::read_to_string(&keys).unwrap();
    let said = fleet.operator(&["secret", "rotate", "--key"]).succeeds();
    assert!(said.contains("1 values"), "{said}");
    wait_for("the old key is gone", PATIENCE, || {
        let now = fs::read_to_string(&keys).map_err(|error| error.to_string())?;
        expect(
            now != before && now.lines().count() == 1,
            now.lines().count(),
        )
    });
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    assert_eq!(
        token_of(&fleet, "staging-1").as_deref(),
        Some("canary-moved")
    );
    let data = fleet.coordinator_data();
    fleet.coordinator.terminate();
    let check = ["check", "--data", data.to_str().unwrap()];
    let said = fleet.run("holdfast-coordinator", &check, &[]).succeeds();
    assert!(said.contains("secrets    ok, 1 values open"), "{said}");
    let list: Value = {
        fleet.start_coordinator();
        fleet.operator(&["secret", "list", "-o", "json"]).json()
    };
    assert_eq!(list["items"][0]["version"], 1);
}

/// A job that fails as many do: it prints its environment.
const JOB: &str = r#"
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  kind: job
  runtime: process
  attempts: 1
  template:
    command: ["/bin/sh", "-c", "echo no way in, TOKEN=$TOKEN; exit 3"]
    environment: {TOKEN: {secret: web-token}}
"#;

#[test]
fn what_a_workload_says_of_its_secret_is_not_handed_on() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, JOB].join("---"));
    fleet.join("staging-1", "staging", &[]);
    let value = "canary-4d1e-said";
    set(&fleet, "staging", value);
    fleet.release("web", "1.0.0", &[]);
    let failed = fleet.wait_phase(("web", "staging"), "1.0.0", Phase::Halted);
    let said = format!("{failed:?}");
    assert!(said.contains("no way in, TOKEN=[secret]"), "{said}");
    let id = failed.id.to_string();
    let asked: [&[&str]; 6] = [
        &["show", &id, "-o", "json"],
        &["logs", "web", "-e", "staging"],
        &["logs", "web", "-e", "staging", "--deployment", &id],
        &["history", "-o", "json"],
        &["why", "web", "-e", "staging"],
        &["events", "-o", "json"],
    ];
    for arguments in asked {
        let said = format!("{:?}", fleet.operator(arguments));
        assert!(!said.contains(value), "{arguments:?}: {said}");
    }
    let logs = fleet.operator(&["logs", "web", "-e", "staging"]).succeeds();
    assert!(logs.contains("TOKEN=[secret]"), "{logs}");
    let mut found = Vec::new();
    files_with(&fleet.coordinator_data(), &[value], &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
}
