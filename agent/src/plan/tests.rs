//! Rules of the plan, as scenarios over a world that behaves, and as properties over any world.

mod busy;
mod job;

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Live, Observed};
use holdfast_protocol::assignment::{Generation, Held};
use holdfast_protocol::login::{Goal, Login};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::{Artifact, Form, Rollback, Workload};
use proptest::prelude::*;

use super::*;
use crate::diff::Sight;
use crate::fixture::workload;

/// A target in memory that does at once what it is told.
#[derive(Debug, Default)]
struct Rig {
    desired: Desired,
    bodies: Bodies,
    standings: Standings,
    seen: BTreeMap<ServiceName, Observed>,
    unknown: bool,
    doubtful: bool,
    held: bool,
    attempts: Attempts,
    busy: BTreeMap<ServiceName, Busy>,
    artifacts: Artifacts,
    secrets: Secrets,
    millis: u64,
    log: Vec<String>,
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

impl Rig {
    fn want(&mut self, workloads: Vec<Workload>) {
        let mut wanted = BTreeMap::new();
        for workload in workloads {
            let service = workload.service.clone();
            let intent = Intent::open(&workload.seal().1).unwrap();
            wanted.insert(service, intent.body);
            self.bodies.insert(intent.body, Arc::new(intent));
        }
        let generation = Generation {
            epoch: 1,
            number: 1,
        };
        let held = Held {
            generation,
            digest: Digest::of(b"assignment"),
        };
        self.standings = crate::desired::standings_after(&self.standings, &wanted);
        self.desired = Desired::Known { held, wanted };
    }

    /// A removal from a runtime is under way.
    fn occupy(&mut self, service: &str, runtime: &str) {
        let lane = Lane {
            runtime: runtime.to_owned(),
            mends: false,
        };
        let (since, doing) = (self.now().at, Doing::Removing);
        self.busy.insert(name(service), Busy { lane, since, doing });
    }

    fn now(&self) -> Now {
        Now {
            at: Moment::from_millis(self.millis),
            wall: Timestamp::from_millis(1_000_000 + self.millis),
        }
    }

    fn plan(&mut self) -> Plan {
        let sight = if self.unknown {
            Sight::Unknown("the runtime is away".to_owned())
        } else {
            Sight::Known(self.seen.clone())
        };
        let sights = Sights::from([("process".to_owned(), sight)]);
        let now = self.now();
        if let Desired::Known { wanted, .. } = &self.desired {
            let selected = selection(wanted, &self.standings, &self.bodies);
            let differences = differences(&selected, &self.bodies, &sights);
            self.attempts
                .see(&selected, &self.standings, &differences, now.at);
        }
        plan(&World {
            secrets: &self.secrets,
            desired: &self.desired,
            newest: !self.doubtful,
            held: self.held,
            bodies: &self.bodies,
            standings: &self.standings,
            sights: &sights,
            attempts: &self.attempts,
            busy: &self.busy,
            artifacts: &self.artifacts,
            now,
        })
    }

    /// Performs everything, each converge with `outcome`.
    fn perform(&mut self, plan: &Plan, outcome: &Result<(), Failure>) {
        let now = self.now().at;
        for action in &plan.actions {
            match action {
                Action::Record { service, standing } => {
                    self.standings.insert(service.clone(), *standing);
                    if let Some(good) = standing.good {
                        self.attempts.ready(service, good);
                    }
                }
                Action::Cancel { .. } => {}
                Action::Remove { service, .. } => {
                    self.seen.remove(service);
                }
                Action::Fetch(fetch) => {
                    self.artifacts.present.insert(fetch.artifact);
                }
                Action::Conclude {
                    service,
                    body,
                    why,
                    stop,
                } => {
                    if *stop {
                        self.seen.remove(service);
                    }
                    let words = Ok(format!("{why}: out of cheese"));
                    self.attempts.concluded(service, *body, words, (now, 0.0));
                }
                Action::Ask(secret) => {
                    self.secrets.present.insert(secret.clone());
                }
                Action::Converge {
                    service,
                    body,
                    mends,
                } => {
                    self.attempts.begin(service, *body, now);
                    if outcome.is_ok() {
                        self.show(service, *body, None);
                    }
                    let timed = (now, 0.0);
                    self.attempts
                        .end(service, *body, *mends, outcome.clone(), timed);
                }
            }
        }
    }

