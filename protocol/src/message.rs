//! The messages of the control stream. Variants and fields are only ever added at the end: the order
//! of the variants is the wire format.
//!
//! No message carries a name of an environment or a target that is believed: who speaks is known
//! from the certificate alone.

use bincode::{Decode, Encode};

use crate::assignment::{Generation, Held, SignedAssignment};
use crate::digest::Digest;
use crate::observed::{Facts, Hold, Report};
use crate::time::Timestamp;
use crate::version;

/// From a target to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToCoordinator {
    /// The first message of a connection.
    Hello(Hello),
    /// Bodies of the assignment just offered that this target lacks; only names of that assignment
    /// are answered.
    Want(Vec<Digest>),
    /// The assignment is complete, verified and on disk.
    Accepted(Held),
    /// The assignment was not taken; the one before it stays in force.
    Refused {
        /// The number that was refused.
        generation: Generation,
        /// Why.
        reason: Refusal,
    },
    /// What was observed.
    Report(Report),
    /// A request for a new certificate, for the key in this PKCS #10 request (DER). Nothing else in
    /// it is believed.
    Renew {
        /// The request (RFC 2986), DER.
        request: Vec<u8>,
    },
    /// The target leaves for good: it is to be forgotten and its certificate refused from now on.
    Leave,
    /// Whether the target's own site asks to be left alone: said at the beginning of a connection and
    /// at each change, where both speak [`version::HOLDS`].
    Hold(Option<Hold>),
    /// The public key that this target's secrets are sealed to (X25519, RFC 7748; 32 bytes): said at the
    /// beginning of a connection, where both speak [`version::SECRETS`].
    SealingKey(Vec<u8>),
}

/// How a target introduces itself. Its name is in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// The minor protocol versions it speaks.
    pub versions: version::Range,
    /// The agent's release.
    pub agent_version: String,
    /// The assignment it holds.
    pub held: Option<Held>,
    /// Its clock.
    pub time: Timestamp,
    /// What the target is.
    pub facts: Facts,
}

/// Why a target did not take an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The signature is not by the key of the target's environment.
    #[error("the signature is not by this environment's key")]
    BadSignature,
    /// It is for another environment or another target.
    #[error("it is for another target")]
    NotForMe,
    /// Its number is lower than the one in force.
    #[error("its number is lower than {held}, which is in force")]
    Older {
        /// The number in force.
        held: Generation,
    },
    /// Its number is the one in force, its content is not.
    #[error("it has the number in force and other content")]
    Equivocation,
    /// It cannot be read, is unsorted, or names a service twice.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// A body is missing, cannot be read or says something else than its line.
    #[error("the body {0} is missing or not what its line says")]
    BadBody(Digest),
    /// It could not be written to disk.
    #[error("it could not be stored: {0}")]
    NotStored(String),
}

/// From the coordinator to a target.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToAgent {
    /// The answer to `Hello`: the connection is in use.
    Welcome(Welcome),
    /// Not now: come back after this long. The coordinator closes the connection.
    Busy {
        /// Milliseconds.
        retry_after_ms: u64,
    },
    /// The newest assignment, when it is not the one that the target holds.
    Assign(SignedAssignment),
    /// Bodies that were wanted, in any order; each is named by its digest.
    Bodies(Vec<Vec<u8>>),
    /// Everything up to this report is stored; the journal may forget it.
    Stored {
        /// The report's sequence number.
        sequence: u64,
    },
    /// A new certificate: the chain, leaf first, DER.
    Renewed {
        /// The chain without the root.
        chain: Vec<Vec<u8>>,
    },
    /// No new certificate, and why; the old one stays.
    RenewalRefused {
        /// Why, for people.
        reason: String,
    },
    /// The target has left; it will not be let in again with this certificate.
    Farewell,
}

/// How the coordinator answers a `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// The minor protocol version from now on.
    pub version: u16,
    /// The coordinator's release.
    pub coordinator_version: String,
    /// The coordinator's clock.
    pub time: Timestamp,
}
