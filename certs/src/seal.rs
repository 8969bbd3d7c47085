//! Sealing a secret to one target: HPKE (RFC 9180) in base mode, X25519 with HKDF-SHA256 and
//! AES-256-GCM.
//!
//! *Guarantees:* only the holder of the private half opens it; a seal made for another target or
//! environment, or of another secret or version, opens as nothing, since all four are bound into it. *Assumption:* who
//! said the public half is known from the connection on which it was said.

use std::fmt;

use aws_lc_rs::agreement::{self, X25519};
use holdfast_protocol::codec;
use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::secret::{Sealed, SecretRef, VALUE_MAX_BYTES};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use crate::identity::Identity;
use crate::random;

/// The public half, of a target: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealingPublicKey([u8; KEY_BYTES]);

/// The pair, on the target that made it.
pub struct SealingKey {
    private: Zeroizing<[u8; KEY_BYTES]>,
    public: SealingPublicKey,
}

/// Why something was not sealed or opened. It says nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
    /// The public key is none.
    #[error("it is not a key that can be sealed to")]
    Key,
    /// The value is too long.
    #[error("the value has more than {VALUE_MAX_BYTES} bytes")]
    TooLarge,
    /// It was sealed to another key, for another target, environment, secret or version, or was changed.
    #[error("it was not sealed for this target under this name, or was changed since")]
    Closed,
}

/// Whose secret it is: what a seal is bound to besides its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The environment that the value is of.
    pub environment: EnvironmentName,
    /// The target that may open it.
    pub target: TargetName,
}

impl SealingPublicKey {
    /// From its bytes.
    ///
    /// # Errors
    /// [`SealError::Key`] for another length, and for keys to which nothing can be sealed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let key = Self(bytes.try_into().map_err(|_| SealError::Key)?);
        // A point of low order makes no secret; the first attempt shows it.
        let attempt = SUITE.setup_sealer(CONTEXT, &HpkePublicKey(bytes.to_vec()));
        attempt.map(|_| key).map_err(|_| SealError::Key)
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        random::from_hex(text).map(Self)
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        random::hex(&self.0)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Seals a value.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        owner: &Owner,
        secret: &SecretRef,
        value: &[u8],
    ) -> Result<Sealed, SealError> {
        if value.len() > VALUE_MAX_BYTES {
            return Err(SealError::TooLarge);
        }
        let (info, aad) = bound(owner, secret);
        let (encapsulated, ciphertext) = SUITE
            .seal(&info, &aad, value, &HpkePublicKey(self.0.to_vec()))
            .map_err(|_| SealError::Key)?;
        Ok(Sealed {
            encapsulated: encapsulated.0,
            ciphertext,
        })
    }
}

impl SealingKey {
    /// A new pair.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn generate() -> Result<Self, SealError> {
        let (_, private) = SUITE.generate_key_pair().map_err(|_| SealError::Random)?;
        let bytes = private.secret_bytes().try_into();
        Self::of(Zeroizing::new(bytes.map_err(|_| SealError::Random)?))
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::of(Zeroizing::new(random::from_hex(text)?)).ok()
    }

    /// As 64 hexadecimal digits, for its 0600 file and nothing else.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(random::hex(&self.private[..]))
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &SealingPublicKey {
        &self.public
    }

    /// Opens what was sealed to this key.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn open(
        &self,
        owner: &Owner,
        secret: &SecretRef,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (info, aad) = bound(owner, secret);
        let private = HpkePrivateKey::from(self.private.to_vec());
        let encapsulated = EncapsulatedSecret(sealed.encapsulated.clone());
        SUITE
            .open(&encapsulated, &info, &aad, &sealed.ciphertext, &private)
            .map(Zeroizing::new)
            .map_err(|_| SealError::Closed)
    }

    fn of(private: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self, SealError> {
        let pair = agreement::PrivateKey::from_private_key(&X25519, &private[..])
            .map_err(|_| SealError::Key)?;
        let public = pair.compute_public_key().map_err(|_| SealError::Key)?;
        let public = public.as_ref().try_into().map_err(|_| SealError::Key)?;
        Ok(Self {
            private,
            public: SealingPublicKey(public),
        })
    }
}

