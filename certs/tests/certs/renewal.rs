//! The renew-only path: who comes back after a long absence, and who does not.

use std::time::Duration;

use holdfast_certs::authority::Issued;
use holdfast_certs::csr::RequestError;
use holdfast_certs::key::TargetKey;
use holdfast_certs::registry::MAX_OFFLINE;
use holdfast_certs::verify::renewal::{Renewal, RenewalRefused, verify_renewal};
use holdfast_certs::verify::{Refused, peer_identity};
use holdfast_protocol::join::{EXPORTER_BYTES, RenewRequest};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::ALPN_CONTROL;

use crate::world::{DAY, Target, World, environment, forge, stolen};

const EXPORTER: [u8; EXPORTER_BYTES] = [7; EXPORTER_BYTES];
const SECOND: Duration = Duration::from_secs(1);

/// An honest request of `target` for `key`, on the connection with this exporter.
fn request(issued: &Issued, old: &TargetKey, key: &TargetKey, exporter: &[u8]) -> RenewRequest {
    let request = key.request().unwrap();
    RenewRequest {
        chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
        proof: old.prove_renewal(exporter, &request).unwrap(),
        request,
    }
}

/// What an honest target gets at `now`.
fn renew(world: &World, web: &Target, now: Timestamp) -> Result<Renewal, RenewalRefused> {
    let next = TargetKey::generate().unwrap();
    let request = request(&web.issued, &web.key, &next, &EXPORTER);
    verify_renewal(&request, &EXPORTER, &world.registry, now)
}

#[test]
fn an_expired_certificate_opens_the_renewal_and_nothing_else() {
    let world = World::fixed();
    let web = world.target("web-1");
    let now = web.issued.certificate.not_after.after(100 * DAY);
    let next = TargetKey::generate().unwrap();
    let asked = request(&web.issued, &web.key, &next, &EXPORTER);
    let renewal = verify_renewal(&asked, &EXPORTER, &world.registry, now).unwrap();
    assert_eq!(renewal.peer.identity, web.issued.certificate.identity);
    assert_eq!(renewal.key, *next.public());
    assert_eq!(renewal.expired_for, 100 * DAY);
    let control = peer_identity(&web.issued.chain, Some(ALPN_CONTROL), &world.registry, now);
    assert!(
        matches!(control, Err(Refused::Expired { .. })),
        "{control:?}"
    );
}

#[test]
fn a_valid_certificate_may_be_renewed_on_this_path_too() {
    let world = World::fixed();
    let renewal = renew(&world, &world.target("web-1"), world.now).unwrap();
    assert_eq!(renewal.expired_for, Duration::ZERO);
}

#[test]
fn only_the_old_key_on_this_very_connection_proves_a_renewal() {
    let world = World::fixed();
    let web = world.target("web-1");
    let now = web.issued.certificate.not_after.after(DAY);
    let (thief, next) = (
        TargetKey::generate().unwrap(),
        TargetKey::generate().unwrap(),
    );
    let judge = |asked: &RenewRequest| verify_renewal(asked, &EXPORTER, &world.registry, now);

    let honest = request(&web.issued, &web.key, &next, &EXPORTER);
    assert!(judge(&honest).is_ok());
    // The certificate is public; its key is not.
    assert!(matches!(
        judge(&request(&web.issued, &thief, &thief, &EXPORTER)),
        Err(RenewalRefused::Proof)
    ));
    // Recorded on another connection, as one in the middle could.
    let replayed = request(&web.issued, &web.key, &next, &[8; EXPORTER_BYTES]);
    assert!(matches!(judge(&replayed), Err(RenewalRefused::Proof)));
    let elsewhere = verify_renewal(&honest, &[8; EXPORTER_BYTES], &world.registry, now);
    assert!(matches!(elsewhere, Err(RenewalRefused::Proof)));
    // An honest proof, with another's request put in its place.
    let mut swapped = honest.clone();
    swapped.request = thief.request().unwrap();
    assert!(matches!(judge(&swapped), Err(RenewalRefused::Proof)));
    // A request whose key nobody has shown to hold.
    let mut unproven = honest.clone();
    *unproven.request.last_mut().unwrap() ^= 1;
    assert!(matches!(
        judge(&unproven),
        Err(RenewalRefused::Request(RequestError::Possession))
    ));
    for proof in [vec![], vec![0; 64], honest.proof[1..].to_vec()] {
        let asked = RenewRequest {
            proof,
            ..honest.clone()
        };
        assert!(matches!(judge(&asked), Err(RenewalRefused::Proof)));
    }
}

#[test]
fn a_target_may_be_away_for_as_long_as_its_environment_allows() {
    let mut world = World::fixed();
    let web = world.target("web-1");
    let end = web.issued.certificate.not_after;
    assert!(renew(&world, &web, end.after(MAX_OFFLINE)).is_ok());
    let late = renew(&world, &web, end.after(MAX_OFFLINE + SECOND)).unwrap_err();
    assert!(matches!(late, RenewalRefused::TooLate { .. }), "{late:?}");
    assert!(late.to_string().contains("400 days"), "{late}");
    let staging = environment("staging");
    world
        .registry
        .environments
        .get_mut(&staging)
        .unwrap()
        .max_offline = Duration::ZERO;
    assert!(matches!(
        renew(&world, &web, end.after(SECOND)),
        Err(RenewalRefused::Forbidden)
    ));
    assert!(renew(&world, &web, end).is_ok());
}

#[test]
fn a_revoked_target_does_not_come_back_however_long_it_waits() {
    let mut world = World::fixed();
    let web = world.target("web-1");
    world.registry.revoked.insert(web.issued.certificate.serial);
    for now in [world.now, web.issued.certificate.not_after.after(300 * DAY)] {
        let refused = renew(&world, &web, now);
        assert!(
            matches!(
                refused,
                Err(RenewalRefused::Certificate(Refused::Revoked { .. }))
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn a_certificate_that_is_not_yet_valid_is_not_renewed() {
    let world = World::fixed();
    let web = world.target("web-1");
    let early = Timestamp::from_millis(web.issued.certificate.not_before.as_millis() - 1);
    let refused = renew(&world, &web, early);
    assert!(
        matches!(
            refused,
            Err(RenewalRefused::Certificate(Refused::NotYetValid { .. }))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_forged_certificate_is_not_renewed() {
    let world = World::fixed();
    let mut params = world.honest_params();
    params.subject_alt_names = vec![world.uri("production", "db-1")];
    let (leaf, key) = forge(&params, &stolen(&world.staging.to_pem()));
    let key = TargetKey::from_pem(&key.serialize_pem()).unwrap();
    let certificate = holdfast_certs::certificate::TargetCertificate::read(&leaf).unwrap();
    let issued = Issued {
        chain: vec![leaf],
        certificate,
    };
    let asked = request(&issued, &key, &key, &EXPORTER);
    let refused = verify_renewal(&asked, &EXPORTER, &world.registry, world.now);
    assert!(
        matches!(
            refused,
            Err(RenewalRefused::Certificate(Refused::Untrusted { .. }))
        ),
        "{refused:?}"
    );
    let nothing = RenewRequest {
        chain: Vec::new(),
        ..asked
    };
    let refused = verify_renewal(&nothing, &EXPORTER, &world.registry, world.now);
    assert!(matches!(
        refused,
        Err(RenewalRefused::Certificate(Refused::NoCertificate))
    ));
}
