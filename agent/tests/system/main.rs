//! The whole agent, as a program, against a coordinator in this process.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: what is not as expected ends it, and its waits have deadlines of their own"
)]

mod agent;
mod coordinator;
mod hold;
mod job;

use std::path::Path;
use std::time::{Duration, Instant};

use agent::{Agent, workload};
use coordinator::{Coordinator, environment};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, ServiceName, Version};
use holdfast_protocol::observed::{State, TargetConditionKind};
use holdfast_protocol::workload::{Artifact, Check, Form, Health, Rollback, Workload};

/// A workload that writes its process number to `pid_file` and goes on.
fn sleeper(service: &str, version: &str, pid_file: &Path) -> Workload {
    let script = format!(
        "echo $$ > {}; echo hello from {version}; exec sleep 1000",
        pid_file.display()
    );
    program(service, version, &script)
}

fn program(service: &str, version: &str, script: &str) -> Workload {
    let template = serde_json::json!({
        "command": ["/bin/sh", "-c", script],
        "restart": {"policy": "always", "backoff": {"initial": "200ms", "max": "1s"}},
    });
    Workload {
        service: ServiceName::parse(service).unwrap(),
        environment: environment(),
        version: Version::parse(version).unwrap(),
        sequence: 1,
        configuration: Digest::of(version.as_bytes()),
        runtime: "process".to_owned(),
        template: template.to_string(),
        artifacts: Vec::new(),
        health: None,
        depends_on: Vec::new(),
        rollback: Rollback::Central,
        progress_deadline_ms: 60_000,
        job: None,
        logins: Vec::new(),
    }
}

