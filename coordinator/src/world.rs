//! Everything the coordinator knows, in memory: what the store holds, and what only a live
//! connection can tell. Only the driver changes it; everybody else asks the driver.
//!
//! One file for each kind of change, all methods of [`Round`]; [`view`] answers questions.

pub mod access;
pub mod apply;
pub mod artifact;
mod assign;
pub mod certificate;
pub mod check;
pub mod enrol;
pub mod forget;
pub mod freeze;
pub mod guardrail;
pub mod hold;
pub mod inputs;
pub mod judge;
pub mod last;
pub mod link;
pub mod login;
pub mod member;
pub mod notice;
pub mod plan;
pub mod release;
pub mod restore;
mod runtime;
pub mod secret;
pub mod settle;
pub mod simulate;
pub mod steer;
pub mod target;
pub mod token;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use holdfast_certs::authority::Root;
use holdfast_certs::certificate::Serial;
use holdfast_certs::keystore::coordinator::{Authorities, Environment};
use holdfast_certs::registry::SharedRegistry;
use holdfast_certs::vault::Vault;
use holdfast_engine::compiled::{Compiled, Configuration};
use holdfast_engine::effect::Ask;
use holdfast_engine::input::{Freeze, ReleaseRef};
use holdfast_engine::manifest::ManifestSet;
use holdfast_engine::track::{Track, TrackName};
use holdfast_engine::wake::Index;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::assignment::{Assignment, Entry as Line, SignedAssignment, WORKLOADS_MAX};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, InputSetName, RoleName, ServiceName, TargetName};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::time::Timestamp;
use tokio::sync::watch;

use crate::history::{Entry, Head};
use crate::store::row;
use crate::store::write::Write;
pub use target::Targets;

/// Most lines of earlier assignments that are kept for one target.
pub const OUTDATED_MAX: usize = 2 * WORKLOADS_MAX;

/// Counts the connections of this process's life, so that what an old connection of a target says
/// is told apart from what its newest one says.
pub type SessionId = u64;

/// Everything the coordinator knows.
#[derive(Debug)]
pub struct World {
    /// The revision in force; 0 before the first.
    pub revision: u64,
    /// The documents of each input set.
    pub manifests: Arc<BTreeMap<InputSetName, ManifestSet>>,
    /// The revision in force, compiled.
    pub compiled: Arc<Compiled>,
    /// Which tracks a change touches.
    pub index: Index,
    /// Configurations that tracks refer to.
    pub configurations: HashMap<Digest, Arc<Configuration>>,
    /// Releases of each service, ascending.
    pub releases: BTreeMap<ServiceName, Vec<Arc<Release>>>,
    /// Tracks with their placements.
    pub tracks: BTreeMap<TrackName, Track>,
    /// The freezes in force.
    pub freezes: Vec<Freeze>,
    /// What notifiers still have to tell.
    pub outbox: notice::Outbox,
    /// Tracks that are declared no more.
    pub removals: BTreeMap<TrackName, row::Removal>,
    /// When time alone could move a track.
    pub wakes: BTreeMap<TrackName, Timestamp>,
    /// Targets.
    pub targets: Targets,
    /// Rendered workload bodies.
    pub bodies: HashMap<Digest, Arc<Vec<u8>>>,
    /// Complete artifacts and their lengths.
    pub artifacts: BTreeMap<Digest, u64>,
    /// Files that are being removed; the same cannot be taken before that is done.
    pub removing: BTreeSet<Digest>,
    /// Join tokens.
    pub tokens: BTreeMap<String, row::Token>,
    /// Whom tokens let in, by token and public key.
    pub joins: BTreeMap<(String, Digest), row::Join>,
    /// Certificates that were issued, by serial number.
    pub certificates: BTreeMap<Serial, row::Certificate>,
    /// Who may use the API, by the hash of the bearer token.
    pub users: HashMap<Digest, row::User>,
    /// Values of secrets, encrypted.
    pub secrets: secret::Secrets,
    /// Roles that were declared; those that every installation has are not here.
    pub roles: BTreeMap<RoleName, row::Role>,
    /// The end of the history.
    pub head: Head,
    /// The greatest number of a deployment.
    pub last_deployment: u64,
    /// The authorities.
    pub trust: Trust,
    /// When what nobody needs is next to be forgotten.
    pub forget_at: Timestamp,
    /// How often peers did what they may not.
    pub offences: link::Offences,
    /// Who was asked for the last lines of what failed.
    pub asked: last::Asked,
}

