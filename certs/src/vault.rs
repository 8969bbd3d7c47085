//! Values of secrets at rest: AES-256-GCM (NIST SP 800-38D) under a key of the coordinator's own, with
//! environment, name and version as associated data, so that no row can be put in another's place.
//!
//! ```text
//! key id 8 | nonce 12 | ciphertext | tag 16
//! ```
//! The newest key encrypts; older ones open what they encrypted until everything is under the newest
//! ([`Vault::add_key`], [`Vault::retire`]).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use holdfast_protocol::codec;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::EnvironmentName;
use holdfast_protocol::secret::{SecretRef, VALUE_MAX_BYTES};
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// The keys, newest first.
#[derive(Clone)]
pub struct Vault {
    keys: Vec<DataKey>,
}

/// A value in memory: wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain(Zeroizing<Vec<u8>>);

/// Why a value is not kept or cannot be had. It says nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The system gave no random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The file's text is not one of keys.
    #[error("expected 1 to {KEYS_MAX} lines of 64 hexadecimal digits")]
    Text,
    /// The value is too long.
    #[error("the value has more than {VALUE_MAX_BYTES} bytes")]
    TooLarge,
    /// None of the keys encrypted it.
    #[error("it is under a key that is not here: put the file of keys back from a backup")]
    UnknownKey,
    /// It was changed, or belongs to another secret.
    #[error("it was changed, or belongs to another secret")]
    Damaged,
}

#[derive(Clone)]
struct DataKey {
    id: [u8; ID_BYTES],
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Vault {
    /// One new key.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate() -> Result<Self, RandomError> {
        Ok(Self {
            keys: vec![DataKey::generate()?],
        })
    }

    /// From lines of 64 hexadecimal digits, newest first.
    ///
    /// # Errors
    /// [`VaultError::Text`].
    pub fn from_text(text: &str) -> Result<Self, VaultError> {
        let keys: Option<Vec<DataKey>> = text
            .lines()
            .map(|line| random::from_hex(line).map(|bytes| DataKey::of(Zeroizing::new(bytes))))
            .collect();
        let keys = keys.filter(|keys| (1..=KEYS_MAX).contains(&keys.len()));
        keys.map(|keys| Self { keys }).ok_or(VaultError::Text)
    }

    /// As [`Vault::from_text`] reads it, for its 0600 file and nothing else.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.keys.len() * (2 * KEY_BYTES + 1)));
        for key in &self.keys {
            text.push_str(&Zeroizing::new(random::hex(&key.bytes[..])));
            text.push('\n');
        }
        text
    }

    /// The same with a new key that encrypts from now on.
    ///
    /// # Errors
    /// [`VaultError`], also where earlier keys have not been retired yet.
    pub fn add_key(&self) -> Result<Self, VaultError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(VaultError::Text);
        }
        let mut keys = vec![DataKey::generate()?];
        keys.extend(self.keys.iter().cloned());
        Ok(Self { keys })
    }

    /// The newest key alone: for when nothing is under the others any more.
    #[must_use]
    pub fn retire(&self) -> Self {
        Self {
            keys: self.keys.iter().take(1).cloned().collect(),
        }
    }

    /// Encrypts a value under the newest key.
    ///
    /// # Errors
    /// [`VaultError::TooLarge`], [`VaultError::Random`].
    pub fn close(
        &self,
        environment: &EnvironmentName,
        secret: &SecretRef,
        value: &Plain,
    ) -> Result<Vec<u8>, VaultError> {
        if value.bytes().len() > VALUE_MAX_BYTES {
            return Err(VaultError::TooLarge);
        }
        let key = self.keys.first().ok_or(VaultError::UnknownKey)?;
        let mut closed = Zeroizing::new(Vec::with_capacity(value.bytes().len() + TAG_BYTES));
        closed.extend_from_slice(value.bytes());
        let nonce = key
            .cipher()?
            .seal_in_place_append_tag(aad(environment, secret), &mut *closed)
            .map_err(|_| VaultError::Random(RandomError))?;
        Ok([&key.id, &nonce.as_ref()[..], &closed].concat())
    }

    /// Decrypts a value.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`], [`VaultError::Damaged`].
    pub fn open(
        &self,
        environment: &EnvironmentName,
        secret: &SecretRef,
        closed: &[u8],
    ) -> Result<Plain, VaultError> {
        let (id, rest) = closed
            .split_first_chunk::<ID_BYTES>()
            .ok_or(VaultError::Damaged)?;
        let (nonce, body) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(VaultError::Damaged)?;
        let key = self.keys.iter().find(|key| key.id == *id);
        let cipher = key.ok_or(VaultError::UnknownKey)?.cipher()?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = cipher
            .open_in_place(Nonce::from(nonce), aad(environment, secret), &mut body)
            .map_err(|_| VaultError::Damaged)?
            .len();
        body.truncate(length);
        Ok(Plain(body))
    }

    /// Whether a value is under the newest key.
    #[must_use]
    pub fn is_newest(&self, closed: &[u8]) -> bool {
        let newest = self.keys.first();
        newest.is_some_and(|key| closed.starts_with(&key.id))
    }
}

