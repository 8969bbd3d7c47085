//! Streams beside the control stream: artifacts and secrets (opened by the agent), logs and checks (opened by the
//! coordinator). Each begins with one header frame from the one who opens it and one reply frame
//! from the other; then artifact bytes follow raw until the stream ends, and log lines as frames. The
//! reply to a check is all that follows; it comes when the program has ended.

use bincode::{Decode, Encode};

use crate::digest::Digest;
use crate::name::{ServiceName, Version};
use crate::secret::{Sealed, SecretRef};
use crate::time::Timestamp;

/// Longest log line that travels, in bytes; longer ones are cut.
pub const LOG_LINE_MAX_BYTES: usize = 16 * 1024;
/// Most lines that one request may ask for from the past.
pub const LOG_TAIL_MAX_LINES: u32 = 10_000;
/// Longest output of a check that travels, in bytes; longer ones are cut.
pub const CHECK_OUTPUT_MAX_BYTES: usize = 8 * 1024;
/// Longest time that a check on a target may take, in milliseconds.
pub const CHECK_TIMEOUT_MAX_MS: u64 = 60 * 60 * 1_000;

/// The first frame of a stream that an agent opens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum AgentOpens {
    /// The content of an artifact, from `offset` to its end. Only artifacts that the target's own
    /// assignment needs are given.
    Artifact {
        /// Which.
        digest: Digest,
        /// First byte wanted.
        offset: u64,
    },
    /// A secret, sealed to the key that the target has told. Only secrets that are placed on it are
    /// given. Since [`crate::version::SECRETS`].
    Secret(SecretRef),
}

/// The coordinator's reply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ArtifactReply {
    /// The bytes follow.
    Content {
        /// Length of the whole artifact in bytes.
        size: u64,
    },
    /// The artifact is not for this target, or is not there. One answer for both, so that a target
    /// cannot learn what exists.
    Unavailable,
    /// The artifact is for this target, and the coordinator cannot give it now. Since
    /// [`crate::version::HOMES`].
    Away {
        /// Why, for people.
        message: String,
    },
}

/// The coordinator's reply to a request for a secret; nothing follows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SecretReply {
    /// The value, sealed.
    Sealed(Sealed),
    /// It is not for this target, or is not there. One answer for both.
    Unavailable,
}

/// The first frame of a stream that the coordinator opens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CoordinatorOpens {
    /// The output of a workload.
    Logs {
        /// Whose.
        service: ServiceName,
        /// Only lines after this time.
        since: Option<Timestamp>,
        /// At most this many lines from the past; see [`LOG_TAIL_MAX_LINES`].
        tail: u32,
        /// Whether to go on with new lines.
        follow: bool,
    },
    /// What a program comes to that is run here once, as an unprivileged user. Since
    /// [`crate::version::CHECKS`].
    Check(CheckRequest),
    /// What a workload wrote during one deployment, also one that is over. Answered like
    /// [`CoordinatorOpens::Logs`]. Since [`crate::version::KEPT_OUTPUT`].
    Kept(KeptRequest),
}

/// What is asked of the output of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeptRequest {
    /// Whose.
    pub service: ServiceName,
    /// The release that the deployment brought.
    pub version: Version,
    /// Digest of the configuration that it brought.
    pub configuration: Digest,
    /// Only lines after this time.
    pub since: Option<Timestamp>,
    /// At most this many lines from the past; see [`LOG_TAIL_MAX_LINES`].
    pub tail: u32,
    /// Whether to go on with new lines, where it still runs.
    pub follow: bool,
}

/// A program to be run once, as a check.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CheckRequest {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Its environment, besides what every such program is given.
    pub environment: Vec<(String, String)>,
    /// Time it may take, in milliseconds; at most [`CHECK_TIMEOUT_MAX_MS`].
    pub timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CheckReply {
    /// It ended by itself.
    Ended {
        /// Its exit code.
        code: i32,
        /// What it wrote, at most [`CHECK_OUTPUT_MAX_BYTES`].
        output: String,
    },
    /// It was ended by a signal.
    Killed {
        /// The signal's number.
        signal: i32,
        /// What it wrote.
        output: String,
    },
    /// Its time was over, and it was ended.
    TimedOut {
        /// What it wrote.
        output: String,
    },
    /// It was not run.
    Unavailable {
        /// Why, for people.
        message: String,
    },
}

/// The agent's reply, then its lines.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogFrame {
    /// Lines follow.
    Begins,
    /// There is no such workload here, or its logs cannot be read.
    Unavailable {
        /// Why, for people.
        message: String,
    },
    /// One line.
    Line(LogLine),
}

/// One line of a workload's output.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogLine {
    /// When it was seen, if known.
    pub at: Option<Timestamp>,
    /// The text without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}
