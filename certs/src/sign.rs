//! Signing and opening assignments: Ed25519 (RFC 8032) with the environment's own key.
//!
//! The key is apart from the environment's authority, so that an operator can keep it elsewhere.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use holdfast_protocol::assignment::{Assignment, SignedAssignment};
use holdfast_protocol::codec::CodecError;
use zeroize::Zeroizing;

use crate::armor::{self, ArmorError};
use crate::random;

/// The key with which an environment's assignments are signed.
pub struct AssignmentKey(Ed25519KeyPair);

/// The public half: whoever holds it knows an assignment of its environment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssignmentVerifier([u8; 32]);

/// Why a signing key cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The system could not make one.
    #[error("a signing key could not be made")]
    Generate,
    /// The bytes are not an Ed25519 private key.
    #[error("the signing key is not an Ed25519 private key")]
    Load,
    /// Not PEM.
    #[error(transparent)]
    Armor(#[from] ArmorError),
    /// Not a public key.
    #[error("a public signing key has 32 bytes, written as 64 hexadecimal digits")]
    Public,
}

/// Why an assignment is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No key of the environment made this signature over these bytes.
    #[error("the assignment is not signed by a key of this environment")]
    Signature,
    /// Signed, and yet not an assignment.
    #[error("the signed bytes are not an assignment")]
    Content(#[source] CodecError),
}

impl AssignmentKey {
    /// A new key.
    ///
    /// # Errors
    /// [`SigningKeyError::Generate`] where the system has no random numbers.
    pub fn generate() -> Result<Self, SigningKeyError> {
        Ed25519KeyPair::generate()
            .map(Self)
            .map_err(|_| SigningKeyError::Generate)
    }

    /// Reads the first `PRIVATE KEY` block.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        let pkcs8 = armor::key_from_pem(text)?;
        Ed25519KeyPair::from_pkcs8(pkcs8.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| SigningKeyError::Load)
    }

    /// The private key as PEM, for its 0600 file and nothing else.
    ///
    /// # Errors
    /// [`SigningKeyError::Generate`] where the key cannot be written out.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, SigningKeyError> {
        let document = self.0.to_pkcs8().map_err(|_| SigningKeyError::Generate)?;
        Ok(armor::key_to_pem(document.as_ref()))
    }

    /// The public half.
    ///
    /// # Panics
    /// Never: a public key of Ed25519 has 32 bytes.
    #[must_use]
    pub fn verifier(&self) -> AssignmentVerifier {
        let bytes = self.0.public_key().as_ref();
        AssignmentVerifier(
            bytes
                .try_into()
                .expect("an Ed25519 public key has 32 bytes"),
        )
    }

    /// Signs an assignment. That it is for this key's environment is the caller's to see to.
    #[must_use]
    pub fn sign(&self, assignment: &Assignment) -> SignedAssignment {
        let mut signed = SignedAssignment {
            bytes: assignment.encode(),
            signature: Vec::new(),
        };
        signed.signature = self.0.sign(&signed.signed_bytes()).as_ref().to_vec();
        signed
    }
}

impl fmt::Debug for AssignmentKey {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AssignmentKey")
            .field(&self.verifier())
            .finish()
    }
}

impl AssignmentVerifier {
    /// From the 32 bytes that travel in `Joined::signing_keys`.
    ///
    /// # Errors
    /// [`SigningKeyError::Public`] for any other number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SigningKeyError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| SigningKeyError::Public)
    }

    /// From 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SigningKeyError::Public`].
    pub fn from_hex(text: &str) -> Result<Self, SigningKeyError> {
        random::from_hex(text)
            .map(Self)
            .ok_or(SigningKeyError::Public)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        random::hex(&self.0)
    }

    /// Whether this key made the signature.
    fn made(&self, signed: &SignedAssignment) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(&signed.signed_bytes(), &signed.signature)
            .is_ok()
    }
}

