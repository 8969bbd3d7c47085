//! Which certificates a coordinator takes for a target's, and which of the many near misses it does
//! not.

use holdfast_certs::authority::Root;
use holdfast_certs::certificate::CertificateError;
use holdfast_certs::identity::TrustDomain;
use holdfast_certs::registry::Registry;
use holdfast_certs::verify::{Peer, Refused, peer_identity};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use rustls_pki_types::CertificateDer;

use crate::world::{World, dns, environment, forge, stolen, uri};

fn judge(world: &World, leaf: &CertificateDer<'static>) -> Result<Peer, Refused> {
    let presented = [leaf.clone(), world.staging.certificate().clone()];
    peer_identity(&presented, Some(ALPN_CONTROL), &world.registry, world.now)
}

/// A certificate of staging's web-1, spoilt by `spoil` and signed by staging's own authority.
fn spoilt(world: &World, spoil: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = world.honest_params();
    spoil(&mut params);
    forge(&params, &stolen(&world.staging.to_pem())).0
}

fn judge_spoilt(spoil: impl FnOnce(&World, &mut CertificateParams)) -> Result<Peer, Refused> {
    let world = World::fixed();
    let leaf = spoilt(&world, |params| spoil(&world, params));
    judge(&world, &leaf)
}

#[test]
fn an_honest_target_is_who_its_certificate_says() {
    let world = World::fixed();
    let web = world.target("web-1");
    let peer = peer_identity(
        &web.issued.chain,
        Some(ALPN_CONTROL),
        &world.registry,
        world.now,
    )
    .unwrap();
    assert_eq!(peer.identity, web.issued.certificate.identity);
    assert_eq!(peer.serial, web.issued.certificate.serial);
    assert_eq!(peer.public_key, *web.key.public());
    // The forger's tools make an acceptable certificate when nothing is spoilt, so that each
    // refusal below is for what was spoilt.
    assert!(judge_spoilt(|_, _| ()).is_ok());
}

#[test]
fn a_certificate_without_the_client_usage_alone_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    for usages in [
        vec![],
        vec![ServerAuth],
        vec![ClientAuth, ServerAuth],
        vec![Any],
    ] {
        let judged = judge_spoilt(|_, params| params.extended_key_usages = usages);
        assert!(
            matches!(judged, Err(Refused::Certificate(CertificateError::Usage))),
            "{judged:?}"
        );
    }
}

#[test]
fn a_certificate_with_other_than_one_uri_name_is_refused() {
    let world = World::fixed();
    for names in [
        vec![],
        vec![dns("web-1")],
        vec![world.uri("staging", "web-1"), world.uri("staging", "web-2")],
        vec![world.uri("staging", "web-1"), dns("web-1")],
    ] {
        let leaf = spoilt(&world, |params| params.subject_alt_names = names);
        let judged = judge(&world, &leaf);
        assert!(
            matches!(
                judged,
                Err(Refused::Certificate(CertificateError::Names(_)))
            ),
            "{judged:?}"
        );
    }
    for name in [
        "spiffe://holdfast-0000test/env/staging",
        "https://web-1",
        "spiffe://x/y",
    ] {
        let leaf = spoilt(&world, |params| params.subject_alt_names = vec![uri(name)]);
        let judged = judge(&world, &leaf);
        assert!(
            matches!(
                judged,
                Err(Refused::Certificate(CertificateError::Identity(_)))
            ),
            "{judged:?}"
        );
    }
}

