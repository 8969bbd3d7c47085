//! Builds the parts, says when it is ready, waits for the signal, drains.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use holdfast_certs::authority::Root;
use holdfast_certs::clock::Clock;
use holdfast_certs::tls::{self, CurrentLeaf};
use holdfast_homes::way::Homes;
use holdfast_protocol::digest::Digest;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::access::token;
use crate::cleaner::Cleaner;
use crate::config::Config;
use crate::driver::{self, Driver};
use crate::history::Entry;
use crate::maintenance::Misplaced;
use crate::metrics::Metrics;
use crate::perform::check::Outside;
use crate::perform::egress::Egress;
use crate::perform::notify::Deliverer;
use crate::perform::program::{LAUNCH, Programs};
use crate::perform::{self, Performer};
use crate::store::write::Write;
use crate::store::{Store, StoreError, row};
use crate::world::access::user::ADMINISTRATOR;
use crate::world::{Round, Trust, World};
use crate::{api, clock, link, relay};

/// The database's file in the data directory.
pub const DATABASE: &str = "holdfast.db";
/// Where artifacts lie in the data directory.
pub const ARTIFACTS: &str = "artifacts";
/// Where files lie that were fetched for targets, in the data directory.
pub const RELAY: &str = "relay";
/// The files that notifiers name, in the data directory.
pub const NOTIFIERS: &str = "notifiers";
/// The first administrator's API token in the data directory.
pub const ADMIN_TOKEN: &str = "admin.token";
/// How long the coordinator's own certificate is valid; it is made anew at each start and renewed
/// while it runs.
const LEAF_VALIDITY: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How often the coordinator's own certificate is renewed while it runs.
const LEAF_RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long each of the two parts of stopping may take: the edges, then the driver.
const DRAIN: Duration = Duration::from_secs(4);
/// How long the database may take to close; what was committed is on disk without it.
const CLOSE: Duration = Duration::from_secs(1);

/// Serves until it is told to stop.
///
/// # Errors
/// Whatever kept it from starting.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _only = lock(&config.data)?;
    let (world, store) = open(&config.data).await?;
    let root = Arc::clone(&world.trust.root);
    let registry = Arc::clone(&world.trust.registry);
    let leaf = CurrentLeaf::new(server_leaf(&root, &config)?)?;
    let tls_clock = Arc::new(Clock::default());
    let agents = tls::agent_server_config(
        Arc::clone(&leaf),
        Arc::clone(&registry),
        Arc::clone(&tls_clock),
    )?;
    let https = tls::api_server_config(Arc::clone(&leaf), tls_clock)?;
    let reset = world.trust.authorities.reset_secret()?;
    let endpoint = link::bind(config.listen, agents, &reset)
        .with_context(|| format!("cannot listen for agents on UDP {}", config.listen))?;
    let listener = TcpListener::bind(config.api)
        .await
        .with_context(|| format!("cannot listen for the API on TCP {}", config.api))?;
    let (agents_at, api_at) = (endpoint.local_addr()?, listener.local_addr()?);

    let metrics = Metrics::default();
    let artifacts = config.data.join(ARTIFACTS);
    let outside = outside(&config, api_at.port())?;
    let (job_sender, jobs) = perform::queue();
    let (driver, handle) = Driver::new(world, store.clone(), metrics.clone(), job_sender);
    let performer = Performer::new(jobs, handle.clone(), Arc::clone(&outside));
    let deliverer = deliverer(&config, &root, handle.clone(), outside);
    let (stop_edges, stop_driver) = (CancellationToken::new(), CancellationToken::new());
    let mut driver = tokio::spawn(driver.run(stop_driver.clone()));
    let homes = Arc::new(Homes::new(config.artifacts.rules()));
    let (relay, relayer) = relay::relay(
        config.data.join(RELAY),
        Arc::clone(&homes),
        config.artifacts.relay.0,
        metrics.relayed.clone(),
    );
    let cleaner = Cleaner::new(handle.clone(), artifacts.clone(), config.artifacts.clone());
    let lying = (artifacts.clone(), relay);
    let context = link::Context::new(handle.clone(), registry, lying, metrics.clone());
    let app = api::App::new(
        handle,
        store.clone(),
        (artifacts, homes),
        metrics,
        stop_edges.clone(),
    );
    let mut edges = JoinSet::new();
    edges.spawn(performer.run(stop_edges.clone()));
    edges.spawn(deliverer.run(stop_edges.clone()));
    edges.spawn(relayer.run(stop_edges.clone()));
    edges.spawn(cleaner.run(stop_edges.clone()));
    edges.spawn(link::serve(endpoint, context, stop_edges.clone()));
    edges.spawn(api::serve::run(listener, https, app, stop_edges.clone()));
    edges.spawn(renew_leaf(leaf, root, config.clone(), stop_edges.clone()));

    // The addresses are what callers wait for.
    let mut out = std::io::stdout();
    writeln!(out, "ready agents={agents_at} api=https://{api_at}")?;
    out.flush()?;
    notify(&[sd_notify::NotifyState::Ready]);
    // Half a coordinator is worse than none: whoever watches the process starts a whole one.
    let mut fault = tokio::select! {
        stopped = stopped() => stopped.err(),
        ended = &mut driver => Some(driver_fault(ended)),
        _ = edges.join_next() => Some(anyhow::anyhow!("a part of the coordinator ended by itself")),
    };

    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    stop_edges.cancel();
    fault = drain(edges, driver, &stop_driver, fault).await;
    // A disk that hangs must not keep the process.
    drop(tokio::time::timeout(CLOSE, store.close()).await);
    fault.map_or(Ok(()), Err)
}

