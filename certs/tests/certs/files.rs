//! Keys and certificates on disk: made once, found again, never half.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use holdfast_certs::certificate::Serial;
use holdfast_certs::key::TargetKey;
use holdfast_certs::keystore::KeystoreError;
use holdfast_certs::keystore::agent::Files;
use holdfast_certs::keystore::coordinator::Authorities;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::join::Joined;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::world::{DAY, World, environment, target};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_empty_directory_gets_authorities_that_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let now = World::fixed().now;
    let authorities = Authorities::open(&data).unwrap();
    let root = authorities.root(now).unwrap();
    let staging = authorities
        .environment(&root, &environment("staging"), now)
        .unwrap();
    authorities
        .environment(&root, &environment("production"), now)
        .unwrap();

    for path in [
        "ca/root.key",
        "ca/env/staging.key",
        "ca/env/staging.sign.key",
    ] {
        assert_eq!(mode(&data.join(path)), 0o600, "{path}");
    }
    for path in ["ca.pem", "ca/env/staging.pem"] {
        assert_eq!(mode(&data.join(path)), 0o644, "{path}");
    }
    for path in ["", "ca", "ca/env"] {
        assert_eq!(mode(&data.join(path)), 0o700, "{path}");
    }
    let published = CertificateDer::from_pem_file(data.join("ca.pem")).unwrap();
    assert_eq!(Digest::of(&published), root.pin());

    let again = Authorities::open(&data).unwrap();
    let later = now.after(DAY);
    let root_again = again.root(later).unwrap();
    assert_eq!(root_again.pin(), root.pin());
    assert_eq!(root_again.trust_domain(), root.trust_domain());
    let staging_again = again
        .environment(&root_again, &environment("staging"), later)
        .unwrap();
    assert_eq!(
        staging_again.authority.certificate(),
        staging.authority.certificate()
    );
    assert_eq!(staging_again.signing.verifier(), staging.signing.verifier());
    assert_eq!(
        again.environments().unwrap(),
        [environment("production"), environment("staging")]
    );
}

#[test]
fn what_was_promised_is_not_made_anew_when_a_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let now = World::fixed().now;
    let authorities = Authorities::open(dir.path()).unwrap();
    let root = authorities.root(now).unwrap();
    let staging = environment("staging");
    authorities.environment(&root, &staging, now).unwrap();
    let missing = |file: &str, again: &dyn Fn() -> Result<(), KeystoreError>| {
        let path = dir.path().join(file);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let result = again();
        assert!(
            matches!(&result, Err(KeystoreError::Missing { path: p }) if *p == path),
            "{result:?}"
        );
        fs::write(&path, kept).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    let environment = || authorities.environment(&root, &staging, now).map(drop);
    missing("ca/env/staging.key", &environment);
    missing("ca/env/staging.sign.key", &environment);
    missing("ca/root.key", &|| authorities.root(now).map(drop));
    // What is only published is made again.
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert_eq!(authorities.root(now).unwrap().pin(), root.pin());
    assert!(dir.path().join("ca.pem").exists());
}

#[test]
fn a_creation_that_was_cut_short_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let now = World::fixed().now;
    let authorities = Authorities::open(dir.path()).unwrap();
    let root = authorities.root(now).unwrap();
    // Killed after the signing key and in the midst of the authority.
    let directory = dir.path().join("ca/env");
    fs::write(directory.join("staging.sign.key"), "half a k").unwrap();
    fs::write(directory.join(".staging.key.new"), "-----BEGIN PRIV").unwrap();
    assert!(authorities.environments().unwrap().is_empty());
    let made = authorities
        .environment(&root, &environment("staging"), now)
        .unwrap();
    let found = authorities
        .environment(&root, &environment("staging"), now)
        .unwrap();
    assert_eq!(found.signing.verifier(), made.signing.verifier());
    assert_eq!(
        authorities.environments().unwrap(),
        [environment("staging")]
    );
    assert!(!directory.join(".staging.key.new").exists());
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let now = World::fixed().now;
    let authorities = Authorities::open(dir.path()).unwrap();
    let root = authorities.root(now).unwrap();
    authorities
        .environment(&root, &environment("staging"), now)
        .unwrap();
    for file in [
        "ca/root.key",
        "ca/env/staging.key",
        "ca/env/staging.sign.key",
    ] {
        let path = dir.path().join(file);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let read = || {
            let root = authorities.root(now)?;
            authorities.environment(&root, &environment("staging"), now)
        };
        let error = read().unwrap_err().to_string();
        assert!(
            error.contains(&format!("`chmod 600 {}`", path.display())),
            "{error}"
        );
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(read().is_ok());
    }
}

