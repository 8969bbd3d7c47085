//! What was once true is not true for ever: an old backup of the coordinator, and messages that were
//! signed long ago.

use std::sync::Arc;
use std::time::Duration;

use holdfast_certs::authority::SERVER_VALIDITY;
use holdfast_certs::clock::Clock;
use holdfast_certs::registry::{Anchors, MAX_OFFLINE, Registry};
use holdfast_certs::sign::AssignmentKey;
use holdfast_certs::tls::{CurrentLeaf, agent_server_config};
use holdfast_protocol::assignment::{Assignment, SignedAssignment};
use holdfast_protocol::frame::{self, Decoder, FRAME_MAX_BYTES};
use holdfast_protocol::message::{Refusal, ToAgent, ToCoordinator, Welcome};
use holdfast_protocol::observed::TargetConditionKind;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest;
use holdfast_tests::program::{Program, built};
use holdfast_tests::wait::{PATIENCE, expect, holds_for, wait_for};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::runtime::{Builder, Runtime};

use super::credential::{Stolen, now};
use super::{ENVIRONMENTS, recorded};

/// Whoever has stolen the coordinator's keys, at its address, speaking with one agent.
struct Thief {
    runtime: Runtime,
    _endpoint: Endpoint,
    _connection: Connection,
    send: SendStream,
    receive: RecvStream,
    decoder: Decoder,
}

impl Thief {
    /// Takes the first agent that comes, and welcomes it.
    fn sits_at(address: &str, stolen: &Stolen) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut registry = Registry::new(stolen.root.trust_domain().clone());
        let authority = stolen.environment("staging").authority;
        let anchors = Anchors {
            authorities: vec![authority.certificate().clone()],
            max_offline: MAX_OFFLINE,
        };
        registry
            .environments
            .insert("staging".parse().unwrap(), anchors);
        let leaf = stolen
            .root
            .server_leaf(&[], now(), SERVER_VALIDITY)
            .unwrap();
        let leaf = CurrentLeaf::new(leaf).unwrap();
        let tls = agent_server_config(leaf, registry.shared(), Arc::new(Clock::default())).unwrap();
        let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let address = address.parse().unwrap();
        let (endpoint, connection, send, receive) = runtime.block_on(async {
            let endpoint = Endpoint::server(config, address).unwrap();
            loop {
                // Some come who still believe in their old connection.
                let coming = endpoint.accept().await.unwrap();
                let Ok(connection) = coming.await else {
                    continue;
                };
                let Ok((send, receive)) = connection.accept_bi().await else {
                    continue;
                };
                return (endpoint, connection, send, receive);
            }
        });
        let decoder = Decoder::new(FRAME_MAX_BYTES);
        let mut thief = Self {
            runtime,
            _endpoint: endpoint,
            _connection: connection,
            send,
            receive,
            decoder,
        };
        thief.hears_until(|message| matches!(message, ToCoordinator::Hello(_)).then_some(()));
        thief.says(&ToAgent::Welcome(Welcome {
            version: 0,
            coordinator_version: "0.0.0".to_owned(),
            time: now(),
        }));
        thief
    }

    fn says(&mut self, message: &ToAgent) {
        let bytes = frame::encode(message).unwrap();
        self.runtime.block_on(self.send.write_all(&bytes)).unwrap();
    }

    fn hears_until<T>(&mut self, mut pick: impl FnMut(ToCoordinator) -> Option<T>) -> T {
        let Self {
            runtime,
            receive,
            decoder,
            ..
        } = self;
        let hearing = async {
            loop {
                while let Some(message) = decoder.next_message().unwrap() {
                    if let Some(found) = pick(message) {
                        return found;
                    }
                }
                let chunk = receive.read_chunk(64 * 1024, true).await.unwrap();
                decoder.feed(&chunk.expect("the agent goes on").bytes);
            }
        };
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, hearing)
                .await
                .expect("an answer")
        })
    }

    /// Offers an assignment; gives why it was refused.
    fn is_refused(&mut self, signed: &SignedAssignment) -> Refusal {
        self.says(&ToAgent::Assign(signed.clone()));
        self.hears_until(|message| match message {
            ToCoordinator::Refused { reason, .. } => Some(reason),
            ToCoordinator::Accepted(held) => panic!("{held:?} was taken"),
            ToCoordinator::Want(_) => panic!("it asks for the bodies"),
            _ => None,
        })
    }
}

