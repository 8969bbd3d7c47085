//! The running agent, put together: go on from the cache first, connect second, stop without a trace
//! on the workloads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_adapters::run::{Adapter, OpenError};
use holdfast_certs::clock::Clock as CertificateClock;
use holdfast_certs::identity::Identity;
use holdfast_certs::keystore::KeystoreError;
use holdfast_certs::keystore::agent::{Files, StoredIdentity};
use holdfast_certs::token::{Token, TokenError};
use holdfast_homes::way::Homes;
use holdfast_protocol::name::TargetName;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::artifacts::Store;
use crate::beat;
use crate::cache::{Cache, CacheError, record};
use crate::checks::{Checks, LAUNCH};
use crate::clock::Clock;
use crate::config::{Config, TokenSource};
use crate::driver::{Adapters, Driver, EVENTS_MAX, Ended, Inbox, Outlets, Parts};
use crate::event::{Event, Leave};
use crate::facts;
use crate::join::{self, Introduction, JoinError};
use crate::journal::Journal;
use crate::link::{self, Greeting, Link};
use crate::logs::Logs;
use crate::output::Outputs;
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;
use crate::socket::{self, Served};
use crate::streams::Offers;
use crate::transport::DialError;

/// Time that the link and the socket have to end.
const END_LIMIT: Duration = Duration::from_secs(2);
/// The longest pause between two attempts to join.
const JOIN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Link events that may wait.
const LINK_EVENTS_MAX: usize = 32;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be made or used.
    #[error("could not use the data directory {path}")]
    Data {
        /// Which.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// Another agent has the data directory.
    #[error("another agent is running with the data directory {0}")]
    Locked(String),
    /// Nobody said which coordinator to join.
    #[error("this target has not joined")]
    NotJoined,
    /// The token cannot be read.
    #[error("could not read the token from {path}")]
    TokenFile {
        /// The file.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// The token is not one.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It has no name.
    #[error("the host name {0:?} cannot be the target's name")]
    Name(String),
    /// It could not join.
    #[error("could not join")]
    Join(#[from] JoinError),
    /// The identity cannot be read.
    #[error("the identity cannot be used")]
    Identity(#[from] KeystoreError),
    /// The cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// An adapter cannot be opened.
    #[error("an adapter cannot be opened")]
    Adapters(#[from] OpenError),
    /// This program does not know where it is.
    #[error("this program does not know its own path")]
    Executable(#[source] io::Error),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop; the workloads go on.
    Stopped,
    /// The target has left; nothing of it is kept.
    Left,
}

/// The data directory, held by this process alone.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes the data directory where it is not there, and takes it.
    ///
    /// # Errors
    /// [`RunError::Data`], [`RunError::Locked`].
    pub fn take(path: &Path) -> Result<Self, RunError> {
        let failed = |source| RunError::Data {
            path: path.display().to_string(),
            source,
        };
        // Workloads of other users must be able to pass through to their own directories.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .map_err(failed)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RunError::Locked(path.display().to_string())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Who this target is; nothing where it has not joined.
    ///
    /// # Errors
    /// [`RunError::Identity`].
    pub fn identity(&self) -> Result<Option<StoredIdentity>, RunError> {
        Ok(self.files()?.load()?)
    }

    /// The identity's files.
    ///
    /// # Errors
    /// [`RunError::Identity`].
    pub fn files(&self) -> Result<Files, RunError> {
        Ok(Files::open(&self.path)?)
    }

    /// The coordinators of the last join or run.
    #[must_use]
    pub fn coordinators(&self) -> Vec<String> {
        let text = fs::read_to_string(self.coordinators_path()).unwrap_or_default();
        text.lines()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect()
    }

    /// Remembers the coordinators for runs without flags.
    pub fn remember_coordinators(&self, coordinators: &[String]) {
        if self.coordinators() == coordinators {
            return;
        }
        let text = coordinators.join("\n") + "\n";
        if let Err(error) = record::replace_raw(&self.coordinators_path(), text.as_bytes()) {
            let error = crate::chain(&error);
            tracing::warn!(
                error,
                "the coordinator's address is not kept for the next run"
            );
        }
    }

    fn coordinators_path(&self) -> PathBuf {
        self.path.join("coordinators")
    }

    fn forget(&self, with_workloads: bool) -> Result<(), RunError> {
        self.files()?.forget()?;
        // Nothing depends on what might stay of these.
        let _ = fs::remove_file(self.coordinators_path());
        let _ = fs::remove_dir_all(self.path.join("output"));
        if with_workloads {
            let _ = fs::remove_dir_all(self.path.join("workloads"));
        }
        Ok(())
    }
}

/// Joins, where this target has not joined yet; whether it did so just now.
///
/// # Errors
/// [`RunError`].
pub async fn join_once(home: &Home, config: &Config) -> Result<(StoredIdentity, bool), RunError> {
    let known = home.identity()?;
    if let Some(identity) = known.filter(|_| !config.replace || config.token == TokenSource::None) {
        return Ok((identity, false));
    }
    let (coordinators, token) = (&config.coordinators, read_token(&config.token)?);
    let (Some(coordinator), Some(token)) = (coordinators.first(), token) else {
        return Err(RunError::NotJoined);
    };
    let facts = facts::sample(&config.data);
    let introduction = Introduction {
        name: config
            .name
            .clone()
            .map_or_else(|| own_name(&facts.hostname), Ok)?,
        labels: config.labels.clone(),
        replace: config.replace,
        facts,
    };
    let identity = join::join(coordinator, &token, introduction, &home.files()?).await?;
    // What an earlier identity was told is nothing to this one.
    Cache::open(&config.data.join("cache"))?.forget();
    home.remember_coordinators(coordinators);
    let who = &identity.certificate.identity;
    tracing::info!(target = %who.target, environment = %who.environment, "joined");
    Ok((identity, true))
}

/// Runs until `stop`, or until the target has left. With `leave`, it leaves at once.
///
/// # Errors
/// [`RunError`] where it cannot begin. Once it runs, nothing ends it but the two.
pub async fn run(
    config: Config,
    leave: Option<Leave>,
    stop: CancellationToken,
) -> Result<End, RunError> {
    let home = Home::take(&config.data)?;
    let Some(identity) = joined(&home, &config, leave.is_some(), &stop).await? else {
        return Ok(End::Stopped);
    };
    let coordinators = if config.coordinators.is_empty() {
        home.coordinators()
    } else {
        home.remember_coordinators(&config.coordinators);
        config.coordinators.clone()
    };
    let adapters = open_adapters(&config, &identity.certificate.identity)?;
    let running = assemble(&home, &config, identity, coordinators, adapters)?;
    running.until(&home, leave, stop).await
}

/// The identity; joins first where there is none, as often as it takes.
async fn joined(
    home: &Home,
    config: &Config,
    leaves: bool,
    stop: &CancellationToken,
) -> Result<Option<StoredIdentity>, RunError> {
    if leaves {
        return home.identity()?.map(Some).ok_or(RunError::NotJoined);
    }
    let mut attempt = 0;
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            joined = join_once(home, config) => match joined {
                Ok((identity, _)) => return Ok(Some(identity)),
                Err(error) => error,
            },
        };
        if !may_pass(&error) {
            return Err(error);
        }
        tracing::warn!(error = crate::chain(&error), "not joined yet; trying again");
        attempt += 1;
        let pause = link::reconnect_pause(attempt, JOIN_PAUSE_MAX, rand::random());
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether joining may succeed later without anyone changing anything here.
fn may_pass(error: &RunError) -> bool {
    let RunError::Join(error) = error else {
        return false;
    };
    match error {
        JoinError::Busy(_) | JoinError::NoAnswer | JoinError::Stream(_) => true,
        JoinError::Dial(dial) => !is_impostor(dial),
        JoinError::Refused(_)
        | JoinError::Answer(_)
        | JoinError::Keystore(_)
        | JoinError::Key(_)
        | JoinError::Tls(_)
        | JoinError::Exporter => false,
    }
}

/// Whether somebody answered who is not the coordinator that the token is for.
#[must_use]
pub fn is_impostor(error: &DialError) -> bool {
    match error {
        DialError::Handshake {
            source: quinn::ConnectionError::TransportError(error),
            ..
        } => {
            // The codes of TLS alerts (RFC 9001, section 4.8): this side did not believe the peer.
            (0x100..0x200).contains(&u64::from(error.code))
        }
        DialError::Handshake { .. }
        | DialError::Lookup { .. }
        | DialError::NoAddress(_)
        | DialError::Socket(_)
        | DialError::Configuration
        | DialError::Dial { .. }
        | DialError::NoAnswer { .. } => false,
    }
}

fn read_token(source: &TokenSource) -> Result<Option<Token>, RunError> {
    let text = match source {
        TokenSource::None => return Ok(None),
        TokenSource::Given(text) => text.clone(),
        TokenSource::File(path) => {
            fs::read_to_string(path).map_err(|source| RunError::TokenFile {
                path: path.display().to_string(),
                source,
            })?
        }
    };
    Ok(Some(text.trim().parse()?))
}

/// The host name's first label, as far as it is a target's name.
fn own_name(hostname: &str) -> Result<TargetName, RunError> {
    let label = hostname
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    TargetName::parse(&label).map_err(|_| RunError::Name(hostname.to_owned()))
}

fn open_adapters(config: &Config, own: &Identity) -> Result<Adapters, RunError> {
    let program = std::env::current_exe().map_err(RunError::Executable)?;
    let launcher = vec![program.clone().into_os_string(), OsString::from("launch")];
    let (home, mut settings) = (config.data.join("workloads"), config.runtimes.clone());
    settings.plugins.launcher = vec![program.into_os_string(), OsString::from(LAUNCH)];
    settings.plugins.target = own.target.to_string();
    settings.object_store.target = format!("{}/{}", own.environment, own.target);
    settings.owner = Some(settings.object_store.target.clone());
    let adapters = holdfast_adapters::run::adapters_with(&home, launcher, settings)?;
    let named = |adapter: Arc<dyn Adapter>| (adapter.runtime(), adapter);
    Ok(Arc::new(
        adapters.into_iter().map(named).collect::<BTreeMap<_, _>>(),
    ))
}

/// The parts of a running agent.
struct Assembled {
    driver: Driver,
    inbox: Inbox,
    events: mpsc::Sender<Event>,
    link: Link,
    greeting: watch::Receiver<Greeting>,
    link_events: mpsc::Sender<link::LinkEvent>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    first_look: oneshot::Receiver<()>,
    logs: Logs,
    config: Config,
}

fn assemble(
    home: &Home,
    config: &Config,
    identity: StoredIdentity,
    coordinators: Vec<String>,
    adapters: Adapters,
) -> Result<Assembled, RunError> {
    let data = &config.data;
    let failed = |source| RunError::Data {
        path: data.display().to_string(),
        source,
    };
    let certificate = &identity.certificate;
    let certificate_clock = Arc::new(CertificateClock::not_before(certificate.not_before));
    let facts = facts::sample(data);
    let (sealed, key) = (data.join("secrets"), home.files()?.sealing_key()?);
    let secrets = Secrets::open(&sealed, key, (&certificate.identity).into()).map_err(failed)?;
    let outputs = Outputs::new(data.join("output"), secrets.clone());
    let parts = Parts {
        clock: Clock::start(),
        certificate_clock: Arc::clone(&certificate_clock),
        identity: certificate.identity.clone(),
        signing_keys: identity.signing_keys.clone(),
        certificate_began: certificate.not_before,
        certificate_expires: certificate.not_after,
        adapters: Arc::clone(&adapters),
        cache: Cache::open(&data.join("cache"))?,
        store: Store::open(&data.join("artifacts")).map_err(failed)?,
        homes: config.artifacts.rules.clone().map(Homes::new).map(Arc::new),
        fetches_max: config.artifacts.parallel,
        secrets,
        journal: Journal::open(&data.join("journal")),
        outputs: outputs.clone(),
        facts: facts.clone(),
    };
    let (events, from_here) = mpsc::channel(EVENTS_MAX);
    let (link_events, from_link) = mpsc::channel(LINK_EVENTS_MAX);
    let (say_greeting, greeting) = watch::channel(Greeting { held: None, facts });
    let (show, snapshot) = watch::channel(Arc::new(Snapshot::nothing(certificate)));
    let (looked, first_look) = oneshot::channel();
    let outlets = Outlets {
        events: events.clone(),
        greeting: say_greeting,
        snapshot: show,
        first_look: Some(looked),
    };
    let logs = Logs::new(adapters, snapshot.clone(), outputs);
    let program = std::env::current_exe().map_err(RunError::Executable)?;
    let checks = Checks::new(program.into_os_string(), config.checks.clone());
    let link = Link {
        files: home.files()?,
        identity,
        coordinators,
        liveness: config.liveness,
        reconnect_max: config.reconnect_max,
        clock: certificate_clock,
        offers: Offers {
            logs: logs.clone(),
            checks,
        },
        sealing_key: parts.secrets.public(),
    };
    Ok(Assembled {
        driver: Driver::new(parts, outlets),
        inbox: Inbox {
            events: from_here,
            link: from_link,
        },
        events,
        link,
        greeting,
        link_events,
        snapshot,
        first_look,
        logs,
        config: config.clone(),
    })
}

impl Assembled {
    /// Runs the parts.
    async fn until(
        self,
        home: &Home,
        leave: Option<Leave>,
        stop: CancellationToken,
    ) -> Result<End, RunError> {
        let stop_rest = CancellationToken::new();
        let mut rest = JoinSet::new();
        rest.spawn(dial_after(
            self.first_look,
            self.link,
            self.greeting,
            self.link_events,
            stop_rest.clone(),
        ));
        rest.spawn(stop_rest.clone().run_until_cancelled_owned(sample_facts(
            self.config.data.clone(),
            self.events.clone(),
        )));
        rest.spawn(
            stop_rest
                .clone()
                .run_until_cancelled_owned(tell_systemd(self.snapshot.clone())),
        );
        match socket::listen(&self.config.socket) {
            Ok(listening) => {
                let served = Served {
                    snapshot: self.snapshot,
                    logs: self.logs,
                    events: self.events.clone(),
                };
                let serving = socket::serve(listening, served, stop_rest.clone());
                rest.spawn(async move {
                    serving.await;
                    Some(())
                });
            }
            Err(error) => {
                let path = self.config.socket.display();
                tracing::error!(%path, %error, "no local socket: `status` will not work");
            }
        }
        if let Some(leave) = leave {
            // The channel is new and has room.
            let _ = self.events.try_send(Event::Leave(leave));
        }
        let ended = self.driver.run(self.inbox, stop).await;
        let end = match ended {
            Ended::Stopped => End::Stopped,
            Ended::Left(left) => {
                home.forget(left.workloads_removed)?;
                // Whoever asked may have gone.
                let _ = left.done.send(left.warning);
                End::Left
            }
        };
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stop_rest.cancel();
        let all = async { while rest.join_next().await.is_some() {} };
        if tokio::time::timeout(END_LIMIT, all).await.is_err() {
            rest.shutdown().await;
        }
        Ok(end)
    }
}

/// Connects once this target goes on by itself.
async fn dial_after(
    first_look: oneshot::Receiver<()>,
    link: Link,
    greeting: watch::Receiver<Greeting>,
    events: mpsc::Sender<link::LinkEvent>,
    stop: CancellationToken,
) -> Option<()> {
    stop.run_until_cancelled(first_look).await?.ok()?;
    if link.coordinators.is_empty() {
        let reason = "no coordinator is known; name one with --coordinator".to_owned();
        tracing::warn!(reason, "not connected");
        events.send(link::LinkEvent::Down { reason }).await.ok()?;
        return None;
    }
    link::run(link, greeting, events, stop).await;
    Some(())
}

async fn sample_facts(data: PathBuf, events: mpsc::Sender<Event>) {
    loop {
        tokio::time::sleep_until(beat::after(facts::SAMPLE_INTERVAL)).await;
        let sampled = facts::sample(&data);
        if events
            .send(Event::Sampled(Box::new(sampled)))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Tells the service manager, if there is one, that this agent runs, and how it stands.
async fn tell_systemd(mut snapshot: watch::Receiver<Arc<Snapshot>>) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        let status = {
            let shown = snapshot.borrow_and_update();
            let ready = shown.workloads.iter().filter(|w| w.ready).count();
            let link = if shown.connected {
                "connected"
            } else {
                "not connected"
            };
            format!(
                "{link}, {ready} of {} workloads ready",
                shown.workloads.len()
            )
        };
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&status)]);
        if snapshot.changed().await.is_err() {
            return;
        }
    }
}
