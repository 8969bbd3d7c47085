//! Handshakes that must lead nowhere.

use std::time::Duration;

use holdfast_protocol::message::{ToAgent, ToCoordinator};
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN};
use holdfast_tests::fleet::Fleet;
use holdfast_tests::wait::{PATIENCE, wait_for};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa};

use super::client::{Heard, Net, closing_code, hello, tls};
use super::credential::{Credential, Odd, Stolen, join, now, self_signed};
use super::{ENVIRONMENTS, assert_never_disconnected, memory_kib, recorded};

/// A fleet with one real agent in production that must not notice anything.
fn fleet() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    fleet.join("production-1", "production", &[]);
    fleet.wait_connected("production-1", true);
    // Makes staging's authority.
    let _ = fleet.token("staging", &[]);
    fleet
}

#[test]
fn no_certificate_but_a_valid_one_opens_a_control_connection() {
    let fleet = fleet();
    let net = Net::to(fleet.address());
    let stolen = Stolen::from(&fleet.coordinator_data());
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = Stolen::from(elsewhere.path());
    let roots = stolen.roots();
    let name = |target: &str| vec![stolen.name("staging", target)];
    let odd = |from, validity| {
        stolen.issued(&Odd {
            environment: "staging",
            target: "web-1",
            from,
            validity,
        })
    };
    let day = Duration::from_secs(24 * 60 * 60);
    let expired = odd(now(), Duration::from_secs(1));
    let forged = |names: &[String], shape: &dyn Fn(&mut rcgen::CertificateParams)| {
        stolen.forged("staging", names, shape)
    };
    let no_usage = forged(&name("web-1"), &|p| p.extended_key_usages.clear());
    let server_usage = forged(&name("web-1"), &|p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let authority = forged(&name("web-1"), &|p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let two = [
        name("web-1"),
        vec![stolen.name("production", "production-1")],
    ]
    .concat();
    let impersonated = elsewhere.forged("staging", &name("web-1"), |_| {});
    let cases: Vec<(&str, Credential)> = vec![
        ("signed by itself", self_signed(&name("web-1"))),
        ("without a usage", no_usage),
        ("for servers", server_usage),
        ("of an authority", authority),
        ("with two names", forged(&two, &|_| {})),
        ("without a name", forged(&[], &|_| {})),
        (
            "of another installation",
            elsewhere.forged("staging", &[elsewhere.name("staging", "web-1")], |_| {}),
        ),
        ("of another installation, with our name", impersonated),
        (
            "of an environment that does not exist",
            forged(&[stolen.name("nowhere", "web-1")], &|_| {}),
        ),
        (
            "of another environment's authority",
            forged(&[stolen.name("production", "production-1")], &|_| {}),
        ),
        ("not yet valid", odd(now().after(day), day)),
        ("of a server", stolen.server_leaf()),
        ("expired", expired),
    ];
    wait_for("the short one has expired", PATIENCE, || {
        let end =
            holdfast_certs::certificate::TargetCertificate::read(&cases.last().unwrap().1.chain[0]);
        // TLS counts whole seconds.
        let end = end.unwrap().not_after.after(Duration::from_secs(1));
        holdfast_tests::wait::expect(now() > end, "valid")
    });

    let pid = fleet.coordinator.pid().unwrap();
    let before = memory_kib(pid).0;
    for (what, credential) in &cases {
        let why = net.fails_to_shake_hands(tls(&roots, Some(credential), ALPN_CONTROL));
        println!("{what}: {why}");
        let told = why.to_string();
        assert!(
            !told.contains("staging") && !told.contains("holdfast-"),
            "{what}: told too much: {told}"
        );
        // The same on the other protocol: where a certificate is shown, it has to be right.
        net.fails_to_shake_hands(tls(&roots, Some(credential), ALPN_JOIN));
    }
    let bare = net.is_refused(tls(&roots, None, ALPN_CONTROL));
    assert_eq!(closing_code(&bare), Some(3), "{bare}");
    recorded(&fleet, "security.refused", "presented no certificate");
    for alpn in [&b"holdfast/2"[..], b"h3", b"holdfast/1\0", b"holdfast"] {
        assert!(net.dial(tls(&roots, None, alpn)).is_err(), "{alpn:?}");
    }
    let recorded = fleet.events().into_iter();
    let recorded = recorded
        .filter(|event| event.kind == "security.refused")
        .count();
    assert!(
        recorded > cases.len(),
        "{recorded} of {} are on record",
        cases.len()
    );
    let (after, most) = memory_kib(pid);
    println!("coordinator: {before} KiB before, {after} KiB after, {most} KiB at most");
    assert!(after < before + 32 * 1024);
    assert_never_disconnected(&fleet, "production-1");
    fleet.assert_record_holds();
}

#[test]
fn a_certificate_on_the_join_protocol_opens_nothing_else() {
    let fleet = fleet();
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-1");
    let credential = member.credential();
    let link = net
        .dial(tls(&member.roots(), Some(&credential), ALPN_JOIN))
        .unwrap();
    let mut stream = link.open();
    stream.say(&ToCoordinator::Hello(hello()));
    stream.finish();
    assert!(!matches!(stream.hear::<ToAgent>(), Heard::Said(_)));
    assert!(link.closed(PATIENCE).is_some());
    assert!(!fleet.target("staging-1").unwrap().connected);
}

#[test]
fn those_who_knock_and_say_nothing_are_dropped_and_disturb_nobody() {
    let fleet = fleet();
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-1");
    let credential = member.credential();
    let pid = fleet.coordinator.pid().unwrap();
    let before = memory_kib(pid).0;
    let silent: Vec<_> = (0..100)
        .map(|_| {
            net.dial(tls(&member.roots(), Some(&credential), ALPN_CONTROL))
                .unwrap()
        })
        .collect();
    let joiners: Vec<_> = (0..100)
        .map(|_| net.dial(tls(&member.roots(), None, ALPN_JOIN)).unwrap())
        .collect();
    // Meanwhile everybody else is served.
    assert!(fleet.target("production-1").unwrap().connected);
    let other = join(&net, &fleet.token("production", &[]), "production-2");
    let other_credential = other.credential();
    let link = net
        .dial(tls(&other.roots(), Some(&other_credential), ALPN_CONTROL))
        .unwrap();
    let _control = link.introduce();
    let during = memory_kib(pid).0;
    for link in silent.iter().chain(&joiners) {
        assert!(link.closed(PATIENCE).is_some(), "it is dropped");
    }
    assert_eq!(
        silent[0].closed(PATIENCE).as_ref().and_then(closing_code),
        Some(3)
    );
    recorded(&fleet, "security.refused", "no hello in time");
    println!("coordinator: {before} KiB before, {during} KiB with 200 silent connections");
    assert!(during < before + 64 * 1024);
    assert_never_disconnected(&fleet, "production-1");
}
