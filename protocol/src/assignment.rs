//! Assignments: the signed, numbered set of workloads of one target.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::digest::Digest;
use crate::name::{EnvironmentName, ServiceName, TargetName};
use crate::time::Timestamp;

/// Most workloads that one target may be assigned.
pub const WORKLOADS_MAX: usize = 2_000;
/// Largest encoded assignment, in bytes: it must fit one frame with its signature.
pub const ASSIGNMENT_MAX_BYTES: usize = 512 * 1024;
/// What is put before the bytes of an assignment when they are signed, so that a signature over
/// anything else can never be taken for one over an assignment.
pub const SIGNATURE_CONTEXT: &[u8] = b"holdfast assignment v1\0";

/// A target's assignment number. It only grows; a new epoch is started by an operator and outranks
/// every number of an earlier one.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
pub struct Generation {
    /// Outranks `number`; starts at 1.
    pub epoch: u64,
    /// Grows by one for each new assignment; starts at 1.
    pub number: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// What one target shall run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Assignment {
    /// Its number.
    pub generation: Generation,
    /// The environment whose key signs it.
    pub environment: EnvironmentName,
    /// The one target it is for.
    pub target: TargetName,
    /// The workloads, sorted by service, each with the digest of its body.
    pub workloads: Vec<Entry>,
    /// When it was made.
    pub issued_at: Timestamp,
}

/// One line of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Entry {
    /// The service.
    pub service: ServiceName,
    /// Digest of the workload body.
    pub body: Digest,
}

/// An assignment as it travels and as it is kept: the exact bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedAssignment {
    /// The encoded [`Assignment`].
    pub bytes: Vec<u8>,
    /// Ed25519 signature (RFC 8032), 64 bytes, by the environment's key over
    /// [`SIGNATURE_CONTEXT`] and `bytes`.
    pub signature: Vec<u8>,
}

/// The assignment that a target holds, by number and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Held {
    /// Its number.
    pub generation: Generation,
    /// Digest of its signed bytes.
    pub digest: Digest,
}

impl Assignment {
    /// Its canonical bytes, to be signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

impl SignedAssignment {
    /// Digest of the signed bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The assignment inside, **not yet verified**.
    ///
    /// # Errors
    /// [`CodecError`] where the bytes are not one canonical assignment.
    pub fn open_unverified(&self) -> Result<Assignment, CodecError> {
        codec::decode(&self.bytes, ASSIGNMENT_MAX_BYTES)
    }

    /// The bytes that the signature is made over.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        [SIGNATURE_CONTEXT, &self.bytes].concat()
    }
}
