//! QUIC as this agent uses it: one endpoint, small windows, keep-alive by this side.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::frame::{Decoder, FrameError};
use holdfast_protocol::version::COORDINATOR_NAME;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, EndpointConfig, TransportConfig, VarInt};

use crate::beat::OnBeat;

/// Data of one stream that may be under way to us, in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Data of all streams that may be under way to us, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Data of ours that may wait to be acknowledged, in bytes.
pub const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// Streams that the coordinator may have open at once.
pub const STREAMS_MAX: u32 = 8;
/// Time one attempt to connect may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What a round trip is taken to be before one was measured. It also sets how soon the first packet
/// is repeated, and so how soon a coordinator that comes back is found.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(150);

/// How long silence lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Pause after which something is sent on an idle connection.
    pub keep_alive: Duration,
    /// Silence after which a connection is given up.
    pub idle: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be looked up.
    #[error("{coordinator} could not be looked up")]
    Lookup {
        /// `HOST:PORT`
        coordinator: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The name stands for nothing.
    #[error("{0} has no address")]
    NoAddress(String),
    /// No socket could be opened.
    #[error("no UDP socket could be opened")]
    Socket(#[source] std::io::Error),
    /// The configuration cannot be used.
    #[error("the TLS configuration cannot be used for QUIC")]
    Configuration,
    /// The attempt could not even begin.
    #[error("could not dial {address}")]
    Dial {
        /// Whom.
        address: SocketAddr,
        /// Why.
        source: quinn::ConnectError,
    },
    /// The handshake failed.
    #[error("no connection to {address}")]
    Handshake {
        /// With whom.
        address: SocketAddr,
        /// Why.
        source: quinn::ConnectionError,
    },
    /// Nobody answered.
    #[error("{address} did not answer within {} s", CONNECT_LIMIT.as_secs())]
    NoAnswer {
        /// Who.
        address: SocketAddr,
    },
}

/// Why a stream of frames gave no frame.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It could not be read.
    #[error("the stream broke off")]
    Read(#[from] quinn::ReadError),
    /// It could not be written.
    #[error("the stream could not be written")]
    Write(#[from] quinn::WriteError),
    /// The connection is gone.
    #[error("the connection is gone")]
    Connection(#[from] quinn::ConnectionError),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It ended in the middle.
    #[error("the stream ended early")]
    Ended,
    /// It was closed on this side.
    #[error("the stream is closed")]
    Closed(#[from] quinn::ClosedStream),
}

/// An endpoint that dials and accepts nothing.
///
/// # Errors
/// [`DialError::Socket`].
pub fn endpoint(address: SocketAddr) -> Result<Endpoint, DialError> {
    let local: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = std::net::UdpSocket::bind(local).map_err(DialError::Socket)?;
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(OnBeat))
        .map_err(DialError::Socket)
}

/// Dials a coordinator, by whichever of its addresses answers first in order.
///
/// # Errors
/// [`DialError`] of the last address tried.
pub async fn dial(
    coordinator: &str,
    tls: Arc<rustls::ClientConfig>,
    liveness: Liveness,
) -> Result<(Endpoint, Connection), DialError> {
    let addresses = tokio::net::lookup_host(coordinator)
        .await
        .map_err(|source| DialError::Lookup {
            coordinator: coordinator.to_owned(),
            source,
        })?;
    let mut last = DialError::NoAddress(coordinator.to_owned());
    // A name with very many addresses is not tried for ever.
    for address in addresses.take(8) {
        match dial_address(address, Arc::clone(&tls), liveness).await {
            Ok(dialled) => return Ok(dialled),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_address(
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    liveness: Liveness,
) -> Result<(Endpoint, Connection), DialError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| DialError::Configuration)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(liveness)));
    let endpoint = endpoint(address)?;
    let connecting = endpoint
        .connect_with(config, address, COORDINATOR_NAME)
        .map_err(|source| DialError::Dial { address, source })?;
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(source)) => Err(DialError::Handshake { address, source }),
        Err(_) => Err(DialError::NoAnswer { address }),
    }
}

fn transport(liveness: Liveness) -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = u32::try_from(liveness.idle.as_millis()).unwrap_or(u32::MAX);
    config
        .max_idle_timeout(Some(VarInt::from_u32(idle).into()))
        .keep_alive_interval(Some(liveness.keep_alive))
        .initial_rtt(FIRST_ROUND_TRIP)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .mtu_discovery_config(None);
    config
}

/// Reads until one whole frame is there; what follows it stays in `decoder`.
///
/// # Errors
/// [`StreamError`].
pub async fn read_frame<T: bincode::Decode<()> + bincode::Encode>(
    stream: &mut quinn::RecvStream,
    decoder: &mut Decoder,
) -> Result<T, StreamError> {
    loop {
        if let Some(frame) = decoder.next_message::<T>()? {
            return Ok(frame);
        }
        match stream.read_chunk(64 * 1024, true).await? {
            Some(chunk) => decoder.feed(&chunk.bytes),
            None => return Err(StreamError::Ended),
        }
    }
}
