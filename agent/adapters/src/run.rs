//! The interface of an adapter, and the registry.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, ServiceName};
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::{Placeholder, Workload};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "container")]
use crate::container::adapter::Container;
use crate::durable;
use crate::failure::Failure;
#[cfg(feature = "kubernetes")]
use crate::kubernetes::adapter::Kubernetes;
use crate::plugin::adapter::Plugins;
use crate::process::adapter::Process;
use crate::secret::Secrets;
use crate::secret::memory::Memory;
use crate::static_files::adapter::StaticFiles;
use crate::systemd::adapter::Systemd;

/// One runtime on this target. Object safe; every method may be called at any time and cancelled by
/// dropping its future, after which the next `observe` tells the truth.
pub trait Adapter: Send + Sync {
    /// The runtime's name, as in manifests.
    fn runtime(&self) -> &'static str;

    /// Everything that this adapter owns on this target, found in the runtime itself, whether or not
    /// it is still wanted. While a service is converged, what is seen of it is a moment of that: its
    /// driver should look at the end. A service whose `body` is none has leftovers and nothing that
    /// runs.
    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observed>, Failure>>;

    /// Makes one workload so: starts it, updates it, starts it again. Does nothing when it already is.
    /// Ends when the runtime has been told and has not refused at once; readiness is observed.
    ///
    /// One operation a service runs at a time; a second one waits for the first, also when the
    /// first one's future was dropped, which cancels it. An update waits for what runs to stop, so it
    /// may take as long as that workload's grace period and a few seconds. Whatever can be refused is
    /// refused before anything that runs is touched: after a failure the old body runs on, unless it
    /// was the start of the new one that failed. Progress is dropped where nobody takes it.
    fn converge<'a>(
        &'a self,
        wanted: &'a Wanted,
        progress: &'a mpsc::Sender<String>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Removes all that this adapter made for a service, and nothing else. Done when it is gone, after
    /// its grace period at the latest; also where there was nothing.
    fn remove<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<(), Failure>>;

    /// The runtime's own events from now on: services to look at again. Lost events are repaired by
    /// the next `observe`. To be called once.
    fn changes(&self) -> mpsc::Receiver<ServiceName>;

    /// `text` with its placeholders filled with this adapter's paths, as in the workload's own
    /// template; health checks hold them too.
    ///
    /// # Errors
    /// The first placeholder that stands for nothing here.
    fn fill(&self, workload: &Workload, text: &str) -> Result<String, String> {
        let _ = workload;
        Placeholder::fill(text, &|_| None)
    }

    /// Output of a workload, oldest line first. Ends with its past unless it follows; a reader that
    /// stops reading should drop the receiver. A workload without output is a permanent failure.
    fn logs<'a>(
        &'a self,
        service: &'a ServiceName,
        request: LogRequest,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>>;
}

/// One workload as it is wanted, with everything it needs at hand.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Digest of the body.
    pub body: Digest,
    /// The body.
    pub workload: Workload,
    /// Where each artifact lies: the verified blob in the agent's content store, as one file, not
    /// unpacked.
    pub artifacts: BTreeMap<ArtifactName, PathBuf>,
    /// The secrets that its template names, in the clear: for the workload alone, and not to be kept.
    pub secrets: Secrets,
    /// Those that its images are pulled with, likewise: for their registries alone.
    pub logins: Secrets,
}

/// What was seen of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The service.
    pub service: ServiceName,
    /// Digest of the body it was last converged to, from the adapter's own marker.
    pub body: Option<Digest>,
    /// What it does now.
    pub live: Live,
}

/// What a workload does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// It is as `converge` left it.
    Running {
        /// Since when.
        since: Timestamp,
        /// The main process, if it has one.
        pid: Option<u32>,
    },
    /// It runs as `converge` left it, and its runtime says that it is not ready.
    Unready {
        /// Since when it runs.
        since: Timestamp,
        /// The main process, if it has one.
        pid: Option<u32>,
        /// Why, in the runtime's words.
        why: String,
        /// Whether it has failed its runtime's checks, and has not just begun to answer them.
        failing: bool,
    },
    /// It ended by itself, or was killed.
    Ended {
        /// How.
        exit: Exit,
        /// When, or when that was first seen.
        at: Timestamp,
    },
    /// Somebody changed it, or a converge was interrupted: what differs, for people.
    Altered {
        /// What differs.
        what: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody saw it.
    Unknown,
}

/// Which output.
#[derive(Debug, Clone, Copy)]
pub struct LogRequest {
    /// Only lines after this time.
    pub since: Option<Timestamp>,
    /// At most this many lines from the past.
    pub tail: usize,
    /// Go on with new lines until the receiver is dropped.
    pub follow: bool,
}

