//! The connection to systemd over the system bus: calls, and what it says by itself.
//!
//! *Expected flow:* the first workload that needs systemd makes the connection, on a thread of its
//! own that then only listens; whoever calls waits on their own thread. *Guarantees:* a target
//! without such workloads has neither; a job's end is never missed, since whoever starts it listens
//! before; a connection that broke is made again by the next call. *Assumptions:* callers are not
//! themselves on an async runtime.

use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{Select, select};
use holdfast_protocol::name::ServiceName;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::durable;
use crate::failure::Failure;
use crate::systemd::signal::{Heard, JobEnd, hear};
use crate::systemd::unit::PREFIX;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";
const CALLS: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Properties that every unit has.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// Properties that a service has.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// How long one call may take; the longest is a reload on a host of very many units.
const CALL_MAX: Duration = Duration::from_secs(60);
/// How long a job may take: longer than any grace period and any converge.
const JOB_MAX: Duration = Duration::from_secs(11 * 60);
/// How often whoever waits for a job looks whether it is still wanted.
const JOB_LOOK: Duration = Duration::from_millis(50);
/// Ends of jobs that may wait for whoever started them.
const JOBS_MAX: usize = 1024;
/// Signals that may wait.
const SIGNALS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");
/// Announcements that may wait to be taken; more are dropped.
const CHANGES_MAX: usize = 256;

/// The connection, where there is one.
pub(super) struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    line: Mutex<Option<Arc<Line>>>,
    /// Directory of one directory a workload.
    services: PathBuf,
    changes: mpsc::Sender<ServiceName>,
}

/// One connection, as long as it lasts.
pub(super) struct Line {
    connection: Connection,
    runtime: Handle,
    jobs: broadcast::Sender<JobEnd>,
    reloads: Reloads,
    _end: DropGuard,
}

/// Reloads take long and concern all units, so those who wait share one.
#[derive(Default)]
struct Reloads {
    asked: AtomicU64,
    done: Mutex<u64>,
}

/// A unit that systemd has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) name: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub(super) active: String,
    /// The state within it: `running`, `auto-restart`, `waiting`.
    pub(super) sub: String,
    pub(super) path: String,
    /// The kind of job that is under way for it, such as `stop`; empty where none is.
    pub(super) job: String,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// By systemd's word.
    Otherwise(String),
}

/// What a call to systemd came to.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    #[error("cannot reach systemd on this target: {0}")]
    Away(zbus::Error),
    #[error("systemd refused {call}: {source}")]
    Call {
        call: &'static str,
        source: zbus::Error,
    },
    #[error("systemd did not say how a job ended within {} minutes", JOB_MAX.as_secs() / 60)]
    Late,
    #[error("cancelled")]
    Cancelled,
    #[error("cannot listen to systemd: {0}")]
    Thread(std::io::Error),
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        let denied = |source: &zbus::Error| matches!(source, zbus::Error::FDO(e) if matches!(**e, zbus::fdo::Error::AccessDenied(_)));
        match &error {
            BusError::Cancelled => Self::Cancelled,
            BusError::Call { source, .. } if denied(source) => {
                Self::Permanent(format!("{error}; the agent must run as root"))
            }
            BusError::Call { .. } | BusError::Away(_) | BusError::Late | BusError::Thread(_) => {
                Self::Retryable(error.to_string())
            }
        }
    }
}

impl BusError {
    /// Whether systemd has forgotten the unit that was asked about.
    pub(super) fn is_unknown_unit(&self) -> bool {
        let Self::Call { source, .. } = self else {
            return false;
        };
        match source {
            zbus::Error::FDO(error) => matches!(**error, zbus::fdo::Error::UnknownObject(_)),
            zbus::Error::MethodError(name, ..) => name.as_str().ends_with(".NoSuchUnit"),
            _ => false,
        }
    }
}

impl Bus {
    /// Makes no connection yet. What changes is announced from the first one on.
    pub(super) fn new(services: PathBuf) -> (Self, mpsc::Receiver<ServiceName>) {
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let shared = Shared {
            line: Mutex::new(None),
            services,
            changes,
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            receiver,
        )
    }