impl Plain {
    /// A value.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain([secret])")
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} keys)", self.keys.len())
    }
}

impl DataKey {
    fn generate() -> Result<Self, RandomError> {
        Ok(Self::of(Zeroizing::new(random::bytes()?)))
    }

    fn of(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest = Digest::of(&[&b"holdfast key id\0"[..], &bytes[..]].concat());
        let mut id = [0; ID_BYTES];
        for (byte, digit) in id.iter_mut().zip(digest.as_bytes()) {
            *byte = *digit;
        }
        Self { id, bytes }
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, VaultError> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.bytes[..]).map_err(|_| VaultError::Damaged)
    }
}

fn aad(environment: &EnvironmentName, secret: &SecretRef) -> Aad<Vec<u8>> {
    Aad::from(codec::encode(&(environment.clone(), secret.clone())))
}

/// Most keys at a time: the newest, and those of rotations that were cut off.
const KEYS_MAX: usize = 4;
/// A key of AES-256, in bytes.
const KEY_BYTES: usize = 32;
/// What a key is recognised by, in bytes.
const ID_BYTES: usize = 8;
/// A nonce of GCM, in bytes.
const NONCE_BYTES: usize = 12;
/// A tag of GCM, in bytes.
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn staging() -> EnvironmentName {
        "staging".parse().unwrap()
    }

    fn secret(name: &str, version: u64) -> SecretRef {
        SecretRef {
            name: name.parse().unwrap(),
            version,
        }
    }

    #[test]
    fn a_value_opens_in_its_own_place_and_in_no_other() {
        let vault = Vault::generate().unwrap();
        let which = secret("a", 1);
        let value = Plain::new(b"hunter2".to_vec());
        let closed = vault.close(&staging(), &which, &value).unwrap();
        assert!(!closed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(vault.open(&staging(), &which, &closed).unwrap(), value);
        let damaged = Err(VaultError::Damaged);
        let production = "production".parse().unwrap();
        assert_eq!(vault.open(&production, &which, &closed), damaged);
        assert_eq!(vault.open(&staging(), &secret("a", 2), &closed), damaged);
        assert_eq!(vault.open(&staging(), &secret("b", 1), &closed), damaged);
        for at in ID_BYTES..closed.len() {
            let mut changed = closed.clone();
            changed[at] ^= 1;
            assert_eq!(vault.open(&staging(), &which, &changed), damaged);
        }
        assert_eq!(vault.open(&staging(), &which, &closed[..5]), damaged);
        let other = Vault::generate().unwrap();
        let unknown = Err(VaultError::UnknownKey);
        assert_eq!(other.open(&staging(), &which, &closed), unknown);
        let again = vault.close(&staging(), &which, &value).unwrap();
        assert_ne!(closed, again, "the same value twice looks like two");
    }

    #[test]
    fn a_new_key_opens_what_is_under_the_old_one_until_that_is_retired() {
        let old = Vault::generate().unwrap();
        let (which, value) = (secret("a", 1), Plain::new(b"value".to_vec()));
        let closed = old.close(&staging(), &which, &value).unwrap();
        let both = Vault::from_text(&old.add_key().unwrap().to_text()).unwrap();
        assert!(old.is_newest(&closed) && !both.is_newest(&closed));
        assert_eq!(both.open(&staging(), &which, &closed).unwrap(), value);
        let new = both.retire();
        let unknown = Err(VaultError::UnknownKey);
        assert_eq!(new.open(&staging(), &which, &closed), unknown);
        let moved = both.close(&staging(), &which, &value).unwrap();
        assert_eq!(new.open(&staging(), &which, &moved).unwrap(), value);
    }

    #[test]
    fn keys_and_values_are_shown_to_nobody_and_bounded() {
        let vault = Vault::generate().unwrap();
        assert!(!format!("{vault:?}").contains(vault.to_text().trim()));
        let value = Plain::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?}"), "Plain([secret])");
        let long = Plain::new(vec![0; VALUE_MAX_BYTES + 1]);
        let refused = vault.close(&staging(), &secret("a", 1), &long);
        assert_eq!(refused, Err(VaultError::TooLarge));
        for bad in ["", "zz", &"00".repeat(33), &"00\n".repeat(9)] {
            assert_eq!(Vault::from_text(bad).unwrap_err(), VaultError::Text);
        }
    }
}