/// Lets the edges end, then the driver; whatever is wrong by then.
async fn drain(
    mut edges: JoinSet<()>,
    mut driver: JoinHandle<Result<(), StoreError>>,
    stop_driver: &CancellationToken,
    fault: Option<anyhow::Error>,
) -> Option<anyhow::Error> {
    let drained = tokio::time::timeout(DRAIN, async { while edges.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    stop_driver.cancel();
    if driver.is_finished() {
        return fault;
    }
    match tokio::time::timeout(DRAIN, &mut driver).await {
        Ok(Ok(Ok(()))) => fault,
        Ok(ended) => fault.or_else(|| Some(driver_fault(ended))),
        Err(_) => {
            tracing::warn!("the driver did not end in time");
            fault
        }
    }
}

/// What checks are performed with.
fn outside(config: &Config, own_port: u16) -> anyhow::Result<Arc<Outside>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Arc::new(Outside {
        egress: Egress::new(own_port, config.notifiers.allow.clone())?,
        programs: Programs {
            allowed: config.checks.programs,
            user: config.checks.user.clone(),
            directory: config.checks.directory.clone(),
            launcher: vec![program.into_os_string(), LAUNCH.into()],
        },
    }))
}

/// What tells the world outside.
fn deliverer(
    config: &Config,
    root: &Root,
    handle: driver::Handle,
    outside: Arc<Outside>,
) -> Deliverer {
    let secrets = config.notifiers.directory.clone();
    let secrets = secrets.unwrap_or_else(|| config.data.join(NOTIFIERS));
    let source = format!("spiffe://{}", root.trust_domain());
    Deliverer::new(handle, outside, secrets, source)
}

fn driver_fault(ended: Result<Result<(), StoreError>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the driver ended by itself"),
        Ok(Err(error)) => anyhow::Error::new(error).context("what was decided cannot be kept"),
        Err(error) => anyhow::Error::new(error).context("the driver failed; please report this"),
    }
}

