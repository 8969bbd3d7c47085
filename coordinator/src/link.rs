//! The QUIC listener: one UDP port for both protocols.
//!
//! What an incoming connection may cost is decided before its handshake is paid for: at most
//! [`HANDSHAKES_MAX`] are under way, and once that many wait, addresses have to be proven first
//! (QUIC Retry). A connection that has not finished in [`HANDSHAKE_TIMEOUT`] is dropped.

pub mod artifacts;
pub mod connection;
pub mod enrol;
pub mod logs;
pub mod secrets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use holdfast_certs::registry::SharedRegistry;
use holdfast_certs::reset::ResetSecret;
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::driver::Handle;
use crate::event::Event;
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::world::SessionId;

/// Most handshakes under way at once. More leave clients that believe they are connected and are
/// not.
const HANDSHAKES_MAX: usize = 64;
/// Longest time a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection from which nothing was heard for so long is gone. Targets send a keep-alive each 10 s.
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// Streams that a peer may have open at once.
const STREAMS_MAX: u32 = 8;
/// Bytes that may be under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that may be under way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes that may wait for one peer to take them, so that those who read slowly cost little.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// Most join exchanges under way at once. Anybody can open one, and they cost memory until they are
/// over.
const JOINS_MAX: usize = 256;
/// Connections that wait for their handshake to be taken up.
const INCOMING_MAX: usize = 1_024;
/// Bytes kept of a connection whose handshake has not been taken up, each and together.
const INCOMING_BUFFER_BYTES: (u64, u64) = (64 * 1024, 8 * 1024 * 1024);
/// Least time between two stateless resets: 10,000 peers of a process that was killed hear of it
/// within ten seconds.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// How long a shutdown waits for peers to hear of it.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the coordinator closes a connection, as the peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The coordinator stops; come back.
    Stopping,
    /// A newer connection of the same target is in use.
    Superseded,
    /// The certificate is void.
    Revoked,
    /// The peer did what it may not.
    Refused,
    /// The conversation is over.
    Done,
    /// The certificate's time is over.
    Expired,
    /// Too many others are joining; come back.
    Busy,
}

impl CloseReason {
    /// Closes a connection for this reason.
    pub fn close(self, connection: &quinn::Connection) {
        let (code, reason): (u32, &[u8]) = match self {
            Self::Stopping => (0, b"stopping"),
            Self::Superseded => (1, b"superseded"),
            Self::Revoked => (2, b"revoked"),
            Self::Refused => (3, b"refused"),
            Self::Done => (4, b"done"),
            Self::Expired => (5, b"the certificate has expired"),
            Self::Busy => (6, b"busy"),
        };
        connection.close(VarInt::from_u32(code), reason);
    }
}

/// What every connection's task needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// The driver.
    pub driver: Handle,
    /// Who is trusted.
    pub registry: SharedRegistry,
    /// Where artifacts lie.
    pub artifacts: PathBuf,
    /// What fetches those that do not.
    pub relay: Relay,
    /// Counters.
    pub metrics: Metrics,
    sessions: Arc<AtomicU64>,
    joins: Arc<Semaphore>,
}

impl Context {
    /// A context for the connections of this process.
    #[must_use]
    pub fn new(
        driver: Handle,
        registry: SharedRegistry,
        (artifacts, relay): (PathBuf, Relay),
        metrics: Metrics,
    ) -> Self {
        Self {
            driver,
            registry,
            artifacts,
            relay,
            metrics,
            sessions: Arc::new(AtomicU64::new(1)),
            joins: Arc::new(Semaphore::new(JOINS_MAX)),
        }
    }

    fn next_session(&self) -> SessionId {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }
}

/// Binds the endpoint. With the secret that an earlier process had, peers of that process hear at
/// their next packet that their connection is gone.
///
/// # Errors
/// The socket's error, or that the TLS configuration does not fit QUIC.
pub fn bind(
    address: SocketAddr,
    tls: rustls::ServerConfig,
    reset: &ResetSecret,
) -> anyhow::Result<Endpoint> {
    let tls = QuicServerConfig::try_from(tls)?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BUFFER_BYTES.0);
    config.incoming_buffer_size_total(INCOMING_BUFFER_BYTES.1);
    let mut endpoint = EndpointConfig::new(Arc::new(reset.token_key()));
    let connection_key = reset.connection_key();
    endpoint
        .min_reset_interval(RESET_INTERVAL)
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_key)));
    let socket = std::net::UdpSocket::bind(address)?;
    let runtime = quinn::default_runtime().context("there is no asynchronous runtime")?;
    Ok(Endpoint::new(endpoint, Some(config), socket, runtime)?)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    transport
}

/// Takes connections until `stop` is cancelled, then closes them all and waits a moment for the peers
/// to hear of it.
pub async fn serve(endpoint: Endpoint, context: Context, stop: CancellationToken) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => break,
            incoming = endpoint.accept() => incoming,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(incoming) = incoming else { break };
        admit(incoming, &context, &handshakes, &mut tasks);
    }
    endpoint.close(VarInt::from_u32(0), b"stopping");
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    // A peer that does not hear of it notices by its idle time-out.
    drop(tokio::time::timeout(DRAIN, endpoint.wait_idle()).await);
}

fn admit(
    incoming: Incoming,
    context: &Context,
    handshakes: &Arc<Semaphore>,
    tasks: &mut JoinSet<()>,
) {
    let permit = Arc::clone(handshakes).try_acquire_owned();
    if permit.is_err() && !incoming.remote_address_validated() {
        // A peer that cannot be asked to prove its address has proven it already.
        drop(incoming.retry());
        return;
    }
    let handshakes = Arc::clone(handshakes);
    let context = context.clone();
    tasks.spawn(async move {
        let permit = match permit {
            Ok(permit) => permit,
            Err(_) => match handshakes.acquire_owned().await {
                Ok(permit) => permit,
                Err(_) => return,
            },
        };
        let from = incoming.remote_address();
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, incoming).await;
        drop(permit);
        match shaken {
            Ok(Ok(connection)) => converse(context, connection, from).await,
            Ok(Err(error)) => handshake_failed(&context, from, &error).await,
            Err(_) => tracing::debug!(%from, "handshake took too long"),
        }
    });
}

async fn converse(context: Context, connection: quinn::Connection, from: SocketAddr) {
    context.metrics.connections.inc();
    match negotiated(&connection).as_deref() {
        Some(alpn) if alpn == ALPN_CONTROL => connection::run(context, connection, from).await,
        Some(alpn) if alpn == ALPN_JOIN => match Arc::clone(&context.joins).try_acquire_owned() {
            Ok(_permit) => enrol::run(context, connection, from).await,
            Err(_) => CloseReason::Busy.close(&connection),
        },
        Some(_) | None => CloseReason::Refused.close(&connection),
    }
}

/// The protocol that the handshake agreed on.
fn negotiated(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection
        .handshake_data()?
        .downcast::<HandshakeData>()
        .ok()?
        .protocol
}

/// A certificate that the verifier refused is worth an entry in the history; a lost packet is not.
async fn handshake_failed(context: &Context, from: SocketAddr, error: &quinn::ConnectionError) {
    let what = error.to_string();
    tracing::debug!(%from, error = what, "handshake failed");
    if !matches!(error, quinn::ConnectionError::TransportError(_)) {
        return;
    }
    context.metrics.refusals.inc();
    let what = format!("the handshake was refused: {what}");
    // While the coordinator stops, there is nobody to tell.
    drop(
        context
            .driver
            .bring(Event::Offence {
                target: None,
                from,
                what,
            })
            .await,
    );
}
