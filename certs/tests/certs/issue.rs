//! What an authority signs, and what it does not let itself be asked for.

use std::process::{Command, Stdio};

use holdfast_certs::authority::{AuthorityError, CLOCK_SKEW, EnvironmentAuthority, Root};
use holdfast_certs::certificate::{Serial, TargetCertificate};
use holdfast_certs::csr::{REQUEST_MAX_BYTES, RequestError, requested_key};
use holdfast_certs::identity::TrustDomain;
use holdfast_certs::key::TargetKey;
use holdfast_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use crate::world::{DAY, World, dns, environment, target};

#[test]
fn a_request_to_be_an_authority_and_to_have_other_names_gets_neither() {
    let world = World::fixed();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut asked = CertificateParams::default();
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        asked.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        asked.subject_alt_names = vec![dns("admin"), world.uri("production", "web-1")];
        let request = asked.serialize_request(&key).unwrap();

        let key = requested_key(request.der()).unwrap();
        let serial = Serial::generate().unwrap();
        let issued = world
            .staging
            .issue(&target("web-1"), &key, serial, world.now, DAY)
            .unwrap();

        let (_, leaf) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
        assert!(!leaf.is_ca());
        let names = leaf
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .clone();
        assert_eq!(names.len(), 1, "{names:?}");
        let usage = leaf.extended_key_usage().unwrap().unwrap().value.clone();
        assert!(
            usage.client_auth && !usage.server_auth && !usage.any,
            "{usage:?}"
        );
        let usage = *leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
        let read = TargetCertificate::read(&issued.chain[0]).unwrap();
        assert_eq!(read.identity.to_string(), "staging/web-1");
        assert_eq!((read.serial, &read.public_key), (serial, &key));
        assert_eq!(read, issued.certificate);
    }
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let key = TargetKey::generate().unwrap();
    let request = key.request().unwrap();
    assert_eq!(requested_key(&request).unwrap(), *key.public());
    for place in 0..request.len() {
        let mut spoilt = request.clone();
        spoilt[place] ^= 1;
        // Whatever the flipped bit meant, it must not bring the request through.
        assert!(requested_key(&spoilt).is_err(), "byte {place}");
    }
    // Another's public key in a request that is signed by one's own.
    let other = TargetKey::generate().unwrap();
    let theft = replace(&request, key.public().spki(), other.public().spki());
    assert_eq!(requested_key(&theft), Err(RequestError::Possession));
}

#[test]
fn a_request_of_a_wrong_kind_or_size_is_refused() {
    let mismatched = swap_algorithm(&TargetKey::generate().unwrap().request().unwrap());
    assert_eq!(requested_key(&mismatched), Err(RequestError::Malformed));
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert_eq!(requested_key(request.der()), Err(RequestError::Key));
    }
    let request = TargetKey::generate().unwrap().request().unwrap();
    let longer = [&request[..], &[0]].concat();
    assert_eq!(requested_key(&longer), Err(RequestError::Malformed));
    for length in 0..request.len() {
        assert_eq!(
            requested_key(&request[..length]),
            Err(RequestError::Malformed),
            "{length}"
        );
    }
    let huge = vec![0x30; REQUEST_MAX_BYTES + 1];
    assert_eq!(
        requested_key(&huge),
        Err(RequestError::TooLarge(huge.len()))
    );
    // A request that is right in everything but its size, so that it is the size that is refused.
    let mut wordy = CertificateParams::default();
    wordy.subject_alt_names = (0..200)
        .map(|n| dns(&format!("name-{n}.example.com")))
        .collect();
    let wordy = wordy
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap();
    assert_eq!(
        requested_key(wordy.der()),
        Err(RequestError::TooLarge(wordy.der().len()))
    );
}

#[test]
fn validity_begins_a_little_early_and_never_outlives_the_authority() {
    let world = World::fixed();
    let key = TargetKey::generate().unwrap();
    let issue = |now: Timestamp, days: u32| {
        let serial = Serial::generate().unwrap();
        world
            .staging
            .issue(&target("web-1"), key.public(), serial, now, days * DAY)
    };
    let later = world.now.after(DAY);
    let usual = issue(later, 30).unwrap().certificate;
    assert_eq!(later.since(usual.not_before), CLOCK_SKEW);
    assert_eq!(usual.not_after, later.after(30 * DAY));
    assert_eq!(
        usual.renew_at(),
        usual.not_before.after((30 * DAY + CLOCK_SKEW) / 2)
    );
    // The authority began five minutes before it was made, so a leaf of its first moment has no more.
    let (_, authority) = x509_parser::parse_x509_certificate(world.staging.certificate()).unwrap();
    let began = authority.validity().not_before.timestamp() as u64 * 1000;
    let first = issue(Timestamp::from_millis(began), 1).unwrap().certificate;
    assert_eq!(first.not_before.as_millis(), began);
    let endless = issue(later, 100_000).unwrap().certificate;
    assert_eq!(endless.not_after, world.staging.not_after());
    let after_the_end = world.staging.not_after().after(DAY);
    assert!(matches!(
        issue(after_the_end, 1),
        Err(AuthorityError::OutOfTime { .. })
    ));
    let before_the_start = Timestamp::from_millis(began - 1000);
    assert!(matches!(
        issue(before_the_start, 1),
        Err(AuthorityError::OutOfTime { .. })
    ));
}

