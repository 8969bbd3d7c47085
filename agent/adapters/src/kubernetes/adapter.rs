//! The adapter of runtime `kubernetes`: what the trait asks, in terms of sets and watches.
//!
//! *Guarantees*: the cluster is spoken to only once a workload needs it, or where an earlier agent of
//! this directory may have left sets. A cluster that does not answer is unknown, never empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cluster::{self, Cluster, Manner, Place, labels};
use super::field;
use super::readiness::Readiness;
use super::record::{self, Left, RECORD_LABEL, SERVICE_LABEL, Set};
use super::refusal::ClusterError;
use super::sight::{self, Pair};
use super::watch::{Flow, Seen, Watch};
use super::{Settings, logs, pod};
use crate::changes::Changes;
use crate::durable;
use crate::failure::Failure;
use crate::readers::Readers;
use crate::run::{Adapter, Exit, LogRequest, Observed, Wanted};
use crate::turns::{Say, Turns};

/// Sets of objects of a cluster.
pub(crate) struct Kubernetes {
    inner: Arc<Inner>,
    changes: Changes,
    turns: Turns,
    looks: Arc<Semaphore>,
    readers: Readers,
    _stop: DropGuard,
}

pub(super) struct Inner {
    /// The id of this agent's directory, in the labels of every object.
    pub(super) agent: String,
    pub(super) settings: Settings,
    /// Where artifacts are unpacked while they are read; empty otherwise.
    pub(super) unpacked: PathBuf,
    pub(super) watch: Arc<Watch>,
    cluster: Mutex<Option<Cluster>>,
    /// What was made, as the records in the cluster say; nothing while they were not read.
    sets: Mutex<Option<Sets>>,
    /// How jobs failed, with the ids of their Jobs.
    exits: Mutex<BTreeMap<ServiceName, (String, Exit)>>,
    /// Whether a workload needs the cluster.
    engaged: AtomicBool,
    /// Whether it is known that no earlier agent left sets.
    bare: AtomicBool,
}

/// Each set by its service. Shared: every look takes them, and one may have hundreds of kilobytes.
pub(super) type Sets = BTreeMap<ServiceName, Arc<Set>>;

/// Longest time that watches may take to show everything, of one look.
const SYNC_MAX: Duration = Duration::from_secs(12);
/// Objects of one set whose difference is put into words.
const DIFFERENCES_MAX: usize = 3;

impl Kubernetes {
    /// Opens the adapter over `root`, which belongs to it alone, for the agent directory with the id
    /// `home`.
    pub(crate) fn open(root: &Path, home: &str, settings: Settings) -> io::Result<Self> {
        durable::make_directory(root, 0o700)?;
        let unpacked = root.join("unpacked");
        // What an agent that was killed had not read to its end.
        durable::remove_all(&unpacked)?;
        durable::make_directory(&unpacked, 0o700)?;
        let stop = CancellationToken::new();
        let (watch, changes) = Watch::new(home, stop.clone());
        let inner = Inner {
            agent: home.to_owned(),
            settings,
            unpacked,
            watch: Arc::new(watch),
            cluster: Mutex::new(None),
            sets: Mutex::new(None),
            exits: Mutex::new(BTreeMap::new()),
            engaged: AtomicBool::new(false),
            bare: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
            changes: Changes::new(changes),
            turns: Turns::open(root.join("turns"))?,
            looks: Arc::new(Semaphore::new(1)),
            readers: Readers::new(logs::READERS_MAX),
            _stop: stop.drop_guard(),
        })
    }
}

impl Adapter for Kubernetes {
    fn runtime(&self) -> &'static str {
        "kubernetes"
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observed>, Failure>> {
        Box::pin(async {
            let _one = self.looks.acquire().await;
            self.inner.observe().await
        })
    }

    fn converge<'a>(
        &'a self,
        wanted: &'a Wanted,
        progress: &'a mpsc::Sender<String>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let inner = Arc::clone(&self.inner);
        let operation = async move |wanted: &Wanted, say: &Say<'_>, token: &CancellationToken| {
            inner.converge(wanted, say, token).await
        };
        Box::pin(
            self.turns
                .converge_awaiting(wanted, progress, cancel, operation),
        )
    }

    fn remove<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<(), Failure>> {
        let inner = Arc::clone(&self.inner);
        let operation = async move |service: &ServiceName, token: &CancellationToken| {
            inner.remove(service, token).await
        };
        Box::pin(self.turns.remove_awaiting(service, operation))
    }

    fn changes(&self) -> mpsc::Receiver<ServiceName> {
        self.changes.take()
    }

    fn logs<'a>(
        &'a self,
        service: &'a ServiceName,
        request: LogRequest,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let permit = self.readers.admit()?;
            logs::read(inner, service.clone(), request, permit).await
        })
    }
}