/// One coordinator a data directory: two would both believe that they decide.
fn lock(data: &Path) -> anyhow::Result<std::fs::File> {
    make_private(data)?;
    let path = data.join("lock");
    let file =
        std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!(Misplaced::Served(data.to_owned()))
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn make_private(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make the data directory {}", directory.display()))
}

/// Opens what is there, or makes a new installation.
async fn open(data: &Path) -> anyhow::Result<(World, Store)> {
    make_private(&data.join(ARTIFACTS))?;
    make_private(&data.join(RELAY))?;
    api::artifact::remove_unfinished(&data.join(ARTIFACTS)).context("cannot tidy the artifacts")?;
    let now = clock::now();
    let trust = Trust::open(data, now)?;
    let path = data.join(DATABASE);
    let store = Store::open(&path)
        .await
        .with_context(|| format!("cannot open the database {}", path.display()))?;
    let mut world = World::restore(store.load().await?, trust, now)?;
    if let Err(problem) = world.check_secrets() {
        let help = "put ca/secrets.key back from a backup, or set the secret anew";
        tracing::error!(problem, help, "not every secret opens");
    }
    if world.head.sequence == 0 {
        let mut round = Round::new(&mut world, now);
        round.record(driver::first_entry(env!("CARGO_PKG_VERSION")));
        let writes = round.writes;
        store.commit(&writes).await?;
    }
    ensure_administrator(&mut world, &store, data).await?;
    Ok((world, store))
}

/// The first administrator's token is the content of a file. What the database keeps of it is its
/// hash, so a file that was lost is made anew, and every token that it held before is void.
async fn ensure_administrator(world: &mut World, store: &Store, data: &Path) -> anyhow::Result<()> {
    let path = data.join(ADMIN_TOKEN);
    let known = token::read_token(&path)?;
    let hash = known.as_deref().map(|token| Digest::of(token.as_bytes()));
    if hash.is_some_and(|hash| world.users.contains_key(&hash)) {
        return Ok(());
    }
    let token = match known {
        Some(token) => token,
        None => token::create_token(&path)?,
    };
    let user = row::User {
        token_hash: Digest::of(token.as_bytes()),
        name: ADMINISTRATOR.parse()?,
        roles: vec![ADMINISTRATOR.parse()?],
        created_at: clock::now(),
        created_by: "coordinator".to_owned(),
        expires_at: None,
        revoked_at: None,
    };
    let users = world.users.values();
    let void: Vec<Digest> = users
        .filter(|other| other.name == user.name)
        .map(|other| other.token_hash)
        .collect();
    let mut round = Round::new(world, clock::now());
    round
        .writes
        .extend(void.iter().copied().map(Write::DropUser));
    round.writes.push(Write::User(user.clone()));
    round.record(Entry {
        kind: "user.created",
        message: format!("user {ADMINISTRATOR} with the token of {ADMIN_TOKEN}"),
        ..Entry::default()
    });
    let writes = round.writes;
    store.commit(&writes).await?;
    world.users.retain(|hash, _| !void.contains(hash));
    world.users.insert(user.token_hash, user);
    Ok(())
}

fn server_leaf(
    root: &Root,
    config: &Config,
) -> anyhow::Result<holdfast_certs::authority::ServerLeaf> {
    let mut hosts = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    for address in [config.listen, config.api] {
        if !address.ip().is_unspecified() {
            hosts.push(address.ip().to_string());
        }
    }
    hosts.extend(config.hosts.iter().cloned());
    hosts.sort();
    hosts.dedup();
    Ok(root.server_leaf(&hosts, clock::now(), LEAF_VALIDITY)?)
}

async fn renew_leaf(
    current: Arc<CurrentLeaf>,
    root: Arc<Root>,
    config: Config,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LEAF_RENEWAL) => {}
        }
        let renewed = server_leaf(&root, &config).and_then(|leaf| Ok(current.replace(leaf)?));
        if let Err(error) = renewed {
            tracing::error!(error = %error, "the coordinator's certificate was not renewed");
        }
    }
}

async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    drop(sd_notify::notify(state));
}
