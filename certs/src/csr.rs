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
    let signature = &parsed.signature_value.data;
    if written(content.raw, key.kind(), signature) != request {
        return Err(RequestError::Malformed);
    }
    key.verify(content.raw, signature)
        .map_err(|_| RequestError::Possession)?;
    Ok(key)
}

/// The one way to write a request (X.690, section 10). The reader lets several pass, and what is
/// beside the signed part could be changed on the way.
fn written(content: &[u8], kind: Kind, signature: &[u8]) -> Vec<u8> {
    let algorithm = match kind {
        Kind::P256 => ECDSA_WITH_SHA256,
        Kind::Ed25519 => ED25519,
    };
    let signature = element(BIT_STRING, &[&[0], signature].concat());
    element(SEQUENCE, &[content, algorithm, &signature].concat())
}

/// One DER element, shorter than 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let head = match (high, low) {
        (0, low) if low < 0x80 => vec![tag, low],
        (0, low) => vec![tag, 0x81, low],
        (high, low) => vec![tag, 0x82, high, low],
    };
    [&head, content].concat()
}

/// `ecdsa-with-SHA256` (RFC 5758, section 3.2) as an algorithm identifier.
const ECDSA_WITH_SHA256: &[u8] = &[
    SEQUENCE, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];
/// `id-Ed25519` (RFC 8410, section 3) as an algorithm identifier.
const ED25519: &[u8] = &[SEQUENCE, 5, 0x06, 3, 0x2b, 0x65, 0x70];
/// Tag of a `SEQUENCE`.
const SEQUENCE: u8 = 0x30;
/// Tag of a `BIT STRING`.
const BIT_STRING: u8 = 0x03;
