//! Secrets: a hostile target, with a valid certificate and a key of its own, wants what is not its own.

use holdfast_certs::seal::{Owner, SealingKey};
use holdfast_protocol::message::{ToAgent, ToCoordinator};
use holdfast_protocol::secret::{Sealed, SecretRef};
use holdfast_protocol::stream::{AgentOpens, SecretReply};
use holdfast_protocol::version::ALPN_CONTROL;
use holdfast_tests::fleet::Fleet;

use super::client::{Heard, Link, Net, Stream, tls};
use super::credential::{Member, join};
use super::{ENVIRONMENTS, recorded};

/// `vault` is production's alone, `web` is everybody's; each has a secret.
const SERVICES: &str = "\
apiVersion: holdfast/v1
kind: Service
metadata: {name: vault, owner: team-vault}
spec:
  runtime: process
  template:
    command: [/bin/sleep, \"100000\"]
    environment: {KEY: {secret: vault-key}}
    stop: {signal: SIGTERM, grace: 2s}
  environments:
    staging: {enabled: false}
---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  runtime: process
  template:
    command: [/bin/sleep, \"100000\"]
    environment: {TOKEN: {secret: web-token}}
    stop: {signal: SIGTERM, grace: 2s}
";

/// What staging's container engines pull with.
const PULLED: &str = "\
apiVersion: holdfast/v1
kind: Service
metadata: {name: puller, owner: team-web}
spec:
  artifacts: {app: {image: registry.example.com/team/app, credentials: {secret: pull-login}}}
  runtime: container
  template: {image: '{{ artifacts.app.image }}'}
  environments:
    production: {enabled: false}
";

fn which(name: &str, version: u64) -> SecretRef {
    SecretRef {
        name: name.parse().unwrap(),
        version,
    }
}

fn owner(environment: &str, target: &str) -> Owner {
    Owner {
        environment: environment.parse().unwrap(),
        target: target.parse().unwrap(),
    }
}

fn ask(link: &Link<'_>, secret: SecretRef) -> SecretReply {
    let mut stream = link.open();
    stream.say(&AgentOpens::Secret(secret));
    match stream.hear() {
        Heard::Said(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Waits until what is assigned names `services` of them.
fn is_assigned(control: &mut Stream<'_>, services: usize) {
    control.hear_until(|message| match message {
        ToAgent::Assign(signed) => {
            let assignment = signed.open_unverified().unwrap();
            (assignment.workloads.len() == services).then_some(())
        }
        _ => None,
    });
}

fn sealed(reply: SecretReply) -> Sealed {
    match reply {
        SecretReply::Sealed(sealed) => sealed,
        SecretReply::Unavailable => panic!("it is this target's own"),
    }
}

fn fleet() -> Fleet {
    let fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, SERVICES].join("---\n"));
    for (name, environment, value) in [
        ("vault-key", "production", "canary-vault"),
        ("web-token", "production", "canary-production"),
        ("web-token", "staging", "canary-staging"),
        ("idle", "staging", "canary-idle"),
    ] {
        let set = ["secret", "set", name, "-e", environment];
        drop(fleet.operator_given(value.as_bytes(), &set).succeeds());
    }
    fleet
}

fn dial<'n>(net: &'n Net, member: &Member) -> Link<'n> {
    let credential = member.credential();
    let link = net.dial(tls(&member.roots(), Some(&credential), ALPN_CONTROL));
    link.unwrap()
}

#[test]
fn a_target_is_given_its_own_secrets_sealed_to_its_own_key_and_no_others() {
    let fleet = fleet();
    let net = Net::to(fleet.address());
    let staging = join(&net, &fleet.token("staging", &[]), "staging-1");
    let key = SealingKey::generate().unwrap();
    let link = dial(&net, &staging);
    let mut control = link.introduce();
    fleet.release("web", "1.0.0", &[]);
    fleet.release("vault", "1.0.0", &[]);
    // Before it has said a key nothing is placed on it that has secrets, and nothing is sealed.
    assert_eq!(ask(&link, which("web-token", 1)), SecretReply::Unavailable);
    let why = fleet.operator(&["why", "web", "-e", "staging"]).succeeds();
    assert!(why.contains("cannot be given secrets"), "{why}");
    control.say(&ToCoordinator::SealingKey(key.public().as_bytes().to_vec()));
    is_assigned(&mut control, 1);
    let reply = sealed(ask(&link, which("web-token", 1)));
    let own = owner("staging", "staging-1");
    let value = key.open(&own, &which("web-token", 1), &reply).unwrap();
    assert_eq!(*value, b"canary-staging");
    let again = sealed(ask(&link, which("web-token", 1)));
    assert_ne!(again, reply, "each seal is another");
    let stranger = SealingKey::generate().unwrap();
    assert!(stranger.open(&own, &which("web-token", 1), &again).is_err());
    let production = owner("production", "staging-1");
    assert!(
        key.open(&production, &which("web-token", 1), &again)
            .is_err()
    );
    // Known in its environment, and not for it now: no offence, and no value.
    for secret in [
        which("web-token", 2),
        which("web-token", 0),
        which("idle", 1),
    ] {
        assert_eq!(ask(&link, secret), SecretReply::Unavailable);
    }
    // Production's, and nobody's: one answer for both, and the end of the connection.
    for name in ["vault-key", "nobodys"] {
        let link = dial(&net, &staging);
        let mut control = link.introduce();
        control.say(&ToCoordinator::SealingKey(key.public().as_bytes().to_vec()));
        assert_eq!(ask(&link, which(name, 1)), SecretReply::Unavailable);
        link.is_closed_with(REFUSED);
        let event = recorded(&fleet, "security.refused", name);
        assert_eq!(event.target.unwrap().as_str(), "staging-1");
    }
    let events = fleet.operator(&["events", "-o", "json"]).succeeds();
    assert!(!events.contains("canary"), "{events}");
    fleet.assert_record_holds();
}

#[test]
fn a_login_is_given_as_its_newest_value_and_a_new_one_is_no_new_assignment() {
    let fleet = fleet();
    fleet.try_apply("pulled", PULLED).unwrap();
    let set = |value: &str| {
        let set = ["secret", "set", "pull-login", "-e", "staging"];
        drop(fleet.operator_given(value.as_bytes(), &set).succeeds());
    };
    let image = format!(
        "app=registry.example.com/team/app@sha256:{}",
        "1".repeat(64)
    );
    let release = [
        "release",
        "create",
        "puller",
        "--version",
        "1.0.0",
        "--artifact",
    ];
    let release = [&release[..], &[image.as_str()]].concat();
    drop(fleet.operator(&release).succeeds());
    let why = || {
        fleet
            .operator(&["why", "puller", "-e", "staging", "-o", "json"])
            .succeeds()
    };
    let unset = why();
    assert!(
        unset.contains("holdfast secret set pull-login -e staging"),
        "{unset}"
    );
    set("ada:canary-old");
    let net = Net::to(fleet.address());
    let staging = join(&net, &fleet.token("staging", &[]), "staging-1");
    let key = SealingKey::generate().unwrap();
    let link = dial(&net, &staging);
    let mut control = link.introduce();
    let newest = which("pull-login", 0);
    // A target that says no key, as one of an earlier release, is not given the body at all.
    let keyless = why();
    assert!(keyless.contains("cannot be given secrets"), "{keyless}");
    assert_eq!(ask(&link, newest.clone()), SecretReply::Unavailable);
    control.say(&ToCoordinator::SealingKey(key.public().as_bytes().to_vec()));
    is_assigned(&mut control, 1);
    let told = || {
        let reply = sealed(ask(&link, newest.clone()));
        let own = owner("staging", "staging-1");
        key.open(&own, &newest, &reply).unwrap().to_vec()
    };
    assert_eq!(told(), b"ada:canary-old");
    // No number of it is anybody's, and the newest of what only templates name is not either.
    for secret in [
        which("pull-login", 1),
        which("web-token", 0),
        which("idle", 0),
    ] {
        assert_eq!(ask(&link, secret), SecretReply::Unavailable);
    }
    let before = fleet.history("puller", "staging").unwrap();
    set("ada:canary-new");
    assert_eq!(told(), b"ada:canary-new");
    let after = fleet.history("puller", "staging").unwrap();
    assert_eq!(after.len(), before.len(), "{after:?}");
    fleet.assert_record_holds();
}

#[test]
fn a_key_that_is_none_is_an_offence_and_a_revoked_target_is_given_nothing() {
    let fleet = fleet();
    let net = Net::to(fleet.address());
    let staging = join(&net, &fleet.token("staging", &[]), "staging-1");
    let good = SealingKey::generate().unwrap().public().as_bytes().to_vec();
    for bad in [
        vec![vec![9; 31]],
        vec![Vec::new()],
        vec![vec![9; 60_000]],
        vec![good.clone(), good],
    ] {
        let link = dial(&net, &staging);
        let mut control = link.introduce();
        for key in bad {
            control.say(&ToCoordinator::SealingKey(key));
        }
        assert!(link.closed(holdfast_tests::wait::PATIENCE).is_some());
    }
    let link = dial(&net, &staging);
    let mut control = link.introduce();
    control.say(&ToCoordinator::SealingKey(vec![0; 32]));
    recorded(
        &fleet,
        "security.refused",
        "told a key that nothing can be sealed to",
    );
    let link = dial(&net, &staging);
    let mut control = link.introduce();
    let key = SealingKey::generate().unwrap();
    control.say(&ToCoordinator::SealingKey(key.public().as_bytes().to_vec()));
    fleet.release("web", "1.0.0", &[]);
    is_assigned(&mut control, 1);
    drop(sealed(ask(&link, which("web-token", 1))));
    drop(
        fleet
            .operator(&["target", "revoke", "staging-1"])
            .succeeds(),
    );
    // What it asks now is answered by nobody: its connection ends, and it gets no other.
    assert!(link.closed(holdfast_tests::wait::PATIENCE).is_some());
    let credential = staging.credential();
    let _why = net.is_refused(tls(&staging.roots(), Some(&credential), ALPN_CONTROL));
}

/// The code with which the coordinator closes the connection of one who did what it may not.
const REFUSED: u32 = 3;
