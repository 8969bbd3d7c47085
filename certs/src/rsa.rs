//! Signatures by RSA keys, for those who know no other: the clouds' accounts of services.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;

/// Why nothing was signed. It says nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RsaError {
    /// The text is no private key.
    #[error("holds no private RSA key in PKCS #8, as PEM")]
    Key,
    /// The key cannot sign.
    #[error("holds a private RSA key that cannot sign")]
    Sign,
}

/// The signature of a message with SHA-256 and PKCS #1 padding (RS256 in JSON Web Tokens), by a
/// private key in PKCS #8, as PEM.
///
/// # Errors
/// [`RsaError`]
pub fn sign(key: &str, message: &[u8]) -> Result<Vec<u8>, RsaError> {
    let key = pem::parse(key).map_err(|_| RsaError::Key)?;
    let key = zeroize::Zeroizing::new(key.into_contents());
    let key = KeyPair::from_pkcs8(&key).map_err(|_| RsaError::Key)?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .map_err(|_| RsaError::Sign)?;
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_a_key_signs_its_public_half_knows() {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let bytes = key.as_der().unwrap();
        let text = pem::encode(&pem::Pem::new("PRIVATE KEY", bytes.as_ref()));
        let signature = sign(&text, b"message").unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key());
        assert!(public.verify(b"message", &signature).is_ok());
        assert!(public.verify(b"other", &signature).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for text in [
            "",
            "hunter2",
            "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
        ] {
            let error = sign(text, b"message").unwrap_err();
            assert_eq!(error, RsaError::Key);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
