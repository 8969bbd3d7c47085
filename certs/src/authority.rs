//! The root and the authorities of environments: what they are made of and what they sign.
//!
//! Nothing is taken from whoever asks but the public key: names, usages and times come from the
//! arguments, and each certificate's end never outlives its authority's. No files, no clock.

mod signer;

use std::net::IpAddr;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::COORDINATOR_NAME;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, DnsName, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use self::signer::{Signer, Window, authority_params, leaf_params, text, title};
use crate::armor::{self, ArmorError};
use crate::certificate::{CertificateError, Serial, TargetCertificate};
use crate::identity::{Identity, TrustDomain};
use crate::key::PublicKey;
use crate::random::RandomError;

/// The installation's root: signs the authorities of environments and the coordinator's own
/// certificate, never a target's.
#[derive(Debug)]
pub struct Root {
    domain: TrustDomain,
    signer: Signer,
}

/// The authority of one environment: signs the certificates of its targets and nothing else.
#[derive(Debug)]
pub struct EnvironmentAuthority {
    domain: TrustDomain,
    environment: EnvironmentName,
    signer: Signer,
}

/// A target's new certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The target's certificate, then its environment's; DER, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the first of them says.
    pub certificate: TargetCertificate,
}

/// The certificate and key with which a coordinator serves.
#[derive(Debug)]
pub struct ServerLeaf {
    /// The server's certificate, then the root, so that a joining target finds the one whose hash
    /// it was given; DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// When to make the next one.
    pub not_after: Timestamp,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
}

