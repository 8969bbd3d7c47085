//! The renew-only path: an expired certificate, and proof that its key is still held, buy a new
//! certificate for the same name, and nothing else.

use std::time::Duration;

use holdfast_protocol::join::RenewRequest;
use holdfast_protocol::time::Timestamp;
use rustls_pki_types::CertificateDer;

use super::{Peer, Refused, verify_target};
use crate::certificate::TargetCertificate;
use crate::csr::{RequestError, requested_key};
use crate::key::PublicKey;
use crate::registry::Registry;

/// Who may have a new certificate, for which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The target as its old certificate names it.
    pub peer: Peer,
    /// The key to certify.
    pub key: PublicKey,
    /// For how long the old certificate has been expired; nothing where it is still valid.
    pub expired_for: Duration,
}

/// Why there is no new certificate. For the coordinator's log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenewalRefused {
    /// The old certificate would not have been accepted even on its last day.
    #[error(transparent)]
    Certificate(#[from] Refused),
    /// The environment wants no expired certificate renewed.
    #[error("expired certificates are not renewed in this environment")]
    Forbidden,
    /// Away for too long.
    #[error(
        "the certificate expired {} days ago, more than the {} days allowed",
        days(expired_for),
        days(max_offline)
    )]
    TooLate {
        /// How long ago it expired.
        expired_for: Duration,
        /// How long ago it may have.
        max_offline: Duration,
    },
    /// The new request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The old key did not sign this request on this connection.
    #[error("the renewal is not signed by the old certificate's key on this connection")]
    Proof,
}

/// Judges a renewal that arrived over the connection whose TLS exporter gave `exporter`.
///
/// # Errors
/// [`RenewalRefused`].
pub fn verify_renewal(
    request: &RenewRequest,
    exporter: &[u8],
    registry: &Registry,
    now: Timestamp,
) -> Result<Renewal, RenewalRefused> {
    let leaf = request.chain.first().ok_or(Refused::NoCertificate)?;
    let read = TargetCertificate::read(leaf).map_err(Refused::Certificate)?;
    // An expired certificate is judged as on its last day; one that is not yet valid stays so.
    let judged_at = now.min(read.not_after);
    let peer = verify_target(&CertificateDer::from(leaf.as_slice()), registry, judged_at)?;
    let expired_for = read.expired_for(now);
    allow_offline(expired_for, max_offline(registry, &peer))?;
    let key = requested_key(&request.request)?;
    let proven = RenewRequest::proven_bytes(exporter, &request.request);
    peer.public_key
        .verify(&proven, &request.proof)
        .map_err(|_| RenewalRefused::Proof)?;
    Ok(Renewal {
        peer,
        key,
        expired_for,
    })
}

fn allow_offline(expired_for: Duration, max_offline: Duration) -> Result<(), RenewalRefused> {
    if expired_for.is_zero() {
        return Ok(());
    }
    if max_offline.is_zero() {
        return Err(RenewalRefused::Forbidden);
    }
    if expired_for > max_offline {
        return Err(RenewalRefused::TooLate {
            expired_for,
            max_offline,
        });
    }
    Ok(())
}

/// An environment that has gone meanwhile allows nothing.
fn max_offline(registry: &Registry, peer: &Peer) -> Duration {
    let anchors = registry.environments.get(&peer.identity.environment);
    anchors
        .map(|anchors| anchors.max_offline)
        .unwrap_or_default()
}

fn days(span: &Duration) -> u64 {
    span.as_secs() / (24 * 60 * 60)
}