    fn show(&mut self, service: &ServiceName, body: Digest, exit: Option<Exit>) {
        let wall = self.now().wall;
        let live = match exit {
            Some(exit) => Live::Ended { exit, at: wall },
            None => Live::Running {
                since: wall,
                pid: Some(7),
            },
        };
        let observed = Observed {
            service: service.clone(),
            body: Some(body),
            live,
        };
        self.seen.insert(service.clone(), observed);
    }

    /// What runs is not ready by its runtime's word, or is again.
    fn say(&mut self, service: &str, unready: Option<(&str, bool)>) {
        let seen = self.seen.get_mut(&name(service)).unwrap();
        let (Live::Running { since, pid } | Live::Unready { since, pid, .. }) = seen.live else {
            panic!("it does not run");
        };
        seen.live = match unready {
            None => Live::Running { since, pid },
            Some((why, failing)) => Live::Unready {
                since,
                pid,
                why: why.to_owned(),
                failing,
            },
        };
    }

    fn crash(&mut self, service: &str) {
        let service = name(service);
        let body = self.seen[&service].body.unwrap();
        self.show(&service, body, Some(Exit::Signal(9)));
    }

    /// Plans and performs, and writes down what there was to do.
    fn step(&mut self, outcome: Result<(), Failure>) {
        let plan = self.plan();
        let version = |body: &Digest| self.bodies[body].workload.version.clone();
        for action in &plan.actions {
            let text = match action {
                Action::Record {
                    service,
                    standing:
                        Standing {
                            given_up: Some(bad),
                            ..
                        },
                } => {
                    format!("give up {service} {}", version(bad))
                }
                Action::Record { service, standing } => {
                    format!("good {service} {}", version(&standing.good.unwrap()))
                }
                Action::Cancel { service } => format!("cancel {service}"),
                Action::Remove { service, .. } => format!("remove {service}"),
                Action::Fetch(fetch) => format!("fetch {}", fetch.artifact.short()),
                Action::Ask(secret) => format!("ask for {secret}"),
                Action::Conclude {
                    service,
                    stop: true,
                    ..
                } => format!("stop {service}"),
                Action::Conclude { service, .. } => format!("explain {service}"),
                Action::Converge {
                    service,
                    body,
                    mends,
                } => {
                    let verb = if *mends { "mend" } else { "converge" };
                    format!("{verb} {service} {}", version(body))
                }
            };
            self.log.push(format!("{} ms: {text}", self.millis));
        }
        for (service, status) in &plan.statuses {
            let line = format!("{service} {:?} {}", status.state, status.message);
            let line = format!("    {}", line.trim_end());
            if self
                .log
                .iter()
                .rev()
                .find(|l| l.contains(&format!("    {service} ")))
                != Some(&line)
            {
                self.log.push(line);
            }
        }
        self.perform(&plan, &outcome);
    }

    /// Goes on for `millis`, step by step, as far as the plans ask to be woken.
    fn run(&mut self, millis: u64, outcome: &Result<(), Failure>) {
        let end = self.millis + millis;
        for _ in 0..10_000 {
            let before = self.log.len();
            self.step(outcome.clone());
            let wake = self.plan().wake_at;
            if self.log.len() == before {
                let next = wake.map_or(end, |at| {
                    u64::try_from(at.since(Moment::default()).as_millis()).unwrap()
                });
                if next >= end || next <= self.millis {
                    break;
                }
                self.millis = next;
            }
        }
        self.millis = end;
    }