impl fmt::Debug for AssignmentVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// The assignment inside, once one of `keys` is found to have signed it. Whom it is for and whether
/// it is newer is for the caller to judge.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    signed: &SignedAssignment,
    keys: &[AssignmentVerifier],
) -> Result<Assignment, OpenError> {
    if !keys.iter().any(|key| key.made(signed)) {
        return Err(OpenError::Signature);
    }
    signed.open_unverified().map_err(OpenError::Content)
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::assignment::Generation;
    use holdfast_protocol::name::{EnvironmentName, TargetName};
    use holdfast_protocol::time::Timestamp;

    use super::*;

    fn assignment() -> Assignment {
        Assignment {
            generation: Generation {
                epoch: 1,
                number: 7,
            },
            environment: EnvironmentName::parse("staging").unwrap(),
            target: TargetName::parse("web-1").unwrap(),
            workloads: Vec::new(),
            issued_at: Timestamp::from_millis(1_795_329_360_250),
        }
    }

    #[test]
    fn an_assignment_is_signed_and_opened() {
        let key = AssignmentKey::generate().unwrap();
        let other = AssignmentKey::generate().unwrap().verifier();
        let signed = key.sign(&assignment());
        assert_eq!(open(&signed, &[key.verifier()]), Ok(assignment()));
        // While keys are rotated there are two.
        assert_eq!(open(&signed, &[other, key.verifier()]), Ok(assignment()));
    }

    #[test]
    fn another_environments_signature_is_refused() {
        let staging = AssignmentKey::generate().unwrap();
        let production = AssignmentKey::generate().unwrap();
        let signed = staging.sign(&assignment());
        assert_eq!(
            open(&signed, &[production.verifier()]),
            Err(OpenError::Signature)
        );
        assert_eq!(open(&signed, &[]), Err(OpenError::Signature));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let key = AssignmentKey::generate().unwrap();
        let signed = key.sign(&assignment());
        let keys = [key.verifier()];
        for bit in 0..signed.bytes.len() * 8 {
            let mut spoilt = signed.clone();
            spoilt.bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&spoilt, &keys), Err(OpenError::Signature), "bit {bit}");
        }
        for bit in 0..signed.signature.len() * 8 {
            let mut spoilt = signed.clone();
            spoilt.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&spoilt, &keys), Err(OpenError::Signature), "bit {bit}");
        }
        for length in [0, 63] {
            let signature = signed.signature[..length].to_vec();
            let spoilt = SignedAssignment {
                signature,
                ..signed.clone()
            };
            assert_eq!(open(&spoilt, &keys), Err(OpenError::Signature));
        }
    }

    #[test]
    fn a_signature_made_for_another_purpose_is_refused() {
        let key = AssignmentKey::generate().unwrap();
        let bytes = assignment().encode();
        for context in [
            &b""[..],
            b"holdfast assignment v2\0",
            b"holdfast renewal v1\0",
        ] {
            let signature = key.0.sign(&[context, &bytes].concat()).as_ref().to_vec();
            let signed = SignedAssignment {
                bytes: bytes.clone(),
                signature,
            };
            assert_eq!(open(&signed, &[key.verifier()]), Err(OpenError::Signature));
        }
    }

    #[test]
    fn signed_bytes_that_are_no_assignment_are_refused() {
        let key = AssignmentKey::generate().unwrap();
        let mut signed = SignedAssignment {
            bytes: vec![1, 2, 3],
            signature: Vec::new(),
        };
        signed.signature = key.0.sign(&signed.signed_bytes()).as_ref().to_vec();
        assert!(matches!(
            open(&signed, &[key.verifier()]),
            Err(OpenError::Content(_))
        ));
    }

    #[test]
    fn a_key_is_written_and_read_back_and_shows_its_public_half_only() {
        let key = AssignmentKey::generate().unwrap();
        let pem = key.to_pem().unwrap();
        let again = AssignmentKey::from_pem(&pem).unwrap();
        assert_eq!(again.verifier(), key.verifier());
        let hex = key.verifier().hex();
        assert_eq!(AssignmentVerifier::from_hex(&hex).unwrap(), key.verifier());
        assert_eq!(format!("{key:?}"), format!("AssignmentKey({hex})"));
        assert!(AssignmentKey::from_pem("nothing").is_err());
        assert!(AssignmentVerifier::from_bytes(&[0; 31]).is_err());
    }
}
