//! Holds: real workloads on a target whose own site asks to be left alone.

use std::path::PathBuf;

use holdfast_protocol::observed::State;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::{Check, Health, Rollback};
use serde_json::Value;

use super::coordinator::{Seen, now};
use super::{Agent, Coordinator, kill, pid, running, sleeper, test, until, workload};

fn hold(agent: &Agent, length: &str) {
    let asked = agent.call(&["hold", "--for", length, "--reason", "inventory"]);
    assert!(asked.status.success(), "{asked:?}");
    let said = String::from_utf8(asked.stdout).unwrap();
    assert!(said.starts_with("held until 2"), "{said}");
    assert!(said.ends_with(": inventory\n"), "{said}");
}

fn unhold(agent: &Agent) {
    let asked = agent.call(&["unhold"]);
    assert_eq!(String::from_utf8(asked.stdout).unwrap(), "held no more\n");
}

fn is_held(status: &Value) -> bool {
    status["hold"]["reason"] == "inventory"
}

/// Whether release `version` runs while another one is waited for, because of the hold.
fn waits_on(version: &str) -> impl Fn(&Seen) -> bool {
    move |seen| {
        let status = &seen.statuses["web"];
        let runs = status.version.as_ref().map(|v| v.as_str()) == Some(version);
        let says = status.message.contains("held by its own site until")
            && status.message.ends_with("inventory");
        runs && says && status.state == State::Pending && status.wanted != status.running
    }
}

async fn held_with_a_release_that_waits() -> (Coordinator, Agent, PathBuf) {
    let (coordinator, agent) = running(&["web"]).await;
    hold(&agent, "1h");
    coordinator
        .wait("the hold", |seen| {
            let newest = seen.holds.last().and_then(Option::as_ref);
            newest.is_some_and(|hold| hold.reason == "inventory")
        })
        .await;
    let web = agent.scratch().join("web");
    let api = agent.scratch().join("api");
    coordinator.assign(
        2,
        vec![sleeper("web", "2", &web), sleeper("api", "1", &api)],
    );
    coordinator.wait("web waits", waits_on("1")).await;
    (coordinator, agent, web)
}

#[test]
fn a_held_target_repairs_what_it_runs_and_begins_nothing_new_until_the_hold_is_ended() {
    test(async {
        let (coordinator, mut agent, web) = held_with_a_release_that_waits().await;
        let accepted = coordinator.look(|seen| seen.accepted.last().map(|g| g.number));
        assert_eq!(accepted, Some(2), "it is taken and on disk");
        assert!(!coordinator.look(|seen| seen.converged));
        assert_eq!(pid(&agent.scratch().join("api")), None, "it is new");

        let first = pid(&web).unwrap();
        kill(first);
        until("the crash is repaired", || pid(&web) != Some(first)).await;
        agent.kill();
        agent.run();
        coordinator
            .wait("held over a restart", |seen| seen.hellos == 2)
            .await;
        coordinator.wait("web waits", waits_on("1")).await;
        let said = coordinator.look(|seen| seen.holds.clone());
        assert!(said[1..].iter().all(Option::is_some), "{said:?}");
        let status = agent.wait("held", is_held).await;
        assert_eq!(workload(&status, "web").unwrap()["release"], "1");
        let table = String::from_utf8(agent.call(&["status"]).stdout).unwrap();
        assert!(table.contains("held until 2"), "{table}");

        unhold(&agent);
        coordinator.wait_ready("web", "2").await;
        coordinator.wait_ready("api", "1").await;
        coordinator.wait("converged", |seen| seen.converged).await;
        assert_eq!(
            coordinator.look(|seen| seen.holds.last().cloned()),
            Some(None)
        );
    });
}

#[test]
fn a_hold_works_while_the_coordinator_is_away_and_ends_while_the_agent_is_stopped() {
    test(async {
        let (coordinator, mut agent) = running(&["web"]).await;
        let web = agent.scratch().join("web");
        let away = coordinator.stop().await;
        agent
            .wait("alone", |status| status["connected"] == false)
            .await;
        hold(&agent, "2s");
        let status = agent.wait("held", is_held).await;
        let end: Timestamp = serde_json::from_value(status["hold"]["until"].clone()).unwrap();
        agent.kill();
        until("the hold's end", || now() > end).await;
        agent.run();
        let status = agent.wait_ready("web").await;
        assert_eq!(status["hold"], Value::Null);
        assert!(!agent.path("cache").join("hold").exists());

        let coordinator = away.start();
        coordinator
            .wait("no hold", |seen| seen.holds.last() == Some(&None))
            .await;
        coordinator.assign(2, vec![sleeper("web", "2", &web)]);
        coordinator.wait_ready("web", "2").await;
    });
}

#[test]
fn a_hold_ends_by_itself_and_what_has_waited_begins() {
    test(async {
        let (coordinator, agent, _web) = held_with_a_release_that_waits().await;
        // Asked for again it ends sooner, and still keeps what ran when the first one began.
        hold(&agent, "1s");
        coordinator.wait_ready("web", "2").await;
        coordinator.wait("converged", |seen| seen.converged).await;
        assert_eq!(agent.status().unwrap()["hold"], Value::Null);
        let again = agent.call(&["unhold"]);
        assert_eq!(String::from_utf8(again.stdout).unwrap(), "was not held\n");
    });
}

#[test]
fn nothing_is_put_back_while_a_target_is_held() {
    test(async {
        let (coordinator, agent) = running(&["web"]).await;
        let web = agent.scratch().join("web");
        let first = pid(&web).unwrap();
        let mut bad = sleeper("web", "2", &web);
        bad.rollback = Rollback::Local;
        bad.progress_deadline_ms = 1_500;
        bad.health = Some(Health {
            check: Check::Exec {
                command: vec!["/bin/false".to_owned()],
            },
            interval_ms: 100,
            timeout_ms: 1_000,
            success_threshold: 1,
            failure_threshold: 1,
            start_period_ms: 0,
        });
        coordinator.assign(2, vec![bad]);
        until("the new release runs", || pid(&web) != Some(first)).await;
        hold(&agent, "1h");
        coordinator
            .wait("failed and still there", |seen| {
                let status = &seen.statuses["web"];
                status.state == State::Failed && status.wanted == status.running
            })
            .await;
        unhold(&agent);
        coordinator
            .wait("put back", |seen| {
                let status = &seen.statuses["web"];
                let version = status.version.as_ref().map(|v| v.as_str());
                status.state == State::Failed && version == Some("1")
            })
            .await;
    });
}

#[test]
fn a_hold_without_bounds_is_refused_by_name() {
    let agent = Agent::new();
    for (length, reason, words) in [
        ("31d", "inventory", "from 1ms to 30d"),
        ("soon", "inventory", "is not a duration"),
        ("1h", " ", "a hold has a reason"),
    ] {
        let refused = agent.call(&["hold", "--for", length, "--reason", reason]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let nobody = agent.call(&["unhold"]);
    assert_eq!(nobody.status.code(), Some(1));
}