    fn check(&self, expected: &Expect) {
        expected.assert_eq(&(self.log.join("\n") + "\n"));
    }
}

fn depending(service: &str, version: &str, on: &str) -> Workload {
    Workload {
        depends_on: vec![name(on)],
        ..workload(service, version)
    }
}

#[test]
fn workloads_start_in_the_order_of_their_dependencies() {
    let mut rig = Rig::default();
    rig.want(vec![depending("api", "1", "db"), workload("db", "1")]);
    rig.run(5_000, &Ok(()));
    rig.check(&expect![[r#"
        0 ms: converge db 1
            api Pending waits for db to become ready
            db Progressing starting
            db Progressing it has only just started
        1000 ms: good db 1
        1000 ms: converge api 1
            api Progressing starting
            db Ready
            api Progressing it has only just started
        2000 ms: good api 1
            api Ready
    "#]]);
}

#[test]
fn without_a_check_of_the_service_its_runtimes_word_counts() {
    let mut rig = Rig::default();
    rig.want(vec![Workload {
        progress_deadline_ms: 10_000,
        ..workload("web", "1")
    }]);
    rig.step(Ok(()));
    rig.say("web", Some(("1 of 3 pods are ready", false)));
    rig.run(2_000, &Ok(()));
    rig.say("web", None);
    rig.run(2_000, &Ok(()));
    rig.say("web", Some(("its check fails", true)));
    rig.run(1_000, &Ok(()));
    rig.say("web", None);
    rig.run(1_000, &Ok(()));
    // One that never says it is late in the end.
    rig.want(vec![Workload {
        progress_deadline_ms: 10_000,
        ..workload("web", "2")
    }]);
    rig.step(Ok(()));
    rig.say("web", Some(("its first check has not passed", false)));
    rig.run(11_000, &Ok(()));
    rig.check(&expect![[r#"
        0 ms: converge web 1
            web Progressing starting
            web Progressing 1 of 3 pods are ready
        2000 ms: good web 1
            web Ready
            web NotReady its check fails
            web Ready
        6000 ms: converge web 2
            web Progressing updating
            web Progressing its first check has not passed
            web Failed its first check has not passed
    "#]]);
}

#[test]
fn an_artifact_with_two_homes_is_asked_of_the_other_when_one_fails() {
    let mut rig = Rig::default();
    let artifact = Digest::of(b"app");
    let at = |service: &str, home: &str| {
        let mut workload = workload(service, "1");
        workload.artifacts = vec![Artifact {
            name: "app".parse().unwrap(),
            digest: artifact,
            size: 3,
            file: "app".to_owned(),
            form: Form::of_file("app"),
            home: Some(home.parse().unwrap()),
        }];
        workload
    };
    rig.want(vec![
        at("bad", "https://bad.example/a"),
        at("good", "https://good.example/a"),
    ]);
    let mut asked = Vec::new();
    for _ in 0..3 {
        let plan = rig.plan();
        let [Action::Fetch(fetch)] = plan.actions.as_slice() else {
            panic!("{:?}", plan.actions);
        };
        asked.push(fetch.home.as_ref().unwrap().host().to_owned());
        let failed = Err("not there".to_owned());
        let now = rig.now().at;
        rig.attempts.fetch_ended(artifact, failed, now, 0.0);
        rig.millis += 120_000;
    }
    assert_eq!(asked, ["bad.example", "good.example", "bad.example"]);
}

#[test]
fn a_home_is_asked_with_whichever_value_is_the_newest_then() {
    let mut rig = Rig::default();
    let mut workload = workload("web", "1");
    workload.artifacts = vec![Artifact {
        name: "app".parse().unwrap(),
        digest: Digest::of(b"app"),
        size: 3,
        file: "app".to_owned(),
        form: Form::of_file("app"),
        home: Some("https://files.example/a".parse().unwrap()),
    }];
    workload.logins = vec![Login {
        goal: Goal::File {
            artifact: "app".parse().unwrap(),
            host: Some("files.example".to_owned()),
        },
        secret: "login".parse().unwrap(),
    }];
    rig.want(vec![workload]);
    rig.artifacts.direct = true;
    let told = Told {
        secret: SecretRef::newest("login".parse().unwrap()),
        host: Some("files.example".to_owned()),
    };
    match rig.plan().actions.as_slice() {
        [Action::Fetch(fetch)] => assert_eq!(fetch.told, Some(told)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_restart_comes_at_once_and_the_next_after_growing_pauses() {
    let mut rig = Rig::default();
    rig.want(vec![workload("web", "1")]);
    rig.run(2_000, &Ok(()));
    rig.log.clear();
    for _ in 0..3 {
        rig.crash("web");
        rig.run(3_000, &Ok(()));
    }
    rig.check(&expect![[r#"
        2000 ms: mend web 1
            web NotReady it was ended by signal 9
            web Progressing it has only just started
            web Ready
            web NotReady it was ended by signal 9; trying again within 10 s
        6000 ms: mend web 1
            web NotReady it was ended by signal 9
            web Progressing it has only just started
            web Ready
            web NotReady it was ended by signal 9; trying again within 10 s
        10000 ms: mend web 1
            web NotReady it was ended by signal 9
            web Progressing it has only just started
    "#]]);
}

#[test]
fn what_is_not_wanted_goes_before_what_is_new_comes() {
    let mut rig = Rig::default();
    rig.want(vec![workload("old", "1")]);
    rig.run(2_000, &Ok(()));
    rig.log.clear();
    rig.want(vec![workload("new", "1")]);
    rig.run(2_000, &Ok(()));
    rig.check(&expect![[r#"
        2000 ms: remove old
            new Progressing starting
        2000 ms: converge new 1
            new Progressing it has only just started
        3000 ms: good new 1
            new Ready
    "#]]);
}

#[test]
fn a_failed_release_is_put_back_once_and_tried_again_only_when_wanted_anew() {
    let mut rig = Rig::default();
    let local = |version: &str| Workload {
        rollback: Rollback::Local,
        ..workload("web", version)
    };
    rig.want(vec![local("1")]);
    rig.run(2_000, &Ok(()));
    rig.log.clear();
    rig.want(vec![local("2")]);
    rig.step(Err(Failure::Permanent("no such program".to_owned())));
    rig.run(3_000, &Ok(()));
    rig.want(vec![local("2")]);
    rig.run(1_000, &Ok(()));
    rig.want(vec![local("1")]);
    rig.run(1_000, &Ok(()));
    rig.want(vec![local("2")]);
    rig.run(2_000, &Ok(()));
    rig.check(&expect![[r#"
        2000 ms: converge web 2
            web Progressing updating
        2000 ms: give up web 2
            web Failed no such program
            web Failed 2: it did not become ready here; 1 was put back
            web Ready
        7000 ms: converge web 2
            web Progressing updating
            web Progressing it has only just started
        8000 ms: good web 2
            web Ready
    "#]]);
}

#[test]
fn a_failure_that_cannot_pass_by_itself_is_tried_again_when_somebody_may_have_mended_it() {
    let mut rig = Rig::default();
    rig.want(vec![workload("web", "1")]);
    rig.run(599_000, &Err(Failure::Permanent("no such user".to_owned())));
    rig.check(&expect![[r#"
        0 ms: converge web 1
            web Progressing starting
            web Failed no such user
    "#]]);
    rig.log.clear();
    rig.run(602_000, &Ok(()));
    rig.check(&expect![[r#"
            web Failed no such user
        600000 ms: converge web 1
            web Failed it has only just started
        601000 ms: good web 1
            web Ready
    "#]]);
}

#[test]
fn a_failure_that_may_pass_is_tried_again_ever_more_slowly() {
    let mut rig = Rig::default();
    rig.want(vec![workload("web", "1")]);
    rig.run(40_000, &Err(Failure::Retryable("port taken".to_owned())));
    rig.log.retain(|line| line.contains(" ms: "));
    rig.check(&expect![[r#"
        0 ms: converge web 1
        1000 ms: converge web 1
        3000 ms: converge web 1
        7000 ms: converge web 1
        15000 ms: converge web 1
        31000 ms: converge web 1
    "#]]);
}

#[test]
fn a_slow_start_counts_as_failed_and_goes_on_being_tried() {
    let mut rig = Rig::default();
    rig.want(vec![Workload {
        progress_deadline_ms: 2_000,
        ..workload("web", "1")
    }]);
    rig.run(4_000, &Err(Failure::Retryable("port taken".to_owned())));
    let late = rig.plan().statuses[&name("web")].state;
    assert_eq!(late, State::Failed);
    rig.run(10_000, &Ok(()));
    assert_eq!(rig.plan().statuses[&name("web")].state, State::Ready);
}

/// What any target may be like.
fn any_rig() -> impl Strategy<Value = Rig> {
    let services =
        prop::collection::btree_map(0..6u8, (0..2u8, 0..3u8, prop::option::of(0..6u8)), 0..6);
    let seen = prop::collection::btree_map(0..6u8, (0..2u8, 0..3u8), 0..6);
    (services, seen).prop_map(|(wanted, seen)| {
        let mut rig = Rig {
            millis: 50_000,
            ..Rig::default()
        };
        let service = |n: u8| format!("s{n}");
        rig.want(
            wanted
                .iter()
                .map(|(n, (version, _, on))| Workload {
                    // Only upwards, so that there is no circle.
                    depends_on: on
                        .filter(|on| on > n)
                        .map(|on| name(&service(on)))
                        .into_iter()
                        .collect(),
                    ..workload(&service(*n), &version.to_string())
                })
                .collect(),
        );
        for (n, (version, how)) in seen {
            let body = workload(&service(n), &version.to_string()).seal().0;
            let exit = [None, Some(Exit::Code(0)), Some(Exit::Unknown)][usize::from(how)];
            rig.show(&name(&service(n)), body, exit);
        }
        rig
    })
}

proptest! {
    #[test]
    fn nothing_is_touched_while_what_is_wanted_is_unknown(mut rig in any_rig()) {
        rig.desired = Desired::Unknown;
        prop_assert_eq!(rig.plan().actions, vec![]);
    }

    #[test]
    fn nothing_that_runs_is_touched_while_the_newest_assignment_cannot_be_read(mut rig in any_rig()) {
        rig.doubtful = true;
        let runs = |rig: &Rig, service: &ServiceName| {
            rig.seen.get(service).is_some_and(|seen| matches!(seen.live, Live::Running { .. }))
        };
        for action in rig.plan().actions {
            match action {
                Action::Remove { .. } | Action::Cancel { .. } => prop_assert!(false, "{action:?}"),
                Action::Converge { service, .. } => prop_assert!(!runs(&rig, &service)),
                Action::Record { .. }
                | Action::Fetch(_)
                | Action::Ask(_)
                | Action::Conclude { .. } => {}
            }
        }
    }

    #[test]
    fn what_is_said_changes_seldom_while_only_time_passes(mut rig in any_rig()) {
        let trouble = Failure::Retryable("no luck".to_owned());
        rig.run(2_000, &Err(trouble));
        let mut said: BTreeMap<ServiceName, BTreeSet<String>> = BTreeMap::new();
        for _ in 0..100 {
            rig.millis += 1;
            for (service, status) in rig.plan().statuses {
                said.entry(service).or_default().insert(status.message);
            }
        }
        for texts in said.values() {
            prop_assert!(texts.len() < 10, "{texts:?}");
        }
    }

    #[test]
    fn nothing_is_touched_while_what_is_there_is_unknown(mut rig in any_rig()) {
        rig.unknown = true;
        let plan = rig.plan();
        prop_assert_eq!(plan.actions, vec![]);
        prop_assert!(plan.statuses.values().all(|s| s.state == State::Unknown));
    }

    #[test]
    fn removals_come_before_additions(mut rig in any_rig()) {
        let plan = rig.plan();
        let removes = plan.actions.iter().any(|a| matches!(a, Action::Remove { .. }));
        let adds = plan.actions.iter().any(|a| matches!(a, Action::Converge { mends: false, .. }));
        prop_assert!(!(removes && adds), "{:?}", plan.actions);
    }

    #[test]
    fn once_everything_is_done_the_next_plan_has_nothing_to_do(mut rig in any_rig()) {
        rig.run(60_000, &Ok(()));
        let plan = rig.plan();
        prop_assert_eq!(&plan.actions, &vec![]);
        prop_assert!(plan.converged, "{:?}", plan.statuses);
        let Desired::Known { wanted, .. } = &rig.desired else { unreachable!() };
        prop_assert_eq!(rig.seen.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    }

    #[test]
    fn what_runs_in_the_right_body_is_never_touched(mut rig in any_rig()) {
        rig.run(60_000, &Ok(()));
        let before = rig.seen.clone();
        rig.run(600_000, &Ok(()));
        prop_assert_eq!(rig.seen, before);
    }

    #[test]
    fn no_more_is_begun_at_once_than_the_bounds_allow(mut rig in any_rig(), busy in 0usize..8) {
        for n in 0..busy {
            rig.occupy(&format!("b{n}"), "process");
        }
        let actions = rig.plan().actions;
        let begun = |mended: bool| actions.iter().filter(move |action| match action {
            Action::Remove { .. } => !mended,
            Action::Converge { mends, .. } => *mends == mended,
            Action::Record { .. } | Action::Cancel { .. } | Action::Fetch(_) | Action::Ask(_)
            | Action::Conclude { .. } => false,
        });
        prop_assert!(begun(false).count() <= ACTIONS_MAX.saturating_sub(busy));
        prop_assert!(begun(true).count() <= ACTIONS_MAX);
    }

    #[test]
    fn what_ended_and_was_not_looked_at_yet_holds_up_no_other_service(mut rig in any_rig(), settling in 0usize..8) {
        let begun = rig.plan().actions;
        for n in 0..settling {
            let service = format!("b{n}");
            rig.occupy(&service, "process");
            rig.busy.get_mut(&name(&service)).unwrap().doing = Doing::Settling { body: None };
        }
        prop_assert_eq!(rig.plan().actions, begun);
    }
}

#[test]
fn a_runtime_that_hangs_and_what_is_slow_to_come_keep_nothing_else_down() {
    let mut rig = Rig::default();
    rig.want(vec![workload("new", "1"), workload("old", "1")]);
    for n in 0..ACTIONS_MAX {
        rig.occupy(&format!("b{n}"), "container");
    }
    assert_eq!(rig.plan().actions.len(), 2, "another runtime is free");
    rig.run(2_000, &Ok(()));
    let seen = rig.seen.get_mut(&name("old")).unwrap();
    let at = Timestamp::from_millis(1);
    let exit = Exit::Code(1);
    seen.live = Live::Ended { exit, at };
    rig.seen.remove(&name("new"));
    for n in 0..ACTIONS_MAX {
        rig.occupy(&format!("b{n}"), "process");
    }
    let actions = rig.plan().actions;
    let mends = |action: &Action| matches!(action, Action::Converge { mends: true, service, .. } if service.as_str() == "old");
    assert!(
        matches!(actions.as_slice(), [one] if mends(one)),
        "{actions:?}"
    );
}

#[test]
fn a_removal_that_hangs_holds_up_what_is_new_for_a_while_only() {
    let mut rig = Rig::default();
    rig.want(vec![workload("old", "1")]);
    rig.run(2_000, &Ok(()));
    rig.want(vec![workload("new", "1")]);
    rig.occupy("old", "process");
    let plan = rig.plan();
    assert_eq!(plan.actions, []);
    let until = rig.now().at.after(REMOVAL_HOLDS_MAX);
    assert_eq!(plan.wake_at, Some(until));
    rig.millis += holdfast_protocol::time::millis(REMOVAL_HOLDS_MAX);
    let actions = rig.plan().actions;
    assert!(
        matches!(actions.as_slice(), [Action::Converge { .. }]),
        "{actions:?}"
    );
}

#[test]
fn the_bounds_are_what_the_text_says() {
    assert_eq!((ACTIONS_MAX, FETCHES_MAX), (4, 4));
    assert_eq!(status::RAN_LONG_ENOUGH, Duration::from_secs(1));
}
