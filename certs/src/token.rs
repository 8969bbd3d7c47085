//! Join tokens: `hf1.<id>.<secret>.<SHA-256 of the root certificate>`, one line to paste.
//!
//! The coordinator keeps the id and the secret's hash; the secret itself is shown once. It has 256
//! random bits, so a plain SHA-256 of it cannot be searched for. The last part lets the target check
//! the coordinator before it says anything.

use std::fmt;
use std::str::FromStr;

use holdfast_protocol::digest::Digest;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// A join token, with its secret. Its `Debug` form shows the id alone; [`Token::reveal`] shows all.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    pin: Digest,
}

/// Names a token without giving it away: 16 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

/// Why a text is not a join token. Repeats nothing of the text: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Does not begin with `hf1.`.
    #[error("this is not a join token: one begins with hf1. (see `holdfast token create`)")]
    Prefix,
    /// Not four parts.
    #[error("the join token has {0} parts between dots and not 4: was it copied whole?")]
    Parts(usize),
    /// The id is not 16 hexadecimal digits.
    #[error("the join token's id, its second part, is not 16 hexadecimal digits")]
    Id,
    /// The secret is not 64 hexadecimal digits.
    #[error(
        "the join token's secret, its third part, is not 64 hexadecimal digits: was it copied whole?"
    )]
    Secret,
    /// The root's hash is not 64 hexadecimal digits.
    #[error(
        "the join token's last part, the root's SHA-256, is not 64 hexadecimal digits: was it copied whole?"
    )]
    Pin,
}

impl Token {
    /// A new token for an installation whose root has the hash `pin`.
    ///
    /// # Errors
    /// [`RandomError`] where the system has no random numbers.
    pub fn generate(pin: Digest) -> Result<Self, RandomError> {
        let id = TokenId(random::hex(&random::bytes::<ID_BYTES>()?));
        Ok(Self {
            id,
            secret: Zeroizing::new(random::bytes()?),
            pin,
        })
    }

    /// The whole token as the one line that is shown once, when it is made.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(random::hex(&self.secret[..]));
        Zeroizing::new(format!(
            "{PREFIX}.{}.{}.{}",
            self.id,
            *secret,
            self.pin.hex()
        ))
    }

    /// Which token it is.
    #[must_use]
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The secret's bytes, for the join request and nothing else.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret[..]
    }

    /// The hash that the coordinator stores.
    #[must_use]
    pub fn secret_hash(&self) -> Digest {
        hash_secret(&self.secret[..])
    }

    /// SHA-256 of the root certificate of the coordinator that may be told the secret.
    #[must_use]
    pub fn pin(&self) -> Digest {
        self.pin
    }
}

/// The stored form of a secret.
#[must_use]
pub fn hash_secret(secret: &[u8]) -> Digest {
    Digest::of(secret)
}

/// Whether `secret` is the one that was stored as `stored`; takes as long for a wrong one as for the
/// right one.
#[must_use]
pub fn secret_matches(secret: &[u8], stored: &Digest) -> bool {
    hash_secret(secret)
        .as_bytes()
        .ct_eq(stored.as_bytes())
        .into()
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text
            .trim()
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('.'));
        let rest = rest.ok_or(TokenError::Prefix)?;
        let mut parts = rest.splitn(4, '.');
        let (Some(id), Some(secret), Some(pin), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Parts(
                rest.split('.').take(PARTS_COUNTED_MAX).count() + 1,
            ));
        };
        let id = id.parse()?;
        let secret = random::from_hex(secret)
            .map(Zeroizing::new)
            .ok_or(TokenError::Secret)?;
        let pin = random::from_hex(pin)
            .map(Digest::from_bytes)
            .ok_or(TokenError::Pin)?;
        Ok(Self { id, secret, pin })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Token({PREFIX}.{}.[secret].{})",
            self.id,
            self.pin.short()
        )
    }
}

impl TokenId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        match random::from_hex::<ID_BYTES>(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(TokenError::Id),
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Form and version of a token.
const PREFIX: &str = "hf1";
/// Bytes of a token's id.
const ID_BYTES: usize = 8;
/// Bytes of a token's secret: 256 bits.
const SECRET_BYTES: usize = 32;
/// Parts of a hostile text that are counted for the error, at most.
const PARTS_COUNTED_MAX: usize = 16;
