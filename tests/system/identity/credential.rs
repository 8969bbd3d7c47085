//! Certificates and keys: such as a target is given, and such as none should have.

use std::path::Path;
use std::time::Duration;

use holdfast_certs::authority::{EnvironmentAuthority, Root};
use holdfast_certs::certificate::Serial;
use holdfast_certs::clock::Clock;
use holdfast_certs::key::TargetKey;
use holdfast_certs::keystore::coordinator::{Authorities, Environment};
use holdfast_certs::tls::join_client_config;
use holdfast_certs::token::Token;
use holdfast_protocol::join::{JoinRequest, Joined, ToAuthority, ToJoiner};
use holdfast_protocol::observed::{Facts, Labels};
use holdfast_protocol::time::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, SerialNumber};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

use super::client::{Heard, Net};

/// A certificate's chain with its key.
pub(super) struct Credential {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// What a token lets in.
pub(super) struct Member {
    pub(super) key: TargetKey,
    pub(super) joined: Joined,
}

impl Member {
    pub(super) fn credential(&self) -> Credential {
        Credential::of(&self.key, &self.joined.chain)
    }

    pub(super) fn roots(&self) -> Vec<CertificateDer<'static>> {
        certificates(&self.joined.roots)
    }
}

impl Credential {
    pub(super) fn of(key: &TargetKey, chain: &[Vec<u8>]) -> Self {
        Self {
            chain: certificates(chain),
            key: PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes()).unwrap(),
        }
    }
}

/// The authorities in a coordinator's data directory, as a thief of that directory would use them.
pub(super) struct Stolen {
    authorities: Authorities,
    pub(super) root: Root,
}

impl Stolen {
    pub(super) fn from(data: &Path) -> Self {
        let authorities = Authorities::open(data).unwrap();
        let root = authorities.root(now()).unwrap();
        Self { authorities, root }
    }

    pub(super) fn environment(&self, name: &str) -> Environment {
        let name = name.parse().unwrap();
        self.authorities
            .environment(&self.root, &name, now())
            .unwrap()
    }

    pub(super) fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.root.certificate().clone()]
    }

    /// What the environment's authority itself would issue.
    pub(super) fn issued(&self, odd: &Odd<'_>) -> Credential {
        let key = TargetKey::generate().unwrap();
        let authority = self.environment(odd.environment).authority;
        let serial = Serial::generate().unwrap();
        let target = odd.target.parse().unwrap();
        let issued = authority.issue(&target, key.public(), serial, odd.from, odd.validity);
        let chain: Vec<_> = issued
            .unwrap()
            .chain
            .iter()
            .map(|der| der.to_vec())
            .collect();
        Credential::of(&key, &chain)
    }

    /// Whatever `shape` makes of a target's certificate, signed by `signer`'s authority for the name
    /// of `target` in `environment`.
    pub(super) fn forged(
        &self,
        signer: &str,
        names: &[String],
        shape: impl FnOnce(&mut CertificateParams),
    ) -> Credential {
        let authority = self.environment(signer).authority;
        let mut params = leaf(names);
        shape(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer(&authority)).unwrap();
        Credential {
            chain: vec![leaf.der().clone(), authority.certificate().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// The name of a target of this installation.
    pub(super) fn name(&self, environment: &str, target: &str) -> String {
        format!(
            "spiffe://{}/env/{environment}/target/{target}",
            self.root.trust_domain()
        )
    }

    /// The certificate with which a coordinator serves, used by a client.
    pub(super) fn server_leaf(&self) -> Credential {
        let mut params = leaf(&[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::DnsName(
            holdfast_protocol::version::COORDINATOR_NAME
                .try_into()
                .unwrap(),
        )];
        let pem = self.root.to_pem();
        let root = KeyPair::from_pem(&pem).unwrap();
        let root = Issuer::from_ca_cert_der(self.root.certificate(), root).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &root).unwrap();
        Credential {
            chain: vec![leaf.der().clone(), self.root.certificate().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

/// A certificate that an authority could issue, but should not have or not yet.
pub(super) struct Odd<'a> {
    pub(super) environment: &'a str,
    pub(super) target: &'a str,
    pub(super) from: Timestamp,
    pub(super) validity: Duration,
}

/// Signed by nobody but itself.
pub(super) fn self_signed(names: &[String]) -> Credential {
    let key = KeyPair::generate().unwrap();
    let leaf = leaf(names).self_signed(&key).unwrap();
    Credential {
        chain: vec![leaf.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

/// A request as an agent would make it.
pub(super) fn request(token: &Token, key: &TargetKey, name: &str) -> JoinRequest {
    JoinRequest {
        token_id: token.id().as_str().to_owned(),
        secret: token.secret().to_vec(),
        name: name.parse().unwrap(),
        labels: Labels::new(),
        request: key.request().unwrap(),
        replace: false,
        facts: Facts::default(),
    }
}

/// Sends one request over the join exchange, trusting the root that `token` pins.
pub(super) fn ask(net: &Net, token: &Token, request: JoinRequest) -> Heard<ToJoiner> {
    let tls = join_client_config(token.pin(), Arc::new(Clock::default())).unwrap();
    let link = net.dial(tls).unwrap();
    let mut stream = link.open();
    stream.say(&ToAuthority::Join(request));
    stream.finish();
    stream.hear()
}

/// Joins by hand.
pub(super) fn join(net: &Net, token: &str, name: &str) -> Member {
    let token: Token = token.parse().unwrap();
    let key = TargetKey::generate().unwrap();
    match ask(net, &token, request(&token, &key, name)) {
        Heard::Said(ToJoiner::Joined(joined)) => Member { key, joined },
        other => panic!("{name} cannot join: {other:?}"),
    }
}

pub(super) fn now() -> Timestamp {
    Clock::default().now()
}

pub(super) fn certificates(der: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    der.iter().cloned().map(CertificateDer::from).collect()
}

fn leaf(names: &[String]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = |name: &String| SanType::URI(name.as_str().try_into().unwrap());
    params.subject_alt_names = names.iter().map(uri).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let serial = Serial::generate().unwrap();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    params
}

fn issuer(authority: &EnvironmentAuthority) -> Issuer<'static, KeyPair> {
    let key = KeyPair::from_pem(&authority.to_pem()).unwrap();
    Issuer::from_ca_cert_der(authority.certificate(), key).unwrap()
}