/// What a coordinator answers to a request for `key`.
fn answer(world: &World, key: &TargetKey) -> Joined {
    let serial = Serial::generate().unwrap();
    let issued = world
        .staging
        .issue(&target("web-1"), key.public(), serial, world.now, DAY)
        .unwrap();
    Joined {
        environment: environment("staging"),
        target: target("web-1"),
        chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
        roots: vec![world.root.certificate().to_vec()],
        signing_keys: vec![vec![7; 32], vec![8; 32]],
    }
}

#[test]
fn an_agent_keeps_its_identity_and_finds_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::fixed();
    let files = Files::open(dir.path()).unwrap();
    assert!(files.load().unwrap().is_none());
    let key = files.next_key().unwrap();
    // The reply is lost; the next attempt asks with the same key.
    assert_eq!(files.next_key().unwrap().public(), key.public());
    let answer = answer(&world, &key);
    files.accept(&key, &answer).unwrap();

    let identity = Files::open(dir.path()).unwrap().load().unwrap().unwrap();
    assert_eq!(identity.key.public(), key.public());
    assert_eq!(identity.certificate.identity.to_string(), "staging/web-1");
    assert_eq!(identity.chain.len(), 2);
    assert_eq!(identity.roots, [world.root.certificate().clone()]);
    assert_eq!(identity.signing_keys.len(), 2);
    assert_eq!(identity.signing_keys[0].as_bytes(), &[7; 32]);
    assert_eq!(mode(&dir.path().join("identity")), 0o700);
    assert_eq!(mode(&dir.path().join("identity/identity.pem")), 0o600);
    // Answered, so the next request is for another key.
    assert_ne!(files.next_key().unwrap().public(), key.public());
    files.forget().unwrap();
    assert!(files.load().unwrap().is_none());
}

#[test]
fn a_damaged_key_for_the_next_certificate_does_not_prevent_the_next_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path()).unwrap();
    let key = files.next_key().unwrap();
    let path = dir.path().join("identity/next.key");
    for damaged in ["", "-----BEGIN PRIVATE KEY-----\nAAAA"] {
        fs::write(&path, damaged).unwrap();
        let fresh = files.next_key().unwrap();
        assert_ne!(fresh.public(), key.public());
        assert_eq!(files.next_key().unwrap().public(), fresh.public());
    }
}

#[test]
fn a_bad_answer_leaves_the_old_identity_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::fixed();
    let files = Files::open(dir.path()).unwrap();
    let key = files.next_key().unwrap();
    let good = answer(&world, &key);
    files.accept(&key, &good).unwrap();
    let before = fs::read(dir.path().join("identity/identity.pem")).unwrap();

    let next = files.next_key().unwrap();
    let mut bad = vec![answer(&world, &TargetKey::generate().unwrap())];
    bad.push(Joined {
        chain: vec![],
        ..answer(&world, &next)
    });
    bad.push(Joined {
        chain: vec![vec![1, 2, 3]],
        ..answer(&world, &next)
    });
    bad.push(Joined {
        roots: vec![],
        ..answer(&world, &next)
    });
    bad.push(Joined {
        roots: vec![good.chain[0].clone()],
        ..answer(&world, &next)
    });
    bad.push(Joined {
        roots: vec![vec![1, 2, 3]],
        ..answer(&world, &next)
    });
    bad.push(Joined {
        signing_keys: vec![vec![1; 31]],
        ..answer(&world, &next)
    });
    for answer in bad {
        assert!(files.accept(&next, &answer).is_err(), "{answer:?}");
        let identity = files.load().unwrap().unwrap();
        assert_eq!(identity.key.public(), key.public());
        assert_eq!(
            fs::read(dir.path().join("identity/identity.pem")).unwrap(),
            before
        );
    }
    assert!(files.accept(&next, &answer(&world, &next)).is_ok());
}

#[test]
fn a_renewal_that_is_cut_anywhere_leaves_a_key_and_a_certificate_that_match() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::fixed();
    let files = Files::open(dir.path()).unwrap();
    let old = files.next_key().unwrap();
    files.accept(&old, &answer(&world, &old)).unwrap();
    let next = files.next_key().unwrap();
    let whole = {
        let other = tempfile::tempdir().unwrap();
        let files = Files::open(other.path()).unwrap();
        files.accept(&next, &answer(&world, &next)).unwrap();
        fs::read(other.path().join("identity/identity.pem")).unwrap()
    };
    // The temporary file at every length that a crash can leave it with.
    for length in 0..=whole.len() {
        fs::write(
            dir.path().join("identity/.identity.pem.new"),
            &whole[..length],
        )
        .unwrap();
        let identity = files.load().unwrap().unwrap();
        assert_eq!(identity.key.public(), old.public());
    }
    // After the crash the renewal is made again, with the same key.
    let again = files.next_key().unwrap();
    assert_eq!(again.public(), next.public());
    let renewed = files.accept(&again, &answer(&world, &again)).unwrap();
    assert_eq!(renewed.key.public(), next.public());
    assert_eq!(renewed.certificate.public_key, *next.public());
}
