//! Real handshakes in memory: what TLS lets through, and what resumption would.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use holdfast_certs::clock::Clock;
use holdfast_certs::registry::{Registry, SharedRegistry};
use holdfast_certs::tls::{self, CurrentLeaf};
use holdfast_certs::verify::{Refused, peer_identity};
use holdfast_protocol::join::{EXPORTER_BYTES, EXPORTER_LABEL};
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN, COORDINATOR_NAME};
use rustls::client::{Resumption, TicketRequest};
use rustls::server::ServerSessionMemoryCache;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind,
    ServerConfig, ServerConnection,
};

use crate::world::{DAY, Target, World};

/// Both ends of a connection in memory.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

/// Which end gave up, and why.
#[derive(Debug)]
pub(crate) enum Broken {
    Client(Error),
    Server(Error),
}

impl Pair {
    pub(crate) fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        Self::dial(COORDINATOR_NAME, client, server)
    }

    pub(crate) fn dial(host: &str, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let name = host.to_owned().try_into().unwrap();
        Self {
            client: ClientConnection::new(client.clone(), name).unwrap(),
            server: ServerConnection::new(server.clone()).unwrap(),
        }
    }

    /// Carries bytes both ways until neither end has more to say.
    pub(crate) fn run(&mut self) -> Result<(), Broken> {
        while self.client.wants_write() || self.server.wants_write() {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                self.server.process_new_packets().map_err(Broken::Server)?;
            }
            let mut bytes = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets().map_err(Broken::Client)?;
            }
        }
        Ok(())
    }

    /// Application bytes that the server has received.
    pub(crate) fn received(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let count = self.server.reader().read(&mut bytes).unwrap_or_default();
        bytes.truncate(count);
        bytes
    }
}

struct Ends {
    world: World,
    registry: SharedRegistry,
    server: ServerConfig,
    leaf: Arc<CurrentLeaf>,
    clock: Arc<Clock>,
}

impl Ends {
    fn new() -> Self {
        let clock = Arc::new(Clock::default());
        let world = World::at(clock.now());
        let registry = world.registry.clone().shared();
        let leaf = CurrentLeaf::new(world.server_leaf()).unwrap();
        let server =
            tls::agent_server_config(leaf.clone(), registry.clone(), clock.clone()).unwrap();
        Self {
            world,
            registry,
            server,
            leaf,
            clock,
        }
    }

    fn control(&self, who: &Target) -> ClientConfig {
        let roots = vec![self.world.root.certificate().clone()];
        let chain = who.issued.chain.clone();
        tls::control_client_config(chain, &who.key, roots, self.clock.clone()).unwrap()
    }

    fn revoke(&self, who: &Target) {
        let mut registry = Registry::clone(&self.registry.load());
        registry.revoked.insert(who.issued.certificate.serial);
        self.registry.store(Arc::new(registry));
    }
}

/// The client of a target that would rather not be asked for its certificate again.
fn eager_to_resume(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::in_memory_sessions(8);
    config.send_ticket_request = Some(TicketRequest {
        new_session_count: 4,
        resumption_count: 4,
    });
    Arc::new(config)
}

