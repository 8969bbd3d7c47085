//! Jobs: run to completion, once for each body.

use holdfast_protocol::workload::JobTerms;

use super::*;

fn job(version: &str, attempts: u32) -> Workload {
    Workload {
        job: Some(JobTerms {
            run: None,
            attempts,
            time_limit_ms: 60_000,
        }),
        ..workload("migrate", version)
    }
}

impl Rig {
    /// The job ends.
    fn end(&mut self, exit: Exit) {
        let service = name("migrate");
        let body = self.seen[&service].body.unwrap();
        self.show(&service, body, Some(exit));
    }

    /// The agent is started again: what was tried is forgotten, what is on disk is not.
    fn restart(&mut self) {
        self.attempts = Attempts::default();
        self.log.push("restart".to_owned());
    }
}

#[test]
fn a_job_that_succeeded_is_ready_and_never_run_again() {
    let mut rig = Rig::default();
    let web = depending("web", "1", "migrate");
    rig.want(vec![job("1", 1), web.clone()]);
    rig.run(5_000, &Ok(()));
    rig.end(Exit::Code(0));
    rig.run(5_000, &Ok(()));
    rig.restart();
    rig.run(5_000, &Ok(()));
    // After a reboot nothing is left of it.
    rig.seen.clear();
    rig.restart();
    rig.run(5_000, &Ok(()));
    rig.want(vec![job("2", 1), web]);
    rig.run(5_000, &Ok(()));
    rig.check(&expect![[r#"
        0 ms: converge migrate 1
            migrate Progressing starting
            web Pending waits for migrate to become ready
            migrate Progressing running
        5000 ms: good migrate 1
        5000 ms: converge web 1
            migrate Ready it has run to completion
            web Progressing starting
            web Progressing it has only just started
        6000 ms: good web 1
            web Ready
        restart
        restart
        15000 ms: converge web 1
            web NotReady starting
            web Progressing it has only just started
            web Ready
        20000 ms: converge migrate 2
            migrate Progressing starting
            migrate Progressing running
    "#]]);
}

#[test]
fn a_job_that_fails_is_tried_as_often_as_it_may_be() {
    let mut rig = Rig::default();
    rig.want(vec![job("1", 3)]);
    for _ in 0..3 {
        rig.run(5_000, &Ok(()));
        rig.end(Exit::Code(3));
    }
    rig.run(5_000, &Ok(()));
    rig.restart();
    rig.run(5_000, &Ok(()));
    rig.check(&expect![[r#"
        0 ms: converge migrate 1
            migrate Progressing starting
            migrate Progressing running, attempt 1 of 3
        5000 ms: explain migrate
            migrate Progressing it ended with exit code 3
        5000 ms: mend migrate 1
            migrate Progressing running, attempt 2 of 3
        10000 ms: explain migrate
            migrate Progressing it ended with exit code 3
            migrate Pending it ended with exit code 3; trying again within 10 s
        11000 ms: mend migrate 1
            migrate Progressing it ended with exit code 3
            migrate Progressing running, attempt 3 of 3
        15000 ms: explain migrate
            migrate Progressing it ended with exit code 3
        15000 ms: give up migrate 1
            migrate Failed it ended with exit code 3: out of cheese
        restart
        20000 ms: explain migrate
            migrate Failed it ended with exit code 3
            migrate Failed it ended with exit code 3: out of cheese
    "#]]);
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    let mut rig = Rig::default();
    rig.want(vec![job("1", 2)]);
    rig.run(200_000, &Ok(()));
    rig.check(&expect![[r#"
        0 ms: converge migrate 1
            migrate Progressing starting
            migrate Progressing running, attempt 1 of 2
        60000 ms: stop migrate
            migrate Progressing it was stopped, since it took longer than 1m
        60000 ms: converge migrate 1
            migrate Progressing starting
            migrate Progressing running, attempt 2 of 2
        120000 ms: stop migrate
            migrate Progressing it was stopped, since it took longer than 1m
        120000 ms: give up migrate 1
            migrate Failed it was stopped, since it took longer than 1m: out of cheese
    "#]]);
}

#[test]
fn a_job_that_goes_on_while_the_agent_restarts_is_left_alone() {
    let mut rig = Rig::default();
    rig.want(vec![job("1", 2)]);
    rig.run(5_000, &Ok(()));
    rig.restart();
    rig.run(5_000, &Ok(()));
    // Nobody can tell how it ended: it is tried again, since it may.
    rig.end(Exit::Unknown);
    rig.run(5_000, &Ok(()));
    rig.end(Exit::Code(0));
    rig.run(5_000, &Ok(()));
    rig.check(&expect![[r#"
        0 ms: converge migrate 1
            migrate Progressing starting
            migrate Progressing running, attempt 1 of 2
        restart
        10000 ms: explain migrate
            migrate Progressing it ended while nobody watched
        10000 ms: mend migrate 1
            migrate Progressing running, attempt 2 of 2
        15000 ms: good migrate 1
            migrate Ready it has run to completion
    "#]]);
}
