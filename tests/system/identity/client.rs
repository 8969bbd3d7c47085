//! A client written by hand: real QUIC, real TLS, frames made of bytes. It says what no agent would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use holdfast_certs::clock::Clock;
use holdfast_certs::verify::server::CoordinatorVerifier;
use holdfast_protocol::frame::{self, Decoder, FRAME_MAX_BYTES};
use holdfast_protocol::message::{Hello, ToAgent, ToCoordinator};
use holdfast_protocol::observed::Facts;
use holdfast_protocol::version::{self, COORDINATOR_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::runtime::{Builder, Runtime};

use super::credential::Credential;

/// The network of one test, used from its one thread.
pub(super) struct Net {
    runtime: Runtime,
    coordinator: SocketAddr,
}

/// One connection.
pub(super) struct Link<'n> {
    net: &'n Net,
    pub(super) connection: Connection,
    _endpoint: Endpoint,
}

/// One stream.
pub(super) struct Stream<'n> {
    net: &'n Net,
    send: SendStream,
    receive: RecvStream,
    decoder: Decoder,
}

/// What comes next on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<T> {
    /// A message.
    Said(T),
    /// The stream ended in order.
    End,
    /// The stream or its connection broke.
    Broken(String),
    /// Nothing came in time.
    Silence,
}

impl Net {
    pub(super) fn to(coordinator: &str) -> Self {
        Self {
            runtime: Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            coordinator: coordinator.parse().unwrap(),
        }
    }

    /// Shakes hands.
    pub(super) fn dial(&self, tls: ClientConfig) -> Result<Link<'_>, ConnectionError> {
        self.runtime.block_on(async {
            let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
            let crypto = QuicClientConfig::try_from(Arc::new(tls)).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(crypto));
            let connecting = endpoint.connect_with(config, self.coordinator, COORDINATOR_NAME);
            let connection = tokio::time::timeout(PATIENCE, connecting.unwrap())
                .await
                .expect("a handshake ends one way or the other")?;
            Ok(Link {
                net: self,
                connection,
                _endpoint: endpoint,
            })
        })
    }

    /// Dials, and expects to be thrown out: at the handshake, or right after it. Gives how.
    #[track_caller]
    pub(super) fn is_refused(&self, tls: ClientConfig) -> ConnectionError {
        match self.dial(tls) {
            Err(error) => error,
            Ok(link) => link.closed(PATIENCE).expect("a stranger is thrown out"),
        }
    }

    /// Dials, and expects that already the handshake fails. In TLS 1.3 the client learns that only
    /// after it believes that it is connected.
    #[track_caller]
    pub(super) fn fails_to_shake_hands(&self, tls: ClientConfig) -> ConnectionError {
        let error = self.is_refused(tls);
        assert_eq!(
            closing_code(&error),
            None,
            "only the application refused: {error}"
        );
        error
    }

    pub(super) fn block<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

impl<'n> Link<'n> {
    /// Opens a stream; nothing is on the wire before something is said.
    pub(super) fn open(&self) -> Stream<'n> {
        let (send, receive) = self.net.block(self.connection.open_bi()).unwrap();
        Stream {
            net: self.net,
            send,
            receive,
            decoder: Decoder::new(FRAME_MAX_BYTES),
        }
    }

    /// Introduces itself on a new control stream and takes the welcome.
    pub(super) fn introduce(&self) -> Stream<'n> {
        let mut control = self.open();
        control.say(&ToCoordinator::Hello(hello()));
        match control.hear::<ToAgent>() {
            Heard::Said(ToAgent::Welcome(_)) => control,
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// How the coordinator closed it; nothing while it is open.
    pub(super) fn closed(&self, patience: Duration) -> Option<ConnectionError> {
        let closed = self.connection.closed();
        self.net
            .block(async { tokio::time::timeout(patience, closed).await.ok() })
    }

    /// It must be closed by the coordinator, with this code of the application.
    #[track_caller]
    pub(super) fn is_closed_with(&self, code: u32) {
        let why = self.closed(PATIENCE).expect("the connection is closed");
        assert_eq!(closing_code(&why), Some(u64::from(code)), "{why}");
    }
}

impl Stream<'_> {
    pub(super) fn say<T: Encode>(&mut self, message: &T) {
        self.say_bytes(&frame::encode(message).unwrap());
    }

    /// What cannot be written because the other side has hung up is not the test's concern: it looks
    /// at how it was hung up.
    pub(super) fn say_bytes(&mut self, bytes: &[u8]) {
        let send = &mut self.send;
        let writing = async { tokio::time::timeout(PATIENCE, send.write_all(bytes)).await };
        let _ = self.net.runtime.block_on(writing).expect("it is taken");
    }

    pub(super) fn finish(&mut self) {
        // It may have been stopped by the other side.
        let _ = self.send.finish();
    }

    pub(super) fn hear<T: Decode<()> + Encode>(&mut self) -> Heard<T> {
        self.hear_within(PATIENCE)
    }

    pub(super) fn hear_within<T: Decode<()> + Encode>(&mut self, patience: Duration) -> Heard<T> {
        let Self {
            net,
            receive,
            decoder,
            ..
        } = self;
        let hearing = async {
            loop {
                match decoder.next_message::<T>() {
                    Ok(Some(message)) => return Heard::Said(message),
                    Ok(None) => {}
                    Err(error) => return Heard::Broken(error.to_string()),
                }
                // One byte at a time: what follows a frame may be no frame.
                match receive.read_chunk(1, true).await {
                    Ok(Some(chunk)) => decoder.feed(&chunk.bytes),
                    Ok(None) => return Heard::End,
                    Err(error) => return Heard::Broken(error.to_string()),
                }
            }
        };
        net.runtime.block_on(async {
            tokio::time::timeout(patience, hearing)
                .await
                .unwrap_or(Heard::Silence)
        })
    }

    /// Hears messages until one is picked.
    #[track_caller]
    pub(super) fn hear_until<T>(&mut self, mut pick: impl FnMut(ToAgent) -> Option<T>) -> T {
        loop {
            match self.hear::<ToAgent>() {
                Heard::Said(message) => {
                    if let Some(found) = pick(message) {
                        return found;
                    }
                }
                other => panic!("it never came: {other:?}"),
            }
        }
    }

    /// All raw bytes to the end of the stream.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, String> {
        let reading = self.receive.read_to_end(64 * 1024 * 1024);
        self.net
            .runtime
            .block_on(reading)
            .map_err(|e| e.to_string())
    }
}

/// A hello that any agent could send.
pub(super) fn hello() -> Hello {
    Hello {
        versions: version::SUPPORTED,
        agent_version: "by hand".to_owned(),
        held: None,
        time: Clock::default().now(),
        facts: Facts::default(),
    }
}

/// TLS as a client of our own making: any certificate or none, any protocol name, and memory for
/// session tickets.
pub(super) fn tls(
    roots: &[CertificateDer<'static>],
    credential: Option<&Credential>,
    alpn: &[u8],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CoordinatorVerifier::roots(roots.to_vec())));
    let mut config = match credential {
        Some(credential) => builder
            .with_client_auth_cert(credential.chain.clone(), credential.key.clone_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// The code that the other side closed with, where it was the application.
pub(super) fn closing_code(error: &ConnectionError) -> Option<u64> {
    match error {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

/// Longest that a test waits for the coordinator to say or do something.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
