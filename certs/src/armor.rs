//! PEM blocks (RFC 7468): how keys and certificates look in files.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// What a PEM text lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// No private key in PKCS #8 form.
    #[error("there is no PRIVATE KEY block in PKCS #8 form")]
    NoKey,
    /// No certificate, or one that is not valid base 64.
    #[error("there is no CERTIFICATE block, or one of them is damaged")]
    NoCertificate,
}

/// Certificates as PEM, in their order.
#[must_use]
pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|der| block("CERTIFICATE", der))
        .collect()
}

/// The certificates in a PEM text, in their order; other blocks are passed over.
///
/// # Errors
/// [`ArmorError::NoCertificate`], also where any block is damaged.
pub fn certificates_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, ArmorError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or(ArmorError::NoCertificate)
}

/// A private key in PKCS #8 form as PEM; wiped from memory when dropped.
pub(crate) fn key_to_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(block("PRIVATE KEY", pkcs8))
}

/// The first private key in a PEM text.
pub(crate) fn key_from_pem(text: &str) -> Result<PrivatePkcs8KeyDer<'static>, ArmorError> {
    PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| ArmorError::NoKey)
}

fn block(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}
