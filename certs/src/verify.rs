//! Who is on the other end: the checks behind every handshake, as pure functions of bytes and time.
//!
//! *Guarantee:* a [`Peer`] was certified directly by the authority of the one environment that its
//! name says, for client authentication alone, is valid now and not revoked. Nothing else that the
//! peer presented was looked at: the chain it sends is only a hint, and the root anchors no target.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::EnvironmentName;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::{ALPN_CONTROL, COORDINATOR_NAME};
use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{CertificateError, Serial, TargetCertificate};
use crate::clock::unix_time;
use crate::identity::{Identity, TrustDomain};
use crate::key::PublicKey;
use crate::registry::Registry;

pub mod peer;
pub mod renewal;
pub mod server;

/// A target, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its environment and name.
    pub identity: Identity,
    /// Its certificate's number, to be looked for in later revocations.
    pub serial: Serial,
    /// When its certificate ends.
    pub not_after: Timestamp,
    /// Its key.
    pub public_key: PublicKey,
}

/// Why a certificate opens nothing. For the coordinator's log; the caller is told nothing of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// A control connection without a client certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// Not a control connection at all.
    #[error("the connection is not one for the control protocol")]
    NotControl,
    /// Not a target's certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Of another installation.
    #[error("the certificate is of the installation {0}")]
    OtherInstallation(TrustDomain),
    /// An environment that this coordinator does not have.
    #[error("the certificate names the unknown environment {0}")]
    UnknownEnvironment(EnvironmentName),
    /// Not signed by the authority of the environment that it names.
    #[error("the certificate of {identity} is not one of its environment's authority")]
    Untrusted {
        /// Whom it names.
        identity: Identity,
        /// What the chain verifier found.
        #[source]
        source: webpki::Error,
    },
    /// Its time is over.
    #[error("the certificate of {identity} expired at {not_after}")]
    Expired {
        /// Whom it names.
        identity: Identity,
        /// When it ended.
        not_after: Timestamp,
    },
    /// Its time has not begun.
    #[error("the certificate of {identity} is valid only from {not_before}")]
    NotYetValid {
        /// Whom it names.
        identity: Identity,
        /// When it begins.
        not_before: Timestamp,
    },
    /// Revoked.
    #[error("the certificate {serial} of {identity} was revoked")]
    Revoked {
        /// Whom it names.
        identity: Identity,
        /// Its number.
        serial: Serial,
    },
}

/// The whole check of a control connection, made again by the coordinator after the handshake: from
/// the negotiated protocol, the certificates that the peer presented (leaf first) and the registry.
///
/// TLS asks for a client certificate without insisting, because joining has none yet; so this is
/// where a control connection without one ends.
///
/// # Errors
/// [`Refused`].
pub fn peer_identity(
    presented: &[CertificateDer<'_>],
    alpn: Option<&[u8]>,
    registry: &Registry,
    now: Timestamp,
) -> Result<Peer, Refused> {
    if alpn != Some(ALPN_CONTROL) {
        return Err(Refused::NotControl);
    }
    let leaf = presented.first().ok_or(Refused::NoCertificate)?;
    verify_target(leaf, registry, now)
}

/// Whether `leaf` is a valid certificate of a target at `now`.
pub(crate) fn verify_target(
    leaf: &CertificateDer<'_>,
    registry: &Registry,
    now: Timestamp,
) -> Result<Peer, Refused> {
    let read = TargetCertificate::read(leaf)?;
    if read.trust_domain != registry.trust_domain {
        return Err(Refused::OtherInstallation(read.trust_domain));
    }
    let identity = read.identity;
    let Some(anchors) = registry.environments.get(&identity.environment) else {
        return Err(Refused::UnknownEnvironment(identity.environment));
    };
    if now < read.not_before {
        return Err(Refused::NotYetValid {
            identity,
            not_before: read.not_before,
        });
    }
    if now > read.not_after {
        return Err(Refused::Expired {
            identity,
            not_after: read.not_after,
        });
    }
    // The anchors are this environment's alone, and no intermediates are offered: only a
    // certificate that the environment's authority itself signed can pass.
    if let Err(source) = verify_chain(leaf, &anchors.authorities, &[], now, CLIENT_AUTH) {
        return Err(Refused::Untrusted { identity, source });
    }
    if registry.revoked.contains(&read.serial) {
        return Err(Refused::Revoked {
            identity,
            serial: read.serial,
        });
    }
    let TargetCertificate {
        serial,
        not_after,
        public_key,
        ..
    } = read;
    Ok(Peer {
        identity,
        serial,
        not_after,
        public_key,
    })
}

/// Whether `leaf` is a coordinator's: for [`COORDINATOR_NAME`] and server authentication, and
/// certified by one of `anchors`, if need be through `intermediates`.
pub(crate) fn verify_coordinator(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), webpki::Error> {
    verify_chain(leaf, anchors, intermediates, now, SERVER_AUTH)?;
    let name =
        ServerName::try_from(COORDINATOR_NAME).expect("the coordinator's name is a DNS name");
    EndEntityCert::try_from(leaf)?.verify_is_valid_for_subject_name(&name)
}

/// The certificate among `presented` that a join token pins by the SHA-256 of its DER.
#[must_use]
pub fn find_pinned<'a>(
    presented: &'a [CertificateDer<'a>],
    pin: &Digest,
) -> Option<&'a CertificateDer<'a>> {
    presented.iter().find(|der| Digest::of(der) == *pin)
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    anchors: &[CertificateDer<'_>],
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
    usage: KeyUsage,
) -> Result<(), webpki::Error> {
    let anchors: Result<Vec<TrustAnchor<'_>>, _> = anchors
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect();
    let anchors = anchors?;
    let leaf = EndEntityCert::try_from(leaf)?;
    let now = unix_time(now);
    leaf.verify_for_usage(SIGNATURES, &anchors, intermediates, now, usage, None, None)
        .map(drop)
}

/// Demanded, not only respected where present: a certificate for everything is for nothing.
const CLIENT_AUTH: KeyUsage = KeyUsage::required(&[43, 6, 1, 5, 5, 7, 3, 2]);
/// As [`CLIENT_AUTH`].
const SERVER_AUTH: KeyUsage = KeyUsage::required(&[43, 6, 1, 5, 5, 7, 3, 1]);
/// Signatures that count in a chain: those of the two allowed kinds of keys.
const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ED25519,
];
