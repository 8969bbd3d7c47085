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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::generate(Digest::of(b"root")).unwrap()
    }

    #[test]
    fn a_token_is_written_and_read_back() {
        let token = token();
        let text = token.reveal();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {}\n", *text).parse::<Token>().unwrap(), token);
        assert_eq!(token.secret().len(), 32);
        assert!(text.ends_with(&Digest::of(b"root").hex()), "{}", *text);
    }

    #[test]
    fn only_the_right_secret_matches_what_is_stored() {
        let (one, two) = (token(), token());
        assert_ne!(one.secret(), two.secret());
        let stored = one.secret_hash();
        assert!(secret_matches(one.secret(), &stored));
        assert!(!secret_matches(two.secret(), &stored));
        assert!(!secret_matches(&[], &stored));
        assert!(!secret_matches(&one.secret()[1..], &stored));
        // The stored form is no secret: it does not open anything itself.
        assert!(!secret_matches(stored.as_bytes(), &stored));
    }

    #[test]
    fn the_secret_is_in_no_debug_form_and_in_no_error() {
        let token = token();
        let text = token.reveal();
        let secret = text.split('.').nth(2).unwrap();
        assert!(!format!("{token:?}").contains(secret));
        assert!(format!("{token:?}").contains(token.id().as_str()));
        for spoilt in [
            text.replace("hf1.", "hf2."),
            text.replace('.', ":"),
            format!("{}.x", *text),
            text[..text.len() - 1].to_owned(),
            format!("hf1.x{secret}.{secret}"),
        ] {
            let error = spoilt.parse::<Token>().unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains(&secret[..8]),
                "{error}"
            );
        }
    }

    #[test]
    fn each_fault_is_named() {
        let token = token();
        let text = token.reveal();
        let parts: Vec<&str> = text.split('.').collect();
        let joined = |id: &str, secret: &str, pin: &str| format!("hf1.{id}.{secret}.{pin}");
        let (id, secret, pin) = (parts[1], parts[2], parts[3]);
        for (spoilt, error) in [
            (String::new(), TokenError::Prefix),
            ("hf1".to_owned(), TokenError::Prefix),
            (format!("hf2{}", &text[3..]), TokenError::Prefix),
            (format!("hf1.{id}.{secret}"), TokenError::Parts(3)),
            (format!("{}.x", *text), TokenError::Parts(5)),
            (
                ".".repeat(1 << 20).replacen('.', "hf1.", 1),
                TokenError::Parts(17),
            ),
            (joined("", secret, pin), TokenError::Id),
            (joined("00112233/etc/x00", secret, pin), TokenError::Id),
            (joined(id, &secret[1..], pin), TokenError::Secret),
            (joined(id, &secret.to_uppercase(), pin), TokenError::Secret),
            (joined(id, secret, &pin[1..]), TokenError::Pin),
            (joined(id, secret, ""), TokenError::Pin),
        ] {
            assert_eq!(spoilt.parse::<Token>().unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_read_as_a_token_that_is_written_otherwise(
            text in prop_oneof![
                ".{0,200}",
                "hf1\\.[0-9a-f]{15,17}\\.[0-9a-f]{63,65}\\.[0-9a-f]{64}",
            ]
        ) {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(&*token.reveal(), text.trim());
            }
        }

        #[test]
        fn a_token_with_another_character_anywhere_is_another_or_none(
            place in 0usize..150, other in "[0-9a-zA-Z.]"
        ) {
            let token = token();
            let text = token.reveal();
            let place = place % text.len();
            let spoilt = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            prop_assume!(spoilt != *text);
            if let Ok(read) = spoilt.parse::<Token>() {
                prop_assert_ne!(&read, &token);
                prop_assert_eq!(&*read.reveal(), &spoilt);
            }
        }

        #[test]
        fn every_truncation_is_refused(cut in 0usize..149) {
            let text = token().reveal();
            prop_assert!(text[..cut % text.len()].parse::<Token>().is_err());
        }
    }
}
