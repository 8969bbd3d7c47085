//! Staging's target, with staging's own certificate, wants what is production's.

use std::collections::BTreeMap;

use holdfast_protocol::assignment::Assignment;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::message::{ToAgent, ToCoordinator};
use holdfast_protocol::observed::{Report, State, Transition, WorkloadStatus};
use holdfast_protocol::stream::{AgentOpens, ArtifactReply, CoordinatorOpens};
use holdfast_protocol::version::ALPN_CONTROL;
use holdfast_protocol::workload::Workload;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest;
use holdfast_tests::wait::{PATIENCE, wait_for};

use super::client::{Heard, Net, Stream, closing_code, tls};
use super::credential::{Member, Stolen, join, now};
use super::{ENVIRONMENTS, assert_never_disconnected, count, recorded};

/// A service of production alone, with an artifact of its own.
const VAULT: &str = "\
apiVersion: holdfast/v1
kind: Service
metadata: {name: vault, owner: team-vault}
spec:
  artifacts: {plan: {file: plan.txt}}
  runtime: process
  template:
    command: [\"/bin/sh\", \"-c\", \"exec /bin/sleep 100000\", \"{{ artifacts.plan.path }}\"]
    stop: {signal: SIGTERM, grace: 2s}
  environments:
    staging: {enabled: false}
";
const PLAN: &[u8] = b"what only production may know";

/// Both environments are at rest, with one real agent in production.
fn two_environments() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web"), VAULT].join("---\n"));
    fleet.join("production-1", "production", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.release("vault", "1.0.0", &[("plan", PLAN)]);
    fleet.wait_stable("vault", "production", "1.0.0");
    fleet.wait_stable("web", "production", "1.0.0");
    fleet
}

fn assignment(control: &mut Stream<'_>) -> Assignment {
    control.hear_until(|message| match message {
        ToAgent::Assign(signed) => Some(signed.open_unverified().unwrap()),
        _ => None,
    })
}

/// The digests of the vault's body and of its artifact, as a target of production is given them.
fn learn_from_production(fleet: &Fleet, net: &Net) -> (Digest, Digest) {
    let member = join(net, &fleet.token("production", &[]), "production-2");
    let credential = member.credential();
    let link = net.dial(tls(&member.roots(), Some(&credential), ALPN_CONTROL));
    let link = link.unwrap();
    let mut control = link.introduce();
    let body = loop {
        let assignment = assignment(&mut control);
        let mut lines = assignment.workloads.into_iter();
        if let Some(line) = lines.find(|line| line.service.as_str() == "vault") {
            break line.body;
        }
    };
    control.say(&ToCoordinator::Want(vec![body]));
    let bytes = control.hear_until(|message| match message {
        ToAgent::Bodies(mut bodies) => bodies.pop(),
        _ => None,
    });
    assert_eq!(Digest::of(&bytes), body);
    let artifact = Workload::open(&bytes).unwrap().artifacts[0].digest;
    let mut stream = link.open();
    stream.say(&AgentOpens::Artifact {
        digest: artifact,
        offset: 5,
    });
    let size = PLAN.len() as u64;
    assert_eq!(stream.hear(), Heard::Said(ArtifactReply::Content { size }));
    assert_eq!(stream.rest().unwrap(), &PLAN[5..]);
    (body, artifact)
}

/// A connection of staging's target on which `offend` is done; it must be thrown out for it. Gives
/// what it was told before.
fn thrown_out<T>(
    net: &Net,
    staging: &Member,
    offend: impl FnOnce(&super::client::Link<'_>, &mut Stream<'_>) -> T,
) -> T {
    let credential = staging.credential();
    let link = net.dial(tls(&staging.roots(), Some(&credential), ALPN_CONTROL));
    let link = link.unwrap();
    let mut control = link.introduce();
    let told = offend(&link, &mut control);
    link.is_closed_with(REFUSED);
    told
}

fn ask_for_artifact(net: &Net, staging: &Member, digest: Digest) -> Heard<ArtifactReply> {
    thrown_out(net, staging, |link, _| {
        let mut stream = link.open();
        stream.say(&AgentOpens::Artifact { digest, offset: 0 });
        stream.hear()
    })
}

#[test]
fn staging_is_given_nothing_of_production() {
    let fleet = two_environments();
    let net = Net::to(fleet.address());
    let process = fleet.agent("production-1").one("vault");
    let (body, artifact) = learn_from_production(&fleet, &net);
    let before = fleet.wait_converged("production-1");
    let history = fleet.history("vault", "production").unwrap();
    let staging = join(&net, &fleet.token("staging", &[]), "staging-1");

    thrown_out(&net, &staging, |_, control| {
        control.say(&ToCoordinator::Want(vec![body]));
        // Nothing may come but what is staging's.
        while let Heard::Said(message) = control.hear::<ToAgent>() {
            assert!(!matches!(message, ToAgent::Bodies(_)), "{message:?}");
        }
    });
    recorded(&fleet, "security.refused", "bodies of another assignment");

    let others = ask_for_artifact(&net, &staging, artifact);
    let nobodys = ask_for_artifact(&net, &staging, Digest::of(b"there is no such thing"));
    assert_eq!(others, Heard::Said(ArtifactReply::Unavailable));
    assert_eq!(others, nobodys, "one answer for both");
    let seen = recorded(&fleet, "security.refused", &artifact.to_string());
    assert_eq!(seen.target.unwrap().as_str(), "staging-1");
    assert_eq!(seen.environment.unwrap().as_str(), "staging");

    thrown_out(&net, &staging, |link, _| {
        let mut stream = link.open();
        stream.say(&CoordinatorOpens::Logs {
            service: "vault".parse().unwrap(),
            since: None,
            tail: 100,
            follow: true,
        });
        assert!(!matches!(stream.hear::<ArtifactReply>(), Heard::Said(_)));
    });
    recorded(&fleet, "security.refused", "none of a target's");

    let after = fleet.target("production-1").unwrap();
    assert_eq!(
        (before.generation, before.since),
        (after.generation, after.since)
    );
    assert_eq!(fleet.history("vault", "production").unwrap(), history);
    assert!(process.lives());
    assert_never_disconnected(&fleet, "production-1");
    fleet.assert_record_holds();
}

#[test]
fn staging_cannot_speak_for_production() {
    let fleet = two_environments();
    let net = Net::to(fleet.address());
    let stolen = Stolen::from(&fleet.coordinator_data());
    let name = stolen.name("production", "production-1");
    let roots = stolen.roots();

    // Staging's authority, in the hands of a thief, names a target of production.
    let forged = stolen.forged("staging", std::slice::from_ref(&name), |_| {});
    let why = net.is_refused(tls(&roots, Some(&forged), ALPN_CONTROL));
    println!("staging's authority for production's name: {why}");
    recorded(&fleet, "security.refused", "handshake was refused");

    // Production's own authority vouches, but the coordinator never issued it.
    let forged = stolen.forged("production", std::slice::from_ref(&name), |_| {});
    let link = net.dial(tls(&roots, Some(&forged), ALPN_CONTROL)).unwrap();
    let mut control = link.open();
    control.say(&ToCoordinator::Hello(super::client::hello()));
    assert!(!matches!(control.hear::<ToAgent>(), Heard::Said(_)));
    link.is_closed_with(REFUSED);
    recorded(&fleet, "security.refused", "not on record");
    assert_never_disconnected(&fleet, "production-1");
}

fn status(service: &str, state: State) -> WorkloadStatus {
    WorkloadStatus {
        service: service.parse().unwrap(),
        wanted: None,
        running: Some(Digest::of(b"whatever it may be")),
        version: Some("6.6.6".parse().unwrap()),
        state,
        message: "\u{1b}[2J".to_owned() + &"m".repeat(100_000),
        since: now(),
        restarts: 0,
    }
}

#[test]
fn a_target_is_believed_only_about_its_own_services() {
    let fleet = two_environments();
    let net = Net::to(fleet.address());
    let staging = join(&net, &fleet.token("staging", &[]), "staging-1");
    let credential = staging.credential();
    let link = net.dial(tls(&staging.roots(), Some(&credential), ALPN_CONTROL));
    let link = link.unwrap();
    let mut control = link.introduce();
    let own = assignment(&mut control);
    assert_eq!(own.workloads[0].service.as_str(), "web");

    let strangers = (0..500).map(|n| status(&format!("stranger-{n}"), State::Ready));
    let few = [status("web", State::Ready), status("vault", State::Ready)];
    let shorter = |mut status: WorkloadStatus| {
        status.message.truncate(200);
        status
    };
    let report = |sequence, statuses: Vec<WorkloadStatus>, transitions| {
        ToCoordinator::Report(Report {
            sequence,
            generation: Some(own.generation),
            converged: false,
            complete: false,
            statuses,
            transitions,
            conditions: None,
            facts: None,
        })
    };
    control.say(&report(1, few.into_iter().collect(), Vec::new()));
    control.say(&report(2, strangers.map(shorter).collect(), Vec::new()));
    let line = |n: u64| Transition {
        service: "web".parse().unwrap(),
        at: now(),
        wanted: None,
        state: State::Failed,
        message: format!("line {n}"),
    };
    for sequence in 3..8 {
        control.say(&report(
            sequence,
            Vec::new(),
            (0..1_000).map(line).collect(),
        ));
    }
    control.hear_until(|message| match message {
        ToAgent::Stored { sequence: 7 } => Some(()),
        _ => None,
    });

    recorded(&fleet, "report.refused", "vault");
    recorded(&fleet, "report.refused", "stranger-0");
    recorded(&fleet, "report.refused", "too much");
    let lines = count(&fleet, "workload.failed");
    assert!(
        (1_000..1_100).contains(&lines),
        "{lines} of 5000 lines were recorded"
    );
    let whereabouts = |service: &str| -> Vec<holdfast_protocol::api::whereabouts::Whereabouts> {
        fleet
            .api
            .list(&format!("/v1/where?service={service}"))
            .unwrap()
    };
    let vault: Vec<_> = whereabouts("vault").into_iter().map(|w| w.target).collect();
    assert!(
        vault.iter().all(|target| target.as_str() != "staging-1"),
        "{vault:?}"
    );
    let web: BTreeMap<_, _> = whereabouts("web")
        .into_iter()
        .map(|w| (w.target, w.version.to_string()))
        .collect();
    assert_eq!(
        web["staging-1"], "6.6.6",
        "of itself it may say what it likes"
    );
    assert_eq!(web["production-1"], "1.0.0");
    assert!(
        link.closed(std::time::Duration::ZERO).is_none(),
        "it goes on"
    );
    for event in fleet.events() {
        assert!(event.message.len() < 4_096, "{} bytes", event.message.len());
        assert!(!event.message.contains('\u{1b}'));
    }
    assert_never_disconnected(&fleet, "production-1");
    fleet.assert_record_holds();
}

#[test]
fn what_is_outdated_is_refused_without_blame() {
    let fleet = two_environments();
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("production", &[]), "production-2");
    let credential = member.credential();
    let link = net.dial(tls(&member.roots(), Some(&credential), ALPN_CONTROL));
    let link = link.unwrap();
    let mut control = link.introduce();
    let first = loop {
        let assignment = assignment(&mut control);
        if assignment.workloads.len() == 2 {
            break assignment;
        }
    };
    // Two more releases come while this target is still busy with the first.
    for version in ["1.0.1", "1.0.2"] {
        fleet.release("vault", version, &[("plan", version.as_bytes())]);
        wait_for("both are on their way", PATIENCE, || {
            let target = fleet.target("production-1")?;
            let all = fleet.history("vault", "production")?;
            let newest = all.last().map(|d| d.version.to_string());
            holdfast_tests::wait::expect(newest.as_deref() == Some(version), (target, newest))
        });
    }
    let lines = first.workloads.iter().map(|line| line.body).collect();
    control.say(&ToCoordinator::Want(lines));
    let mut bodies = Vec::new();
    control.hear_until(|message| {
        if let ToAgent::Bodies(more) = message {
            bodies.extend(more);
        }
        (bodies.len() == 2).then_some(())
    });
    let mut stream = link.open();
    let digest = Digest::of(PLAN);
    stream.say(&AgentOpens::Artifact { digest, offset: 0 });
    assert!(matches!(stream.hear::<ArtifactReply>(), Heard::Said(_)));
    let closed = link.closed(std::time::Duration::from_millis(300));
    assert_eq!(closed.as_ref().and_then(closing_code), None, "{closed:?}");
    assert_eq!(count(&fleet, "security.refused"), 0);
}

/// The code with which the coordinator closes the connection of one who did what it may not.
const REFUSED: u32 = 3;