/// The authorities and what verifiers are told.
#[derive(Debug)]
pub struct Trust {
    /// The keys on disk.
    pub authorities: Authorities,
    /// The root.
    pub root: Arc<Root>,
    /// The authority and signing key of each environment.
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// What values of secrets are kept under.
    pub vault: Vault,
    /// What the verifiers of connections go by.
    pub registry: SharedRegistry,
}

/// One target, as kept and as connected.
#[derive(Debug)]
pub struct Target {
    /// What is kept of it.
    pub kept: row::Target,
    /// Its labels: facts, then given ones, which win.
    pub labels: Arc<Labels>,
    /// Its connection.
    pub link: Link,
    /// Its newest assignment.
    pub assigned: Option<Assigned>,
    /// Lines of earlier assignments that are in the newest no more, as far as this process has seen
    /// them, oldest first: a target that has not heard of the newest may still ask for them and
    /// report on them. At most [`OUTDATED_MAX`].
    pub outdated: VecDeque<Line>,
    /// What is placed on it, by service, as in the tracks' placements.
    pub placed: BTreeMap<ServiceName, row::Placed>,
    /// What was last observed on it.
    pub observed: BTreeMap<ServiceName, row::Observed>,
}

/// A target's newest assignment.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// What it says.
    pub assignment: Assignment,
    /// As it is sent.
    pub signed: Arc<SignedAssignment>,
    /// Digest of its signed bytes.
    pub digest: Digest,
}

/// Whether a target is connected.
#[derive(Debug)]
pub enum Link {
    /// It is not.
    Down,
    /// It is.
    Up {
        /// Which connection.
        session: SessionId,
        /// The connection, for log streams and for closing it.
        connection: quinn::Connection,
        /// What the connection's task shall send. Always the newest; nothing queues.
        orders: watch::Sender<Orders>,
        /// The minor version of the protocol that both speak.
        version: u16,
    },
}

/// What the task of a connection shall send: a state, not a queue.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// The newest assignment; none before the first.
    pub assignment: Option<Arc<SignedAssignment>>,
    /// The newest report that is stored; 0 before the first.
    pub stored: u64,
}

/// One round of the driver: everything that happens between two commits.
#[derive(Debug)]
pub struct Round<'w> {
    /// What is known.
    pub world: &'w mut World,
    /// The time of the whole round.
    pub now: Timestamp,
    /// What has to be kept before anybody is told.
    pub writes: Vec<Write>,
    /// Tracks to step.
    pub moved: BTreeSet<TrackName>,
    /// Targets whose assignment may have changed.
    pub reassign: BTreeSet<TargetName>,
    /// What is to be done after the commit.
    pub after: Vec<After>,
}

/// Something to do once the round is on disk.
pub enum After {
    /// Tell a connection's task.
    Order {
        /// Whose connection.
        target: TargetName,
        /// What changed in its orders.
        change: OrderChange,
    },
    /// Close a connection.
    Close {
        /// Which.
        connection: quinn::Connection,
        /// Why, as the peer sees it.
        reason: crate::link::CloseReason,
    },
    /// Ask a check.
    Check {
        /// Of which track.
        track: TrackName,
        /// What.
        ask: Ask,
    },
    /// Ask a target for the end of an output.
    LastLines(Box<last::Ask>),
    /// Answer a caller.
    Answer(Box<dyn FnOnce() + Send>),
}

impl std::fmt::Debug for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Order { target, change } => write!(f, "Order({target}, {change:?})"),
            Self::Close { reason, .. } => write!(f, "Close({reason:?})"),
            Self::Check { track, ask } => write!(f, "Check({track}, {})", ask.guard),
            Self::LastLines(ask) => write!(f, "LastLines({}, {})", ask.target, ask.deployment),
            Self::Answer(_) => f.write_str("Answer"),
        }
    }
}

/// What changed in the orders of a connection.
#[derive(Debug, Clone)]
pub enum OrderChange {
    /// There is a newer assignment.
    Assignment(Arc<SignedAssignment>),
    /// A report is stored.
    Stored(u64),
}

impl<'w> Round<'w> {
    /// Begins a round.
    pub const fn new(world: &'w mut World, now: Timestamp) -> Self {
        Self {
            world,
            now,
            writes: Vec::new(),
            moved: BTreeSet::new(),
            reassign: BTreeSet::new(),
            after: Vec::new(),
        }
    }

