//! What a coordinator knows of whom it certified: a snapshot that is swapped whole.
//!
//! Every handshake and every later check reads the snapshot in force at that moment, so a revocation
//! holds from the swap on, for connections that are yet to come. Live ones are the coordinator's to
//! close.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_protocol::name::EnvironmentName;
use rustls_pki_types::CertificateDer;

use crate::certificate::Serial;
use crate::identity::TrustDomain;

/// The environments whose authorities are trusted, and the certificates that are not any more.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Names of another installation are refused.
    pub trust_domain: TrustDomain,
    /// The known environments. A target of any other is refused.
    pub environments: HashMap<EnvironmentName, Anchors>,
    /// Serial numbers of all certificates that were revoked. One stays here for as long as it could
    /// be renewed: its end and `max_offline` beyond that. Revoking a target means all the numbers
    /// that were issued to it.
    pub revoked: HashSet<Serial>,
}

/// What is trusted for one environment.
#[derive(Debug, Clone)]
pub struct Anchors {
    /// Its authorities' certificates, DER: one, or two while they are rotated.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How long after its certificate expired a target may still renew it; zero forbids it.
    pub max_offline: Duration,
}

/// The registry as verifiers share it; the coordinator stores a new one after each change.
pub type SharedRegistry = Arc<ArcSwap<Registry>>;

/// How long a target may be away past its certificate's end unless the environment says otherwise.
pub const MAX_OFFLINE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

impl Registry {
    /// One that knows no environment.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            environments: HashMap::new(),
            revoked: HashSet::new(),
        }
    }

    /// To be shared with verifiers.
    #[must_use]
    pub fn shared(self) -> SharedRegistry {
        Arc::new(ArcSwap::from_pointee(self))
    }
}
