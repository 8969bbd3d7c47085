//! The conversation on the control stream, without a network: bytes in, events out, messages in,
//! bytes out. Both ends are tested against each other in memory, byte by byte.
//!
//! ```text
//!   agent                                coordinator
//!     │ ── Hello{versions, held, facts} ──────► │   who speaks is in the certificate
//!     │ ◄── Welcome{version, time} ──────────── │   or Busy{retry_after}, then closed
//!     │ ◄── Assign{signed} ──────────────────── │   only if `held` is not the newest
//!     │ ── Want{digests} ─────────────────────► │   only bodies it lacks
//!     │ ◄── Bodies{…} ───────────────────────── │
//!     │ ── Accepted{held} or Refused{why} ────► │   after the fsync
//!     │ ── Report{sequence, statuses, …} ─────► │   whenever something changed
//!     │ ◄── Stored{sequence} ────────────────── │   after the commit
//!     │ ── Hold{until, reason} ───────────────► │   from minor version 2: first of all, and when it changes
//!     │ ── SealingKey(key) ───────────────────► │   from minor version 4: once, after `Welcome`
//!     │ ── Renew{request} ────────────────────► │   from half-life of the certificate
//!     │ ◄── Renewed{chain} ──────────────────── │
//! ```
//!
//! *Expected flow:* as above; after `Welcome` either side speaks whenever it has something to say.
//! *Guarantees:* a message out of order, a second `Hello` or a frame over the limit ends the session
//! with a typed error; a body nobody asked for is dropped; nothing is buffered without a bound.
//! *Assumptions:* bytes arrive in order and complete, as QUIC streams give them.

pub mod agent;
pub mod coordinator;

use crate::frame::FrameError;

/// Most messages that wait to be sent; a peer that takes none of them is dropped.
pub const OUTGOING_MAX: usize = 1_024;

/// Why a session cannot go on. The connection is closed with this as the reason.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    /// The bytes are not messages.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message at a time when the conversation has no place for it.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// No minor version is spoken by both.
    #[error("no common protocol version: the peer speaks {lowest} to {highest}")]
    NoCommonVersion {
        /// The peer's oldest.
        lowest: u16,
        /// The peer's newest.
        highest: u16,
    },
    /// The peer does not take what is sent.
    #[error("the peer is too slow: {OUTGOING_MAX} messages wait")]
    TooSlow,
}

#[cfg(test)]
mod tests;