#[test]
fn stagings_authority_cannot_speak_for_production() {
    let judged = judge_spoilt(|world, params| {
        params.subject_alt_names = vec![world.uri("production", "db-1")];
    });
    assert!(
        matches!(judged, Err(Refused::Untrusted { .. })),
        "{judged:?}"
    );
    // Nor does it help to send production's authority and the root along, or to be signed by the
    // root itself: only production's authority speaks for production.
    let world = World::fixed();
    let mut params = world.honest_params();
    params.subject_alt_names = vec![world.uri("production", "db-1")];
    let (by_staging, _) = forge(&params, &stolen(&world.staging.to_pem()));
    let (by_root, _) = forge(&params, &stolen(&world.root.to_pem()));
    let (by_production, _) = forge(&params, &stolen(&world.production.to_pem()));
    let judge = |leaf: &CertificateDer<'static>| {
        let presented = [
            leaf.clone(),
            world.staging.certificate().clone(),
            world.production.certificate().clone(),
            world.root.certificate().clone(),
        ];
        peer_identity(&presented, Some(ALPN_CONTROL), &world.registry, world.now)
    };
    assert!(matches!(judge(&by_staging), Err(Refused::Untrusted { .. })));
    assert!(matches!(judge(&by_root), Err(Refused::Untrusted { .. })));
    assert!(judge(&by_production).is_ok());
}

#[test]
fn a_target_cannot_certify_another() {
    let world = World::fixed();
    let web = world.target("web-1");
    // Its own certificate and key, used as if they were an authority's.
    let key = KeyPair::from_pem(&web.key.to_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&web.issued.chain[0], key).unwrap();
    let mut params = world.honest_params();
    params.subject_alt_names = vec![world.uri("staging", "web-2")];
    let (leaf, _) = forge(&params, &issuer);
    let chain = [&[leaf][..], &web.issued.chain].concat();
    let judged = peer_identity(&chain, Some(ALPN_CONTROL), &world.registry, world.now);
    assert!(
        matches!(judged, Err(Refused::Untrusted { .. })),
        "{judged:?}"
    );
}

#[test]
fn an_authority_below_an_environments_certifies_nothing() {
    let world = World::fixed();
    let mut below = world.honest_params();
    below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    below.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let (certificate, key) = forge(&below, &stolen(&world.staging.to_pem()));
    let issuer = Issuer::from_ca_cert_der(&certificate, key).unwrap();
    let (leaf, _) = forge(&world.honest_params(), &issuer);
    let chain = [
        leaf,
        certificate.clone(),
        world.staging.certificate().clone(),
    ];
    let judged = peer_identity(&chain, Some(ALPN_CONTROL), &world.registry, world.now);
    assert!(
        matches!(judged, Err(Refused::Untrusted { .. })),
        "{judged:?}"
    );
    // And it is no target itself.
    let judged = judge(&world, &certificate);
    assert!(
        matches!(
            judged,
            Err(Refused::Certificate(CertificateError::Authority))
        ),
        "{judged:?}"
    );
}

#[test]
fn an_impostors_authority_with_the_right_names_is_refused() {
    let world = World::fixed();
    let domain = world.root.trust_domain().clone();
    let impostor = Root::create(domain, world.now).unwrap();
    let staging = impostor
        .create_environment(&environment("staging"), world.now)
        .unwrap();
    let (leaf, _) = forge(&world.honest_params(), &stolen(&staging.to_pem()));
    let chain = [
        leaf,
        staging.certificate().clone(),
        impostor.certificate().clone(),
    ];
    let judged = peer_identity(&chain, Some(ALPN_CONTROL), &world.registry, world.now);
    assert!(
        matches!(judged, Err(Refused::Untrusted { .. })),
        "{judged:?}"
    );
}

#[test]
fn a_certificate_outside_its_time_is_refused() {
    let world = World::fixed();
    let web = world.target("web-1").issued;
    let at = |now: Timestamp| peer_identity(&web.chain, Some(ALPN_CONTROL), &world.registry, now);
    let (first, last) = (web.certificate.not_before, web.certificate.not_after);
    let second = std::time::Duration::from_secs(1);
    assert!(at(first).is_ok());
    assert!(at(last).is_ok());
    assert!(matches!(
        at(last.after(second)),
        Err(Refused::Expired { .. })
    ));
    let too_early = Timestamp::from_millis(first.as_millis() - 1);
    assert!(matches!(at(too_early), Err(Refused::NotYetValid { .. })));
    assert!(matches!(
        at(Timestamp::from_millis(0)),
        Err(Refused::NotYetValid { .. })
    ));
}