/// What the agent's own configuration says of its runtimes; no manifest can change it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Of Docker Engine or Podman.
    pub container: crate::container::Settings,
    /// Of a Kubernetes cluster.
    pub kubernetes: crate::kubernetes::Settings,
    /// Of plugins.
    pub plugins: crate::plugin::Settings,
    /// Of object storage.
    pub object_store: crate::static_files::Settings,
    /// Who this agent is among all that may share an engine or a cluster, such as
    /// `ENVIRONMENT/TARGET`: agents in containers of their own may all lie at the same path.
    pub owner: Option<String>,
    /// A directory on a tmpfs for the files of secrets; where none is named, `/run/holdfast-secrets` or
    /// one below `/dev/shm`.
    pub secrets: Option<PathBuf>,
}

/// The adapters could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory that says which agent this is.
    #[error("cannot open {home}: {source}")]
    Home {
        /// The directory.
        home: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One adapter's own directory.
    #[error("cannot open the adapter {runtime} in {home}: {source}")]
    Adapter {
        /// The adapter.
        runtime: &'static str,
        /// The directory of all adapters.
        home: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// All adapters of this target, over the directory `home`, which belongs to them alone and to one
/// agent at a time. `launcher` is an absolute program and the arguments that make it call
/// [`crate::process::launch::main`]: the agent's own executable and its hidden subcommand.
///
/// Nothing is started, stopped or changed by opening.
///
/// # Errors
/// Where a directory cannot be made or read.
pub fn adapters(home: &Path, launcher: Vec<OsString>) -> Result<Vec<Arc<dyn Adapter>>, OpenError> {
    adapters_with(home, launcher, Settings::default())
}

/// The same, told by the agent's own configuration what a runtime needs to know.
///
/// # Errors
/// Where a directory cannot be made or read.
pub fn adapters_with(
    home: &Path,
    launcher: Vec<OsString>,
    settings: Settings,
) -> Result<Vec<Arc<dyn Adapter>>, OpenError> {
    let id = identify(home).map_err(|source| OpenError::Home {
        home: home.to_owned(),
        source,
    })?;
    let refused = |runtime| {
        move |source| OpenError::Adapter {
            runtime,
            home: home.to_owned(),
            source,
        }
    };
    #[cfg(any(feature = "container", feature = "kubernetes"))]
    let shared = among(&id, settings.owner.as_deref());
    let memory = |id: &str, runtime| Memory::new(settings.secrets.as_deref(), id, runtime);
    let process = Process::open(&home.join("process"), &id, memory(&id, "process"), launcher);
    let systemd = Systemd::open(&home.join("systemd"), home, memory(&id, "systemd"));
    #[cfg(feature = "container")]
    let container = Container::open(
        &home.join("container"),
        &shared,
        memory(&shared, "container"),
        settings.container,
    );
    #[cfg(feature = "kubernetes")]
    let kubernetes = Kubernetes::open(&home.join("kubernetes"), &shared, settings.kubernetes);
    let statics = StaticFiles::open(&home.join("static"), home, settings.object_store);
    let plugins = Plugins::open(&home.join("plugin"), &id, settings.plugins);
    let adapters: [Arc<dyn Adapter>; _] = [
        Arc::new(process.map_err(refused("process"))?),
        Arc::new(statics.map_err(refused("static"))?),
        Arc::new(systemd.map_err(refused("systemd"))?),
        #[cfg(feature = "container")]
        Arc::new(container.map_err(refused("container"))?),
        #[cfg(feature = "kubernetes")]
        Arc::new(kubernetes.map_err(refused("kubernetes"))?),
        Arc::new(plugins.map_err(refused("plugin"))?),
    ];
    Ok(Vec::from(adapters))
}

/// The runtimes that this program was built with, in the order of [`crate::RUNTIMES`].
pub const BUILT_IN: &[&str] = &[
    "process",
    "static",
    #[cfg(feature = "container")]
    "container",
    "systemd",
    #[cfg(feature = "kubernetes")]
    "kubernetes",
];

/// The id of an agent's directory, by which it knows what is its own in the runtimes. Made of the
/// directory's path and nothing in it, so that an agent that lost its directory still knows.
fn identify(home: &Path) -> io::Result<String> {
    use std::os::unix::ffi::OsStrExt as _;
    durable::make_directory(home, 0o711)?;
    let path = std::fs::canonicalize(home)?;
    Ok(Digest::of(path.as_os_str().as_bytes())
        .hex()
        .chars()
        .take(32)
        .collect())
}

/// The id of an agent among all that share an engine or a cluster. The path alone does not tell two
/// agents apart that have file systems of their own, and each would take away what the other made.
#[cfg(any(feature = "container", feature = "kubernetes"))]
fn among(id: &str, owner: Option<&str>) -> String {
    let Some(owner) = owner else {
        return id.to_owned();
    };
    let both = Digest::of(format!("{id} {owner}").as_bytes());
    both.hex().chars().take(32).collect()
}
