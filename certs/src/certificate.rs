//! What a target's certificate says, read strictly. Reading is not believing: `verify` decides that.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use holdfast_protocol::time::{Timestamp, millis};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::identity::{Identity, IdentityError, TrustDomain};
use crate::key::PublicKey;
use crate::random::{self, RandomError};

/// The serial number of a certificate: 128 bits, 126 of them random. Written as 32 hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; SERIAL_BYTES]);

/// Not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate's serial number: expected 32 hexadecimal digits")]
pub struct SerialError;

/// The content of a target's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetCertificate {
    /// The installation that the name belongs to.
    pub trust_domain: TrustDomain,
    /// The one name.
    pub identity: Identity,
    /// Its number.
    pub serial: Serial,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// The key that its holder proves.
    pub public_key: PublicKey,
}

/// Why a certificate is not one of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not one X.509 certificate and nothing else, or an extension that cannot be read.
    #[error("the certificate cannot be read")]
    Malformed,
    /// Not exactly one name, or one of another kind.
    #[error("the certificate must carry exactly one name, a URI; it carries {0}")]
    Names(String),
    /// A URI, but not a target's.
    #[error("the certificate's name is not a target's")]
    Identity(#[from] IdentityError),
    /// May be used for something else than being a client.
    #[error("the certificate is not one for client authentication alone")]
    Usage,
    /// May sign certificates.
    #[error("the certificate is one of an authority")]
    Authority,
    /// Not one of our serial numbers.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// A key of a kind that is not allowed.
    #[error("the certificate's key is neither P-256 nor Ed25519")]
    Key,
}

impl Serial {
    /// A new one.
    ///
    /// # Errors
    /// [`RandomError`] where the system has no random numbers.
    pub fn generate() -> Result<Self, RandomError> {
        let mut bytes = random::bytes::<SERIAL_BYTES>()?;
        // A positive number (RFC 5280, section 4.1.2.2) whose length never varies.
        bytes[0] = (bytes[0] & 0x7f) | 0x40;
        Ok(Self(bytes))
    }

    /// The bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_der(bytes: &[u8]) -> Result<Self, SerialError> {
        bytes.try_into().map(Self).map_err(|_| SerialError)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&random::hex(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = SerialError;
    fn from_str(text: &str) -> Result<Self, SerialError> {
        random::from_hex(text).map(Self).ok_or(SerialError)
    }
}

impl TargetCertificate {
    /// Reads a certificate, DER. No signature and no time is checked.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der).ok_or(CertificateError::Malformed)?;
        refuse_authority(&certificate)?;
        demand_client_usage(&certificate)?;
        let (trust_domain, identity) = Identity::parse(&only_uri(&certificate)?)?;
        Ok(Self {
            trust_domain,
            identity,
            serial: Serial::from_der(certificate.raw_serial())?,
            not_before: not_before(&certificate),
            not_after: not_after(&certificate),
            public_key: PublicKey::from_spki(certificate.public_key().raw)
                .map_err(|_| CertificateError::Key)?,
        })
    }

    /// When to ask for the next certificate: half-way through this one's validity.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        self.not_before
            .after(self.not_after.since(self.not_before) / 2)
    }

    /// How long ago it expired; nothing while it is valid.
    #[must_use]
    pub fn expired_for(&self, now: Timestamp) -> Duration {
        now.since(self.not_after)
    }
}

/// One certificate that fills `der` exactly.
pub(crate) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    if der.len() > CERTIFICATE_MAX_BYTES {
        return None;
    }
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

pub(crate) fn not_before(certificate: &X509Certificate<'_>) -> Timestamp {
    seconds(certificate.validity().not_before.timestamp())
}

/// The last valid moment. X.509 counts whole seconds, and the last one is still inside.
pub(crate) fn not_after(certificate: &X509Certificate<'_>) -> Timestamp {
    seconds(certificate.validity().not_after.timestamp())
}

/// The URI that is the only name of the certificate.
pub(crate) fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| CertificateError::Malformed)?;
    let names = names
        .map(|names| &names.value.general_names[..])
        .unwrap_or_default();
    match names {
        [GeneralName::URI(uri)] => Ok((*uri).to_owned()),
        [_] => Err(CertificateError::Names("one of another kind".to_owned())),
        names => Err(CertificateError::Names(names.len().to_string())),
    }
}

fn refuse_authority(certificate: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| CertificateError::Malformed)?;
    let usage = certificate
        .key_usage()
        .map_err(|_| CertificateError::Malformed)?;
    let signs = usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign());
    if signs || constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(CertificateError::Authority);
    }
    Ok(())
}

/// The usages must name client authentication and nothing else. A certificate without the extension
/// could be used for everything, so it is refused.
fn demand_client_usage(certificate: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| CertificateError::Malformed)?;
    let usage = usage.ok_or(CertificateError::Usage)?.value;
    let other = usage.any
        || usage.server_auth
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    if other || !usage.client_auth {
        return Err(CertificateError::Usage);
    }
    Ok(())
}

/// Seconds since the epoch; a time before it is the epoch, which is before any `now`.
fn seconds(seconds: i64) -> Timestamp {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Timestamp::from_millis(millis(Duration::from_secs(seconds)))
}

/// Largest certificate that is looked at, in bytes; ours have about 700.
const CERTIFICATE_MAX_BYTES: usize = 8 * 1024;
/// Bytes of a serial number: 128 bits.
const SERIAL_BYTES: usize = 16;
