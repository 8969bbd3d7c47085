//! HTTPS: a TCP listener whose connections do not wait for each other, and none of which can hold
//! its place without asking or reading.
//!
//! HTTP/1.1 only: one request at a time on each connection makes the number of connections the
//! bound of everything that requests hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;

/// What is agreed on in the handshake.
const ALPN: &[u8] = b"http/1.1";
/// Longest time a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time a request's head may take, and longest time a connection may be without a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that a peer may leave unread what was sent to it.
const READ_TIMEOUT_MS: u32 = 60_000;
/// Most connections at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 512;
/// Most bytes of a request's head.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Pause after the listener failed, as it does when files run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long open requests may go on while the coordinator stops; streams end sooner by themselves.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves the API until `stop` is cancelled.
pub async fn run(
    listener: TcpListener,
    mut tls: rustls::ServerConfig,
    app: App,
    stop: CancellationToken,
) {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let peers = Peers {
        acceptor: TlsAcceptor::from(Arc::new(tls)),
        service: TowerToHyperService::new(super::router(app)),
        stop: stop.clone(),
    };
    let connections = TaskTracker::new();
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept(&listener, &peers, &connections) => {}
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!(open = connections.len(), "open requests were cut off");
    }
}

#[derive(Clone)]
struct Peers {
    acceptor: TlsAcceptor,
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
}

async fn accept(listener: &TcpListener, peers: &Peers, connections: &TaskTracker) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                connections.spawn(connection(stream, from, peers.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    peers: Peers,
    _place: OwnedSemaphorePermit,
) {
    // Answers are small, and the last part of one is not to wait for an acknowledgement.
    drop(stream.set_nodelay(true));
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, READ_TIMEOUT_MS) {
        tracing::debug!(%error, "a peer that does not read is noticed by the system alone");
    }
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, peers.acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%from, "TLS handshake took too long"),
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), peers.service);
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = peers.stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%from, error = crate::chain(&error), "a connection ended early");
    }
}