impl From<&Identity> for Owner {
    fn from(identity: &Identity) -> Self {
        Self {
            environment: identity.environment.clone(),
            target: identity.target.clone(),
        }
    }
}

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingPublicKey({})", self.to_hex())
    }
}

impl fmt::Debug for SealingKey {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealingKey").field(&self.public).finish()
    }
}

/// What a seal is bound to: `info` says for whom, the associated data what.
fn bound(owner: &Owner, secret: &SecretRef) -> (Vec<u8>, Vec<u8>) {
    let whose = codec::encode(&(owner.environment.clone(), owner.target.clone()));
    ([CONTEXT, &whose].concat(), codec::encode(secret))
}

/// What every `info` begins with, so that a seal for anything else is never taken for one of a secret.
const CONTEXT: &[u8] = b"holdfast secret v1\0";
/// A key of X25519, in bytes.
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(environment: &str, target: &str) -> Owner {
        Owner {
            environment: environment.parse().unwrap(),
            target: target.parse().unwrap(),
        }
    }

    fn secret(name: &str, version: u64) -> SecretRef {
        SecretRef {
            name: name.parse().unwrap(),
            version,
        }
    }

    #[test]
    fn what_is_sealed_to_a_target_opens_there_and_nowhere_else() {
        let key = SealingKey::generate().unwrap();
        let (here, which) = (owner("staging", "web-1"), secret("db-password", 3));
        let sealed = key.public().seal(&here, &which, b"hunter2").unwrap();
        assert_eq!(*key.open(&here, &which, &sealed).unwrap(), b"hunter2");
        let other = SealingKey::generate().unwrap();
        let wrong = Err(SealError::Closed);
        assert_eq!(other.open(&here, &which, &sealed), wrong);
        for owner in [owner("production", "web-1"), owner("staging", "web-2")] {
            assert_eq!(key.open(&owner, &which, &sealed), wrong, "{owner:?}");
        }
        for which in [secret("db-password", 4), secret("db-passwore", 3)] {
            assert_eq!(key.open(&here, &which, &sealed), wrong, "{which}");
        }
    }

    #[test]
    fn what_was_changed_on_the_way_does_not_open() {
        let key = SealingKey::generate().unwrap();
        let (here, which) = (owner("staging", "web-1"), secret("a", 1));
        let sealed = key.public().seal(&here, &which, b"value").unwrap();
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert_eq!(key.open(&here, &which, &changed), Err(SealError::Closed));
        }
        for at in 0..sealed.encapsulated.len() {
            let mut changed = sealed.clone();
            changed.encapsulated[at] ^= 1;
            assert_eq!(key.open(&here, &which, &changed), Err(SealError::Closed));
        }
        for cut in [0, 1, 16] {
            let mut changed = sealed.clone();
            changed.ciphertext.truncate(cut);
            assert_eq!(key.open(&here, &which, &changed), Err(SealError::Closed));
        }
    }

    #[test]
    fn a_key_is_written_and_read_back_and_shown_to_nobody() {
        let key = SealingKey::generate().unwrap();
        let again = SealingKey::from_hex(&key.to_hex()).unwrap();
        assert_eq!(again.public(), key.public());
        assert!(SealingKey::from_hex("00").is_none());
        assert!(!format!("{key:?}").contains(key.to_hex().as_str()));
    }

    #[test]
    fn nothing_is_sealed_to_what_is_no_key_and_nothing_that_is_too_long() {
        for bad in [vec![], vec![0; 31], vec![0; 32], vec![0; 33]] {
            assert_eq!(SealingPublicKey::from_bytes(&bad), Err(SealError::Key));
        }
        let key = SealingKey::generate().unwrap();
        let public = SealingPublicKey::from_bytes(key.public().as_bytes()).unwrap();
        let (here, which) = (owner("staging", "web-1"), secret("a", 1));
        let long = vec![7; VALUE_MAX_BYTES + 1];
        assert_eq!(public.seal(&here, &which, &long), Err(SealError::TooLarge));
        assert!(public.seal(&here, &which, &long[1..]).is_ok());
    }
}
