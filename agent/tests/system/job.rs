//! Jobs: real programs that are run to completion.

use std::path::{Path, PathBuf};

use holdfast_protocol::observed::State;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::{JobTerms, Workload};

use super::{Agent, Coordinator, is_alive, kill, pid, program, test, until};

/// A job that notes each of its runs in `runs` and then goes on with `script`.
fn job(version: &str, runs: &Path, script: &str) -> Workload {
    let script = format!("echo run >> {}; {script}", runs.display());
    Workload {
        job: Some(JobTerms {
            run: None,
            attempts: 2,
            time_limit_ms: 60_000,
        }),
        ..program("migrate", version, &script)
    }
}

fn count(runs: &Path) -> usize {
    std::fs::read_to_string(runs).map_or(0, |text| text.lines().count())
}

fn joined() -> (Coordinator, Agent, PathBuf) {
    let coordinator = Coordinator::start();
    let agent = Agent::new();
    agent.join(&coordinator);
    let runs = agent.scratch().join("runs");
    (coordinator, agent, runs)
}

async fn wait_failed(coordinator: &Coordinator, words: &str) {
    let failed = |seen: &super::coordinator::Seen| {
        let status = seen.statuses.get("migrate");
        status.is_some_and(|s| s.state == State::Failed && s.message.contains(words))
    };
    coordinator.wait(words, failed).await;
}

async fn wait_hellos(coordinator: &Coordinator, hellos: u32) {
    let what = format!("hello {hellos}");
    coordinator.wait(&what, |seen| seen.hellos == hellos).await;
}

async fn wait_succeeded(coordinator: &Coordinator, version: &str) {
    let succeeded = |seen: &super::coordinator::Seen| {
        let status = seen.statuses.get("migrate");
        status.is_some_and(|s| s.state == State::Ready && s.message.contains("completion"))
    };
    coordinator.wait(version, succeeded).await;
}

#[test]
fn a_job_is_run_once_also_where_the_agent_is_killed() {
    test(async {
        let (coordinator, mut agent, runs) = joined();
        let migrate = job("1", &runs, "echo migrated");
        coordinator.assign(1, vec![migrate.clone()]);
        agent.run();
        wait_succeeded(&coordinator, "1").await;
        agent.kill();
        agent.run();
        wait_hellos(&coordinator, 2).await;
        wait_succeeded(&coordinator, "1 again").await;
        assert_eq!(count(&runs), 1);
        // Another run of the same release is another body.
        let again = JobTerms {
            run: Some(Timestamp::from_millis(1_795_329_360_000)),
            ..migrate.job.unwrap()
        };
        let again = Workload {
            job: Some(again),
            ..migrate
        };
        coordinator.assign(2, vec![again]);
        until("a second run", || count(&runs) == 2).await;
        wait_succeeded(&coordinator, "the second run").await;
    });
}

#[test]
fn a_job_that_fails_says_what_it_said_and_is_not_tried_more_often_than_it_may_be() {
    test(async {
        let (coordinator, mut agent, runs) = joined();
        let migrate = job("1", &runs, "echo no such table; exit 3");
        coordinator.assign(1, vec![migrate]);
        agent.run();
        wait_failed(&coordinator, "exit code 3: ").await;
        wait_failed(&coordinator, "no such table").await;
        assert_eq!(count(&runs), 2);
        agent.kill();
        agent.run();
        wait_hellos(&coordinator, 2).await;
        wait_failed(&coordinator, "no such table").await;
        assert_eq!(count(&runs), 2);
    });
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    test(async {
        let (coordinator, mut agent, runs) = joined();
        let own = agent.scratch().join("pid");
        let script = format!(
            "echo $$ > {}; echo thinking; exec sleep 1000",
            own.display()
        );
        let mut migrate = job("1", &runs, &script);
        migrate.job = migrate.job.map(|terms| JobTerms {
            attempts: 1,
            time_limit_ms: 500,
            ..terms
        });
        coordinator.assign(1, vec![migrate]);
        agent.run();
        wait_failed(&coordinator, "took longer than").await;
        wait_failed(&coordinator, "thinking").await;
        assert_eq!(count(&runs), 1);
        assert!(!is_alive(pid(&own).unwrap()), "it was stopped");
    });
}

#[test]
fn a_job_that_ends_while_no_agent_is_there_is_not_run_again() {
    test(async {
        let (coordinator, mut agent, runs) = joined();
        let (own, go) = (agent.scratch().join("pid"), agent.scratch().join("go"));
        let script = format!(
            "echo $$ > {}; while [ ! -e {} ]; do sleep 0.05; done; echo done",
            own.display(),
            go.display()
        );
        coordinator.assign(1, vec![job("1", &runs, &script)]);
        agent.run();
        until("it runs", || pid(&own).is_some()).await;
        agent.kill();
        std::fs::write(&go, "").unwrap();
        until("it ended", || !is_alive(pid(&own).unwrap())).await;
        agent.run();
        wait_succeeded(&coordinator, "ended meanwhile").await;
        assert_eq!(count(&runs), 1);
    });
}

#[test]
fn a_job_that_was_killed_is_tried_again() {
    test(async {
        let (coordinator, mut agent, runs) = joined();
        let (own, go) = (agent.scratch().join("pid"), agent.scratch().join("go"));
        let script = format!(
            "echo $$ > {}; while [ ! -e {} ]; do sleep 0.05; done",
            own.display(),
            go.display()
        );
        coordinator.assign(1, vec![job("1", &runs, &script)]);
        agent.run();
        until("it runs", || pid(&own).is_some()).await;
        let first = pid(&own).unwrap();
        std::fs::remove_file(&own).unwrap();
        kill(first);
        until("it runs again", || pid(&own).is_some()).await;
        std::fs::write(&go, "").unwrap();
        wait_succeeded(&coordinator, "the second attempt").await;
        assert_eq!(count(&runs), 2);
        let told = coordinator.look(|seen| {
            let mut transitions = seen.transitions.iter();
            transitions.any(|t| t.message.contains("signal 9"))
        });
        assert!(told, "how the first attempt ended is told");
    });
}
