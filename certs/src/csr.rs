//! Certificate requests (PKCS #10, RFC 2986): proof of possession, and then only the public key.
//!
//! A request may ask for anything: to be an authority, for another name. None of it is read, so none
//! of it can be granted.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::key::{Kind, PublicKey};

/// Largest request that is looked at, in bytes; one of ours is about 250.
pub const REQUEST_MAX_BYTES: usize = 4 * 1024;

/// Why a request is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`REQUEST_MAX_BYTES`].
    #[error("the certificate request has {0} bytes, more than the {REQUEST_MAX_BYTES} allowed")]
    TooLarge(usize),
    /// Not one PKCS #10 request and nothing else.
    #[error("the bytes are not a PKCS #10 certificate request")]
    Malformed,
    /// A key that is neither P-256 nor Ed25519.
    #[error("the key in the certificate request is neither P-256 nor Ed25519")]
    Key,
    /// Not signed by the key that it holds.
    #[error("the certificate request is not signed by its own key")]
    Possession,
}

/// The public key of a request whose sender holds the private one.
///
/// # Errors
/// [`RequestError`].
pub fn requested_key(request: &[u8]) -> Result<PublicKey, RequestError> {
    if request.len() > REQUEST_MAX_BYTES {
        return Err(RequestError::TooLarge(request.len()));
    }
    let (rest, parsed) =
        X509CertificationRequest::from_der(request).map_err(|_| RequestError::Malformed)?;
    if !rest.is_empty() {
        return Err(RequestError::Malformed);
    }
    let content = &parsed.certification_request_info;
    // The kind is checked before the signature, so that no caller can choose an expensive check.
    let key = PublicKey::from_spki(content.subject_pki.raw).map_err(|_| RequestError::Key)?;
    let wanted = match key.kind() {
        Kind::P256 => ECDSA_WITH_SHA256,
        Kind::Ed25519 => ED25519,
    };
    if parsed.signature_algorithm.algorithm.to_id_string() != wanted {
        return Err(RequestError::Possession);
    }
    key.verify(content.raw, &parsed.signature_value.data)
        .map_err(|_| RequestError::Possession)?;
    Ok(key)
}

/// `ecdsa-with-SHA256` (RFC 5758, section 3.2).
const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";
/// `id-Ed25519` (RFC 8410, section 3).
const ED25519: &str = "1.3.101.112";