/// Why an authority cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate maker refused.
    #[error("a certificate could not be made")]
    Make(#[source] rcgen::Error),
    /// The private key is not one.
    #[error("the authority's private key cannot be read")]
    Key(#[source] rcgen::Error),
    /// Not PEM, or a block is missing.
    #[error(transparent)]
    Armor(#[from] ArmorError),
    /// The certificate cannot be read, or was not made by us.
    #[error("the authority's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// Key and certificate do not belong together.
    #[error("the authority's private key does not belong to its certificate")]
    Mismatch,
    /// The certificate names something else than it should.
    #[error("the authority's certificate is for {found}, not for {expected}")]
    Name {
        /// The name in the certificate.
        found: String,
        /// The name that was looked for.
        expected: String,
    },
    /// Neither an address nor a DNS name.
    #[error("{0:?} is neither an IP address nor a host name")]
    Host(String),
    /// Nothing could be signed that would be valid.
    #[error("the authority is not valid at {now}: only from {not_before} until {not_after}")]
    OutOfTime {
        /// The time given.
        now: Timestamp,
        /// The authority's first moment.
        not_before: Timestamp,
        /// The authority's last moment.
        not_after: Timestamp,
    },
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// How long a target's certificate is valid unless someone says otherwise: 30 days.
pub const TARGET_VALIDITY: Duration = Duration::from_secs(30 * DAY_SECONDS);
/// How long a coordinator's own certificate is valid; it makes a new one at each start and from
/// half-life on.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(90 * DAY_SECONDS);
/// How long an environment's authority is valid.
pub const ENVIRONMENT_VALIDITY: Duration = Duration::from_secs(10 * 365 * DAY_SECONDS);
/// How long a root is valid.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(20 * 365 * DAY_SECONDS);
/// How far back validity begins, for targets whose clock is slow.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

impl Root {
    /// Makes the root of a new installation: P-256, self-signed, path length 1.
    ///
    /// # Errors
    /// [`AuthorityError`] where the system has no random numbers.
    pub fn create(domain: TrustDomain, now: Timestamp) -> Result<Self, AuthorityError> {
        let window = Window::new(now, ROOT_VALIDITY);
        let mut params = authority_params(
            title(&domain, None, "Holdfast root"),
            &domain.uri(),
            1,
            window,
        )?;
        params.use_authority_key_identifier_extension = false;
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
        Ok(Self {
            domain,
            signer: Signer::new(certificate.der().clone(), key)?,
        })
    }

    /// Reads what [`Root::to_pem`] wrote.
    ///
    /// # Errors
    /// [`AuthorityError`] where key or certificate is missing, damaged, or not of the other.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let signer = Signer::from_pem(text)?;
        let name = signer.name()?;
        let domain = name.strip_prefix("spiffe://").unwrap_or_default();
        let domain = TrustDomain::parse(domain).map_err(CertificateError::Identity)?;
        Ok(Self { domain, signer })
    }

    /// The private key and the certificate, for their 0600 file and nothing else.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.signer.to_pem()
    }

    /// The certificate, DER. It is public.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.signer.certificate
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        armor::certificates_to_pem(std::slice::from_ref(&self.signer.certificate))
    }

    /// What a join token pins: SHA-256 of the certificate's DER.
    #[must_use]
    pub fn pin(&self) -> Digest {
        Digest::of(&self.signer.certificate)
    }

    /// The installation's trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// First moment of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.signer.window.not_before
    }

    /// Last moment of validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.signer.window.not_after
    }

    /// Makes the authority of one environment: P-256, path length 0. It is limited to client
    /// authentication, so that nothing it signs can pass for a coordinator.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn create_environment(
        &self,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Result<EnvironmentAuthority, AuthorityError> {
        let window = self.signer.window_within(now, ENVIRONMENT_VALIDITY)?;
        let title = title(&self.domain, Some(environment), "Holdfast environment");
        let uri = self.domain.environment_uri(environment);
        let mut params = authority_params(title, &uri, 0, window)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let certificate = self.signer.sign(&params, &key)?;
        Ok(EnvironmentAuthority {
            domain: self.domain.clone(),
            environment: environment.clone(),
            signer: Signer::new(certificate, key)?,
        })
    }

    /// Makes the certificate with which a coordinator serves agents and the API: for
    /// [`COORDINATOR_NAME`], this machine itself, and `hosts` (names and IP addresses).
    ///
    /// # Errors
    /// [`AuthorityError::Host`] for a host that is neither; otherwise as the other makers.
    pub fn server_leaf(
        &self,
        hosts: &[String],
        now: Timestamp,
        validity: Duration,
    ) -> Result<ServerLeaf, AuthorityError> {
        let window = self.signer.window_within(now, validity)?;
        let mut params = leaf_params(window)?;
        params.distinguished_name = title(&self.domain, None, COORDINATOR_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = server_names(hosts)?;
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let certificate = self.signer.sign(&params, &key)?;
        Ok(ServerLeaf {
            chain: vec![certificate, self.signer.certificate.clone()],
            not_after: window.not_after,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }
}

impl EnvironmentAuthority {
    /// Reads what [`EnvironmentAuthority::to_pem`] wrote.
    ///
    /// # Errors
    /// [`AuthorityError`], also where it is the authority of another environment or installation.
    pub fn from_pem(
        domain: &TrustDomain,
        environment: &EnvironmentName,
        text: &str,
    ) -> Result<Self, AuthorityError> {
        let signer = Signer::from_pem(text)?;
        let (found, expected) = (signer.name()?, domain.environment_uri(environment));
        if found != expected {
            return Err(AuthorityError::Name { found, expected });
        }
        Ok(Self {
            domain: domain.clone(),
            environment: environment.clone(),
            signer,
        })
    }

    /// The private key and the certificate, for their 0600 file and nothing else.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.signer.to_pem()
    }

    /// The certificate, DER: the one anchor of this environment.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.signer.certificate
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        armor::certificates_to_pem(std::slice::from_ref(&self.signer.certificate))
    }

    /// Whose authority it is.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    /// First moment of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.signer.window.not_before
    }

    /// Last moment of validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.signer.window.not_after
    }

    /// Certifies that the holder of `key` is `target` of this environment, from [`CLOCK_SKEW`]
    /// before `now` until `validity` after it. Everything but the key is ours.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue(
        &self,
        target: &TargetName,
        key: &PublicKey,
        serial: Serial,
        now: Timestamp,
        validity: Duration,
    ) -> Result<Issued, AuthorityError> {
        let who = Identity {
            environment: self.environment.clone(),
            target: target.clone(),
        };
        let mut params = leaf_params(self.signer.window_within(now, validity)?)?;
        params.serial_number = Some(rcgen::SerialNumber::from_slice(serial.as_bytes()));
        params.distinguished_name = title(&self.domain, Some(&self.environment), target.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(text(&who.uri(&self.domain))?)];
        let leaf = self.signer.sign(&params, key.parts())?;
        Ok(Issued {
            certificate: TargetCertificate::read(&leaf)?,
            chain: vec![leaf, self.signer.certificate.clone()],
        })
    }
}

fn server_names(hosts: &[String]) -> Result<Vec<SanType>, AuthorityError> {
    let own = [COORDINATOR_NAME, "localhost", "127.0.0.1", "::1"];
    let mut names = Vec::with_capacity(own.len() + hosts.len());
    for host in own.into_iter().chain(hosts.iter().map(String::as_str)) {
        let name = server_name(host)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn server_name(host: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || AuthorityError::Host(host.chars().take(HOST_MAX_CHARS).collect());
    let name = DnsName::try_from(host).map_err(|_| refused())?;
    Ok(SanType::DnsName(text(name.as_ref())?))
}

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Longest DNS name, in characters (RFC 1035, section 2.3.4): what an error repeats of a host.
const HOST_MAX_CHARS: usize = 253;
