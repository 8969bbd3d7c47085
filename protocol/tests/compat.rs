//! The wire format does not change: bytes recorded when a minor version was released are decoded by
//! every later build, and encode to the same bytes again.
//!
//! A new variant fails to compile in `name_of_*` until it has a name here, and then fails the test
//! until its bytes are recorded: `HOLDFAST_RECORD=1 cargo test -p holdfast-protocol --test compat`
//! writes the files that are missing and never touches one that is there.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

use bincode::{Decode, Encode};
use holdfast_protocol::assignment::{Assignment, Entry, Generation, Held, SignedAssignment};
use holdfast_protocol::codec;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame::FRAME_MAX_BYTES;
use holdfast_protocol::join::{JoinRequest, Joined, RenewRequest, ToAuthority, ToJoiner};
use holdfast_protocol::login::{Goal, Login};
use holdfast_protocol::message::{Hello, Refusal, ToAgent, ToCoordinator, Welcome};
use holdfast_protocol::name::{LabelKey, LabelValue, ServiceName};
use holdfast_protocol::observed::{
    Facts, Hold, Labels, Report, State, TargetCondition, TargetConditionKind, Transition,
    WorkloadStatus,
};
use holdfast_protocol::secret::{Sealed, SecretRef};
use holdfast_protocol::stream::{
    AgentOpens, ArtifactReply, CheckReply, CheckRequest, CoordinatorOpens, KeptRequest, LogFrame,
    LogLine, SecretReply,
};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::Range;
use holdfast_protocol::workload::{
    Artifact, Body, Check, Form, Health, JobTerms, Rollback, Workload,
};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_795_329_360_000 + millis)
}

fn service() -> ServiceName {
    ServiceName::parse("web").unwrap()
}

fn held() -> Held {
    Held {
        generation: Generation {
            epoch: 1,
            number: 300,
        },
        digest: Digest::of(b"assignment"),
    }
}

fn facts() -> Facts {
    Facts {
        os: "debian".to_owned(),
        os_version: "12".to_owned(),
        kernel: "6.1.0".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "shop-1".to_owned(),
        cores: 4,
        memory_bytes: 8 << 30,
        memory_available_bytes: 5 << 30,
        disk_bytes: 250 << 30,
        disk_available_bytes: 100 << 30,
        load_hundredths: 42,
    }
}

fn status() -> WorkloadStatus {
    WorkloadStatus {
        service: service(),
        wanted: Some(Digest::of(b"new")),
        running: Some(Digest::of(b"old")),
        version: Some("1.4.0".parse().unwrap()),
        state: State::Progressing,
        message: "starting".to_owned(),
        since: at(5),
        restarts: 3,
    }
}

fn report() -> Report {
    Report {
        sequence: 7,
        generation: Some(held().generation),
        converged: false,
        complete: true,
        statuses: vec![status()],
        transitions: vec![Transition {
            service: service(),
            at: at(1),
            wanted: Some(Digest::of(b"new")),
            state: State::NotReady,
            message: "it was ended by signal 9".to_owned(),
        }],
        conditions: Some(vec![TargetCondition {
            kind: TargetConditionKind::CacheDamaged,
            message: "the newest record is torn".to_owned(),
            since: at(2),
        }]),
        facts: Some(facts()),
    }
}

fn terms() -> JobTerms {
    JobTerms {
        run: Some(at(4)),
        attempts: 3,
        time_limit_ms: 3_600_000,
    }
}

