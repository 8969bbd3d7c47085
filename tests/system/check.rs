//! Checks on real targets: a program of a protection runs there as nobody, and the coordinator
//! writes nothing down while its answers stay as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::sleeper;
use holdfast_tests::program::{Program, built};
use holdfast_tests::wait::{PATIENCE, expect, until, wait_for};
use serde_json::Value;

/// One environment whose every deployment is checked by a script on a target. It notes each of its runs,
/// and fails while there is a file `blocked`.
fn guarded(folder: &Path, when: &str) -> String {
    let folder = folder.display();
    let script = format!(
        "echo run >> {folder}/runs; echo \"user $(id -u), release $HOLDFAST_VERSION\"; \
         test ! -e {folder}/blocked"
    );
    let environment = format!(
        "apiVersion: holdfast/v1\n\
         kind: Environment\n\
         metadata: {{name: staging, owner: platform}}\n\
         spec: {{protections: [{{use: guard, when: {when}}}]}}\n\
         ---\n\
         apiVersion: holdfast/v1\n\
         kind: Protection\n\
         metadata: {{name: guard, owner: sre}}\n\
         spec:\n  \
           interval: 1s\n  \
           run: {{command: [/bin/sh, -c, '{script}']}}\n"
    );
    [environment, sleeper("web")].join("---\n")
}

/// A folder that everybody may write to.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn runs(folder: &Path) -> usize {
    let runs = fs::read_to_string(folder.join("runs")).unwrap_or_default();
    runs.lines().count()
}

#[test]
fn a_program_on_a_target_holds_a_deployment_until_it_passes() {
    let folder = folder();
    fs::write(folder.path().join("blocked"), "").unwrap();
    let mut fleet = Fleet::start();
    fleet.apply(&guarded(folder.path(), "[pre]"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    let why = until("the check has failed", || {
        let why = fleet.operator(&["why", "web", "-e", "staging", "-o", "json"]);
        let why = why.json()["items"].to_string();
        why.contains("guard failed").then_some(why)
    });
    let user = rustix::process::geteuid();
    let user = if user.is_root() {
        65_534
    } else {
        user.as_raw()
    };
    let said = format!("staging-1: exit code 1 user {user}, release 1.0.0");
    assert!(why.contains(&said), "{why}");
    fleet.wait_phase(("web", "staging"), "1.0.0", Phase::Waiting);
    fs::remove_file(folder.path().join("blocked")).unwrap();
    fleet.wait_stable("web", "staging", "1.0.0");
    let deployment: Value = fleet.operator(&["show", "1", "-o", "json"]).json();
    let kept = said.replace("1 user", r"1\nuser");
    assert!(deployment.to_string().contains(&kept), "{deployment:#}");
    fleet.assert_record_holds();
}

#[test]
fn a_check_that_always_passes_writes_nothing_and_tells_when_it_fails() {
    let folder = folder();
    let mut fleet = Fleet::start();
    fleet.apply(&guarded(folder.path(), "[always]"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let more = |count| {
        let enough = runs(folder.path()) + count;
        until("it is asked", || {
            (runs(folder.path()) >= enough).then_some(())
        });
    };
    more(3);
    let log = fleet.coordinator_data().join("holdfast.db-wal");
    let written = || -> SystemTime { fs::metadata(&log).unwrap().modified().unwrap() };
    let before = written();
    more(5);
    assert_eq!(
        written(),
        before,
        "answers that say nothing new are not written"
    );
    fs::write(folder.path().join("blocked"), "").unwrap();
    wait_for("an incident is told", PATIENCE, || {
        let events = fleet.events();
        let opened = events.iter().any(|event| event.kind == "incident.opened");
        expect(opened, events.last())
    });
}

#[test]
fn a_target_whose_site_forbids_it_runs_no_check() {
    let folder = folder();
    let fleet = Fleet::start();
    fleet.apply(&guarded(folder.path(), "[pre]"));
    let token = fleet.token("staging", &[]);
    let config = fleet.write("agent.toml", "[checks]\nprograms = false\n");
    let data = fleet.directory().join("staging-1");
    let arguments = [
        ["run", "--coordinator", fleet.address()],
        ["--token", &token, "--name"],
        ["staging-1", "--config", &config],
    ];
    let arguments = arguments.concat().into_iter().map(ToOwned::to_owned);
    let arguments = arguments.chain(["--data".to_owned(), data.display().to_string()]);
    let agent = Program::new(
        "staging-1",
        built("holdfast-agent"),
        arguments,
        &[],
        fleet.directory(),
    );
    agent.start();
    fleet.wait_connected("staging-1", true);
    fleet.release("web", "1.0.0", &[]);
    until("it says why", || {
        let why = fleet.operator(&["why", "web", "-e", "staging", "-o", "json"]);
        let why = why.json()["items"].to_string();
        why.contains("this target runs no checks").then_some(())
    });
    assert_eq!(runs(folder.path()), 0);
}
