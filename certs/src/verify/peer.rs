//! The coordinator's side of the handshake: asks for a target's certificate and checks it.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;

use super::{Refused, verify_target};
use crate::clock::timestamp;
use crate::registry::SharedRegistry;
use crate::tls;

/// Checks each certificate that is presented against the registry in force at that moment.
#[derive(Debug)]
pub struct TargetVerifier {
    registry: SharedRegistry,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TargetVerifier {
    /// A verifier that reads `registry` anew for each handshake.
    #[must_use]
    pub fn new(registry: SharedRegistry) -> Self {
        Self {
            registry,
            algorithms: tls::provider().signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for TargetVerifier {
    /// One port serves joining, which has no certificate yet, and control, which must have one. TLS
    /// cannot tell them apart here; `peer_identity` does, right after the handshake.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: they would tell any caller the names of all environments.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_target(end_entity, &self.registry.load(), timestamp(now))
            .map(|_| ClientCertVerified::assertion())
            .map_err(|refused| Error::InvalidCertificate(alert(refused)))
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
        super::server::SCHEMES.to_vec()
    }
}

/// What the peer is told: the kind of alert that TLS has for it, which an honest target needs to
/// know whether to renew.
fn alert(refused: Refused) -> TlsCertificateError {
    match refused {
        Refused::Certificate(_) => TlsCertificateError::BadEncoding,
        Refused::Expired { .. } => TlsCertificateError::Expired,
        Refused::NotYetValid { .. } => TlsCertificateError::NotValidYet,
        Refused::Revoked { .. } => TlsCertificateError::Revoked,
        Refused::OtherInstallation(_)
        | Refused::UnknownEnvironment(_)
        | Refused::Untrusted { .. } => TlsCertificateError::UnknownIssuer,
        Refused::NoCertificate | Refused::NotControl => {
            TlsCertificateError::Other(OtherError(Arc::new(refused)))
        }
    }
}