fn workload() -> Workload {
    Workload {
        service: service(),
        environment: "staging".parse().unwrap(),
        version: "1.4.0".parse().unwrap(),
        sequence: 4,
        configuration: Digest::of(b"configuration"),
        runtime: "process".to_owned(),
        template: r#"{"command":["/bin/web"]}"#.to_owned(),
        artifacts: vec![Artifact {
            name: "app".parse().unwrap(),
            digest: Digest::of(b"artifact"),
            size: 70_000,
            file: "web.tar.gz".to_owned(),
            form: Form::TarGz,
            home: None,
        }],
        health: Some(Health {
            check: Check::Http {
                url: "http://127.0.0.1:80/".to_owned(),
                expect: Some(204),
            },
            interval_ms: 2_000,
            timeout_ms: 1_000,
            success_threshold: 1,
            failure_threshold: 3,
            start_period_ms: 0,
        }),
        depends_on: vec!["db".parse().unwrap()],
        rollback: Rollback::Local,
        progress_deadline_ms: 600_000,
        job: None,
        logins: Vec::new(),
    }
}

fn labels() -> Labels {
    let key = |text| LabelKey::parse(text).unwrap();
    Labels::from([(key("role"), LabelValue::parse("web").unwrap())])
}

fn to_coordinator() -> Vec<ToCoordinator> {
    let refused = |reason| ToCoordinator::Refused {
        generation: held().generation,
        reason,
    };
    vec![
        ToCoordinator::Hello(Hello {
            versions: Range {
                lowest: 0,
                highest: 0,
            },
            agent_version: "0.1.0".to_owned(),
            held: Some(held()),
            time: at(0),
            facts: facts(),
        }),
        ToCoordinator::Want(vec![Digest::of(b"a"), Digest::of(b"b")]),
        ToCoordinator::Accepted(held()),
        refused(Refusal::BadSignature),
        ToCoordinator::Report(report()),
        ToCoordinator::Renew {
            request: vec![0x30, 0x82],
        },
        ToCoordinator::Leave,
        ToCoordinator::Hold(Some(Hold {
            until: at(7_200_000),
            reason: "inventory".to_owned(),
        })),
        ToCoordinator::SealingKey(vec![8; 32]),
    ]
}

fn name_of_to_coordinator(message: &ToCoordinator) -> &'static str {
    match message {
        ToCoordinator::Hello(_) => "to-coordinator-hello",
        ToCoordinator::Want(_) => "to-coordinator-want",
        ToCoordinator::Accepted(_) => "to-coordinator-accepted",
        ToCoordinator::Refused { .. } => "to-coordinator-refused",
        ToCoordinator::Report(_) => "to-coordinator-report",
        ToCoordinator::Renew { .. } => "to-coordinator-renew",
        ToCoordinator::Leave => "to-coordinator-leave",
        ToCoordinator::Hold(_) => "to-coordinator-hold",
        ToCoordinator::SealingKey(_) => "to-coordinator-sealing-key",
    }
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::BadSignature,
        Refusal::NotForMe,
        Refusal::Older {
            held: held().generation,
        },
        Refusal::Equivocation,
        Refusal::Malformed("unsorted".to_owned()),
        Refusal::BadBody(Digest::of(b"body")),
        Refusal::NotStored("no space".to_owned()),
    ]
}

fn name_of_refusal(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::BadSignature => "refusal-bad-signature",
        Refusal::NotForMe => "refusal-not-for-me",
        Refusal::Older { .. } => "refusal-older",
        Refusal::Equivocation => "refusal-equivocation",
        Refusal::Malformed(_) => "refusal-malformed",
        Refusal::BadBody(_) => "refusal-bad-body",
        Refusal::NotStored(_) => "refusal-not-stored",
    }
}

fn to_agent() -> Vec<ToAgent> {
    vec![
        ToAgent::Welcome(Welcome {
            version: 0,
            coordinator_version: "0.1.0".to_owned(),
            time: at(9),
        }),
        ToAgent::Busy {
            retry_after_ms: 2_000,
        },
        ToAgent::Assign(SignedAssignment {
            bytes: vec![1, 2, 3],
            signature: vec![9; 64],
        }),
        ToAgent::Bodies(vec![vec![1, 2], vec![3]]),
        ToAgent::Stored { sequence: 300 },
        ToAgent::Renewed {
            chain: vec![vec![0x30], vec![0x31]],
        },
        ToAgent::RenewalRefused {
            reason: "revoked".to_owned(),
        },
        ToAgent::Farewell,
    ]
}

