//! A certificate that may sign others, and the parts that all of ours are made of.

use std::time::Duration;

use holdfast_protocol::name::EnvironmentName;
use holdfast_protocol::time::{Timestamp, millis};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{AuthorityError, CLOCK_SKEW};
use crate::armor;
use crate::certificate::{self, CertificateError, Serial};
use crate::identity::TrustDomain;

/// A span of validity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Window {
    pub(super) fn new(now: Timestamp, validity: Duration) -> Self {
        Self {
            not_before: before(now, CLOCK_SKEW),
            not_after: now.after(validity),
        }
    }
}

/// A certificate that may sign others, with its key.
pub(super) struct Signer {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) window: Window,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    /// Reads name and key identifier back from the certificate, new or old, so that both take the
    /// same way.
    pub(super) fn new(
        certificate: CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<Self, AuthorityError> {
        let parsed = certificate::parse(&certificate).ok_or(CertificateError::Malformed)?;
        if parsed.public_key().raw != key.subject_public_key_info() || !parsed.is_ca() {
            return Err(AuthorityError::Mismatch);
        }
        let window = Window {
            not_before: certificate::not_before(&parsed),
            not_after: certificate::not_after(&parsed),
        };
        drop(parsed);
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Make)?;
        Ok(Self {
            certificate,
            window,
            issuer,
        })
    }

    pub(super) fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let key = armor::key_from_pem(pem)?;
        let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, algorithm).map_err(AuthorityError::Key)?;
        let certificate = armor::certificates_from_pem(pem)?.swap_remove(0);
        Self::new(certificate, key)
    }

    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        let mut pem = armor::key_to_pem(self.issuer.key().serialized_der());
        pem.push_str(&armor::certificates_to_pem(std::slice::from_ref(
            &self.certificate,
        )));
        pem
    }

    /// The one URI in the certificate.
    pub(super) fn name(&self) -> Result<String, AuthorityError> {
        let parsed = certificate::parse(&self.certificate).ok_or(CertificateError::Malformed)?;
        Ok(certificate::only_uri(&parsed)?)
    }

    /// `validity` from `now`, cut to this authority's own.
    pub(super) fn window_within(
        &self,
        now: Timestamp,
        validity: Duration,
    ) -> Result<Window, AuthorityError> {
        let Window {
            not_before,
            not_after,
        } = self.window;
        if now < not_before || now >= not_after {
            return Err(AuthorityError::OutOfTime {
                now,
                not_before,
                not_after,
            });
        }
        let wanted = Window::new(now, validity);
        Ok(Window {
            not_before: wanted.not_before.max(not_before),
            not_after: wanted.not_after.min(not_after),
        })
    }

    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let made = params
            .signed_by(key, &self.issuer)
            .map_err(AuthorityError::Make)?;
        Ok(made.der().clone())
    }
}

impl std::fmt::Debug for Signer {
    /// The public part only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

pub(super) fn authority_params(
    title: DistinguishedName,
    uri: &str,
    path_length: u8,
    window: Window,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(window)?;
    params.distinguished_name = title;
    params.subject_alt_names = vec![SanType::URI(text(uri)?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

pub(super) fn leaf_params(window: Window) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(window)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn params(window: Window) -> Result<CertificateParams, AuthorityError> {
    let serial = Serial::generate()?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(serial.as_bytes()));
    params.use_authority_key_identifier_extension = true;
    // The maker's time type is reached from the epoch, so that its crate need not be named here.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + whole_seconds(window.not_before);
    params.not_after = epoch + whole_seconds(window.not_after);
    Ok(params)
}

/// Names that no verifier of ours reads: they are for people with other tools. Each part stays below
/// the 64 characters that X.520 allows, whatever the names are.
pub(super) fn title(
    domain: &TrustDomain,
    environment: Option<&EnvironmentName>,
    name: &str,
) -> DistinguishedName {
    let mut title = DistinguishedName::new();
    title.push(DnType::OrganizationName, domain.as_str());
    if let Some(environment) = environment {
        title.push(DnType::OrganizationalUnitName, environment.as_str());
    }
    title.push(DnType::CommonName, name);
    title
}

pub(super) fn text(text: &str) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text).map_err(AuthorityError::Make)
}

fn before(time: Timestamp, span: Duration) -> Timestamp {
    Timestamp::from_millis(time.as_millis().saturating_sub(millis(span)))
}

/// X.509 counts whole seconds and ends with the year 9999.
fn whole_seconds(time: Timestamp) -> Duration {
    Duration::from_secs((time.as_millis() / 1000).min(X509_END_SECONDS))
}

/// 9999-12-31T23:59:59Z, the last time that a certificate can name (RFC 5280, section 4.1.2.5).
const X509_END_SECONDS: u64 = 253_402_300_799;
