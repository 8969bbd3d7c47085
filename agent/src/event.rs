//! What the driver is told: where to look, never what to do.

use holdfast_adapters::failure::Failure;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::Facts;
use tokio::sync::oneshot;

use crate::diff::Sight;

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
    /// The machine was looked at.
    Sampled(Box<Facts>),
    /// This target is to leave for good.
    Leave(Leave),
}

/// A request to leave.
#[derive(Debug)]
pub struct Leave {
    /// Whether to remove the workloads, too.
    pub remove_workloads: bool,
    /// Told once it is done: what could not be, for people.
    pub done: oneshot::Sender<Option<String>>,
}