impl Inner {
    /// The cluster; how to speak to it is read with the first call.
    pub(super) async fn cluster(&self) -> Result<Cluster, ClusterError> {
        let known = self.known_cluster().clone();
        if let Some(cluster) = known {
            cluster.renew(&self.settings).await?;
            return Ok(cluster);
        }
        let cluster = Cluster::open(&self.settings).await?;
        *self.known_cluster() = Some(cluster.clone());
        Ok(cluster)
    }

    fn known_cluster(&self) -> std::sync::MutexGuard<'_, Option<Cluster>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A workload needs the cluster from now on.
    pub(super) fn engage(&self) {
        self.engaged.store(true, Ordering::SeqCst);
    }

    /// What the cluster holds as the record of one service. One that cannot be read is not none: what
    /// it names would be left behind by everybody.
    pub(super) async fn read_record(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
    ) -> Result<Option<Set>, Failure> {
        let place = self.record_place(cluster, service);
        let Some(found) = cluster.get(&place).await? else {
            return Ok(None);
        };
        let read = record::of_secret(&found).filter(|(named, _)| named == service);
        let (_, set) = read.ok_or_else(|| {
            Failure::Permanent(format!(
                "{} is not as Holdfast wrote it: put it back, or delete it and what is labelled \
                 {SERVICE_LABEL}={service}",
                place.name
            ))
        })?;
        Ok(Some(set))
    }

    pub(super) async fn write_record(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
        set: Set,
    ) -> Result<(), Failure> {
        let place = self.record_place(cluster, service);
        let secret = record::to_secret(&self.agent, service, &cluster.home, set);
        // Nobody else writes records.
        let live = cluster.apply(&place, &secret, Manner::Forced).await?;
        let read = record::of_secret(&live);
        if let (Some((service, set)), Some(sets)) = (read, self.known_sets().as_mut()) {
            sets.insert(service, Arc::new(set));
        }
        self.tell_services();
        Ok(())
    }

    /// Notes that nothing of a service is left.
    pub(super) fn forget_record(&self, service: &ServiceName) {
        if let Some(sets) = self.known_sets().as_mut() {
            sets.remove(service);
        }
        self.known_exits().remove(service);
        self.tell_services();
    }

