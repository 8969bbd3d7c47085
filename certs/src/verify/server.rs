//! The agent's side of the handshake: is this a coordinator of my installation?

use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

use super::{find_pinned, verify_coordinator};
use crate::clock::timestamp;
use crate::tls;

/// Checks that the server is certified as a coordinator. The name that was dialled does not matter:
/// every coordinator has the same one, and addresses are no identity.
#[derive(Debug)]
pub struct CoordinatorVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What a coordinator's certificate is checked against.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// The roots that the target was given when it joined, DER.
    Roots(Vec<CertificateDer<'static>>),
    /// The hash in a join token: the server must present the root that it is the SHA-256 of.
    Pin(Digest),
}

impl CoordinatorVerifier {
    /// Trusts coordinators under any of `roots`, DER.
    #[must_use]
    pub fn roots(roots: Vec<CertificateDer<'static>>) -> Self {
        Self::new(Trust::Roots(roots))
    }

    /// Trusts coordinators that present the root with this hash: for joining, when nothing else is
    /// known.
    #[must_use]
    pub fn pinned(pin: Digest) -> Self {
        Self::new(Trust::Pin(pin))
    }

    fn new(trust: Trust) -> Self {
        Self {
            trust,
            algorithms: tls::provider().signature_verification_algorithms,
        }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), Error> {
        let checked = match &self.trust {
            Trust::Roots(roots) => verify_coordinator(leaf, others, roots, now),
            Trust::Pin(pin) => {
                let root = find_pinned(others, pin).ok_or_else(|| failed(NotPinned))?;
                verify_coordinator(leaf, &[], std::slice::from_ref(root), now)
            }
        };
        checked.map_err(failed)
    }
}

/// The server did not present the root that the join token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server is not of the installation that the join token was made by: the hash of its root is another one"
)]
pub struct NotPinned;

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, timestamp(now))
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

/// Handshake signatures of the two allowed kinds of keys.
pub(super) const SCHEMES: [SignatureScheme; 2] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
];
