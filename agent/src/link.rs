//! The connection to the coordinator: dial, introduce, pump the session, come back.
//!
//! *Expected flow:* one task dials, and for each connection pumps bytes between QUIC and the session
//! of `protocol`. What the coordinator says becomes [`LinkEvent`]s; what is to be said comes as
//! [`Command`]s, through a channel that lives as long as its connection. Nothing is decided here.
//!
//! *Guarantees:* attempts are spread by full jitter and never denser than [`reconnect_pause`]; the
//! certificate is renewed from its half-life on the live connection, and an expired one is renewed
//! before anything else; a coordinator that vanished is noticed by its silence within seconds of
//! the next thing said to it.

mod pulse;
mod session;

use std::sync::Arc;
use std::time::Duration;

use holdfast_certs::clock::Clock as CertificateClock;
use holdfast_certs::keystore::KeystoreError;
use holdfast_certs::keystore::agent::{Files, StoredIdentity};
use holdfast_certs::seal::SealingPublicKey;
use holdfast_certs::sign::AssignmentVerifier;
use holdfast_certs::tls::{self, TlsError};
use holdfast_protocol::assignment::{Generation, Held, SignedAssignment};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::message::{Refusal, Welcome};
use holdfast_protocol::observed::{Facts, Hold, Report};
use holdfast_protocol::session::SessionError;
use holdfast_protocol::time::Timestamp;
use quinn::{Connection, Endpoint};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::join::{self, JoinError};
use crate::streams::Offers;
use crate::transport::{self, DialError, Liveness};

pub use session::RENEWAL_PAUSE_MAX;

/// A connection that lasted this long was healthy: the pauses start small again.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Attempts that follow quickly, so that a coordinator's restart is hardly noticed.
pub const QUICK_ATTEMPTS: u32 = 3;
/// The span over which the quick attempts are spread.
pub const QUICK_SPREAD: Duration = Duration::from_millis(200);
/// The span over which the first slow attempt is spread; it doubles with each.
pub const SLOW_SPREAD: Duration = Duration::from_secs(1);
/// The least pause between two attempts.
pub const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause that a busy coordinator can ask for.
pub const BUSY_MAX: Duration = Duration::from_secs(10 * 60);
/// Commands that may wait for a slow connection before it is given up.
pub const COMMANDS_MAX: usize = 64;

/// What the link needs to know to begin.
#[derive(Debug)]
pub struct Link {
    /// The identity's files, for renewals.
    pub files: Files,
    /// Who this target is.
    pub identity: StoredIdentity,
    /// Coordinators, `HOST:PORT` each, tried in turn.
    pub coordinators: Vec<String>,
    /// How long silence lasts.
    pub liveness: Liveness,
    /// The longest pause between two attempts.
    pub reconnect_max: Duration,
    /// The clock that certificates are checked by.
    pub clock: Arc<CertificateClock>,
    /// What the coordinator can ask for on a stream of its own.
    pub offers: Offers,
    /// What this target's secrets are sealed to.
    pub sealing_key: SealingPublicKey,
}

/// What is said in the first message of a connection.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// The assignment in force.
    pub held: Option<Held>,
    /// What this target is.
    pub facts: Facts,
}

/// What happened on the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A connection is in use.
    Up {
        /// The coordinator's answer.
        welcome: Welcome,
        /// What is to be said on this connection.
        commands: mpsc::Sender<Command>,
        /// For streams of artifacts.
        connection: Connection,
        /// Whose signature makes an assignment valid: a renewal may have brought others.
        signing_keys: Vec<AssignmentVerifier>,
        /// When the certificate that it was made with ends.
        certificate_expires: Timestamp,
    },
    /// The certificate was renewed on the live connection.
    Renewed {
        /// When the new one ends.
        certificate_expires: Timestamp,
    },
    /// An assignment is offered.
    Offered(SignedAssignment),
    /// An offered assignment with the bodies that were wanted.
    Complete {
        /// The assignment.
        signed: SignedAssignment,
        /// The bodies.
        bodies: std::collections::BTreeMap<Digest, Vec<u8>>,
    },
    /// Reports up to this one are stored.
    Stored {
        /// Its number.
        sequence: u64,
    },
    /// There is no connection: an attempt failed, or the one there was is over.
    Down {
        /// Why, for people.
        reason: String,
    },
    /// The coordinator has forgotten this target, as it asked.
    Farewell,
}

/// What is to be said to the coordinator.
#[derive(Debug)]
pub enum Command {
    /// Ask for bodies.
    Want {
        /// Of this assignment.
        signed: SignedAssignment,
        /// Which.
        missing: std::collections::BTreeSet<Digest>,
    },
    /// An assignment is in force and on disk.
    Accepted(Held),
    /// An assignment was not taken.
    Refuse {
        /// Its number.
        generation: Generation,
        /// Why.
        reason: Refusal,
    },
    /// What was observed.
    Report(Report),
    /// Whether this target is held.
    Hold(Option<Hold>),
    /// Ask to be forgotten.
    Leave,
}

