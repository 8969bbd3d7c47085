//! Promise: a target needs the coordinator to learn of something new, and for nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_protocol::time::Timestamp;
use holdfast_tests::archive;
use holdfast_tests::faults::Relay;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::process::Process;
use holdfast_tests::wait::{PATIENCE, expect, holds_for, until, wait_for};

/// Every target of these tests.
const TARGETS: [&str; 3] = ["staging-1", "production-1", "production-2"];

/// A site, and a process beside it, in both environments.
fn fleet_of_three() -> Fleet {
    let mut fleet = Fleet::start();
    let root = fleet.directory().join("www").display().to_string();
    let site = format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: site, owner: team-web}}
spec:
  artifacts: {{site: {{file: site.tar.gz}}}}
  runtime: static
  template: {{path: \"{root}/{{{{ target.name }}}}/site\"}}
"
    );
    fleet.apply(&[ENVIRONMENTS, &sleeper("web"), &site].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet.join("production-2", "production", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.release("site", "1.0.0", &[("site", &archive::site("1.0.0"))]);
    for service in ["web", "site"] {
        fleet.wait_stable(service, "production", "1.0.0");
    }
    fleet
}

fn processes(fleet: &Fleet) -> BTreeMap<&str, Process> {
    TARGETS
        .map(|name| (name, fleet.agent(name).one("web")))
        .into()
}

/// Waits until the agent says that everything is ready though it is not connected.
fn ready_alone(fleet: &Fleet, name: &str) {
    wait_for(&format!("{name} is ready alone"), PATIENCE, || {
        let status = fleet.agent_status(name)?;
        let workloads = status["workloads"].as_array().ok_or("no workloads")?;
        let ready = workloads
            .iter()
            .all(|one| one["ready"] == true && one["release"] == "1.0.0");
        expect(
            workloads.len() == 2 && ready && status["connected"] == false,
            &status,
        )
    });
}

#[test]
fn workloads_go_on_when_the_coordinator_is_killed_and_when_it_is_back() {
    let fleet = fleet_of_three();
    let before = processes(&fleet);
    fleet.coordinator.kill9();
    holds_for("workloads run", Duration::from_secs(2), || {
        expect(before.values().all(Process::lives), &before)
    });
    fleet.start_coordinator();
    for name in TARGETS {
        fleet.wait_connected(name, true);
        fleet.wait_converged(name);
    }
    assert_eq!(processes(&fleet), before, "nothing was restarted");
    fleet.assert_record_holds();
}

#[test]
fn an_agent_that_is_restarted_without_a_coordinator_adopts_what_runs() {
    let fleet = fleet_of_three();
    let before = processes(&fleet);
    fleet.coordinator.kill9();
    for name in TARGETS {
        let agent = fleet.agent(name);
        agent.program.restart();
        ready_alone(&fleet, name);
        let status = agent.program.terminate();
        assert!(status.success(), "SIGTERM is an orderly end: {status}");
        assert!(
            before[name].lives(),
            "stopping the agent leaves the workloads running"
        );
        agent.program.start();
        ready_alone(&fleet, name);
    }
    assert_eq!(processes(&fleet), before, "adopted, not restarted");
}

#[test]
fn a_host_that_is_rebooted_without_a_coordinator_brings_everything_back() {
    let fleet = fleet_of_three();
    let before = processes(&fleet);
    fleet.coordinator.kill9();
    for name in TARGETS {
        fleet.agent(name).cut_power();
        // And what was on the disk of a site is what a reboot may lose: its link.
        fs::remove_file(fleet.directory().join("www").join(name).join("site")).unwrap();
    }
    for name in TARGETS {
        fleet.agent(name).program.start();
    }
    for name in TARGETS {
        ready_alone(&fleet, name);
        let process = fleet.agent(name).one("web");
        assert_ne!(process, before[name]);
        assert_eq!(process.variable("RELEASE").as_deref(), Some("1.0.0"));
        let page = fleet
            .directory()
            .join("www")
            .join(name)
            .join("site/index.html");
        assert_eq!(fs::read_to_string(page).unwrap(), "<h1>1.0.0</h1>\n");
    }
}

/// A process that notes each of its starts: its release, a line.
fn noting(directory: &Path) -> String {
    let note = format!(
        "echo $RELEASE >> {}/$TARGET.starts; exec /bin/sleep 100000",
        directory.display()
    );
    sleeper("web")
        .replace("exec /bin/sleep 100000", &note)
        .replace(
            "environment: {",
            "environment: {TARGET: \"{{ target.name }}\", ",
        )
}

#[test]
fn a_target_that_was_away_during_two_releases_gets_the_newest_once() {
    let mut fleet = Fleet::start();
    let manifests = [ENVIRONMENTS, &noting(fleet.directory())].join("---\n");
    fleet.apply(&manifests);
    let relay = Relay::lay(fleet.address());
    fleet.join("near", "staging", &[]);
    fleet.join_through(&relay.address(), "far", "staging", &[]);
    fleet.wait_connected("near", true);
    fleet.wait_connected("far", true);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let _ = fleet.agent("far").one("web");

    relay.cut();
    fleet.wait_connected("far", false);
    for version in ["1.1.0", "1.2.0"] {
        fleet.release("web", version, &[]);
        fleet.wait_stable("web", "staging", version);
    }
    // Meanwhile something happens on the far target that nobody hears of.
    let before = fleet.agent("far").one("web");
    let killed = now();
    before.kill9();
    until("it is repaired there", || {
        let all = fleet.agent("far").workload("web");
        all.into_iter().find(|one| *one != before)
    });
    until("the agent has noticed", || {
        let status = fleet.agent_status("far").ok()?;
        (status["workloads"][0]["ready"] == true && status["journaled"] != 0).then_some(())
    });
    let repaired = now();

    relay.mend();
    fleet.wait_connected("far", true);
    fleet.wait_converged("far");
    let starts = fs::read_to_string(fleet.directory().join("far.starts")).unwrap();
    assert_eq!(
        starts, "1.0.0\n1.0.0\n1.2.0\n",
        "the newest, once, and none between"
    );

    // What happened meanwhile is told with its own times.
    let events = fleet.events();
    let returned = events.iter().rfind(|one| {
        one.kind == "target.connected" && one.target.as_ref().is_some_and(|t| t.as_str() == "far")
    });
    let returned = returned.unwrap();
    let told: Vec<_> = events
        .iter()
        .filter(|one| one.sequence > returned.sequence && one.kind.starts_with("workload."))
        .filter_map(|one| Some((one.kind.as_str(), one.occurred_at?)))
        .collect();
    let meanwhile = |kind: &str| {
        told.iter()
            .any(|(told, at)| *told == kind && *at >= killed && *at <= repaired)
    };
    assert!(
        meanwhile("workload.notReady") && meanwhile("workload.ready"),
        "between {killed} and {repaired}: {told:?}"
    );
    assert!(returned.at > repaired);
    fleet.assert_record_holds();
}

#[test]
fn targets_that_are_away_do_not_hold_up_the_others_and_are_not_failed() {
    let mut fleet = fleet_of_three();
    let relay = Relay::lay(fleet.address());
    fleet.join_through(&relay.address(), "production-3", "production", &[]);
    fleet.wait_converged("production-3");
    relay.cut();
    fleet.wait_connected("production-3", false);
    fleet.release("web", "2.0.0", &[]);
    let status = fleet.wait_stable("web", "production", "2.0.0");
    assert_eq!(
        (status.targets.failed, status.targets.disconnected),
        (0, 1),
        "{status:?}"
    );
    let away = fleet.agent("production-3").one("web");
    assert_eq!(away.variable("RELEASE").as_deref(), Some("1.0.0"));
    relay.mend();
    wait_for("it follows when it is back", PATIENCE, || {
        let all = fleet.agent("production-3").workload("web");
        let versions: Vec<_> = all.iter().map(|one| one.variable("RELEASE")).collect();
        expect(versions == [Some("2.0.0".to_owned())], versions)
    });
}

fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(holdfast_protocol::time::millis(now.unwrap()))
}