#[test]
fn an_authority_that_was_read_back_issues_what_the_old_one_would() {
    let world = World::fixed();
    let root = Root::from_pem(&world.root.to_pem()).unwrap();
    assert_eq!(root.pin(), world.root.pin());
    assert_eq!(root.trust_domain(), world.root.trust_domain());
    let domain = root.trust_domain();
    let staging =
        EnvironmentAuthority::from_pem(domain, &environment("staging"), &world.staging.to_pem())
            .unwrap();
    let key = TargetKey::generate().unwrap();
    let serial = Serial::generate().unwrap();
    let issue = |authority: &EnvironmentAuthority| {
        authority
            .issue(&target("web-1"), key.public(), serial, world.now, DAY)
            .unwrap()
    };
    let (old, new) = (issue(&world.staging), issue(&staging));
    assert_eq!(old.certificate, new.certificate);
    // What is signed is the same in every byte: names, key identifiers, extensions. Only the ECDSA
    // signature after it is random.
    let signed = |der: &[u8]| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        certificate.tbs_certificate.as_ref().to_vec()
    };
    assert_eq!(signed(&old.chain[0]), signed(&new.chain[0]));
    assert_eq!(
        key_identifiers(&new.chain[0]).0,
        key_identifiers(&new.chain[1]).1
    );
    assert_eq!(
        key_identifiers(&new.chain[1]).0,
        key_identifiers(root.certificate()).1
    );
}

#[test]
fn an_authority_is_not_read_as_that_of_another_environment_or_with_anothers_key() {
    let world = World::fixed();
    let domain = world.root.trust_domain();
    let read = |pem: &str| EnvironmentAuthority::from_pem(domain, &environment("staging"), pem);
    assert!(read(&world.staging.to_pem()).is_ok());
    assert!(matches!(
        read(&world.production.to_pem()),
        Err(AuthorityError::Name { .. })
    ));
    assert!(matches!(
        read(&world.root.to_pem()),
        Err(AuthorityError::Name { .. })
    ));
    let (staging, production) = (world.staging.to_pem(), world.production.to_pem());
    let key_of_production = &production[..production.find("-----BEGIN CERT").unwrap()];
    let mixed = format!(
        "{key_of_production}{}",
        &staging[staging.find("-----BEGIN CERT").unwrap()..]
    );
    assert!(matches!(read(&mixed), Err(AuthorityError::Mismatch)));
    assert!(matches!(
        read(key_of_production),
        Err(AuthorityError::Armor(_))
    ));
}

#[test]
fn the_longest_names_fit_what_other_tools_allow() {
    let long = "n".repeat(63);
    let now = World::fixed().now;
    let root = Root::create(TrustDomain::parse(&long).unwrap(), now).unwrap();
    let authority = root.create_environment(&environment(&long), now).unwrap();
    let key = TargetKey::generate().unwrap();
    let serial = Serial::generate().unwrap();
    let issued = authority
        .issue(&target(&long), key.public(), serial, now, DAY)
        .unwrap();
    let leaf = root
        .server_leaf(&[], now, DAY)
        .unwrap()
        .chain
        .swap_remove(0);
    for der in issued.chain.iter().chain([root.certificate(), &leaf]) {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        for part in certificate.subject().iter_attributes() {
            // X.520 allows 64 characters for each part of a name.
            assert!(
                part.as_str().unwrap().len() <= 64,
                "{}",
                certificate.subject()
            );
        }
    }
    assert_eq!(issued.certificate.identity.target, target(&long));
}

#[test]
fn the_pin_is_what_sha256sum_says_of_the_root_certificate() {
    use std::io::Write as _;
    let world = World::fixed();
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum of coreutils");
    sum.stdin
        .take()
        .unwrap()
        .write_all(world.root.certificate())
        .unwrap();
    let output = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(
        output.split_whitespace().next(),
        Some(world.root.pin().hex().as_str())
    );
}

#[test]
fn a_server_certificate_is_for_hosts_and_addresses_and_nothing_else() {
    let world = World::fixed();
    let leaf = |host: &str| world.root.server_leaf(&[host.to_owned()], world.now, DAY);
    for host in ["deploy.example.com", "10.1.2.3", "fe80::1", "localhost"] {
        assert!(leaf(host).is_ok(), "{host}");
    }
    for host in ["", "a b", "https://x", "-x-", "x\n", "10.1.2.3:7443"] {
        assert!(
            matches!(leaf(host), Err(AuthorityError::Host(_))),
            "{host:?}"
        );
    }
}

/// Authority and subject key identifier of a certificate.
fn key_identifiers(der: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    use x509_parser::extensions::ParsedExtension;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    let (mut authority, mut subject) = (None, None);
    for extension in certificate.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
            _ => {}
        }
    }
    (authority, subject)
}

/// A request that says its signature is with SHA-384, which is not covered by the signature.
fn swap_algorithm(request: &[u8]) -> Vec<u8> {
    let with_sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let with_sha384 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
    replace(request, &with_sha256, &with_sha384)
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(old.len())
        .position(|window| window == old)
        .unwrap();
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}