/// Why a connection did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It could not be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The expired certificate could not be renewed.
    #[error("the expired certificate could not be renewed")]
    Renewal(#[source] JoinError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A new certificate could not be kept.
    #[error("a new certificate could not be kept")]
    Keystore(#[from] KeystoreError),
    /// QUIC ended it.
    #[error("{}", said_by_peer(.0))]
    Connection(quinn::ConnectionError),
    /// The conversation went wrong.
    #[error("the conversation went wrong")]
    Session(#[from] SessionError),
    /// The control stream ended.
    #[error("the coordinator ended the conversation")]
    Ended,
    /// The coordinator has no time now.
    #[error("the coordinator is busy and asks to come back in {} s", .0.as_secs())]
    Busy(Duration),
    /// The coordinator does not answer any more.
    #[error("the coordinator does not answer any more")]
    Silent,
    /// The coordinator takes nothing.
    #[error("the coordinator does not take what is sent")]
    Stuck,
    /// This side stops, or has left.
    #[error("the agent ended the conversation")]
    Stopped,
}

/// Keeps a connection until `stop`.
pub async fn run(
    mut link: Link,
    greeting: watch::Receiver<Greeting>,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
) {
    let mut attempt: u32 = 0;
    let mut last_said = String::new();
    loop {
        let began = tokio::time::Instant::now();
        let coordinator = next_coordinator(&link.coordinators, attempt);
        let error = tokio::select! {
            () = stop.cancelled() => return,
            error = connect_once(&mut link, &coordinator, &greeting, &events, &stop) => error,
        };
        if stop.is_cancelled() {
            return;
        }
        let reason = crate::chain(&error);
        say_once(&mut last_said, &coordinator, &reason);
        if events.send(LinkEvent::Down { reason }).await.is_err() {
            return;
        }
        attempt = if began.elapsed() >= HEALTHY_AFTER {
            0
        } else {
            attempt.saturating_add(1)
        };
        let pause = if let LinkError::Busy(wait) = &error {
            (*wait)
                .min(BUSY_MAX)
                .mul_f64(1.0 + rand::random::<f64>() / 4.0)
        } else {
            reconnect_pause(attempt, link.reconnect_max, rand::random())
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The pause before attempt number `attempt`, counted from the last healthy connection: a share
/// `random` (0 to 1) of a span that is short for the first attempts, then doubles up to `max`.
#[must_use]
pub fn reconnect_pause(attempt: u32, max: Duration, random: f64) -> Duration {
    let spread = match attempt.checked_sub(QUICK_ATTEMPTS + 1) {
        None => QUICK_SPREAD,
        Some(slow) => SLOW_SPREAD.saturating_mul(1 << slow.min(10)),
    };
    PAUSE_MIN + spread.min(max).mul_f64(random.clamp(0.0, 1.0))
}

async fn connect_once(
    link: &mut Link,
    coordinator: &str,
    greeting: &watch::Receiver<Greeting>,
    events: &mpsc::Sender<LinkEvent>,
    stop: &CancellationToken,
) -> LinkError {
    let (endpoint, connection) = match dial(link, coordinator).await {
        Ok(dialled) => dialled,
        Err(error) => return error,
    };
    let greeting = greeting.borrow().clone();
    let error = session::pump(link, &connection, greeting, events, stop).await;
    connection.close(0u32.into(), error.to_string().as_bytes());
    // The goodbye is worth a moment, so that the coordinator need not wait for silence.
    let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
    error
}

async fn dial(link: &mut Link, coordinator: &str) -> Result<(Endpoint, Connection), LinkError> {
    link.clock.raise(link.identity.certificate.not_before);
    let expired = link.clock.now() >= link.identity.certificate.not_after;
    if expired {
        tracing::info!(coordinator, "the certificate has expired; renewing it");
        let clock = Arc::clone(&link.clock);
        let renewed = join::renew_expired(coordinator, &link.identity, &link.files, clock).await;
        link.identity = renewed.map_err(LinkError::Renewal)?;
    }
    let identity = &link.identity;
    let config = tls::control_client_config(
        identity.chain.clone(),
        &identity.key,
        identity.roots.clone(),
        Arc::clone(&link.clock),
    )?;
    Ok(transport::dial(coordinator, Arc::new(config), link.liveness).await?)
}

fn next_coordinator(coordinators: &[String], attempt: u32) -> String {
    let index = (attempt as usize)
        .checked_rem(coordinators.len())
        .unwrap_or(0);
    coordinators.get(index).cloned().unwrap_or_default()
}

/// A reason is told once, not at every attempt.
fn say_once(last_said: &mut String, coordinator: &str, reason: &str) {
    if last_said == reason {
        tracing::debug!(coordinator, reason, "not connected");
    } else {
        tracing::warn!(coordinator, reason, "not connected");
        reason.clone_into(last_said);
    }
}

/// What the peer gave as its reason, where it gave one.
fn said_by_peer(error: &quinn::ConnectionError) -> String {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            let reason = String::from_utf8_lossy(&close.reason);
            format!("the coordinator closed the connection: {reason}")
        }
        quinn::ConnectionError::ApplicationClosed(_)
        | quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempts_follow_quickly_and_the_later_ones_are_spread_ever_wider() {
        let pauses = |random| {
            (1..12).map(move |n| reconnect_pause(n, Duration::from_secs(60), random).as_millis())
        };
        assert!(pauses(0.0).all(|pause| pause == PAUSE_MIN.as_millis()));
        let widest: Vec<u128> = pauses(1.0).collect();
        assert_eq!(widest[..3], [250; 3]);
        assert_eq!(widest[3..6], [1_050, 2_050, 4_050]);
        assert_eq!(widest.last(), Some(&60_050));
        let short = reconnect_pause(30, Duration::from_secs(2), 1.0);
        assert_eq!(short, Duration::from_secs(2) + PAUSE_MIN);
    }
}