#[test]
fn what_was_signed_before_is_refused_and_so_is_everything_that_is_not_newer() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let cache = fleet.agent("staging-1").data.join("cache");
    let newest = || -> SignedAssignment {
        let record = std::fs::read(cache.join("current")).unwrap();
        // Magic, format, length and checksum come before the content.
        holdfast_protocol::codec::decode(&record[50..], FRAME_MAX_BYTES).unwrap()
    };
    let old = newest();
    fleet.release("web", "2.0.0", &[]);
    fleet.wait_stable("web", "staging", "2.0.0");
    let current = newest();
    let process = fleet.agent("staging-1").one("web");
    let production = fleet.token("production", &[]);
    drop(production);
    fleet.coordinator.kill9();

    let stolen = Stolen::from(&fleet.coordinator_data());
    let key = stolen.environment("staging").signing;
    let others = stolen.environment("production").signing;
    let held = current.open_unverified().unwrap();
    let but = |change: &dyn Fn(&mut Assignment)| {
        let mut changed = held.clone();
        changed.generation.number += 1;
        change(&mut changed);
        changed
    };
    let mut thief = Thief::sits_at(fleet.address(), &stolen);
    let number = held.generation.number;
    let signed = |change: &dyn Fn(&mut Assignment)| key.sign(&but(change));

    assert!(
        matches!(thief.is_refused(&old), Refusal::Older { .. }),
        "a replay"
    );
    let empty = signed(&|a| {
        a.generation.number = number;
        a.workloads.clear();
    });
    assert_eq!(thief.is_refused(&empty), Refusal::Equivocation);
    let last = signed(&|a| a.generation.number = u64::MAX);
    assert!(
        matches!(thief.is_refused(&last), Refusal::Malformed(_)),
        "a leap"
    );
    let zero = signed(&|a| a.generation.epoch = 0);
    assert!(matches!(
        thief.is_refused(&zero),
        Refusal::Older { .. } | Refusal::Malformed(_)
    ));
    let other = signed(&|a| a.target = "staging-2".parse().unwrap());
    assert_eq!(thief.is_refused(&other), Refusal::NotForMe);
    let elsewhere = signed(&|a| a.environment = "production".parse().unwrap());
    assert_eq!(thief.is_refused(&elsewhere), Refusal::NotForMe);
    assert_eq!(
        thief.is_refused(&others.sign(&but(&|_| {}))),
        Refusal::BadSignature
    );
    let strange = AssignmentKey::generate().unwrap();
    assert_eq!(
        thief.is_refused(&strange.sign(&but(&|_| {}))),
        Refusal::BadSignature
    );
    let twice = signed(&|a| a.workloads.extend_from_within(..));
    assert!(matches!(thief.is_refused(&twice), Refusal::Malformed(_)));
    let mut cut = signed(&|_| {});
    cut.bytes.pop();
    assert_eq!(thief.is_refused(&cut), Refusal::BadSignature);

    assert!(process.lives());
    assert_eq!(newest(), current, "nothing of it was kept");
    drop(thief);
    fleet.start_coordinator();
    fleet.wait_converged("staging-1");
    assert!(process.lives());
}

#[test]
fn an_old_backup_moves_nothing_backwards() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let file = fleet.directory().join("backup.tar");
    let data = fleet.coordinator_data();
    let backup = [
        "backup",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let _ = fleet.run("holdfast-coordinator", &backup, &[]).succeeds();
    for version in ["1.0.1", "1.0.2", "2.0.0"] {
        fleet.release("web", version, &[]);
        fleet.wait_stable("web", "staging", version);
    }
    fleet.wait_converged("staging-1");
    let process = fleet.agent("staging-1").one("web");
    assert_eq!(process.variable("RELEASE").as_deref(), Some("2.0.0"));

    fleet.coordinator.kill9();
    std::fs::rename(&data, fleet.directory().join("lost")).unwrap();
    let restore = [
        "restore",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let _ = fleet.run("holdfast-coordinator", &restore, &[]).succeeds();
    fleet.start_coordinator();
    fleet.wait_connected("staging-1", true);
    recorded(&fleet, "target.ahead", "staging-1 holds assignment");
    wait_for("the target says so", PATIENCE, || {
        let target = fleet.target("staging-1")?;
        let kinds: Vec<_> = target.conditions.iter().map(|c| c.kind).collect();
        expect(
            kinds.contains(&TargetConditionKind::AssignmentRefused),
            &target,
        )
    });
    holds_for("it runs on", Duration::from_secs(2), || {
        expect(process.lives(), "it was touched")
    });

    // Also an agent that is started anew remembers.
    fleet.agent("staging-1").program.restart();
    fleet.wait_connected("staging-1", true);
    // More releases than were lost: the numbers here would have passed those that the target holds.
    for version in ["3.0.0", "3.0.1", "3.0.2", "3.0.3", "3.0.4"] {
        fleet.release("web", version, &[]);
    }
    holds_for("it runs on", Duration::from_secs(2), || {
        expect(process.lives(), "it was touched")
    });

    let resume = ["target", "resume", "staging-1", "--reason", "restored"];
    let _ = fleet.operator(&resume).succeeds();
    recorded(&fleet, "target.resumed", "gives up assignment");
    fleet.wait_stable("web", "staging", "3.0.4");
    let process = fleet.agent("staging-1").one("web");
    assert_eq!(process.variable("RELEASE").as_deref(), Some("3.0.4"));
    assert_eq!(fleet.target("staging-1").unwrap().conditions, []);
    fleet.assert_record_holds();
    let check = ["check", "--data", data.to_str().unwrap()];
    fleet.coordinator.kill9();
    let _ = fleet.run("holdfast-coordinator", &check, &[]).succeeds();
}

#[test]
fn another_coordinator_on_the_same_address_is_no_coordinator() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let process = fleet.agent("staging-1").one("web");
    fleet.coordinator.kill9();
    // It has its own root, and an empty idea of what should run.
    let data = fleet.directory().join("impostor");
    let address = fleet.address().to_owned();
    let impostor = Program::new(
        "impostor",
        built("holdfast-coordinator"),
        [
            "serve",
            "--listen",
            &address,
            "--api",
            &address,
            "--data",
            data.to_str().unwrap(),
        ],
        &[],
        fleet.directory(),
    );
    impostor.start();
    wait_for("the impostor is ready", PATIENCE, || {
        expect(
            impostor.output().starts_with("ready "),
            impostor.last_words(),
        )
    });
    wait_for("the agent has tried it", PATIENCE, || {
        let log = fleet.agent("staging-1").program.log();
        let told = ["certificate", "UnknownIssuer"]
            .iter()
            .any(|word| log.contains(word));
        expect(told, log.len())
    });
    holds_for("it runs on", Duration::from_secs(1), || {
        expect(process.lives(), "it was touched")
    });
    impostor.kill9();
    fleet.start_coordinator();
    fleet.wait_connected("staging-1", true);
    assert!(process.lives());
}