fn name_of_to_agent(message: &ToAgent) -> &'static str {
    match message {
        ToAgent::Welcome(_) => "to-agent-welcome",
        ToAgent::Busy { .. } => "to-agent-busy",
        ToAgent::Assign(_) => "to-agent-assign",
        ToAgent::Bodies(_) => "to-agent-bodies",
        ToAgent::Stored { .. } => "to-agent-stored",
        ToAgent::Renewed { .. } => "to-agent-renewed",
        ToAgent::RenewalRefused { .. } => "to-agent-renewal-refused",
        ToAgent::Farewell => "to-agent-farewell",
    }
}

fn to_authority() -> Vec<ToAuthority> {
    vec![
        ToAuthority::Join(JoinRequest {
            token_id: "0123456789abcdef".to_owned(),
            secret: vec![7; 32],
            name: "shop-1".parse().unwrap(),
            labels: labels(),
            request: vec![0x30, 0x82],
            replace: true,
            facts: facts(),
        }),
        ToAuthority::Renew(RenewRequest {
            chain: vec![vec![0x30]],
            request: vec![0x31],
            proof: vec![0x32],
        }),
    ]
}

fn name_of_to_authority(message: &ToAuthority) -> &'static str {
    match message {
        ToAuthority::Join(_) => "to-authority-join",
        ToAuthority::Renew(_) => "to-authority-renew",
    }
}

fn to_joiner() -> Vec<ToJoiner> {
    vec![
        ToJoiner::Joined(Joined {
            environment: "staging".parse().unwrap(),
            target: "shop-1".parse().unwrap(),
            chain: vec![vec![0x30]],
            roots: vec![vec![0x31]],
            signing_keys: vec![vec![5; 32]],
        }),
        ToJoiner::Refused {
            message: "join refused".to_owned(),
        },
        ToJoiner::Busy { retry_after_ms: 1 },
    ]
}

fn name_of_to_joiner(message: &ToJoiner) -> &'static str {
    match message {
        ToJoiner::Joined(_) => "to-joiner-joined",
        ToJoiner::Refused { .. } => "to-joiner-refused",
        ToJoiner::Busy { .. } => "to-joiner-busy",
    }
}

