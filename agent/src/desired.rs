//! What this target shall run, as far as it is known, and how each body has fared here before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use holdfast_adapters::restart::{self, Restart};
use holdfast_protocol::assignment::Held;
use holdfast_protocol::codec::CodecError;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::login::{Goal, Login};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::secret::{self, SecretRef};
use holdfast_protocol::workload::{Rollback, Workload};

/// What is wanted on this target. *Unknown* asks for nothing to be touched: it is not the same as
/// wanting nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Desired {
    /// No assignment has come yet, or none on disk can be read.
    #[default]
    Unknown,
    /// An accepted assignment.
    Known {
        /// Which.
        held: Held,
        /// The body of each service.
        wanted: BTreeMap<ServiceName, Digest>,
    },
}

/// A workload body, opened, with the parts that decisions ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Digest of the body.
    pub body: Digest,
    /// The body.
    pub workload: Workload,
    /// What to do when it ends by itself.
    pub restart: Restart,
    /// The secrets that its template names.
    pub secrets: BTreeSet<SecretRef>,
    /// Those that its images are pulled with.
    pub logins: BTreeSet<SecretRef>,
}

/// Every body at hand: of the assignment in force, of the one before it, and the last good ones.
pub type Bodies = BTreeMap<Digest, Arc<Intent>>;

/// How the bodies of one service have fared on this target. Survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Standing {
    /// The newest body that became ready.
    pub good: Option<Digest>,
    /// The wanted body that failed and was put back here; it is not tried again while it is wanted.
    pub given_up: Option<Digest>,
}

/// The standing of every service.
pub type Standings = BTreeMap<ServiceName, Standing>;

impl Intent {
    /// Opens a body.
    ///
    /// # Errors
    /// [`CodecError`] where the bytes are not a body.
    pub fn open(bytes: &[u8]) -> Result<Self, CodecError> {
        let workload = Workload::open(bytes)?;
        // A template that is no JSON fails in its adapter, with a better message.
        let template = serde_json::from_str(&workload.template).unwrap_or_default();
        let restart = restart::of(&workload.runtime, &template);
        Ok(Self {
            secrets: secret::references(&template),
            logins: image_logins(&workload).collect(),
            body: Digest::of(bytes),
            workload,
            restart,
        })
    }

    /// Every secret that it needs here, also those that its files are fetched with.
    pub fn every_secret(&self) -> impl Iterator<Item = SecretRef> {
        let logins = self.workload.logins.iter().map(Login::reference);
        self.secrets.iter().cloned().chain(logins)
    }

    /// How long it may take to become ready: a job, as long as all its attempts may take besides.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        let deadline = self.workload.progress_deadline();
        match self.workload.job {
            None => deadline,
            Some(terms) => {
                let running = terms.time_limit().saturating_mul(terms.attempts);
                deadline.saturating_add(running)
            }
        }
    }

    /// Whether this target puts an earlier body back by itself.
    #[must_use]
    pub const fn rolls_back_here(&self) -> bool {
        match self.workload.rollback {
            Rollback::Local => true,
            Rollback::Central => false,
        }
    }
}

impl Desired {
    /// Whether a service is wanted, as far as is known.
    #[must_use]
    pub fn wants(&self, service: &ServiceName) -> bool {
        match self {
            Self::Unknown => false,
            Self::Known { wanted, .. } => wanted.contains_key(service),
        }
    }

    /// The assignment in force.
    #[must_use]
    pub const fn held(&self) -> Option<Held> {
        match self {
            Self::Unknown => None,
            Self::Known { held, .. } => Some(*held),
        }
    }
}

fn image_logins(workload: &Workload) -> impl Iterator<Item = SecretRef> {
    workload.logins.iter().filter_map(|login| match login.goal {
        Goal::Image { .. } => Some(login.reference()),
        Goal::File { .. } => None,
    })
}

/// The body to bring about for a service: the wanted one, or the last good one where the wanted one
/// was given up. Nothing is put back for a job: an older one undoes nothing.
#[must_use]
pub fn selected(wanted: Digest, standing: Standing, bodies: &Bodies) -> Digest {
    let is_job = |intent: &Arc<Intent>| intent.workload.job.is_some();
    if bodies.get(&wanted).is_some_and(is_job) {
        return wanted;
    }
    match (standing.given_up, standing.good) {
        (Some(failed), Some(good)) if failed == wanted && bodies.contains_key(&good) => good,
        (Some(_) | None, _) => wanted,
    }
}

/// The standings once `wanted` is in force: a body that is wanted no longer is no longer given up,
/// and a service that is wanted no longer is forgotten.
#[must_use]
pub fn standings_after(standings: &Standings, wanted: &BTreeMap<ServiceName, Digest>) -> Standings {
    let keep = |(service, standing): (&ServiceName, &Standing)| {
        let body = wanted.get(service)?;
        let given_up = standing.given_up.filter(|failed| failed == body);
        Some((
            service.clone(),
            Standing {
                given_up,
                ..*standing
            },
        ))
    };
    standings.iter().filter_map(keep).collect()
}