#[test]
fn a_target_and_a_coordinator_know_each_other() {
    let ends = Ends::new();
    let web = ends.world.target("web-1");
    let mut pair = Pair::new(
        &Arc::new(ends.control(&web)),
        &Arc::new(ends.server.clone()),
    );
    pair.run().unwrap();
    assert_eq!(pair.server.alpn_protocol(), Some(ALPN_CONTROL));
    assert_eq!(
        pair.client.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    let presented = pair.server.peer_certificates().unwrap();
    let alpn = pair.server.alpn_protocol();
    let peer = peer_identity(presented, alpn, &ends.registry.load(), ends.clock.now()).unwrap();
    assert_eq!(peer.identity.to_string(), "staging/web-1");
    pair.client.writer().write_all(b"hello").unwrap();
    pair.run().unwrap();
    assert_eq!(pair.received(), b"hello");
}

#[test]
fn the_configurations_are_fit_for_quic() {
    let ends = Ends::new();
    let web = ends.world.target("web-1");
    let version = rustls::quic::Version::V1;
    let client = Arc::new(ends.control(&web));
    let name = COORDINATOR_NAME.try_into().unwrap();
    let mut client = rustls::quic::ClientConnection::new(client, version, name, vec![1]).unwrap();
    let server = Arc::new(ends.server.clone());
    let mut server = rustls::quic::ServerConnection::new(server, version, vec![2]).unwrap();
    // What is written before a change of keys is read before it.
    for _ in 0..8 {
        let mut bytes = Vec::new();
        client.write_hs(&mut bytes);
        server.read_hs(&bytes).unwrap();
        let mut bytes = Vec::new();
        server.write_hs(&mut bytes);
        client.read_hs(&bytes).unwrap();
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(server.peer_certificates().unwrap(), &web.issued.chain[..]);
}

#[test]
fn a_revoked_target_is_refused_in_the_next_handshake() {
    let ends = Ends::new();
    let web = ends.world.target("web-1");
    let (client, server) = (Arc::new(ends.control(&web)), Arc::new(ends.server.clone()));
    Pair::new(&client, &server).run().unwrap();
    ends.revoke(&web);
    let mut pair = Pair::new(&client, &server);
    let broken = pair.run().unwrap_err();
    let revoked = Error::InvalidCertificate(CertificateError::Revoked);
    assert!(matches!(broken, Broken::Server(error) if error == revoked));
    // The target is told, so that it does not try for ever.
    let mut alert = Vec::new();
    pair.server.write_tls(&mut alert).unwrap();
    pair.client.read_tls(&mut &alert[..]).unwrap();
    let told = pair.client.process_new_packets().unwrap_err();
    assert_eq!(
        told,
        Error::AlertReceived(AlertDescription::CertificateRevoked)
    );
}

#[test]
fn resumption_does_not_bring_a_revoked_target_back() {
    let ends = Ends::new();
    let web = ends.world.target("web-1");
    let client = eager_to_resume(ends.control(&web));
    let server = Arc::new(ends.server.clone());
    let mut first = Pair::new(&client, &server);
    first.run().unwrap();
    assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(first.client.tls13_tickets_received(), 0);
    // Before the revocation, too, every handshake is a whole one with the certificate in it.
    let mut second = Pair::new(&client, &server);
    second.run().unwrap();
    assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Full));
    ends.revoke(&web);
    let broken = Pair::new(&client, &server).run().unwrap_err();
    let revoked = Error::InvalidCertificate(CertificateError::Revoked);
    assert!(matches!(broken, Broken::Server(error) if error == revoked));
}

/// The control experiment to the one above: the same client, the same revocation, and the library's
/// own defaults for tickets. If this ever fails, the test above has stopped showing anything.
#[test]
fn with_the_librarys_defaults_resumption_would_have_brought_it_back() {
    let ends = Ends::new();
    let web = ends.world.target("web-1");
    let client = eager_to_resume(ends.control(&web));
    let mut server = ends.server.clone();
    server.send_tls13_tickets = 2;
    server.session_storage = ServerSessionMemoryCache::new(256);
    let server = Arc::new(server);
    let mut first = Pair::new(&client, &server);
    first.run().unwrap();
    assert!(first.client.tls13_tickets_received() > 0);
    ends.revoke(&web);
    let mut second = Pair::new(&client, &server);
    second.run().unwrap();
    assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed));
    // The check after the handshake is the second wall, and it stands even here.
    let presented = second.server.peer_certificates().unwrap();
    let alpn = second.server.alpn_protocol();
    let judged = peer_identity(presented, alpn, &ends.registry.load(), ends.clock.now());
    assert!(matches!(judged, Err(Refused::Revoked { .. })), "{judged:?}");
}