/// Compares every sample with its recorded bytes.
fn check<T>(samples: &[T], name: impl Fn(&T) -> &'static str) -> BTreeSet<&'static str>
where
    T: Encode + Decode<()> + PartialEq + Debug,
{
    samples
        .iter()
        .map(|sample| {
            let name = name(sample);
            let recorded = recorded(name, &codec::encode(sample));
            let decoded: T = codec::decode(&recorded, FRAME_MAX_BYTES)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(&decoded, sample, "{name}");
            assert_eq!(codec::encode(&decoded), recorded, "{name}");
            name
        })
        .collect()
}

fn one<T: Encode + Decode<()> + PartialEq + Debug>(sample: T, name: &'static str) {
    check(&[sample], |_| name);
}

fn recorded(name: &str, fresh: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{name}.bin"));
    if !path.exists() && std::env::var_os("HOLDFAST_RECORD").is_some() {
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|_| panic!("{name} has no recorded bytes: see the head"))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1.0")
}

#[test]
fn recorded_messages_are_read_and_written_as_ever() {
    let mut names = check(&to_coordinator(), name_of_to_coordinator);
    names.extend(check(&refusals(), name_of_refusal));
    names.extend(check(&to_agent(), name_of_to_agent));
    names.extend(check(&to_authority(), name_of_to_authority));
    names.extend(check(&to_joiner(), name_of_to_joiner));
    assert_eq!(
        names.len(),
        9 + 7 + 8 + 2 + 3,
        "every variant has one sample"
    );
}

#[test]
fn recorded_requests_for_secrets_are_read_and_written_as_ever() {
    let reference = SecretRef {
        name: "db-password".parse().unwrap(),
        version: 300,
    };
    one(AgentOpens::Secret(reference), "opens-secret");
    let sealed = Sealed {
        encapsulated: vec![4; 32],
        ciphertext: vec![5; 24],
    };
    one(SecretReply::Sealed(sealed), "secret-sealed");
    one(SecretReply::Unavailable, "secret-unavailable");
}

#[test]
fn recorded_bodies_are_read_and_written_as_ever() {
    one(Body::V1(workload()), "body-v1");
    one(Body::V2(workload(), terms()), "body-v2");
    let home = "oci://registry.example.com/team/web@sha256:\
                1342c597424d4ba07a33a79300fa90a77891a96fdf47b4638056411ff2530407";
    let homes = vec![Some(home.parse().unwrap())];
    one(Body::V3(workload(), None, homes.clone()), "body-v3");
    let file = Goal::File {
        artifact: "app".parse().unwrap(),
        host: Some("registry.example.com".to_owned()),
    };
    let image = Goal::Image {
        repository: "registry.example.com/team/web".to_owned(),
    };
    let login = |goal| Login {
        goal,
        secret: "registry-login".parse().unwrap(),
    };
    let logins = vec![login(file), login(image)];
    one(Body::V4(workload(), None, homes, logins), "body-v4");
}

#[test]
fn a_body_whose_logins_could_be_read_in_two_ways_is_refused() {
    let image = |repository: &str| Goal::Image {
        repository: repository.to_owned(),
    };
    let file = |artifact: &str, host: &str| Goal::File {
        artifact: artifact.parse().unwrap(),
        host: Some(host.to_owned()),
    };
    let login = |goal, secret: &str| Login {
        goal,
        secret: secret.parse().unwrap(),
    };
    let opened = |logins: &[Login]| {
        let homes = vec![None; workload().artifacts.len()];
        let body = Body::V4(workload(), None, homes, logins.to_vec());
        Workload::open(&codec::encode(&body))
    };
    let good = [
        login(file("app", "files.example:8443"), "one"),
        login(image("r.example/a"), "two"),
    ];
    assert_eq!(opened(&good).unwrap().logins, good);
    let [first, second] = good;
    for bad in [
        vec![],
        vec![second.clone(), first.clone()],
        vec![first.clone(), first.clone()],
        vec![second.clone(), login(image("r.example/a"), "three")],
        vec![login(file("other", "files.example"), "one")],
        vec![login(file("app", "https://files.example"), "one")],
        vec![login(file("app", "evil.example/@files.example"), "one")],
        vec![login(image("a"), "one")],
    ] {
        assert!(opened(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn recorded_assignments_and_streams_are_read_and_written_as_ever() {
    let tcp = Check::Tcp {
        address: "127.0.0.1:6379".to_owned(),
    };
    one(tcp, "check-tcp");
    one(
        Check::Exec {
            command: vec!["/bin/true".to_owned()],
        },
        "check-exec",
    );
    let entry = Entry {
        service: service(),
        body: Digest::of(b"body"),
    };
    let assignment = Assignment {
        generation: held().generation,
        environment: "staging".parse().unwrap(),
        target: "shop-1".parse().unwrap(),
        workloads: vec![entry],
        issued_at: at(3),
    };
    one(assignment, "assignment");
    one(
        AgentOpens::Artifact {
            digest: Digest::of(b"artifact"),
            offset: 65_536,
        },
        "opens-artifact",
    );
    one(ArtifactReply::Content { size: 70_000 }, "artifact-content");
    one(ArtifactReply::Unavailable, "artifact-unavailable");
    let message = "registry.example.com does not answer".to_owned();
    one(ArtifactReply::Away { message }, "artifact-away");
    let logs = CoordinatorOpens::Logs {
        service: service(),
        since: Some(at(4)),
        tail: 100,
        follow: true,
    };
    one(logs, "opens-logs");
    one(LogFrame::Begins, "log-begins");
    one(
        LogFrame::Unavailable {
            message: "no such workload".to_owned(),
        },
        "log-unavailable",
    );
    one(
        LogFrame::Line(LogLine {
            at: None,
            text: "hello".to_owned(),
        }),
        "log-line",
    );
}

#[test]
fn recorded_checks_are_read_and_written_as_ever() {
    let request = CheckRequest {
        command: vec!["./check".to_owned(), "1.4.0".to_owned()],
        environment: vec![("HOLDFAST_SERVICE".to_owned(), "web".to_owned())],
        timeout_ms: 30_000,
    };
    one(CoordinatorOpens::Check(request), "opens-check");
    let kept = KeptRequest {
        service: service(),
        version: "1.4.0".parse().unwrap(),
        configuration: Digest::of(b"configuration"),
        since: Some(at(4)),
        tail: 100,
        follow: false,
    };
    one(CoordinatorOpens::Kept(kept), "opens-kept");
    let output = || "2 rows are missing".to_owned();
    let replies = [
        CheckReply::Ended {
            code: 1,
            output: output(),
        },
        CheckReply::Killed {
            signal: 11,
            output: output(),
        },
        CheckReply::TimedOut { output: output() },
        CheckReply::Unavailable {
            message: "too many checks at once".to_owned(),
        },
    ];
    let names = check(&replies, |reply| match reply {
        CheckReply::Ended { .. } => "check-ended",
        CheckReply::Killed { .. } => "check-killed",
        CheckReply::TimedOut { .. } => "check-timed-out",
        CheckReply::Unavailable { .. } => "check-unavailable",
    });
    assert_eq!(names.len(), replies.len());
}

/// The digest of a body is its name in every signed assignment: it must never change by itself.
#[test]
fn the_digest_of_a_body_is_the_one_it_always_had() {
    let (digest, bytes) = workload().seal();
    assert_eq!(bytes, recorded("body-v1", &bytes));
    assert_eq!(digest, Digest::of(&bytes));
    assert_eq!(Workload::open(&bytes).unwrap(), workload());
}

/// A job's body is another shape, and says so by its digest.
#[test]
fn the_terms_of_a_job_are_part_of_its_body() {
    let job = Workload {
        job: Some(terms()),
        ..workload()
    };
    let (digest, bytes) = job.clone().seal();
    assert_eq!(bytes, recorded("body-v2", &bytes));
    assert_eq!(Workload::open(&bytes).unwrap(), job);
    let again = JobTerms {
        run: None,
        ..terms()
    };
    let (other, _) = Workload {
        job: Some(again),
        ..workload()
    }
    .seal();
    assert_ne!(digest, other);
    assert_ne!(digest, workload().seal().0);
}

/// The way out, should the codec's crate have to be left: another one reads and writes these bytes.
mod exit {
    use super::*;
    use wincode::config::Configuration;
    use wincode::{SchemaRead, SchemaWrite};

    #[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
    struct Mirror {
        service: String,
        wanted: Option<[u8; 32]>,
        running: Option<[u8; 32]>,
        version: Option<String>,
        state: MirrorState,
        message: String,
        since: u64,
        restarts: u32,
    }

    #[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
    enum MirrorState {
        Unknown,
        Pending,
        Progressing,
    }

    #[test]
    fn another_codec_reads_and_writes_the_same_bytes() {
        let mirror = Mirror {
            service: "web".to_owned(),
            wanted: Some(*Digest::of(b"new").as_bytes()),
            running: Some(*Digest::of(b"old").as_bytes()),
            version: Some("1.4.0".to_owned()),
            state: MirrorState::Progressing,
            message: "starting".to_owned(),
            since: at(5).as_millis(),
            restarts: 3,
        };
        let ours = codec::encode(&status());
        let config = Configuration::default().with_varint_encoding();
        assert_eq!(wincode::config::serialize(&mirror, config).unwrap(), ours);
        let read: Mirror = wincode::config::deserialize(&ours, config).unwrap();
        assert_eq!(read, mirror);
    }
}