#[test]
fn a_revoked_certificate_is_refused_and_its_neighbour_is_not() {
    let mut world = World::fixed();
    let (one, two) = (world.target("web-1").issued, world.target("web-2").issued);
    world.registry.revoked.insert(one.certificate.serial);
    assert!(matches!(
        judge(&world, &one.chain[0]),
        Err(Refused::Revoked { .. })
    ));
    assert!(judge(&world, &two.chain[0]).is_ok());
}

#[test]
fn an_environment_that_is_not_known_has_no_targets() {
    let mut world = World::fixed();
    let web = world.target("web-1").issued;
    world.registry.environments.remove(&environment("staging"));
    assert!(matches!(
        judge(&world, &web.chain[0]),
        Err(Refused::UnknownEnvironment(_))
    ));
}

#[test]
fn a_target_of_another_installation_is_refused() {
    let world = World::fixed();
    let web = world.target("web-1").issued;
    let mut registry = Registry::new(TrustDomain::parse("holdfast-other").unwrap());
    registry.environments = world.registry.environments.clone();
    let judged = peer_identity(&web.chain, Some(ALPN_CONTROL), &registry, world.now);
    assert!(
        matches!(judged, Err(Refused::OtherInstallation(_))),
        "{judged:?}"
    );
}

#[test]
fn during_a_rotation_both_authorities_of_an_environment_count() {
    let mut world = World::fixed();
    let next = world
        .root
        .create_environment(&environment("staging"), world.now)
        .unwrap();
    let (leaf, _) = forge(&world.honest_params(), &stolen(&next.to_pem()));
    assert!(matches!(
        judge(&world, &leaf),
        Err(Refused::Untrusted { .. })
    ));
    let anchors = world
        .registry
        .environments
        .get_mut(&environment("staging"))
        .unwrap();
    anchors.authorities.push(next.certificate().clone());
    assert!(judge(&world, &leaf).is_ok());
    assert!(judge(&world, &world.target("web-1").issued.chain[0]).is_ok());
}

#[test]
fn a_control_connection_without_a_certificate_is_refused() {
    let world = World::fixed();
    let judged = peer_identity(&[], Some(ALPN_CONTROL), &world.registry, world.now);
    assert!(matches!(judged, Err(Refused::NoCertificate)), "{judged:?}");
    let web = world.target("web-1").issued;
    for alpn in [None, Some(ALPN_JOIN), Some(&b"holdfast/0"[..])] {
        let judged = peer_identity(&web.chain, alpn, &world.registry, world.now);
        assert!(matches!(judged, Err(Refused::NotControl)), "{judged:?}");
    }
}

#[test]
fn damaged_certificates_are_refused() {
    let world = World::fixed();
    let web = world.target("web-1").issued;
    for place in 0..web.chain[0].len() {
        let mut bytes = web.chain[0].to_vec();
        bytes[place] ^= 1;
        assert!(
            judge(&world, &CertificateDer::from(bytes)).is_err(),
            "byte {place}"
        );
    }
    let longer = [&web.chain[0][..], &[0]].concat();
    assert!(judge(&world, &CertificateDer::from(longer)).is_err());
    assert!(judge(&world, &CertificateDer::from(Vec::new())).is_err());
    // Honest but for its size, which nobody need read.
    let huge = spoilt(&world, |params| {
        let content = vec![0; 8 * 1024];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], content)];
    });
    let judged = judge(&world, &huge);
    assert!(
        matches!(
            judged,
            Err(Refused::Certificate(CertificateError::Malformed))
        ),
        "{judged:?}"
    );
}