#[test]
fn joining_needs_no_certificate_and_control_without_one_ends_after_the_handshake() {
    let ends = Ends::new();
    let pin = ends.world.root.pin();
    let join = tls::join_client_config(pin, ends.clock.clone()).unwrap();
    let server = Arc::new(ends.server.clone());
    let mut pair = Pair::new(&Arc::new(join.clone()), &server);
    pair.run().unwrap();
    assert_eq!(pair.server.alpn_protocol(), Some(ALPN_JOIN));
    assert!(pair.server.peer_certificates().is_none());

    let mut control = join;
    control.alpn_protocols = vec![ALPN_CONTROL.to_vec()];
    let mut pair = Pair::new(&Arc::new(control), &server);
    pair.run().unwrap();
    let presented = pair.server.peer_certificates().unwrap_or_default();
    let alpn = pair.server.alpn_protocol();
    let judged = peer_identity(presented, alpn, &ends.registry.load(), ends.clock.now());
    assert!(matches!(judged, Err(Refused::NoCertificate)), "{judged:?}");
}

#[test]
fn an_older_protocol_is_not_spoken() {
    let ends = Ends::new();
    let mut old = ends.control(&ends.world.target("web-1"));
    old.alpn_protocols = vec![b"holdfast/0".to_vec()];
    let broken = Pair::new(&Arc::new(old), &Arc::new(ends.server.clone()))
        .run()
        .unwrap_err();
    assert!(
        matches!(broken, Broken::Server(Error::NoApplicationProtocol)),
        "{broken:?}"
    );
}

#[test]
fn the_servers_certificate_is_replaced_while_it_serves() {
    let ends = Ends::new();
    let client =
        Arc::new(tls::join_client_config(ends.world.root.pin(), ends.clock.clone()).unwrap());
    let server = Arc::new(ends.server.clone());
    let seen = || {
        let mut pair = Pair::new(&client, &server);
        pair.run().unwrap();
        pair.client.peer_certificates().unwrap()[0].clone()
    };
    let before = seen();
    let next = ends.world.server_leaf();
    let expected = next.chain[0].clone();
    ends.leaf.replace(next).unwrap();
    assert_ne!(before, expected);
    assert_eq!(seen(), expected);
    // A key of another certificate is noticed before it is put in force.
    let mut mixed = ends.world.server_leaf();
    mixed.chain = ends.world.server_leaf().chain;
    assert!(ends.leaf.replace(mixed).is_err());
    assert_eq!(seen(), expected);
}

#[test]
fn both_ends_export_the_same_bytes_and_other_ones_each_time() {
    let ends = Ends::new();
    let roots = vec![ends.world.root.certificate().clone()];
    let client = Arc::new(tls::renew_client_config(roots, ends.clock.clone()).unwrap());
    let server = Arc::new(ends.server.clone());
    let exported = || {
        let mut pair = Pair::new(&client, &server);
        pair.run().unwrap();
        assert_eq!(pair.server.alpn_protocol(), Some(ALPN_JOIN));
        let bytes = [0u8; EXPORTER_BYTES];
        let ours = pair
            .client
            .export_keying_material(bytes, EXPORTER_LABEL, None)
            .unwrap();
        let theirs = pair
            .server
            .export_keying_material(bytes, EXPORTER_LABEL, None)
            .unwrap();
        assert_eq!(ours, theirs);
        ours
    };
    assert_ne!(exported(), exported());
}

#[test]
fn an_expired_certificate_gets_no_control_connection() {
    let ends = Ends::new();
    let web = ends.world.target("web-1");
    let client = Arc::new(ends.control(&web));
    let mut server = ends.server.clone();
    // The coordinator's time runs on; the target's stands still.
    let later = ends.clock.now().after(31 * DAY);
    server.time_provider = Arc::new(Clock::not_before(later));
    let broken = Pair::new(&client, &Arc::new(server)).run().unwrap_err();
    let expired = Error::InvalidCertificate(CertificateError::Expired);
    assert!(matches!(broken, Broken::Server(error) if error == expired));
}
