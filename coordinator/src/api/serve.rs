//! HTTPS: a TCP listener whose handshakes do not wait for each other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::App;

/// Longest time a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most handshakes under way at once.
const HANDSHAKES_MAX: usize = 64;
/// Connections that wait to be served.
const ACCEPTED_MAX: usize = 64;
/// Pause after the listener failed, as it does when files run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long open requests may go on while the coordinator stops; streams end sooner by themselves.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves the API until `stop` is cancelled.
pub async fn run(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    app: App,
    stop: CancellationToken,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, acceptor, sender)));
    let listener = TlsListener { accepted, address };
    let serving = axum::serve(listener, super::router(app))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let bounded = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "the API stopped");
            }
        }
        () = bounded => tracing::debug!("open requests were cut off"),
    }
    drop(accepting);
}

struct TlsListener {
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with the server.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        // Bounded by the permits and by the time-out.
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            drop(permit);
            match shaken {
                Ok(Ok(stream)) => drop(sender.send((stream, from)).await),
                Ok(Err(error)) => tracing::debug!(%from, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%from, "TLS handshake took too long"),
            }
        });
    }
}
