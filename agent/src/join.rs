//! Enrolment: a join token for a certificate, or an expired certificate for a new one.
//!
//! *Guarantees:* the coordinator is known to be the token's own before the secret leaves; the key
//! pair is made here, kept before it is asked for, and asked for again after a lost reply.

use std::sync::Arc;
use std::time::Duration;

use holdfast_certs::clock::Clock;
use holdfast_certs::key::KeyError;
use holdfast_certs::keystore::KeystoreError;
use holdfast_certs::keystore::agent::{Files, StoredIdentity};
use holdfast_certs::tls::{self, TlsError};
use holdfast_certs::token::Token;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES, FrameError};
use holdfast_protocol::join::{
    EXPORTER_BYTES, EXPORTER_LABEL, JoinRequest, Joined, RenewRequest, ToAuthority, ToJoiner,
};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::observed::{Facts, Labels};

use crate::transport::{self, DialError, Liveness, StreamError};

/// Time the exchange may take once there is a connection.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(20);
const LIVENESS: Liveness = Liveness {
    keep_alive: Duration::from_secs(5),
    idle: Duration::from_secs(20),
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The coordinator could not be reached, or is not the one the token is for.
    #[error("the coordinator could not be reached")]
    Dial(#[from] DialError),
    /// The conversation broke off.
    #[error("the conversation with the coordinator broke off")]
    Stream(#[from] StreamError),
    /// It took too long.
    #[error("the coordinator did not answer within {} s", EXCHANGE_LIMIT.as_secs())]
    NoAnswer,
    /// The coordinator said no.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// The coordinator has no time now.
    #[error("the coordinator is busy; it asks to come back in {} s", .0.as_secs())]
    Busy(Duration),
    /// The answer does not hold what was asked for.
    #[error("the coordinator's answer does not fit the join token: {0}")]
    Answer(&'static str),
    /// The identity could not be read or kept.
    #[error("the identity could not be kept")]
    Keystore(#[from] KeystoreError),
    /// A key could not be used.
    #[error("the key could not be used")]
    Key(#[from] KeyError),
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls(#[from] TlsError),
    /// The connection has no exporter.
    #[error("the connection cannot prove who renews")]
    Exporter,
}

/// What a new target says of itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The name it would like.
    pub name: TargetName,
    /// The labels it would like.
    pub labels: Labels,
    /// Whether to take over the name of a target that exists.
    pub replace: bool,
    /// What it is.
    pub facts: Facts,
}

/// Joins with a token and keeps what is given.
///
/// # Errors
/// [`JoinError`]; nothing is kept but the key that was asked for.
pub async fn join(
    coordinator: &str,
    token: &Token,
    introduction: Introduction,
    files: &Files,
) -> Result<StoredIdentity, JoinError> {
    let clock = Arc::new(Clock::default());
    let key = files.next_key()?;
    let request = ToAuthority::Join(JoinRequest {
        token_id: token.id().as_str().to_owned(),
        secret: token.secret().to_vec(),
        name: introduction.name,
        labels: introduction.labels,
        request: key.request()?,
        replace: introduction.replace,
        facts: introduction.facts,
    });
    let config = Arc::new(tls::join_client_config(token.pin(), clock)?);
    let (endpoint, connection) = transport::dial(coordinator, config, LIVENESS).await?;
    let joined = exchange(&connection, &request).await;
    connection.close(0u32.into(), b"done");
    let joined = joined?;
    endpoint.wait_idle().await;
    if !joined
        .roots
        .iter()
        .any(|root| Digest::of(root) == token.pin())
    {
        return Err(JoinError::Answer("its root is not among the roots"));
    }
    Ok(files.accept(&key, &joined)?)
}

/// Exchanges an expired certificate for a new one and keeps it.
///
/// # Errors
/// [`JoinError`]; the old identity stays.
pub async fn renew_expired(
    coordinator: &str,
    identity: &StoredIdentity,
    files: &Files,
    clock: Arc<Clock>,
) -> Result<StoredIdentity, JoinError> {
    let key = files.next_key()?;
    let request = key.request()?;
    let config = Arc::new(tls::renew_client_config(identity.roots.clone(), clock)?);
    let (_endpoint, connection) = transport::dial(coordinator, config, LIVENESS).await?;
    let mut exported = [0u8; EXPORTER_BYTES];
    connection
        .export_keying_material(&mut exported, EXPORTER_LABEL, &[])
        .map_err(|_| JoinError::Exporter)?;
    let renewal = RenewRequest {
        chain: identity.chain.iter().map(|der| der.to_vec()).collect(),
        proof: identity.key.prove_renewal(&exported, &request)?,
        request,
    };
    let joined = exchange(&connection, &ToAuthority::Renew(renewal)).await;
    connection.close(0u32.into(), b"done");
    Ok(files.accept(&key, &joined?)?)
}

async fn exchange(
    connection: &quinn::Connection,
    request: &ToAuthority,
) -> Result<Joined, JoinError> {
    let answer = tokio::time::timeout(EXCHANGE_LIMIT, ask(connection, request)).await;
    match answer.map_err(|_| JoinError::NoAnswer)?? {
        ToJoiner::Joined(joined) => Ok(joined),
        ToJoiner::Refused { message } => Err(JoinError::Refused(message)),
        ToJoiner::Busy { retry_after_ms } => {
            Err(JoinError::Busy(Duration::from_millis(retry_after_ms)))
        }
    }
}

async fn ask(
    connection: &quinn::Connection,
    request: &ToAuthority,
) -> Result<ToJoiner, StreamError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let bytes = frame::encode(request)?;
    if bytes.len() > FIRST_FRAME_MAX_BYTES {
        let error = FrameError::TooLarge {
            length: bytes.len(),
            limit: FIRST_FRAME_MAX_BYTES,
        };
        return Err(error.into());
    }
    send.write_all(&bytes).await?;
    send.finish()?;
    let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
    transport::read_frame(&mut receive, &mut decoder).await
}
