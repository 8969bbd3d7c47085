//! The secret behind QUIC's stateless resets (RFC 9000, section 10.3), kept over restarts: a
//! coordinator that was killed knows nothing of its connections, and with the same secret it can tell
//! each peer so at the first packet, instead of letting it wait for a time-out.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// The secret.
pub struct ResetSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl ResetSecret {
    /// A new secret.
    ///
    /// # Errors
    /// [`RandomError`] when the system gives no random bytes.
    pub fn generate() -> Result<Self, RandomError> {
        Ok(Self(Zeroizing::new(random::bytes()?)))
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        random::from_hex(text).map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(random::hex(&self.0[..]))
    }

    /// The key that reset tokens are made with.
    #[must_use]
    pub fn token_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0[..])
    }

    /// The key by which this coordinator recognises connection numbers that it gave before it was
    /// restarted. It filters noise and protects nothing.
    #[must_use]
    pub fn connection_key(&self) -> u64 {
        let tag = hmac::sign(&self.token_key(), b"connection numbers");
        tag.as_ref()
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl std::fmt::Debug for ResetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetSecret([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_and_read_back_with_the_same_keys() {
        let secret = ResetSecret::generate().unwrap();
        let again = ResetSecret::from_hex(&secret.to_hex()).unwrap();
        assert_eq!(secret.connection_key(), again.connection_key());
        let other = ResetSecret::generate().unwrap();
        assert_ne!(secret.connection_key(), other.connection_key());
        assert!(ResetSecret::from_hex("zz").is_none());
        assert!(!format!("{secret:?}").contains(secret.to_hex().as_str()));
    }
}
