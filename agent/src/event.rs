//! What the driver is told: where to look, never what to do.

use holdfast_adapters::failure::Failure;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::{Facts, Hold};
use holdfast_protocol::secret::SecretRef;
use tokio::sync::oneshot;

use crate::diff::Sight;
use crate::hold::Wish;

/// Something happened on this target.
#[derive(Debug)]
pub enum Event {
    /// An adapter's runtime changed: look at it.
    Changed {
        /// Which.
        runtime: String,
    },
    /// An adapter was looked at.
    Seen {
        /// Which.
        runtime: String,
        /// What it owns.
        sight: Sight,
    },
    /// A converge goes on.
    Progress {
        /// Of which service.
        service: ServiceName,
        /// What it does, for people.
        text: String,
    },
    /// A converge ended: look.
    Converged {
        /// Which service.
        service: ServiceName,
        /// To which body.
        body: Digest,
        /// Whether it was there in that body before and broken.
        mends: bool,
        /// How it went.
        outcome: Result<(), Failure>,
    },
    /// A removal ended: look.
    Removed {
        /// Which service.
        service: ServiceName,
        /// From which runtime.
        runtime: String,
        /// How it went.
        outcome: Result<(), Failure>,
    },
    /// How an attempt of a job ended was put into words: look, it may have been stopped.
    Concluded {
        /// Which service.
        service: ServiceName,
        /// Which body.
        body: Digest,
        /// In which runtime.
        runtime: String,
        /// The words, or why it could not be stopped.
        outcome: Result<String, Failure>,
    },
    /// A fetch ended.
    Fetched {
        /// Which artifact.
        artifact: Digest,
        /// How it went.
        outcome: Result<(), String>,
    },
    /// A request for a secret ended.
    Asked {
        /// Which secret.
        secret: SecretRef,
        /// How it went.
        outcome: Result<(), String>,
    },
    /// The machine was looked at.
    Sampled(Box<Facts>),
    /// This target is to be left alone for a while, or no longer.
    Hold(Ask),
    /// This target is to leave for good.
    Leave(Leave),
}

/// What somebody on this machine asks about being left alone, and who is told: the hold that there is
/// now, or was until now, or why nothing was changed.
#[derive(Debug)]
pub enum Ask {
    /// Begin, or move the end.
    Hold {
        /// How long and why.
        wish: Wish,
        /// Told once it is on disk.
        done: oneshot::Sender<Result<Option<Hold>, String>>,
    },
    /// End.
    Unhold {
        /// Told once it is on disk.
        done: oneshot::Sender<Result<Option<Hold>, String>>,
    },
}

/// A request to leave.
#[derive(Debug)]
pub struct Leave {
    /// Whether to remove the workloads, too.
    pub remove_workloads: bool,
    /// Told once it is done: what could not be, for people.
    pub done: oneshot::Sender<Option<String>>,
}