fn pid(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

async fn running(services: &[&str]) -> (Coordinator, Agent) {
    let coordinator = Coordinator::start();
    let mut agent = Agent::new();
    agent.join(&coordinator);
    let pids = agent.scratch().to_owned();
    let workloads = services
        .iter()
        .map(|s| sleeper(s, "1", &pids.join(s)))
        .collect();
    coordinator.assign(1, workloads);
    agent.run();
    for service in services {
        coordinator.wait_ready(service, "1").await;
    }
    (coordinator, agent)
}

const THREADS: usize = 2;

fn test(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

#[test]
fn a_target_joins_runs_what_it_is_assigned_and_reports_it() {
    test(async {
        let (coordinator, agent) = running(&["web"]).await;
        coordinator.wait("converged", |seen| seen.converged).await;
        let status = agent.wait_ready("web").await;
        assert_eq!(status["name"], "one");
        assert_eq!(status["environment"], "staging");
        assert_eq!(status["connected"], true);
        assert_eq!(status["generation"], 1);
        assert!(status["digest"].as_str().unwrap().starts_with("sha256:"));
        let web = workload(&status, "web").unwrap();
        for key in ["service", "release", "runtime", "ready", "message", "since"] {
            assert!(web.get(key).is_some(), "{key} in {web}");
        }
        assert_eq!(
            (&web["release"], &web["runtime"]),
            (&"1".into(), &"process".into())
        );
        let logs = agent.call(&["logs", "web"]);
        assert_eq!(String::from_utf8_lossy(&logs.stdout), "hello from 1\n");
        assert_eq!(coordinator.look(|seen| seen.accepted.len()), 1);
    });
}

#[test]
fn an_update_replaces_and_what_is_no_longer_wanted_is_removed() {
    test(async {
        let (coordinator, agent) = running(&["api", "web"]).await;
        let web = agent.scratch().join("web");
        let (old_web, api) = (
            pid(&web).unwrap(),
            pid(&agent.scratch().join("api")).unwrap(),
        );
        coordinator.assign(2, vec![sleeper("web", "2", &web)]);
        coordinator.wait_ready("web", "2").await;
        coordinator
            .wait("api gone", |seen| {
                seen.statuses["api"].state == State::Removed
            })
            .await;
        assert!(!is_alive(old_web) && !is_alive(api));
        assert!(is_alive(pid(&web).unwrap()));
        assert_eq!(coordinator.look(|seen| seen.wanted_bodies), 3);
    });
}

#[test]
fn without_a_coordinator_a_killed_workload_comes_back_at_once_and_is_reported_later() {
    test(async {
        let (coordinator, agent) = running(&["web"]).await;
        let web = agent.scratch().join("web");
        let away = coordinator.stop().await;
        agent
            .wait("disconnected", |status| status["connected"] == false)
            .await;
        let first = pid(&web).unwrap();
        kill(first);
        let took = until("web runs again", || {
            pid(&web).is_some_and(|pid| pid != first && is_alive(pid))
        })
        .await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        let status = agent.wait_ready("web").await;
        assert!(status["journaled"].as_u64().unwrap() >= 2, "{status}");
        let killed_at = coordinator::now();
        let back = away.start();
        back.wait("what happened meanwhile", |seen| {
            seen.transitions
                .iter()
                .any(|t| t.state == State::NotReady && t.at <= killed_at)
        })
        .await;
        back.wait_ready("web", "1").await;
        agent
            .wait("delivered", |status| status["journaled"] == 0)
            .await;
    });
}

#[test]
fn a_coordinator_that_vanished_is_noticed_and_found_again() {
    test(async {
        let (coordinator, agent) = running(&["web"]).await;
        let away = coordinator.vanish().await;
        kill(pid(&agent.scratch().join("web")).unwrap());
        agent
            .wait("noticed", |status| status["connected"] == false)
            .await;
        let back = away.start();
        back.wait("connected again", |seen| seen.hellos == 2).await;
        agent
            .wait("connected", |status| status["connected"] == true)
            .await;
    });
}

#[test]
fn a_coordinator_whose_clock_was_once_far_ahead_is_found_again() {
    test(async {
        let coordinator = Coordinator::start();
        coordinator.ahead_once(Duration::from_secs(100 * 365 * 24 * 60 * 60));
        let mut agent = Agent::new();
        agent.join(&coordinator);
        agent.run();
        coordinator
            .wait("the first hello", |seen| seen.hellos == 1)
            .await;
        agent
            .wait("the skew is told", |status| {
                status["conditions"].to_string().contains("clockSkew")
            })
            .await;
        let back = coordinator.stop().await.start();
        back.wait("the second hello", |seen| seen.hellos == 2).await;
        agent
            .wait("connected", |status| status["connected"] == true)
            .await;
    });
}

#[test]
fn a_killed_agent_adopts_what_it_started_also_without_a_coordinator() {
    test(async {
        let (coordinator, mut agent) = running(&["api", "web"]).await;
        let before: Vec<_> = ["api", "web"]
            .map(|s| pid(&agent.scratch().join(s)).unwrap())
            .into();
        let _away = coordinator.stop().await;
        agent.kill();
        kill(before[0]);
        agent.run();
        agent.wait_ready("web").await;
        let status = agent.wait_ready("api").await;
        assert_eq!(pid(&agent.scratch().join("web")).unwrap(), before[1]);
        let api = pid(&agent.scratch().join("api")).unwrap();
        assert!(api != before[0] && is_alive(api));
        assert_eq!(
            (&status["connected"], &status["generation"]),
            (&false.into(), &1.into())
        );
    });
}

#[test]
fn sigterm_stops_the_agent_quickly_and_leaves_the_workloads_running() {
    test(async {
        let (_coordinator, mut agent) = running(&["web"]).await;
        let web = pid(&agent.scratch().join("web")).unwrap();
        let (status, took) = agent.terminate();
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(is_alive(web));
        let output = agent.call(&["status"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.starts_with("error: the agent is not running"),
            "{said}"
        );
        assert!(said.contains("\n  help: "), "{said}");
        agent.run();
        agent.wait_ready("web").await;
        assert_eq!(pid(&agent.scratch().join("web")), Some(web));
    });
}

#[test]
fn an_artifact_is_fetched_and_the_fetch_resumes_where_it_broke_off() {
    test(async {
        let coordinator = Coordinator::start();
        let mut agent = Agent::new();
        agent.join(&coordinator);
        let filler = "#".repeat(3_000_000);
        let content = format!("#!/bin/sh\necho fetched\nexec sleep 1000\n{filler}\n");
        let digest = coordinator.artifact(content.as_bytes());
        coordinator.break_off_after(1_000_000);
        let app = ArtifactName::parse("app").unwrap();
        let place = holdfast_protocol::workload::Placeholder::ArtifactPath(app.clone()).text();
        let mut web = program("web", "1", "");
        web.template = serde_json::json!({"command": [place]}).to_string();
        web.artifacts = vec![Artifact {
            name: app,
            digest,
            size: content.len() as u64,
            file: "app".to_owned(),
            form: Form::File,
            home: None,
        }];
        coordinator.assign(1, vec![web]);
        agent.run();
        coordinator.wait_ready("web", "1").await;
        assert_eq!(
            coordinator.look(|seen| seen.artifact_offsets.clone()),
            [0, 1_000_000]
        );
        let stored = agent.path("artifacts").join(digest.hex());
        assert_eq!(std::fs::read(stored).unwrap(), content.as_bytes());
    });
}

#[test]
fn a_release_that_does_not_become_ready_is_put_back_here_and_stays_so() {
    test(async {
        let (coordinator, mut agent) = running(&["web"]).await;
        let web = agent.scratch().join("web");
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
        coordinator.assign(2, vec![bad.clone()]);
        let put_back = |seen: &coordinator::Seen| {
            let status = &seen.statuses["web"];
            status.state == State::Failed
                && status.version.as_ref().is_some_and(|v| v.as_str() == "1")
                && status.wanted != status.running
        };
        coordinator.wait("put back", put_back).await;
        let failed = coordinator.look(|seen| {
            seen.transitions
                .iter()
                .any(|t| t.state == State::Failed && t.message.contains("/bin/false"))
        });
        assert!(failed, "the reason is told");
        let running_now = pid(&web).unwrap();
        agent.kill();
        agent.run();
        coordinator
            .wait("a second hello", |seen| seen.hellos == 2)
            .await;
        coordinator.wait("still put back", put_back).await;
        assert_eq!(pid(&web), Some(running_now));
    });
}

#[test]
fn the_record_before_a_damaged_one_is_used_and_the_workloads_are_undisturbed() {
    test(async {
        let (coordinator, mut agent) = running(&["web"]).await;
        let web = agent.scratch().join("web");
        coordinator.assign(
            2,
            vec![
                sleeper("web", "1", &web),
                sleeper("zed", "1", &agent.scratch().join("zed")),
            ],
        );
        coordinator.wait_ready("zed", "1").await;
        let before = pid(&web).unwrap();
        agent.terminate();
        let away = coordinator.stop().await;
        std::fs::write(agent.path("cache/current"), b"torn").unwrap();
        agent.run();
        let status = agent.wait_ready("web").await;
        assert_eq!(status["generation"], 1);
        assert_eq!(status["conditions"][0]["kind"], "cacheDamaged");
        assert_eq!(pid(&web), Some(before));
        let back = away.start();
        back.wait("mended and reported", |seen| {
            seen.accepted.iter().filter(|g| g.number == 2).count() == 2
                && seen
                    .conditions
                    .iter()
                    .any(|c| c.kind == TargetConditionKind::CacheDamaged)
        })
        .await;
        back.wait_ready("zed", "1").await;
        assert_eq!(pid(&web), Some(before));
    });
}

/// A file system of one megabyte in memory, gone with the value. Only root may make one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }

    fn fill(&self) {
        let filler = std::fs::File::create(self.0.join("filler")).unwrap();
        let block = vec![0u8; 4096];
        while std::io::Write::write_all(&mut &filler, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the agent may still be on its way out.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn on_a_full_disk_the_old_assignment_stays_in_force_and_the_new_one_follows_once_there_is_space() {
    test(async {
        let coordinator = Coordinator::start();
        let mut agent = Agent::new();
        let Some(disk) = SmallDisk::mount(&agent.data()) else {
            eprintln!("not shown here: only root can make a small disk");
            return;
        };
        agent.join(&coordinator);
        let (web, api) = (agent.scratch().join("web"), agent.scratch().join("api"));
        coordinator.assign(1, vec![sleeper("web", "1", &web)]);
        agent.run();
        coordinator.wait_ready("web", "1").await;
        let before = pid(&web).unwrap();
        disk.fill();
        coordinator.assign(
            2,
            vec![sleeper("api", "1", &api), sleeper("web", "1", &web)],
        );
        coordinator
            .wait("refused and reported", |seen| {
                seen.refused
                    .iter()
                    .any(|(_, why)| why.contains("could not be stored"))
                    && seen
                        .conditions
                        .iter()
                        .any(|c| c.kind == TargetConditionKind::CacheUnwritable)
            })
            .await;
        let status = agent.wait_ready("web").await;
        assert_eq!(
            (&status["generation"], pid(&web)),
            (&1.into(), Some(before))
        );
        disk.free();
        coordinator.wait_ready("api", "1").await;
        coordinator
            .wait("condition gone", |seen| {
                // That the machine is busy is true of it, and no fault.
                let busy = TargetConditionKind::LoadHigh;
                seen.conditions.iter().all(|one| one.kind == busy)
            })
            .await;
        assert_eq!(pid(&web), Some(before));
        // The agent goes before its disk does.
        agent.call(&["leave", "--remove-workloads"]);
        agent.exit();
    });
}

#[test]
fn with_no_record_left_nothing_is_touched() {
    test(async {
        let (coordinator, mut agent) = running(&["web"]).await;
        let web = pid(&agent.scratch().join("web")).unwrap();
        agent.terminate();
        let away = coordinator.stop().await;
        std::fs::write(agent.path("cache/current"), b"").unwrap();
        std::fs::write(agent.path("cache/previous"), b"junk").unwrap();
        agent.run();
        let status = agent
            .wait("damage", |status| {
                status["conditions"][0]["kind"] == "cacheDamaged"
            })
            .await;
        assert_eq!(status["generation"], serde_json::Value::Null);
        agent
            .wait("looked and dialled", |status| {
                !status["lastError"].is_null()
            })
            .await;
        assert!(is_alive(web));
        let back = away.start();
        back.wait("taken again", |seen| seen.accepted.len() == 2)
            .await;
        agent.wait_ready("web").await;
        assert_eq!(pid(&agent.scratch().join("web")), Some(web));
    });
}

#[test]
fn an_older_assignment_and_a_second_content_are_refused_and_reported() {
    test(async {
        let (coordinator, agent) = running(&["web"]).await;
        coordinator.assign(5, vec![sleeper("web", "1", &agent.scratch().join("web"))]);
        coordinator
            .wait("five", |seen| seen.accepted.len() == 2)
            .await;
        coordinator.assign(4, vec![]);
        coordinator
            .wait("older refused", |seen| seen.refused.len() == 1)
            .await;
        coordinator.assign(5, vec![]);
        coordinator
            .wait("equivocation refused", |seen| seen.refused.len() == 2)
            .await;
        coordinator
            .wait("condition", |seen| {
                seen.conditions
                    .iter()
                    .any(|c| c.kind == TargetConditionKind::AssignmentRefused)
            })
            .await;
        let status = agent.wait_ready("web").await;
        assert_eq!(status["generation"], 5);
        coordinator.assign(6, vec![sleeper("web", "1", &agent.scratch().join("web"))]);
        coordinator
            .wait("condition gone", |seen| {
                // That the machine is busy is true of it, and no fault.
                let busy = TargetConditionKind::LoadHigh;
                seen.conditions.iter().all(|one| one.kind == busy)
            })
            .await;
    });
}

#[test]
fn a_certificate_is_renewed_on_the_live_connection_and_after_it_expired() {
    test(async {
        let coordinator = Coordinator::start();
        coordinator.validity(Duration::from_secs(3));
        let mut agent = Agent::new();
        agent.join(&coordinator);
        coordinator.assign(1, vec![sleeper("web", "1", &agent.scratch().join("web"))]);
        agent.run();
        coordinator
            .wait("renewed on the connection", |seen| seen.renewals >= 2)
            .await;
        assert_eq!(coordinator.look(|seen| seen.hellos), 1);
        agent.terminate();
        let renewals = coordinator.look(|seen| seen.renewals);
        tokio::time::sleep(Duration::from_secs(4)).await;
        coordinator.validity(Duration::from_secs(86_400));
        agent.run();
        coordinator
            .wait("renewed after the end", |seen| {
                seen.renewals > renewals && seen.hellos == 2
            })
            .await;
    });
}

#[test]
fn a_refused_token_an_impostor_and_silence_have_exit_codes_of_their_own() {
    test(async {
        let coordinator = Coordinator::start();
        let agent = Agent::new();
        let code = |token: &str| agent.join_with(&coordinator, token).status.code();
        assert_eq!(code("nonsense"), Some(64));
        let right = coordinator.token();
        let (head, pin) = right.rsplit_once('.').unwrap();
        let (id, _) = head.rsplit_once('.').unwrap();
        assert_eq!(code(&format!("{id}.{}.{pin}", "0".repeat(64))), Some(4));
        assert_eq!(code(&coordinator.token_of_another()), Some(4));
        assert_eq!(coordinator.look(|seen| seen.renewals), 0);
        let token = coordinator.token();
        let away = coordinator.stop().await;
        let address = away.address;
        let output = agent.call(&[
            "join",
            "--coordinator",
            &address.to_string(),
            "--token",
            &token,
            "--name",
            "one",
        ]);
        assert_eq!(output.status.code(), Some(5));
        assert_eq!(agent.call(&["run"]).status.code(), Some(1));
        assert_eq!(agent.call(&["fly"]).status.code(), Some(64));
    });
}

#[test]
fn a_revoked_target_goes_on_from_its_cache_and_says_why() {
    test(async {
        let (coordinator, agent) = running(&["web"]).await;
        let web = agent.scratch().join("web");
        coordinator.revoke();
        let status = agent
            .wait("told", |status| {
                status["lastError"]
                    .as_str()
                    .is_some_and(|e| e.contains("evoked"))
            })
            .await;
        assert_eq!(status["connected"], false);
        let first = pid(&web).unwrap();
        kill(first);
        until("repaired", || {
            pid(&web).is_some_and(|pid| pid != first && is_alive(pid))
        })
        .await;
    });
}

#[test]
fn a_busy_coordinator_is_left_alone_for_as_long_as_it_asks() {
    test(async {
        let coordinator = Coordinator::start();
        coordinator.busy_once(1_500);
        let mut agent = Agent::new();
        agent.join(&coordinator);
        agent.run();
        coordinator
            .wait("the first hello", |seen| seen.hellos == 1)
            .await;
        let started = Instant::now();
        coordinator
            .wait("the second hello", |seen| seen.hellos == 2)
            .await;
        assert!(
            started.elapsed() >= Duration::from_millis(1_400),
            "{:?}",
            started.elapsed()
        );
    });
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused() {
    test(async {
        let (_coordinator, agent) = running(&[]).await;
        agent
            .wait("connected", |status| status["connected"] == true)
            .await;
        let output = agent.call(&["run"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("another agent is running"), "{said}");
    });
}

#[test]
fn leaving_removes_the_workloads_when_asked_to_and_forgets_everything() {
    test(async {
        let (coordinator, mut agent) = running(&["web"]).await;
        let web = pid(&agent.scratch().join("web")).unwrap();
        let output = agent.call(&["leave", "--remove-workloads"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(agent.exit().code(), Some(0));
        assert!(!is_alive(web));
        assert!(coordinator.look(|seen| seen.left));
        assert!(!agent.path("identity/identity.pem").exists());
        assert!(!agent.path("cache/current").exists());
        assert_eq!(agent.call(&["run"]).status.code(), Some(1));
    });
}

#[test]
fn leaving_without_a_coordinator_works_and_warns() {
    test(async {
        let (coordinator, mut agent) = running(&["web"]).await;
        let web = pid(&agent.scratch().join("web")).unwrap();
        let _away = coordinator.stop().await;
        agent
            .wait("disconnected", |status| status["connected"] == false)
            .await;
        let output = agent.call(&["leave"]);
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("could not be told"), "{said}");
        assert_eq!(agent.exit().code(), Some(0));
        assert!(is_alive(web));
        kill(web);
    });
}

#[test]
fn a_returning_target_in_an_unchanged_world_says_next_to_nothing() {
    test(async {
        let (coordinator, agent) = running(&["api", "web"]).await;
        coordinator.wait("converged", |seen| seen.converged).await;
        agent
            .wait("all stored", |status| {
                status["converged"] == true && status["journaled"] == 0
            })
            .await;
        let away = coordinator.stop().await;
        agent
            .wait("disconnected", |status| status["connected"] == false)
            .await;
        let back = away.start();
        back.wait("back", |seen| {
            seen.hellos == 2 && seen.reports.last().unwrap().sequence == 1
        })
        .await;
        let last = back.look(|seen| seen.reports.last().cloned()).unwrap();
        assert!(
            last.statuses.is_empty() && last.transitions.is_empty(),
            "{last:?}"
        );
        assert!(
            last.converged && last.conditions.is_none() && last.facts.is_none(),
            "{last:?}"
        );
    });
}
