//! The adapter of runtime `container`: what the trait asks, in terms of containers and records.
//!
//! *Guarantees*: the engine is spoken to only once a workload needs it, or where an earlier agent of
//! this directory may have left containers. An engine that does not answer is unknown, never empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as Listed};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::workload::{Placeholder, Workload};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::engine::{self, Engine, EngineError};
use super::mount::Mounts;
use super::record::Records;
use super::sight::{self, Seen, State};
use super::watch::{self, Watch};
use super::{Settings, logs};
use crate::changes::Changes;
use crate::clock;
use crate::durable;
use crate::failure::Failure;
use crate::readers::Readers;
use crate::run::{Adapter, LogRequest, Observed, Wanted};
use crate::secret::memory::Memory;
use crate::turns::{Say, Turns};
use crate::unpacked::Store;

/// Containers of Docker Engine or Podman.
pub(crate) struct Container {
    inner: Arc<Inner>,
    changes: Changes,
    turns: Turns,
    looks: Arc<Semaphore>,
    readers: Readers,
    _stop: DropGuard,
}

pub(super) struct Inner {
    /// The id of this agent's directory, in the labels of every container.
    pub(super) agent: String,
    pub(super) settings: Settings,
    pub(super) mounts: Mounts,
    pub(super) memory: Memory,
    pub(super) records: Records,
    pub(super) store: Store,
    pub(super) watch: Watch,
    engine: Mutex<Option<Engine>>,
    /// Whether events are followed: a workload needs the engine.
    engaged: AtomicBool,
    /// Whether it is known that no earlier agent left containers.
    bare: AtomicBool,
    stop: CancellationToken,
}

/// Containers that are looked at at the same time.
const LOOKS_MAX: usize = 8;