    fn known_sets(&self) -> std::sync::MutexGuard<'_, Option<Sets>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_services(&self) {
        let services: BTreeSet<ServiceName> = self
            .known_sets()
            .iter()
            .flat_map(|sets| sets.keys().cloned())
            .collect();
        self.watch.set_services(services);
    }

    /// Every set, from the records in the cluster once, and then from memory.
    async fn sets(&self, cluster: &Cluster) -> Result<Sets, Failure> {
        let known = self.known_sets().clone();
        let own = labels(RECORD_LABEL, &self.agent);
        if let Some(sets) = known {
            // Watches do not tell of a cluster that hangs.
            cluster.probe(&own).await?;
            return Ok(sets);
        }
        let kind = super::kind::Kind::secret();
        let found = cluster.list(&kind, Some(&cluster.home), &own).await?;
        let read = found.iter().filter_map(record::of_secret);
        let sets: Sets = read
            .map(|(service, set)| (service, Arc::new(set)))
            .collect();
        *self.known_sets() = Some(sets.clone());
        self.tell_services();
        Ok(sets)
    }

    async fn observe(self: &Arc<Self>) -> Result<Vec<Observed>, Failure> {
        let idle = !self.engaged.load(Ordering::SeqCst);
        if idle && !self.finds_leftovers().await {
            return Ok(Vec::new());
        }
        self.engage();
        let cluster = self.cluster().await?;
        let sets = self.sets(&cluster).await?;
        self.synced(&cluster, &sets).await?;
        let mut all = Vec::with_capacity(sets.len());
        for (service, set) in &sets {
            all.push(self.observe_set(&cluster, service, set).await?);
        }
        Ok(all)
    }

    /// Whether an earlier agent, whose directory was lost, left sets. A cluster that cannot say is
    /// asked again with the next look; nothing that is wanted here waits for it.
    async fn finds_leftovers(&self) -> bool {
        if self.bare.load(Ordering::SeqCst) || !cluster::is_named(&self.settings) {
            return false;
        }
        let Ok(cluster) = self.cluster().await else {
            return false;
        };
        let Ok(sets) = self.sets(&cluster).await else {
            return false;
        };
        if sets.is_empty() {
            self.bare.store(true, Ordering::SeqCst);
            *self.known_cluster() = None;
            *self.known_sets() = None;
        }
        !sets.is_empty()
    }

    /// Waits until every watch that the sets need shows what there is.
    async fn synced(&self, cluster: &Cluster, sets: &Sets) -> Result<(), Failure> {
        let mut stirred = self.watch.stirred();
        let wait = async {
            loop {
                if self.flows(cluster, sets).await? {
                    return Ok(());
                }
                // The sender lives as long as this adapter.
                let _ = stirred.changed().await;
            }
        };
        let late = || {
            let seconds = SYNC_MAX.as_secs();
            Failure::Retryable(format!(
                "the watches of {} did not begin within {seconds} s",
                cluster.url
            ))
        };
        let waited = tokio::time::timeout(SYNC_MAX, wait).await;
        waited.unwrap_or_else(|_| Err(late()))
    }

    /// Whether every watch that the sets need flows.
    async fn flows(&self, cluster: &Cluster, sets: &Sets) -> Result<bool, Failure> {
        let mut all = true;
        for entry in sets.values().flat_map(|set| &set.objects) {
            let Some(kind) = cluster.kind(&entry.name).await? else {
                continue;
            };
            if !self.watch.cover(cluster, &kind, &entry.name) {
                continue;
            }
            match self.watch.look(&kind, &entry.name).0 {
                Flow::Flowing | Flow::Unserved => {}
                Flow::Beginning => all = false,
                Flow::Broken(why) => return Err(Failure::Retryable(why)),
            }
        }
        Ok(all)
    }

    async fn observe_set(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
        set: &Set,
    ) -> Result<Observed, Failure> {
        let mut pairs = Vec::with_capacity(set.objects.len());
        for entry in &set.objects {
            let seen = match cluster.kind(&entry.name).await? {
                Some(kind) if self.watch.cover(cluster, &kind, &entry.name) => {
                    self.watch.look(&kind, &entry.name).1
                }
                Some(kind) => {
                    let name = entry.name.clone();
                    let live = cluster.get(&Place { kind, name }).await?;
                    live.as_ref().and_then(Seen::of)
                }
                None => None,
            };
            pairs.push(Pair { entry, seen });
        }
        if set.job {
            let exit = self.exit(cluster, service, &pairs).await?;
            return Ok(sight::job(service.clone(), &pairs, exit));
        }
        let what = self.differences(cluster, service, &mut pairs).await?;
        Ok(sight::observed(service.clone(), set, &pairs, &what))
    }

    /// How the newest attempt of a job failed, asked of its pods once.
    async fn exit(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
        pairs: &[Pair<'_>],
    ) -> Result<Option<Exit>, Failure> {
        let Some((pair, seen, _)) = sight::attempt(pairs) else {
            return Ok(None);
        };
        if !matches!(seen.readiness, Readiness::Failed(_)) {
            return Ok(None);
        }
        let known = self.known_exits().get(service).cloned();
        if let Some((_, exit)) = known.filter(|(uid, _)| *uid == seen.uid) {
            return Ok(Some(exit));
        }
        let exit = pod::exit(cluster, &pair.entry.name).await?;
        let known = (seen.uid.clone(), exit);
        self.known_exits().insert(service.clone(), known);
        Ok(Some(exit))
    }

    fn known_exits(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServiceName, (String, Exit)>> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is not as it was left, in words, from a fresh look at each such object.
    async fn differences(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
        pairs: &mut [Pair<'_>],
    ) -> Result<Vec<String>, Failure> {
        let mut what = Vec::new();
        for pair in pairs.iter_mut().filter(|pair| pair.differs()) {
            if what.len() >= DIFFERENCES_MAX {
                what.push("and more".to_owned());
                break;
            }
            let name = &pair.entry.name;
            let Some(left) = &pair.entry.left else {
                what.push(format!("the making of {name} was interrupted"));
                continue;
            };
            let live = match cluster.kind(name).await? {
                Some(kind) => {
                    let name = name.clone();
                    cluster.get(&Place { kind, name }).await?
                }
                None => None,
            };
            let Some(live) = live else {
                what.push(format!("{name} was removed"));
                continue;
            };
            if let Some(said) = difference(left, &live) {
                what.push(format!("{name}{said}"));
                continue;
            }
            // The watch was behind.
            self.watch.remember(service, name, &live);
            pair.seen = Seen::of(&live);
        }
        Ok(what)
    }
}

/// What is not as it was left of an object, as words after its name; nothing where all of it is.
fn difference(left: &Left, live: &Value) -> Option<String> {
    let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
    if uid != Some(left.uid.as_str()) {
        return Some(" was removed and made anew".to_owned());
    }
    if field::digest(live) == Some(left.values) {
        return None;
    }
    let said = field::difference(left.fields.as_ref(), live);
    Some(format!(": {said}"))
}
