//! Public keys of targets, of the two allowed kinds, and the private key that a target keeps.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::join::RenewRequest;
use rcgen::{PublicKeyData as _, SigningKey as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::armor::{self, ArmorError};

/// A public key of an allowed kind: ECDSA on P-256 (FIPS 186-5) or Ed25519 (RFC 8032).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    parts: rcgen::SubjectPublicKeyInfo,
    spki: Vec<u8>,
}

/// The key pair of a target. Made on the target; the private half never leaves it.
pub struct TargetKey {
    pair: rcgen::KeyPair,
    public: PublicKey,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither P-256 nor Ed25519.
    #[error("only P-256 and Ed25519 keys are allowed")]
    Kind,
    /// The system could not make one.
    #[error("a key pair could not be made")]
    Generate(#[source] rcgen::Error),
    /// The bytes are not a private key.
    #[error("the private key cannot be read")]
    Load(#[source] rcgen::Error),
    /// Not PEM.
    #[error(transparent)]
    Armor(#[from] ArmorError),
    /// A certificate request could not be made.
    #[error("a certificate request could not be made")]
    Request(#[source] rcgen::Error),
    /// A signature could not be made.
    #[error("a signature could not be made")]
    Sign(#[source] rcgen::Error),
}

/// A signature is not one by this key over these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is wrong")]
pub struct WrongSignature;

/// The allowed kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// Ed25519.
    Ed25519,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280, section 4.1), DER.
    ///
    /// # Errors
    /// [`KeyError::Kind`] for anything but the two allowed kinds.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let parts = rcgen::SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::Kind)?;
        let kind = Kind::of(parts.algorithm()).ok_or(KeyError::Kind)?;
        let sized = match kind {
            Kind::P256 => parts.der_bytes().len() == P256_POINT_BYTES,
            Kind::Ed25519 => parts.der_bytes().len() == ED25519_PUBLIC_BYTES,
        };
        if !sized || parts.subject_public_key_info() != spki {
            return Err(KeyError::Kind);
        }
        Ok(Self {
            kind,
            parts,
            spki: spki.to_vec(),
        })
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`: the name of this key. A repeated join is recognised
    /// by it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// The `SubjectPublicKeyInfo`, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Checks a signature by this key: for P-256 an ASN.1 ECDSA signature with SHA-256, for Ed25519
    /// 64 bytes.
    ///
    /// # Errors
    /// [`WrongSignature`], also where the key itself is not a point of its curve.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), WrongSignature> {
        let raw = self.parts.der_bytes();
        let checked = match self.kind {
            Kind::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, raw).verify(message, signature)
            }
            Kind::Ed25519 => UnparsedPublicKey::new(&ED25519, raw).verify(message, signature),
        };
        checked.map_err(|_| WrongSignature)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The form in which the certificate maker takes it.
    pub(crate) fn parts(&self) -> &rcgen::SubjectPublicKeyInfo {
        &self.parts
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind, self.digest())
    }
}

impl Kind {
    fn of(algorithm: &rcgen::SignatureAlgorithm) -> Option<Self> {
        if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
            Some(Self::P256)
        } else if *algorithm == rcgen::PKCS_ED25519 {
            Some(Self::Ed25519)
        } else {
            None
        }
    }
}

impl TargetKey {
    /// A new P-256 key pair.
    ///
    /// # Errors
    /// [`KeyError::Generate`] where the system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        Self::of(rcgen::KeyPair::generate().map_err(KeyError::Generate)?)
    }

    /// Reads the first `PRIVATE KEY` block.
    ///
    /// # Errors
    /// [`KeyError`] where there is none, or it is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let pkcs8 = armor::key_from_pem(text)?;
        Self::of(rcgen::KeyPair::try_from(&pkcs8).map_err(KeyError::Load)?)
    }

    /// The private key as PEM, for its 0600 file and nothing else.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        armor::key_to_pem(self.pair.serialized_der())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A PKCS #10 request (RFC 2986), DER. It asks for nothing: the authority takes only the key.
    ///
    /// # Errors
    /// [`KeyError::Request`].
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut asked = rcgen::CertificateParams::default();
        asked.distinguished_name = rcgen::DistinguishedName::new();
        let request = asked
            .serialize_request(&self.pair)
            .map_err(KeyError::Request)?;
        Ok(request.der().to_vec())
    }

    /// The proof in a [`RenewRequest`]: a signature by this (old) key over the exporter's bytes of
    /// this connection and the new request.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn prove_renewal(&self, exporter: &[u8], request: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair
            .sign(&RenewRequest::proven_bytes(exporter, request))
            .map_err(KeyError::Sign)
    }

    /// The private key for TLS.
    pub(crate) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der())
    }

    fn of(pair: rcgen::KeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_spki(&pair.subject_public_key_info())?;
        Ok(Self { pair, public })
    }
}

impl fmt::Debug for TargetKey {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TargetKey").field(&self.public).finish()
    }
}

/// An uncompressed point of P-256 (SEC 1, section 2.3.3), in bytes.
const P256_POINT_BYTES: usize = 65;
/// A public key of Ed25519, in bytes.
const ED25519_PUBLIC_BYTES: usize = 32;
