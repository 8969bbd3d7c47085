//! Join tokens: each lets in whom it is for, as often as it says, and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_certs::certificate::TargetCertificate;
use holdfast_certs::key::TargetKey;
use holdfast_certs::token::Token;
use holdfast_protocol::api::token::{CreatedToken, NewToken};
use holdfast_protocol::join::{JoinRequest, Joined, ToAuthority, ToJoiner};
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN, COORDINATOR_NAME};
use holdfast_tests::fleet::Fleet;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::{Builder, Runtime};

use super::client::{Heard, Net, tls};
use super::credential::{Stolen, ask, certificates, join, request};
use super::{ENVIRONMENTS, count, recorded};

fn fleet() -> (Fleet, Net) {
    let fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    let net = Net::to(fleet.address());
    (fleet, net)
}

fn token(fleet: &Fleet, ttl: &str, uses: u32) -> Token {
    let new = NewToken {
        environment: "staging".parse().unwrap(),
        ttl: ttl.to_owned(),
        uses,
        labels: [("role".to_owned(), "web".to_owned())].into(),
    };
    let created: CreatedToken = fleet.api.post("/v1/tokens", &new).unwrap();
    created.token.parse().unwrap()
}

/// It is refused, and the caller is told nothing but that.
#[track_caller]
fn refused(heard: Heard<ToJoiner>) -> String {
    match heard {
        Heard::Said(ToJoiner::Refused { message }) => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn joined(heard: Heard<ToJoiner>) -> Joined {
    match heard {
        Heard::Said(ToJoiner::Joined(joined)) => joined,
        other => panic!("it cannot join: {other:?}"),
    }
}

#[test]
fn whoever_may_not_join_is_told_nothing_and_the_operator_everything() {
    let (fleet, net) = fleet();
    let good = token(&fleet, "1h", 1);
    let key = TargetKey::generate().unwrap();
    let of = |token: &Token, key: &TargetKey| request(token, key, "web-1");

    let wrong = JoinRequest {
        secret: vec![0; 32],
        ..of(&good, &key)
    };
    let silence = refused(ask(&net, &good, wrong));
    recorded(&fleet, "join.refused", "wrong secret");
    let shortened = JoinRequest {
        secret: good.secret()[..31].to_vec(),
        ..of(&good, &key)
    };
    assert_eq!(refused(ask(&net, &good, shortened)), silence);
    let unknown = JoinRequest {
        token_id: "0123456789abcdef".to_owned(),
        ..of(&good, &key)
    };
    assert_eq!(refused(ask(&net, &good, unknown)), silence);
    recorded(&fleet, "join.refused", "unknown token");
    let no_key = JoinRequest {
        request: vec![0x30; 100],
        ..of(&good, &key)
    };
    assert_eq!(refused(ask(&net, &good, no_key)), silence);

    let short = token(&fleet, "1s", 1);
    wait_for("the token has expired", PATIENCE, || {
        let all: Vec<holdfast_protocol::api::token::Token> = fleet.api.list("/v1/tokens").unwrap();
        let mine = all
            .into_iter()
            .find(|t| t.id == short.id().as_str())
            .unwrap();
        expect(mine.expires_at <= super::credential::now(), mine)
    });
    assert_eq!(refused(ask(&net, &short, of(&short, &key))), silence);
    recorded(&fleet, "join.refused", "expired");

    let revoked = token(&fleet, "1h", 1);
    let path = format!("/v1/tokens/{}", revoked.id());
    assert!(
        fleet
            .api
            .raw(reqwest::Method::DELETE, &path)
            .unwrap()
            .0
            .is_success()
    );
    assert_eq!(refused(ask(&net, &revoked, of(&revoked, &key))), silence);
    recorded(&fleet, "join.refused", "revoked");

    // Nothing of this has used the good one up.
    joined(ask(&net, &good, of(&good, &key)));
    let late = TargetKey::generate().unwrap();
    let late = JoinRequest {
        name: "web-2".parse().unwrap(),
        ..of(&good, &late)
    };
    assert_eq!(refused(ask(&net, &good, late)), silence);
    recorded(&fleet, "join.refused", "has been used");
    for word in [
        "secret", "expired", "revoked", "unknown", " used", "staging",
    ] {
        assert!(!silence.contains(word), "{silence}");
    }
    fleet.assert_record_holds();
}

#[test]
fn of_a_hundred_racers_with_one_token_one_wins() {
    let (fleet, net) = fleet();
    let token = token(&fleet, "1h", 1);
    let wins: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..100)
            .map(|n| {
                let (net, token) = (&net, &token);
                scope.spawn(move || {
                    let key = TargetKey::generate().unwrap();
                    let heard = ask(net, token, request(token, &key, &format!("racer-{n}")));
                    usize::from(matches!(heard, Heard::Said(ToJoiner::Joined(_))))
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    assert_eq!(count(&fleet, "target.joined"), 1);
    let targets: Vec<holdfast_protocol::api::target::Target> =
        fleet.api.list("/v1/targets").unwrap();
    assert_eq!(targets.len(), 1);
}

#[test]
fn a_reply_that_was_lost_is_given_again_to_the_same_key_alone() {
    let (fleet, net) = fleet();
    let token = token(&fleet, "1h", 1);
    let key = TargetKey::generate().unwrap();
    let join = || request(&token, &key, "web-1");
    // The client vanishes as soon as it has asked.
    let configuration =
        holdfast_certs::tls::join_client_config(token.pin(), Arc::default()).unwrap();
    let link = net.dial(configuration).unwrap();
    let mut stream = link.open();
    stream.say(&ToAuthority::Join(join()));
    wait_for("it is let in", PATIENCE, || {
        expect(count(&fleet, "target.joined") == 1, "not yet")
    });
    drop((stream, link));

    let first = joined(ask(&net, &token, join()));
    fleet.coordinator.kill9();
    fleet.start_coordinator();
    let second = joined(ask(&net, &token, join()));
    assert_eq!(
        first, second,
        "the same certificate, also from a coordinator that was killed"
    );
    let other = TargetKey::generate().unwrap();
    refused(ask(&net, &token, request(&token, &other, "web-1")));
    refused(ask(&net, &token, request(&token, &key, "web-2")));
    assert_eq!(count(&fleet, "target.joined"), 1);
}

#[test]
fn a_name_that_is_taken_is_given_only_to_one_who_says_replace() {
    let (fleet, net) = fleet();
    let old = join(&net, &fleet.token("staging", &[]), "web-1");
    let credential = old.credential();
    let link = net
        .dial(tls(&old.roots(), Some(&credential), ALPN_CONTROL))
        .unwrap();
    let _control = link.introduce();
    let many = token(&fleet, "1h", 5);
    let key = TargetKey::generate().unwrap();
    let told = refused(ask(&net, &many, request(&many, &key, "web-1")));
    assert!(told.contains("web-1 is taken"), "{told}");
    assert!(link.closed(Duration::from_millis(100)).is_none());

    // Not even by replacement does a token of one environment take a name of another.
    let _there = join(&net, &fleet.token("production", &[]), "db-1");
    let theft = JoinRequest {
        replace: true,
        ..request(&many, &key, "db-1")
    };
    let told = refused(ask(&net, &many, theft));
    assert!(
        !told.contains("environment") && !told.contains("production"),
        "{told}"
    );
    assert_eq!(
        fleet.target("db-1").unwrap().environment.as_str(),
        "production"
    );

    let replacing = JoinRequest {
        replace: true,
        ..request(&many, &key, "web-1")
    };
    joined(ask(&net, &many, replacing));
    link.is_closed_with(2);
    net.fails_to_shake_hands(tls(&old.roots(), Some(&credential), ALPN_CONTROL));
}

#[test]
fn of_a_request_only_the_public_key_is_believed() {
    let (fleet, net) = fleet();
    let token = token(&fleet, "1h", 1);
    let stolen = Stolen::from(&fleet.coordinator_data());
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::default();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    greedy.subject_alt_names = vec![
        SanType::URI(
            stolen
                .name("production", "db-1")
                .as_str()
                .try_into()
                .unwrap(),
        ),
        SanType::DnsName(COORDINATOR_NAME.try_into().unwrap()),
    ];
    let greedy = greedy.serialize_request(&key).unwrap().der().to_vec();
    let modest = TargetKey::generate().unwrap();
    let asked = JoinRequest {
        request: greedy,
        ..request(&token, &modest, "web-1")
    };
    let given = joined(ask(&net, &token, asked));
    let chain = certificates(&given.chain);

    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let names = &parsed
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(names.len(), 1, "{names:?}");
    let read = TargetCertificate::read(&chain[0]).unwrap();
    assert_eq!(read.identity.to_string(), "staging/web-1");

    // And what it signs nevertheless is worth nothing.
    let issuer = rcgen::Issuer::from_ca_cert_der(&chain[0], key);
    if let Ok(issuer) = issuer {
        let leaf_key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let name = stolen.name("staging", "web-9");
        leaf.subject_alt_names = vec![SanType::URI(name.as_str().try_into().unwrap())];
        let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
        let credential = super::credential::Credential {
            chain: [vec![leaf.der().clone()], chain.clone()].concat(),
            key: PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap(),
        };
        net.is_refused(tls(&stolen.roots(), Some(&credential), ALPN_CONTROL));
    }
}

/// A coordinator that is none; counts what anybody tells it.
struct Fake {
    _runtime: Runtime,
    address: SocketAddr,
    knocks: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
}

impl Fake {
    fn with(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN_JOIN.to_vec(), ALPN_CONTROL.to_vec()];
        let tls = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(tls);
        let _entered = runtime.enter();
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (knocks, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (knocked, bytes) = (Arc::clone(&knocks), Arc::clone(&heard));
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                knocked.fetch_add(1, Ordering::SeqCst);
                let Ok(connection) = incoming.await else {
                    continue;
                };
                while let Ok((_send, mut receive)) = connection.accept_bi().await {
                    let told = receive
                        .read_to_end(1 << 20)
                        .await
                        .map_or(1, |told| told.len());
                    bytes.fetch_add(told.max(1), Ordering::SeqCst);
                }
            }
        });
        Self {
            _runtime: runtime,
            address,
            knocks,
            heard,
        }
    }
}

#[test]
fn a_coordinator_with_another_root_learns_not_one_byte_of_the_secret() {
    let (fleet, _net) = fleet();
    let token = token(&fleet, "1h", 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Stolen::from(elsewhere.path());
    let plain = other.server_leaf();
    // The true root's certificate is public: showing it beside one's own leaf must not help.
    let real = Stolen::from(&fleet.coordinator_data());
    let mut adorned = other.server_leaf();
    adorned.chain.push(real.root.certificate().clone());
    // Nor must a certificate that the true installation gave to a target.
    let target = real.forged("staging", &[real.name("staging", "web-1")], |params| {
        params
            .extended_key_usages
            .push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let name = SanType::DnsName(COORDINATOR_NAME.try_into().unwrap());
        params.subject_alt_names.push(name);
    });
    let mut promoted = target;
    promoted.chain.push(real.root.certificate().clone());
    for (what, credential) in [
        ("another root", plain),
        ("the true root beside it", adorned),
        ("a target of ours", promoted),
    ] {
        let fake = Fake::with(credential.chain, credential.key);
        let address = fake.address.to_string();
        let revealed = token.reveal();
        let data = fleet.directory().join("victim");
        let arguments = [
            "join",
            "--coordinator",
            &address,
            "--token",
            &revealed,
            "--name",
            "web-1",
            "--data",
            data.to_str().unwrap(),
        ];
        let said = fleet.run("holdfast-agent", &arguments, &[]);
        assert_ne!(said.code, Some(0), "{what}: {said:?}");
        println!("{what}: {}", said.stderr.trim());
        assert!(
            fake.knocks.load(Ordering::SeqCst) > 0,
            "{what}: nobody came"
        );
        assert_eq!(
            fake.heard.load(Ordering::SeqCst),
            0,
            "{what}: it was told something"
        );
        let secret = revealed.split('.').nth(2).unwrap().to_owned();
        assert!(
            !said.complaint().contains(&secret),
            "the secret is not repeated"
        );
    }
    // The token is as good as before.
    let revealed = token.reveal();
    let data = fleet.directory().join("web-1");
    let arguments = [
        "join",
        "--coordinator",
        fleet.address(),
        "--token",
        &revealed,
        "--name",
        "web-1",
        "--data",
        data.to_str().unwrap(),
    ];
    let _ = fleet.run("holdfast-agent", &arguments, &[]).succeeds();
}
