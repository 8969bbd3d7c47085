//! Certificates are renewed: on the live connection, and after they have expired while their target
//! was away.

use holdfast_certs::certificate::TargetCertificate;
use holdfast_certs::key::TargetKey;
use holdfast_protocol::message::{ToAgent, ToCoordinator};
use holdfast_protocol::version::ALPN_CONTROL;
use holdfast_tests::fleet::{Agent, Fleet};
use holdfast_tests::operator::Said;
use holdfast_tests::program::{Program, built};
use holdfast_tests::skip::skip;
use holdfast_tests::wait::{PATIENCE, expect, holds_for, wait_for};
use std::path::Path;
use std::time::Duration;

use super::client::{Net, Stream, tls};
use super::credential::{Credential, join};
use super::{ENVIRONMENTS, count, recorded};

fn renew(control: &mut Stream<'_>, key: &TargetKey) -> Result<Vec<Vec<u8>>, String> {
    let request = key.request().unwrap();
    control.say(&ToCoordinator::Renew { request });
    control.hear_until(|message| match message {
        ToAgent::Renewed { chain } => Some(Ok(chain)),
        ToAgent::RenewalRefused { reason } => Some(Err(reason)),
        _ => None,
    })
}

#[test]
fn a_certificate_is_renewed_on_the_live_connection_and_the_old_one_stays_valid() {
    let fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-1");
    let old = member.credential();
    let roots = member.roots();
    let link = net.dial(tls(&roots, Some(&old), ALPN_CONTROL)).unwrap();
    let mut control = link.introduce();
    let key = TargetKey::generate().unwrap();
    let chain = renew(&mut control, &key).unwrap();
    let given = TargetCertificate::read(&chain[0]).unwrap();
    assert_eq!(given.identity.to_string(), "staging/staging-1");
    assert_eq!(given.public_key, *key.public());
    assert!(link.closed(Duration::from_millis(100)).is_none());

    let new = Credential::of(&key, &chain);
    for credential in [&new, &old, &new] {
        let link = net
            .dial(tls(&roots, Some(credential), ALPN_CONTROL))
            .unwrap();
        let _control = link.introduce();
    }

    // Nobody is given certificates without end.
    let link = net.dial(tls(&roots, Some(&new), ALPN_CONTROL)).unwrap();
    let mut control = link.introduce();
    let answers: Vec<_> = (0..40).map(|_| renew(&mut control, &key)).collect();
    let given = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(given < 12, "{given} certificates in a minute");
    assert!(answers.last().unwrap().is_err());
    assert_eq!(count(&fleet, "certificate.renewed"), given + 1);
}

/// A coordinator and an agent some days ago. Only the programs are there: their certificates cannot
/// be checked by today's clock, so everything is asked of them by programs of that day.
struct Past {
    fleet: Fleet,
    offset: String,
}

impl Past {
    fn days_ago(days: u32) -> Self {
        let mut fleet = Fleet::start();
        fleet.coordinator.kill9();
        let data = fleet.coordinator_data();
        // What was made today must not be there yet.
        std::fs::remove_dir_all(&data).unwrap();
        let offset = format!("-{days}d");
        let address = fleet.address().to_owned();
        fleet.coordinator = at(
            &offset,
            "coordinator",
            "holdfast-coordinator",
            &[
                "serve",
                "--listen",
                &address,
                "--api",
                &address,
                "--data",
                data.to_str().unwrap(),
            ],
            fleet.directory(),
        );
        fleet.start_coordinator();
        Self { fleet, offset }
    }

    fn operator(&self, arguments: &[&str]) -> Said {
        let data = self.fleet.coordinator_data();
        let program = built("holdfast");
        let output = holdfast_tests::program::command(&program)
            .args(arguments)
            .envs(fake_time(&self.offset))
            .env("HOLDFAST_SERVER", self.fleet.api.base())
            .env("HOLDFAST_TOKEN_FILE", data.join("admin.token"))
            .env("HOLDFAST_CA", data.join("ca.pem"))
            .env("HOME", self.fleet.directory())
            .current_dir(self.fleet.directory())
            .output()
            .unwrap();
        Said::new(&program, arguments, &output)
    }