    /// Adds an entry to the history.
    pub fn record(&mut self, entry: Entry) {
        let (notify, about) = (entry.notify.clone(), entry.notifier.clone());
        let event = self.world.head.append(entry, self.now);
        tracing::info!(kind = %event.kind, message = %event.message, "recorded");
        self.writes.push(Write::Event(Box::new(event.clone())));
        self.tell(&event, notify.as_ref(), about.as_ref());
    }

    /// Answers a caller once the round is on disk.
    pub fn answer<T: Send + 'static>(&mut self, reply: tokio::sync::oneshot::Sender<T>, value: T) {
        // A caller that has gone away needs no answer.
        self.after
            .push(After::Answer(Box::new(move || drop(reply.send(value)))));
    }

    /// Keeps a target as it is now.
    pub fn keep_target(&mut self, name: &TargetName) {
        if let Some(target) = self.world.targets.get(name) {
            self.writes
                .push(Write::Target(Box::new(target.kept.clone())));
        }
    }

    /// Marks every track of an environment to be stepped.
    pub fn environment_moved(&mut self, environment: &EnvironmentName) {
        let tracks = self
            .world
            .tracks
            .keys()
            .filter(|name| name.environment == *environment);
        self.moved.extend(tracks.cloned());
    }
}

impl World {
    /// The releases of a service that can be deployed with `configuration`, ascending.
    #[must_use]
    pub fn usable_releases(&self, configuration: &Configuration) -> Vec<ReleaseRef> {
        let all = self
            .releases
            .get(&configuration.service)
            .map_or(&[][..], Vec::as_slice);
        all.iter()
            .filter(|release| self.is_usable(release, configuration))
            .map(|release| ReleaseRef {
                version: release.version.clone(),
                sequence: release.sequence,
                about: Some(Arc::clone(release)),
            })
            .collect()
    }

    /// When time alone could next move a track.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.values().copied().chain([self.forget_at]).min()
    }
}

impl Target {
    /// Whether it is connected.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// The connection, if there is one.
    #[must_use]
    pub const fn connection(&self) -> Option<&quinn::Connection> {
        match &self.link {
            Link::Up { connection, .. } => Some(connection),
            Link::Down => None,
        }
    }

    /// The connection, if there is one, and the minor version that is spoken on it.
    #[must_use]
    pub const fn up(&self) -> Option<(&quinn::Connection, u16)> {
        match &self.link {
            Link::Up {
                connection,
                version,
                ..
            } => Some((connection, *version)),
            Link::Down => None,
        }
    }

    /// Whether `session` is its newest connection.
    #[must_use]
    pub fn is_session(&self, session: SessionId) -> bool {
        matches!(&self.link, Link::Up { session: newest, .. } if *newest == session)
    }

    /// The newest assignment, unless it is held back.
    #[must_use]
    pub fn deliverable(&self) -> Option<Arc<SignedAssignment>> {
        let newest = self.assigned.as_ref().filter(|_| self.kept.ahead.is_none());
        newest.map(|assigned| Arc::clone(&assigned.signed))
    }

    /// Digests of the workload bodies that it may ask for.
    pub fn entitled(&self) -> impl Iterator<Item = &Digest> {
        self.lines().map(|line| &line.body)
    }

    /// Whether it may have something to say about a service: it is or was assigned to it, as far as
    /// is known.
    #[must_use]
    pub fn concerns(&self, service: &ServiceName) -> bool {
        self.placed.contains_key(service)
            || self.observed.contains_key(service)
            || self.lines().any(|line| line.service == *service)
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        let newest = self.assigned.iter();
        newest
            .flat_map(|assigned| &assigned.assignment.workloads)
            .chain(&self.outdated)
    }

    /// Puts a newer assignment in the place of the newest.
    pub fn assign(&mut self, assigned: Assigned) {
        if let Some(before) = self.assigned.take() {
            let kept: BTreeSet<&Line> = assigned.assignment.workloads.iter().collect();
            let gone = before.assignment.workloads.into_iter();
            self.outdated
                .extend(gone.filter(|line| !kept.contains(line)));
        }
        let surplus = self.outdated.len().saturating_sub(OUTDATED_MAX);
        self.outdated.drain(..surplus);
        self.assigned = Some(assigned);
    }

    /// Its labels, from what it is and what people gave it.
    #[must_use]
    pub fn merge_labels(kept: &row::Target) -> Arc<Labels> {
        let mut labels = crate::facts::labels(&kept.facts);
        labels.extend(kept.given.clone());
        Arc::new(labels)
    }
}
