//! The join exchange, on the ALPN [`crate::version::ALPN_JOIN`]: one request, one reply, one stream.
//! It is the only conversation without a client certificate, so all it offers is a certificate.
//!
//! **Join.** The agent has checked the coordinator's chain against the root's hash in its token
//! before the first byte of the secret leaves. **Renew.** A target whose certificate expired while
//! it was away proves that it still holds the old key, over this very connection (TLS exporter,
//! RFC 8446 section 7.5), and gets a new certificate for its old name.

use bincode::{Decode, Encode};

use crate::name::{EnvironmentName, TargetName};
use crate::observed::{Facts, Labels};

/// Label of the TLS exporter that binds a renewal to its connection.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-holdfast-renew-v1";
/// What is put before the exporter's bytes and the request when a renewal is signed.
pub const RENEWAL_CONTEXT: &[u8] = b"holdfast renewal v1\0";
/// Bytes taken from the TLS exporter.
pub const EXPORTER_BYTES: usize = 32;

/// From one who asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "there is one for each join")]
pub enum ToAuthority {
    /// A new target with a join token.
    Join(JoinRequest),
    /// A known target whose certificate has expired.
    Renew(RenewRequest),
}

/// A new target's request.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinRequest {
    /// Which token.
    pub token_id: String,
    /// The token's secret.
    pub secret: Vec<u8>,
    /// The name it would like; its host name otherwise.
    pub name: TargetName,
    /// Labels it would like besides those of the token, which win.
    pub labels: Labels,
    /// A PKCS #10 request (RFC 2986), DER. Only its public key is used.
    pub request: Vec<u8>,
    /// Take over the name of a target that exists.
    pub replace: bool,
    /// What the target is.
    pub facts: Facts,
}

/// The secret stays out of every log.
impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("token_id", &self.token_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A returning target's request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RenewRequest {
    /// The expired certificate's chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// A PKCS #10 request, DER. Only its public key is used.
    pub request: Vec<u8>,
    /// Signature by the expired certificate's key over [`RENEWAL_CONTEXT`], the exporter's
    /// [`EXPORTER_BYTES`] and the request.
    pub proof: Vec<u8>,
}

impl RenewRequest {
    /// The bytes that `proof` is made over.
    #[must_use]
    pub fn proven_bytes(exporter: &[u8], request: &[u8]) -> Vec<u8> {
        [RENEWAL_CONTEXT, exporter, request].concat()
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToJoiner {
    /// Welcome.
    Joined(Joined),
    /// No. Why is in the coordinator's log and history; a caller without a token learns nothing.
    Refused {
        /// What may be told: `join refused`, or that the name is taken once the token was right.
        message: String,
    },
    /// Not now; come back after this many milliseconds.
    Busy {
        /// Milliseconds.
        retry_after_ms: u64,
    },
}

/// All that a target needs to know whom it can trust.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Joined {
    /// Its environment.
    pub environment: EnvironmentName,
    /// Its name.
    pub target: TargetName,
    /// Its certificate's chain, leaf first, without the root, DER.
    pub chain: Vec<Vec<u8>>,
    /// Certificates of the roots that vouch for coordinators, DER.
    pub roots: Vec<Vec<u8>>,
    /// Public keys whose signature makes an assignment of this environment valid (Ed25519, 32
    /// bytes each).
    pub signing_keys: Vec<Vec<u8>>,
}