    fn agent(&self, label: &str, offset: Option<&str>, token: Option<&str>) -> Agent {
        let data = self.fleet.directory().join("staging-1");
        let mut arguments = vec![
            "run",
            "--coordinator",
            self.fleet.address(),
            "--name",
            "staging-1",
            "--data",
            data.to_str().unwrap(),
        ];
        if let Some(token) = token {
            arguments.extend(["--token", token]);
        }
        let program = match offset {
            Some(offset) => at(
                offset,
                label,
                "holdfast-agent",
                &arguments,
                self.fleet.directory(),
            ),
            None => Program::new(
                label,
                built("holdfast-agent"),
                arguments,
                &AGENT,
                self.fleet.directory(),
            ),
        };
        Agent {
            program,
            data: data.clone(),
        }
    }

    /// Deploys a sleeping workload on one target with a real agent; gives that agent, still running.
    fn deploy(&self) -> Agent {
        let manifests = [ENVIRONMENTS, &holdfast_tests::manifest::sleeper("web")].join("---\n");
        let path = self.fleet.write("manifests.yaml", &manifests);
        let _ = self.operator(&["apply", "-f", &path]).succeeds();
        let token = self
            .operator(&["token", "create", "-e", "staging"])
            .succeeds();
        let agent = self.agent("agent-then", Some(&self.offset), Some(token.trim()));
        agent.program.start();
        let _ = self
            .operator(&["release", "create", "web", "--version", "1.0.0"])
            .succeeds();
        wait_for("it has converged", PATIENCE, || {
            let said = self.operator(&["get", "targets", "-o", "json"]).json();
            let target = &said["items"][0];
            let done = target["generation"].as_u64() > Some(0)
                && target["generation"] == target["convergedGeneration"];
            expect(done, target)
        });
        agent
    }

    /// Ends both, and starts the coordinator in the present.
    fn comes_to_an_end(&mut self, agent: &Agent) {
        agent.program.kill9();
        self.fleet.coordinator.kill9();
        let data = self.fleet.coordinator_data();
        let address = self.fleet.address().to_owned();
        let arguments = [
            "serve",
            "--listen",
            &address,
            "--api",
            &address,
            "--data",
            data.to_str().unwrap(),
        ];
        self.fleet.coordinator = Program::new(
            "coordinator-now",
            built("holdfast-coordinator"),
            arguments,
            &[],
            self.fleet.directory(),
        );
        self.fleet.start_coordinator();
    }
}

/// A program by a clock that is wrong, and whose waits take as long as always.
fn at(offset: &str, label: &str, name: &str, arguments: &[&str], folder: &Path) -> Program {
    let environment = [&fake_time(offset)[..], &AGENT[..]].concat();
    let arguments = arguments.iter().copied();
    Program::new(label, built(name), arguments, &environment, folder)
}

fn can_fake_time(test: &str) -> bool {
    let there = Path::new(FAKETIME).exists();
    if !there {
        skip(test, "the package faketime is not installed");
    }
    there
}

#[test]
fn a_target_that_was_away_past_its_certificates_end_comes_back_by_itself() {
    if !can_fake_time("a_target_that_was_away_past_its_certificates_end_comes_back_by_itself") {
        return;
    }
    let mut past = Past::days_ago(31);
    let then = past.deploy();
    let workload = then.one("web");
    past.comes_to_an_end(&then);
    let expired = past.fleet.target("staging-1").unwrap().certificate_expires;
    assert!(expired < super::credential::now(), "{expired}");

    let now = past.agent("agent-now", None, None);
    now.program.start();
    let target = past.fleet.wait_connected("staging-1", true);
    recorded(
        &past.fleet,
        "certificate.renewed",
        "came back with an expired certificate",
    );
    assert!(target.certificate_expires > super::credential::now());
    assert_eq!(now.one("web"), workload, "the same process as a month ago");
    let status = past
        .fleet
        .run(
            "holdfast-agent",
            &["status", "-o", "json", "--data", now.data.to_str().unwrap()],
            &[],
        )
        .json();
    assert_eq!(status["connected"], true, "{status}");
    past.fleet.assert_record_holds();
    now.program.kill9();
}