    /// The connection; made now, if it was not before or has broken.
    pub(super) fn line(&self) -> Result<Arc<Line>, BusError> {
        let mut line = self
            .shared
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line.as_ref().filter(|line| !line.connection.is_closed()) {
            return Ok(Arc::clone(line));
        }
        let fresh = Arc::new(Line::open(&self.shared)?);
        *line = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Line {
    fn open(shared: &Arc<Shared>) -> Result<Self, BusError> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(BusError::Thread)?;
        let (opened, line) = std::sync::mpsc::sync_channel(1);
        let weak = Arc::downgrade(shared);
        let listen = move || {
            let handle = runtime.handle().clone();
            runtime.block_on(async {
                match open(handle).await {
                    Ok((line, stream, end)) => {
                        let jobs = line.jobs.clone();
                        if opened.send(Ok(line)).is_ok() {
                            end.run_until_cancelled(listen(stream, jobs, &weak)).await;
                        }
                    }
                    // Whoever asked waits for it.
                    Err(error) => drop(opened.send(Err(BusError::Away(error)))),
                }
            });
        };
        crate::turns::thread(listen).map_err(BusError::Thread)?;
        line.recv()
            .map_err(|error| BusError::Thread(std::io::Error::other(error)))?
    }

    /// Every loaded unit of a workload, by its name.
    pub(super) fn loaded(&self) -> Result<Vec<Loaded>, BusError> {
        type Row = (
            String,
            String,
            String,
            String,
            String,
            String,
            OwnedObjectPath,
            u32,
            String,
            OwnedObjectPath,
        );
        let patterns = [format!("{PREFIX}*.service"), format!("{PREFIX}*.timer")];
        let states: [&str; 0] = [];
        let rows: Vec<Row> = self.ask(
            "ListUnitsByPatterns",
            &(states.as_slice(), patterns.as_slice()),
        )?;
        let loaded = |row: Row| Loaded {
            name: row.0,
            active: row.3,
            sub: row.4,
            path: row.6.to_string(),
            job: row.8,
        };
        Ok(rows.into_iter().map(loaded).collect())
    }

    /// The path of a unit, which systemd loads for that.
    pub(super) fn load(&self, unit: &str) -> Result<String, BusError> {
        let path: OwnedObjectPath = self.ask("LoadUnit", &unit)?;
        Ok(path.to_string())
    }

    /// One property of a unit.
    pub(super) fn property<T>(
        &self,
        path: &str,
        interface: &'static str,
        name: &'static str,
    ) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: Into<zbus::Error>,
    {
        let refused = |source| BusError::Call { call: name, source };
        let (to, what) = (Some(SYSTEMD), (interface, name));
        let asked = self
            .connection
            .call_method(to, path, Some(PROPERTIES), "Get", &what);
        let message = self.wait(asked).map_err(refused)?;
        let value: OwnedVariant = message.body().deserialize().map_err(refused)?;
        T::try_from(value).map_err(|error| refused(error.into()))
    }

    /// Why a unit could not be loaded; empty where it could.
    pub(super) fn load_error(&self, path: &str) -> Result<String, BusError> {
        let refused = |source: zbus::Error| BusError::Call {
            call: "LoadError",
            source,
        };
        let value: OwnedVariant = self.property(path, UNIT, "LoadError")?;
        let (_, why) = <(String, String)>::try_from(value).map_err(refused)?;
        Ok(why)
    }

    /// Has systemd read all units again, so that it knows what was written before this call.
    pub(super) fn reload(&self) -> Result<(), BusError> {
        let ticket = self.reloads.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self
            .reloads
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *done >= ticket {
            return Ok(());
        }
        // All who asked until now have written what they had to.
        let upto = self.reloads.asked.load(Ordering::SeqCst);
        self.tell("Reload", &())?;
        *done = upto;
        Ok(())
    }

    /// Starts, stops, restarts or reloads a unit, and waits for the job to end.
    pub(super) fn job(
        &self,
        call: &'static str,
        unit: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Ended, BusError> {
        let mut ends = self.jobs.subscribe();
        let job: OwnedObjectPath = self.ask(call, &(unit, "replace"))?;
        let end = self.wait(async {
            let settled = settled(&mut ends, job.as_str(), cancelled);
            tokio::time::timeout(JOB_MAX, settled).await
        });
        match end.map_err(|_| BusError::Late)?? {
            result if result == "done" => Ok(Ended::Done),
            result => Ok(Ended::Otherwise(result)),
        }
    }

    /// Sends the main process of a unit a signal.
    pub(super) fn signal(&self, unit: &str, signal: i32) -> Result<(), BusError> {
        self.tell("KillUnit", &(unit, "main", signal))
    }

    /// Forgets that a unit failed, so that systemd can forget the unit.
    pub(super) fn forget_failure(&self, unit: &str) -> Result<(), BusError> {
        self.tell("ResetFailedUnit", &unit)
    }

    fn tell<B: serde::Serialize + DynamicType>(
        &self,
        call: &'static str,
        body: &B,
    ) -> Result<(), BusError> {
        self.call(call, body).map(drop)
    }

    fn ask<T, B>(&self, call: &'static str, body: &B) -> Result<T, BusError>
    where
        T: serde::de::DeserializeOwned + zbus::Type,
        B: serde::Serialize + DynamicType,
    {
        let message = self.call(call, body)?;
        let answer = message.body().deserialize();
        answer.map_err(|source| BusError::Call { call, source })
    }

    fn call<B>(&self, call: &'static str, body: &B) -> Result<Message, BusError>
    where
        B: serde::Serialize + DynamicType,
    {
        let connection = &self.connection;
        let asked = connection.call_method(Some(SYSTEMD), ROOT, Some(CALLS), call, body);
        self.wait(asked)
            .map_err(|source| BusError::Call { call, source })
    }

    /// Waits on the calling thread for what the listening one brings.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// Signals as they come, of one connection.
type Signals = Select<MessageStream, MessageStream>;

/// Connects, and asks for all signals before anything else can happen.
async fn open(runtime: Handle) -> zbus::Result<(Line, Signals, CancellationToken)> {
    let builder = zbus::connection::Builder::system().method_timeout(CALL_MAX);
    let connection = builder.build().await?;
    // Each change of state is said once for the unit and once for its kind; one of them is enough.
    let states = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SYSTEMD)
        .path_namespace(UNITS)
        .member("PropertiesChanged")
        .arg(0, UNIT)
        .build()?;
    let rest = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SYSTEMD)
        .path(ROOT)
        .interface(CALLS)
        .build()?;
    let states = MessageStream::for_match_rule(states, &connection, Some(SIGNALS_MAX)).await?;
    let rest = MessageStream::for_match_rule(rest, &connection, Some(SIGNALS_MAX)).await?;
    // systemd says nothing of its units to nobody.
    let (to, at) = (Some(SYSTEMD), ROOT);
    connection
        .call_method(to, at, Some(CALLS), "Subscribe", &())
        .await?;
    let end = CancellationToken::new();
    let line = Line {
        connection,
        runtime,
        jobs: broadcast::Sender::new(JOBS_MAX),
        reloads: Reloads::default(),
        _end: end.clone().drop_guard(),
    };
    Ok((line, select(states, rest), end))
}

/// Announces what systemd says, until the connection breaks; that is announced as well.
async fn listen(mut signals: Signals, jobs: broadcast::Sender<JobEnd>, shared: &Weak<Shared>) {
    while let Some(signal) = signals.next().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match signal.as_ref().map(hear) {
            Ok(Heard::Job(end, service)) => {
                // Nobody waits for the jobs of others.
                let _ = jobs.send(end);
                shared.announce(service);
            }
            Ok(Heard::One(service)) => shared.announce(service),
            Ok(Heard::Any) => shared.announce_all(),
            Ok(Heard::Nothing) => {}
            Err(error) => tracing::debug!(%error, "a signal of systemd cannot be read"),
        }
    }
    if let Some(shared) = shared.upgrade() {
        tracing::warn!("the connection to systemd has broken");
        shared.announce_all();
    }
}

impl Shared {
    fn announce(&self, service: ServiceName) {
        // Another agent's, or no workload at all: the agent's own unit begins with the same word.
        if !self.services.join(service.as_str()).is_dir() {
            return;
        }
        // What is dropped here is seen when the ones before it are looked at.
        let _ = self.changes.try_send(service);
    }

    fn announce_all(&self) {
        for name in durable::names(&self.services).unwrap_or_default() {
            if let Ok(service) = ServiceName::parse(&name) {
                self.announce(service);
            }
        }
    }
}

/// Waits for a job that was started after `ends` began.
async fn settled(
    ends: &mut broadcast::Receiver<JobEnd>,
    job: &str,
    cancelled: &dyn Fn() -> bool,
) -> Result<String, BusError> {
    loop {
        match tokio::time::timeout(JOB_LOOK, ends.recv()).await {
            Ok(Ok(end)) if end.job == job => return Ok(end.result),
            Ok(Ok(_)) => {}
            // Too much happened at once: how this one ended is seen by looking.
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => return Ok("unknown".to_owned()),
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                return Err(BusError::Away(zbus::Error::InputOutput(Arc::new(
                    std::io::ErrorKind::ConnectionReset.into(),
                ))));
            }
            Err(_) if cancelled() => return Err(BusError::Cancelled),
            Err(_) => {}
        }
    }
}