impl Container {
    /// Opens the adapter over `root`, which belongs to it alone, for the agent directory with the id
    /// `home`.
    pub(crate) fn open(
        root: &Path,
        home: &str,
        memory: Memory,
        settings: Settings,
    ) -> io::Result<Self> {
        durable::make_directory(root, 0o711)?;
        let own = std::fs::canonicalize(root)?;
        let (watch, changes) = Watch::new();
        let stop = CancellationToken::new();
        let inner = Inner {
            agent: home.to_owned(),
            mounts: Mounts::new(&settings, own.parent().unwrap_or(&own), memory.guarded()),
            memory,
            settings,
            records: Records::open(root.join("services"))?,
            store: Store::open(root.join("unpacked"))?,
            watch,
            engine: Mutex::new(None),
            engaged: AtomicBool::new(false),
            bare: AtomicBool::new(false),
            stop: stop.clone(),
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

impl Adapter for Container {
    fn runtime(&self) -> &'static str {
        "container"
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

    /// An artifact's path is where it lies on the host, which is mounted into the container.
    fn fill(&self, workload: &Workload, text: &str) -> Result<String, String> {
        self.inner.fill(workload, text)
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
    /// The engine, connected to with the first call.
    pub(super) async fn engine(&self) -> Result<Engine, EngineError> {
        let known = self.known_engine().clone();
        if let Some(engine) = known {
            return Ok(engine);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Engine, EngineError> {
        let engine = Engine::connect(&engine::socket(&self.settings)?).await?;
        *self.known_engine() = Some(engine.clone());
        Ok(engine)
    }

    fn known_engine(&self) -> std::sync::MutexGuard<'_, Option<Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the engine's events from now on.
    pub(super) fn engage(self: &Arc<Self>) {
        if !self.engaged.swap(true, Ordering::SeqCst) {
            tokio::spawn(follow(Arc::clone(self)));
        }
    }

    async fn observe(self: &Arc<Self>) -> Result<Vec<Observed>, Failure> {
        let recorded = self.records.services()?;
        let idle = recorded.is_empty() && !self.engaged.load(Ordering::SeqCst);
        if idle && !self.finds_leftovers().await {
            return Ok(Vec::new());
        }
        self.engage();
        let mut containers = self.containers(None, true).await?;
        let seen: BTreeSet<_> = containers.keys().cloned().collect();
        let observe = |service: ServiceName| {
            let own = containers.remove(&service).unwrap_or_default();
            let record = self.records.read(&service);
            let ended_by = |id: &str| self.watch.ended_by(id);
            sight::observed(service, &own, record.as_ref(), &ended_by)
        };
        Ok(recorded.union(&seen).cloned().filter_map(observe).collect())
    }

    /// Whether an earlier agent, whose directory was lost, left containers. An engine that cannot say
    /// is asked again with the next look; nothing that is wanted here waits for it.
    async fn finds_leftovers(&self) -> bool {
        if self.bare.load(Ordering::SeqCst) {
            return false;
        }
        let Ok(engine) = self.engine().await else {
            return false;
        };
        let Ok(listed) = engine.list(&self.agent, None).await else {
            return false;
        };
        if listed.is_empty() {
            self.bare.store(true, Ordering::SeqCst);
            *self.known_engine() = None;
        }
        !listed.is_empty()
    }

    /// Every container of this agent by service, or of one service; what has not changed since it was
    /// last seen is looked up only where it is not `trusted`.
    pub(super) async fn containers(
        &self,
        service: Option<&ServiceName>,
        trusted: bool,
    ) -> Result<BTreeMap<ServiceName, Vec<Seen>>, Failure> {
        let engine = self.engine().await?;
        let listed = engine
            .list(&self.agent, service.map(ServiceName::as_str))
            .await?;
        let engine = &engine;
        let look = |listed: ContainerSummary| async move {
            let id = listed.id.clone().unwrap_or_default();
            let known = self
                .watch
                .recall(&id)
                .filter(|seen| trusted && agrees(&listed, seen));
            match known {
                Some(seen) => Ok(Some(seen)),
                None => self.look(engine, &id).await,
            }
        };
        let looks = futures_util::stream::iter(listed)
            .map(look)
            .buffer_unordered(LOOKS_MAX);
        let all: Vec<Option<Seen>> = looks.try_collect().await?;
        let mut containers: BTreeMap<ServiceName, Vec<Seen>> = BTreeMap::new();
        for seen in all.into_iter().flatten() {
            containers
                .entry(seen.service.clone())
                .or_default()
                .push(seen);
        }
        for (service, own) in &mut containers {
            if !own.iter().all(Seen::has_its_name) {
                let record = self.records.read(service);
                own.retain(|seen| seen.has_its_name() || seen.is_noted(record.as_ref()));
            }
            own.sort_by(|a, b| (a.made, &a.id).cmp(&(b.made, &b.id)));
        }
        Ok(containers)
    }

    /// Looks at one container; nothing where it is gone.
    pub(super) async fn look(&self, engine: &Engine, id: &str) -> Result<Option<Seen>, Failure> {
        let epoch = self.watch.epoch();
        let found = engine.inspect(id).await?;
        let seen = found.as_ref().and_then(Seen::of);
        if let Some(seen) = &seen {
            self.watch.remember(seen, epoch);
        }
        Ok(seen)
    }

    pub(super) fn fill(&self, workload: &Workload, text: &str) -> Result<String, String> {
        Placeholder::fill(text, &|placeholder| match placeholder {
            Placeholder::ArtifactPath(name) => {
                let artifact = workload.artifacts.iter().find(|a| a.name == *name)?;
                self.store.path(artifact).to_str().map(str::to_owned)
            }
            Placeholder::WorkloadDir => None,
        })
    }
}

/// Follows events for as long as the adapter is open.
async fn follow(inner: Arc<Inner>) {
    let mut failures = 0;
    loop {
        let begun = clock::monotonic();
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = follow_once(&inner) => {}
        }
        inner.watch.announce(&services(&inner));
        let lasted = clock::monotonic().saturating_sub(begun);
        let pause = watch::pause(failures);
        failures = if lasted > pause { 0 } else { failures + 1 };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn follow_once(inner: &Inner) {
    match inner.connect().await {
        Ok(engine) => {
            let everything = services(inner);
            inner.watch.follow(&engine, &inner.agent, &everything).await;
            tracing::info!("the container engine's events ended; trying again");
        }
        Err(error) => tracing::debug!(%error, "the container engine's events cannot be followed"),
    }
}

fn services(inner: &Inner) -> Vec<ServiceName> {
    let recorded = inner.records.services().unwrap_or_default();
    recorded.into_iter().collect()
}

/// Whether what the engine lists of a container is what was last seen of it.
fn agrees(listed: &ContainerSummary, seen: &Seen) -> bool {
    let state = listed.state.unwrap_or(Listed::EMPTY);
    let same_state = match seen.state {
        State::Made => state == Listed::CREATED,
        State::Running { .. } => state == Listed::RUNNING,
        State::Paused => state == Listed::PAUSED,
        State::Ended { .. } => state == Listed::EXITED || state == Listed::DEAD,
        State::Changing(_) => false,
    };
    let names = listed.names.as_deref().unwrap_or_default();
    same_state
        && names
            .iter()
            .any(|name| name.trim_start_matches('/') == seen.name)
}