fn status(fleet: &Fleet, agent: &Agent) -> serde_json::Value {
    let data = agent.data.to_str().unwrap();
    let arguments = ["status", "-o", "json", "--data", data];
    fleet.run("holdfast-agent", &arguments, &[]).json()
}

#[test]
fn a_target_that_cannot_keep_a_key_stays_connected_past_its_certificates_half_life() {
    if !can_fake_time(
        "a_target_that_cannot_keep_a_key_stays_connected_past_its_certificates_half_life",
    ) {
        return;
    }
    let mut past = Past::days_ago(20);
    let then = past.deploy();
    past.comes_to_an_end(&then);
    let now = past.agent("agent-now", None, None);
    // A directory in the key's place takes no key, like a full disk.
    std::fs::create_dir(now.data.join("identity/next.key")).unwrap();
    now.program.start();
    let _ = past.fleet.wait_connected("staging-1", true);
    let since = status(&past.fleet, &now)["since"].clone();
    // It looks whether a renewal is due every four seconds.
    holds_for("one connection lasts", Duration::from_secs(9), || {
        let shown = status(&past.fleet, &now);
        expect(shown["connected"] == true && shown["since"] == since, shown)
    });
    now.program.kill9();
}

#[test]
fn a_target_whose_clock_is_ahead_is_given_one_certificate_and_shows_it() {
    if !can_fake_time("a_target_whose_clock_is_ahead_is_given_one_certificate_and_shows_it") {
        return;
    }
    let fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    let past = Past {
        fleet,
        offset: "+20d".to_owned(),
    };
    let token = past.fleet.token("staging", &[]);
    let agent = past.agent("agent-ahead", Some("+20d"), Some(token.trim()));
    agent.program.start();
    let joined = past.fleet.wait_connected("staging-1", true);
    wait_for("it has another certificate", PATIENCE, || {
        let given = count(&past.fleet, "certificate.renewed");
        expect(given > 0, given)
    });
    let shown = status(&past.fleet, &agent);
    let expires = past.fleet.target("staging-1").unwrap().certificate_expires;
    assert!(expires >= joined.certificate_expires);
    assert_eq!(shown["certificateExpires"], expires.to_string(), "{shown}");
    holds_for("it asks for no other", Duration::from_secs(9), || {
        let given = count(&past.fleet, "certificate.renewed");
        expect(given == 1, given)
    });
    agent.program.kill9();
}

#[test]
fn a_target_that_was_away_for_more_than_400_days_is_refused_and_runs_on() {
    if !can_fake_time("a_target_that_was_away_for_more_than_400_days_is_refused_and_runs_on") {
        return;
    }
    let mut past = Past::days_ago(30 + 402);
    let then = past.deploy();
    let workload = then.one("web");
    past.comes_to_an_end(&then);
    let now = past.agent("agent-now", None, None);
    now.program.start();
    recorded(&past.fleet, "renewal.refused", "more than the 400 days");
    holds_for(
        "it runs on and is not let in",
        Duration::from_secs(2),
        || {
            let connected = past.fleet.target("staging-1")?.connected;
            expect(
                !connected && workload.lives() && now.program.ended().is_none(),
                connected,
            )
        },
    );
    // A dead workload is brought back by an agent that nobody lets in.
    workload.kill9();
    wait_for("another process takes its place", PATIENCE, || {
        let found = now.workload("web");
        expect(found.len() == 1 && !found.contains(&workload), &found)
    });
    now.program.kill9();
}

/// What makes a program see another date: the library of Debian's package `faketime`, preloaded, as its
/// command would do, but without a process in between.
fn fake_time(offset: &str) -> [(&str, &str); 3] {
    [
        ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1"),
        ("FAKETIME", offset),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
}

const FAKETIME: &str = "/usr/bin/faketime";
/// Agents notice sooner, and try again sooner, than in real life.
const AGENT: [(&str, &str); 3] = [
    ("HOLDFAST_KEEP_ALIVE", "500ms"),
    ("HOLDFAST_IDLE_TIMEOUT", "6s"),
    ("HOLDFAST_RECONNECT_MAX", "500ms"),
];
