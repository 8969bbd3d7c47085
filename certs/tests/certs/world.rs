//! One installation with two environments, and the means to forge certificates for it.

use std::time::Duration;

use holdfast_certs::authority::{EnvironmentAuthority, Issued, Root, SERVER_VALIDITY, ServerLeaf};
use holdfast_certs::certificate::Serial;
use holdfast_certs::identity::TrustDomain;
use holdfast_certs::key::TargetKey;
use holdfast_certs::registry::{Anchors, MAX_OFFLINE, Registry};
use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::time::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::CertificateDer;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An installation with the environments staging and production.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) root: Root,
    pub(crate) staging: EnvironmentAuthority,
    pub(crate) production: EnvironmentAuthority,
    pub(crate) registry: Registry,
}

/// A target with its key and certificate.
pub(crate) struct Target {
    pub(crate) key: TargetKey,
    pub(crate) issued: Issued,
}

impl World {
    pub(crate) fn at(now: Timestamp) -> Self {
        let root = Root::create(TrustDomain::parse("holdfast-0000test").unwrap(), now).unwrap();
        let staging = root
            .create_environment(&environment("staging"), now)
            .unwrap();
        let production = root
            .create_environment(&environment("production"), now)
            .unwrap();
        let mut registry = Registry::new(root.trust_domain().clone());
        for authority in [&staging, &production] {
            let authorities = vec![authority.certificate().clone()];
            registry.environments.insert(
                authority.environment().clone(),
                Anchors {
                    authorities,
                    max_offline: MAX_OFFLINE,
                },
            );
        }
        Self {
            now,
            root,
            staging,
            production,
            registry,
        }
    }

    /// At a fixed time, for checks that take the time as an argument.
    pub(crate) fn fixed() -> Self {
        Self::at("2026-11-21T06:36:00Z".parse().unwrap())
    }

    pub(crate) fn target(&self, name: &str) -> Target {
        let key = TargetKey::generate().unwrap();
        let serial = Serial::generate().unwrap();
        let issued = self
            .staging
            .issue(&target(name), key.public(), serial, self.now, 30 * DAY)
            .unwrap();
        Target { key, issued }
    }

    pub(crate) fn server_leaf(&self) -> ServerLeaf {
        self.root
            .server_leaf(&[], self.now, SERVER_VALIDITY)
            .unwrap()
    }

    /// The name of a target as a URI.
    pub(crate) fn uri(&self, environment: &str, target: &str) -> SanType {
        let domain = self.root.trust_domain();
        uri(&format!(
            "spiffe://{domain}/env/{environment}/target/{target}"
        ))
    }

    /// What a certificate of staging's web-1 is made of, to be spoilt.
    pub(crate) fn honest_params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_millis(self.now.as_millis()) - DAY;
        params.not_after = epoch + Duration::from_millis(self.now.as_millis()) + DAY;
        params.serial_number = Some(rcgen::SerialNumber::from_slice(
            Serial::generate().unwrap().as_bytes(),
        ));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![self.uri("staging", "web-1")];
        params
    }
}

pub(crate) fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).unwrap()
}

pub(crate) fn target(name: &str) -> TargetName {
    TargetName::parse(name).unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// The signing power of whoever stole this file of an authority.
pub(crate) fn stolen(pem: &str) -> Issuer<'static, KeyPair> {
    Issuer::from_ca_cert_pem(certificate_block(pem), KeyPair::from_pem(pem).unwrap()).unwrap()
}

/// Any certificate that `issuer` can sign.
pub(crate) fn forge(
    params: &CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().der().clone(), key)
}

fn certificate_block(pem: &str) -> &str {
    &pem[pem.find("-----BEGIN CERTIFICATE").unwrap()..]
}
