//! TLS configurations: TLS 1.3 only, one provider, no resumption, no early data.
//!
//! *Why no resumption:* a session ticket lets a client in without its certificate being looked at
//! again, so a revoked target with a ticket would come back. The server sends none, keeps none, and
//! the client stores none; each handshake is a whole one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert,
    danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::ServerLeaf;
use crate::clock::Clock;
use crate::key::TargetKey;
use crate::registry::SharedRegistry;
use crate::verify::peer::TargetVerifier;
use crate::verify::server::CoordinatorVerifier;

/// A configuration cannot be made, usually because a key does not belong to its certificate.
#[derive(Debug, thiserror::Error)]
#[error("a TLS configuration could not be made")]
pub struct TlsError(#[from] rustls::Error);

/// The certificate with which a server answers; can be replaced while it serves.
#[derive(Debug)]
pub struct CurrentLeaf(ArcSwap<CertifiedKey>);

impl CurrentLeaf {
    /// Answers with `leaf`.
    ///
    /// # Errors
    /// [`TlsError`] where key and certificate do not match.
    pub fn new(leaf: ServerLeaf) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(leaf)?))))
    }

    /// Answers with `leaf` from the next handshake on; the old one stays where this one is bad.
    ///
    /// # Errors
    /// [`TlsError`] where key and certificate do not match.
    pub fn replace(&self, leaf: ServerLeaf) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(leaf)?));
        Ok(())
    }
}

impl ResolvesServerCert for CurrentLeaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// For the coordinator's QUIC port: control and join. A client certificate is asked for and, where
/// one is given, verified; whoever accepts a connection must then call
/// [`crate::verify::peer_identity`].
///
/// # Errors
/// [`TlsError`].
pub fn agent_server_config(
    leaf: Arc<CurrentLeaf>,
    registry: SharedRegistry,
    clock: Arc<Clock>,
) -> Result<ServerConfig, TlsError> {
    let verifier = Arc::new(TargetVerifier::new(registry));
    let alpn = [ALPN_CONTROL, ALPN_JOIN];
    server_config(leaf, verifier, clock, &alpn)
}

/// For the HTTPS API, whose callers prove themselves with bearer tokens.
///
/// # Errors
/// [`TlsError`].
pub fn api_server_config(
    leaf: Arc<CurrentLeaf>,
    clock: Arc<Clock>,
) -> Result<ServerConfig, TlsError> {
    server_config(leaf, Arc::new(NoClientAuth), clock, &[b"h2", b"http/1.1"])
}

/// For an agent's control connection: its certificate, and the roots that it was given. Dial with
/// the server name `protocol::version::COORDINATOR_NAME`.
///
/// # Errors
/// [`TlsError`] where the key does not belong to the chain's first certificate.
pub fn control_client_config(
    chain: Vec<CertificateDer<'static>>,
    key: &TargetKey,
    roots: Vec<CertificateDer<'static>>,
    clock: Arc<Clock>,
) -> Result<ClientConfig, TlsError> {
    let key = PrivateKeyDer::Pkcs8(key.pkcs8());
    let config = client_builder(CoordinatorVerifier::roots(roots), clock)?
        .with_client_auth_cert(chain, key)?;
    Ok(closed_client(config, ALPN_CONTROL))
}

/// For joining: nothing is known but the hash in the token. The handshake fails, and so nothing has
/// been sent, unless the server is certified by the root with that hash.
///
/// # Errors
/// [`TlsError`].
pub fn join_client_config(pin: Digest, clock: Arc<Clock>) -> Result<ClientConfig, TlsError> {
    let config = client_builder(CoordinatorVerifier::pinned(pin), clock)?.with_no_client_auth();
    Ok(closed_client(config, ALPN_JOIN))
}

/// For renewing an expired certificate: the roots are known, and the expired certificate travels
/// inside the renewal request.
///
/// # Errors
/// [`TlsError`].
pub fn renew_client_config(
    roots: Vec<CertificateDer<'static>>,
    clock: Arc<Clock>,
) -> Result<ClientConfig, TlsError> {
    let config = client_builder(CoordinatorVerifier::roots(roots), clock)?.with_no_client_auth();
    Ok(closed_client(config, ALPN_JOIN))
}

/// The one provider of cryptography, always passed and never installed for the whole process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_config(
    leaf: Arc<CurrentLeaf>,
    verifier: Arc<dyn ClientCertVerifier>,
    clock: Arc<Clock>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(leaf);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(config)
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(
    verifier: CoordinatorVerifier,
    clock: Arc<Clock>,
) -> Result<ClientBuilder, TlsError> {
    Ok(ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn closed_client(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn certified(leaf: ServerLeaf) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::Pkcs8(leaf.key);
    Ok(CertifiedKey::from_der(leaf.chain, key, &provider())?)
}
