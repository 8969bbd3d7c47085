//! A coordinator in this process: real certificates, real QUIC, the protocol's own session, and no
//! decisions of its own. What it says is what the test tells it to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_certs::authority::{EnvironmentAuthority, Root};
use holdfast_certs::certificate::Serial;
use holdfast_certs::clock::Clock;
use holdfast_certs::csr::requested_key;
use holdfast_certs::identity::TrustDomain;
use holdfast_certs::registry::{Anchors, MAX_OFFLINE, Registry, SharedRegistry};
use holdfast_certs::sign::AssignmentKey;
use holdfast_certs::tls::{self, CurrentLeaf};
use holdfast_certs::token::Token;
use holdfast_certs::verify::{peer_identity, renewal::verify_renewal};
use holdfast_protocol::assignment::{Assignment, Entry, Generation, SignedAssignment};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::join::{EXPORTER_BYTES, EXPORTER_LABEL, Joined, ToAuthority, ToJoiner};
use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::observed::{
    Hold, Report, State, TargetCondition, Transition, WorkloadStatus,
};
use holdfast_protocol::session::coordinator::{CoordinatorSession, Event};
use holdfast_protocol::stream::{AgentOpens, ArtifactReply};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::ALPN_JOIN;
use holdfast_protocol::workload::Workload;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

/// What a coordinator knows of the one target that a test has.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: u32,
    pub(crate) hellos: u32,
    pub(crate) accepted: Vec<Generation>,
    pub(crate) refused: Vec<(Generation, String)>,
    pub(crate) statuses: BTreeMap<String, WorkloadStatus>,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) conditions: Vec<TargetCondition>,
    pub(crate) converged: bool,
    pub(crate) reports: Vec<Report>,
    pub(crate) wanted_bodies: usize,
    pub(crate) artifact_offsets: Vec<u64>,
    pub(crate) renewals: u32,
    pub(crate) left: bool,
    pub(crate) holds: Vec<Option<Hold>>,
    pub(crate) serials: Vec<Serial>,
}

/// What it is to say.
#[derive(Default)]
struct Orders {
    assignment: Option<SignedAssignment>,
    bodies: BTreeMap<Digest, Vec<u8>>,
    artifacts: BTreeMap<Digest, Vec<u8>>,
    /// An artifact stream breaks off after so many bytes, once.
    break_off_after: Option<usize>,
    busy_once: Option<u64>,
    /// How far ahead the clock is that the next welcome tells.
    ahead_once: Option<Duration>,
    validity: Duration,
}

struct Inner {
    root: Root,
    authority: EnvironmentAuthority,
    signing: AssignmentKey,
    registry: SharedRegistry,
    orders: Mutex<Orders>,
    seen: Mutex<Seen>,
    changed: watch::Sender<u64>,
    connection: Mutex<Option<quinn::Connection>>,
    token: Token,
}

/// A coordinator with threads of its own, so that it can vanish like a process.
pub(crate) struct Coordinator {
    inner: Arc<Inner>,
    endpoint: quinn::Endpoint,
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) address: SocketAddr,
}

/// What its tasks share.
#[derive(Clone)]
struct Server {
    inner: Arc<Inner>,
}

pub(crate) fn now() -> Timestamp {
    Clock::default().now()
}

pub(crate) fn environment() -> EnvironmentName {
    EnvironmentName::parse("staging").unwrap()
}

fn target() -> TargetName {
    TargetName::parse("one").unwrap()
}

impl Coordinator {
    pub(crate) fn start() -> Self {
        let root = Root::create(TrustDomain::generate().unwrap(), now()).unwrap();
        let authority = root.create_environment(&environment(), now()).unwrap();
        let mut registry = Registry::new(root.trust_domain().clone());
        let anchors = Anchors {
            authorities: vec![authority.certificate().clone()],
            max_offline: MAX_OFFLINE,
        };
        registry.environments.insert(environment(), anchors);
        let orders = Orders {
            validity: Duration::from_secs(30 * 24 * 60 * 60),
            ..Orders::default()
        };
        let inner = Arc::new(Inner {
            token: Token::generate(root.pin()).unwrap(),
            root,
            authority,
            signing: AssignmentKey::generate().unwrap(),
            registry: registry.shared(),
            orders: Mutex::new(orders),
            seen: Mutex::default(),
            changed: watch::channel(0).0,
            connection: Mutex::default(),
        });
        Self::listen(inner, "127.0.0.1:0".parse().unwrap())
    }

    fn listen(inner: Arc<Inner>, address: SocketAddr) -> Self {
        let leaf = inner
            .root
            .server_leaf(&[], now(), Duration::from_secs(86_400))
            .unwrap();
        let leaf = CurrentLeaf::new(leaf).unwrap();
        let config =
            tls::agent_server_config(leaf, inner.registry.clone(), Arc::new(Clock::default()))
                .unwrap();
        let config = QuicServerConfig::try_from(config).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let endpoint = quinn::Endpoint::server(config, address).unwrap();
        drop(guard);
        let address = endpoint.local_addr().unwrap();
        let server = Server {
            inner: inner.clone(),
        };
        runtime.spawn(server.accept(endpoint.clone()));
        Self {
            inner,
            endpoint,
            runtime: Some(runtime),
            address,
        }
    }

    /// Ends every connection and gives the port back; what it knows stays.
    pub(crate) async fn stop(self) -> Stopped {
        self.endpoint.close(0u32.into(), b"stopping");
        self.endpoint.wait_idle().await;
        self.vanish().await
    }

    /// Vanishes without a word, as a killed process does.
    pub(crate) async fn vanish(self) -> Stopped {
        *self.inner.connection.lock().expect("no test has failed") = None;
        let stopped = Stopped {
            inner: self.inner.clone(),
            address: self.address,
        };
        drop(self);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        // The port is free once the last task is gone.
        while std::net::UdpSocket::bind(stopped.address).is_err() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the port is not given back"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stopped
    }

    pub(crate) fn token(&self) -> String {
        self.inner.token.reveal().to_string()
    }

    /// A token with another root's hash.
    pub(crate) fn token_of_another(&self) -> String {
        let text = self.token();
        let (start, _) = text.rsplit_once('.').unwrap();
        format!("{start}.{}", Digest::of(b"another").hex())
    }

    pub(crate) fn validity(&self, validity: Duration) {
        self.inner.orders.lock().unwrap().validity = validity;
    }

    pub(crate) fn ahead_once(&self, ahead: Duration) {
        self.inner.orders.lock().unwrap().ahead_once = Some(ahead);
    }

    pub(crate) fn busy_once(&self, retry_after_ms: u64) {
        self.inner.orders.lock().unwrap().busy_once = Some(retry_after_ms);
    }

    pub(crate) fn artifact(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        self.inner
            .orders
            .lock()
            .unwrap()
            .artifacts
            .insert(digest, content.to_vec());
        digest
    }

    pub(crate) fn break_off_after(&self, bytes: usize) {
        self.inner.orders.lock().unwrap().break_off_after = Some(bytes);
    }

    /// Assigns workloads under a number.
    pub(crate) fn assign(&self, number: u64, workloads: Vec<Workload>) {
        let sealed = workloads.into_iter().map(|w| (w.service.clone(), w.seal()));
        let mut entries = Vec::new();
        let mut orders = self.inner.orders.lock().unwrap();
        for (service, (body, bytes)) in sealed {
            entries.push(Entry { service, body });
            orders.bodies.insert(body, bytes);
        }
        entries.sort();
        let assignment = Assignment {
            generation: Generation { epoch: 1, number },
            environment: environment(),
            target: target(),
            workloads: entries,
            issued_at: now(),
        };
        orders.assignment = Some(self.inner.signing.sign(&assignment));
        drop(orders);
        self.changed();
    }

    /// Revokes all certificates and ends the connection.
    pub(crate) fn revoke(&self) {
        let mut registry = Registry::clone(&self.inner.registry.load());
        registry
            .revoked
            .extend(self.inner.seen.lock().unwrap().serials.iter().copied());
        self.inner.registry.store(Arc::new(registry));
        if let Some(connection) = self.inner.connection.lock().unwrap().take() {
            connection.close(7u32.into(), b"revoked");
        }
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.inner.seen.lock().unwrap())
    }

    /// Waits until `holds`, for at most 20 seconds.
    pub(crate) async fn wait(&self, what: &str, mut holds: impl FnMut(&Seen) -> bool) {
        let mut changed = self.inner.changed.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !holds(&self.inner.seen.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        });
        if waited.await.is_err() {
            let seen = self.inner.seen.lock().unwrap();
            panic!(
                "not in time: {what}; statuses {:?}, conditions {:?}, refused {:?}",
                seen.statuses, seen.conditions, seen.refused
            );
        }
    }

    pub(crate) async fn wait_ready(&self, service: &str, version: &str) {
        self.wait(&format!("{service} {version} ready"), |seen| {
            seen.statuses.get(service).is_some_and(|status| {
                status.state == State::Ready
                    && status
                        .version
                        .as_ref()
                        .is_some_and(|v| v.as_str() == version)
                    && status.wanted == status.running
            })
        })
        .await;
    }

    fn changed(&self) {
        self.inner.changed.send_modify(|n| *n += 1);
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    fn look<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.inner.seen.lock().unwrap())
    }

    fn changed(&self) {
        self.inner.changed.send_modify(|n| *n += 1);
    }

    async fn accept(self, endpoint: quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let coordinator = self.clone();
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else {
                    return;
                };
                let data = connection.handshake_data().unwrap();
                let alpn = data.downcast::<HandshakeData>().unwrap().protocol;
                if alpn.as_deref() == Some(ALPN_JOIN) {
                    coordinator.enrol(connection).await;
                } else {
                    coordinator.serve(connection, alpn.as_deref()).await;
                }
            });
        }
    }

    async fn enrol(self, connection: quinn::Connection) {
        let Ok((mut send, mut receive)) = connection.accept_bi().await else {
            return;
        };
        let bytes = receive.read_to_end(FIRST_FRAME_MAX_BYTES).await.unwrap();
        let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
        decoder.feed(&bytes);
        let reply = match decoder.next_message::<ToAuthority>().unwrap().unwrap() {
            ToAuthority::Join(join) if join.secret == self.inner.token.secret() => {
                ToJoiner::Joined(self.certify(&join.request))
            }
            ToAuthority::Join(_) => ToJoiner::Refused {
                message: "join refused".to_owned(),
            },
            ToAuthority::Renew(renew) => {
                let mut exported = [0u8; EXPORTER_BYTES];
                connection
                    .export_keying_material(&mut exported, EXPORTER_LABEL, &[])
                    .unwrap();
                let registry = self.inner.registry.load();
                match verify_renewal(&renew, &exported, &registry, now()) {
                    Ok(_) => ToJoiner::Joined(self.certify(&renew.request)),
                    Err(_) => ToJoiner::Refused {
                        message: "renewal refused".to_owned(),
                    },
                }
            }
        };
        send.write_all(&frame::encode(&reply).unwrap())
            .await
            .unwrap();
        send.finish().unwrap();
        connection.closed().await;
    }

    fn certify(&self, request: &[u8]) -> Joined {
        let key = requested_key(request).unwrap();
        let serial = Serial::generate().unwrap();
        let validity = self.inner.orders.lock().unwrap().validity;
        let issued = self
            .inner
            .authority
            .issue(&target(), &key, serial, now(), validity)
            .unwrap();
        self.look(|seen| {
            seen.serials.push(serial);
            seen.renewals += 1;
        });
        self.changed();
        Joined {
            environment: environment(),
            target: target(),
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            roots: vec![self.inner.root.certificate().to_vec()],
            signing_keys: vec![self.inner.signing.verifier().as_bytes().to_vec()],
        }
    }

    async fn serve(self, connection: quinn::Connection, alpn: Option<&[u8]>) {
        let presented = connection.peer_identity();
        let presented = presented.and_then(|p| p.downcast::<Vec<CertificateDer<'static>>>().ok());
        let presented = presented.map(|p| *p).unwrap_or_default();
        let peer = peer_identity(&presented, alpn, &self.inner.registry.load(), now());
        if let Err(refused) = peer {
            connection.close(7u32.into(), refused.to_string().as_bytes());
            return;
        }
        *self.inner.connection.lock().unwrap() = Some(connection.clone());
        self.look(|seen| seen.connections += 1);
        let Ok((send, receive)) = connection.accept_bi().await else {
            return;
        };
        tokio::spawn(self.clone().give_artifacts(connection.clone()));
        self.converse(connection, send, receive).await;
    }

    async fn converse(
        self,
        connection: quinn::Connection,
        mut send: quinn::SendStream,
        mut receive: quinn::RecvStream,
    ) {
        let mut session = CoordinatorSession::default();
        let mut changed = self.inner.changed.subscribe();
        let mut said: Option<Digest> = None;
        let mut open = false;
        loop {
            tokio::select! {
                chunk = receive.read_chunk(65_536, true) => match chunk {
                    Ok(Some(chunk)) => session.handle(&chunk.bytes).unwrap(),
                    Ok(None) | Err(_) => return,
                },
                _ = changed.changed() => {}
            }
            while let Some(event) = session.poll_event() {
                open |= self.hear(event, &mut session, &mut said);
            }
            let assignment = self.inner.orders.lock().unwrap().assignment.clone();
            if let Some(signed) = assignment.filter(|s| open && said != Some(s.digest())) {
                said = Some(signed.digest());
                session.assign(signed).unwrap();
            }
            while let Some(bytes) = session.poll_transmit() {
                if send.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            if self.look(|seen| seen.left) {
                // The goodbye must arrive before the end.
                send.finish().ok();
                let _ = tokio::time::timeout(Duration::from_secs(1), send.stopped()).await;
                connection.close(0u32.into(), b"farewell");
                return;
            }
        }
    }

    /// Takes in what was said; whether the conversation has just been opened.
    fn hear(
        &self,
        event: Event,
        session: &mut CoordinatorSession,
        said: &mut Option<Digest>,
    ) -> bool {
        let mut seen = self.inner.seen.lock().unwrap();
        let mut orders = self.inner.orders.lock().unwrap();
        let mut opened = false;
        match event {
            Event::Hello(hello) => {
                seen.hellos += 1;
                if let Some(retry_after_ms) = orders.busy_once.take() {
                    session.busy(retry_after_ms).unwrap();
                } else {
                    *said = hello.held.map(|held| held.digest);
                    let ahead = orders.ahead_once.take().unwrap_or_default();
                    session.welcome("0.1.0", now().after(ahead)).unwrap();
                    opened = true;
                }
            }
            Event::Want(digests) => {
                seen.wanted_bodies += digests.len();
                let bodies: Vec<_> = digests
                    .iter()
                    .filter_map(|d| orders.bodies.get(d).cloned())
                    .collect();
                session.bodies(bodies).unwrap();
            }
            Event::Accepted(held) => seen.accepted.push(held.generation),
            Event::Refused { generation, reason } => {
                seen.refused.push((generation, reason.to_string()));
            }
            Event::Report(report) => {
                session.stored(report.sequence).unwrap();
                if report.complete {
                    seen.statuses.clear();
                }
                for status in &report.statuses {
                    seen.statuses
                        .insert(status.service.to_string(), status.clone());
                }
                seen.transitions.extend(report.transitions.iter().cloned());
                if let Some(conditions) = &report.conditions {
                    seen.conditions.clone_from(conditions);
                }
                seen.converged = report.converged;
                seen.reports.push(report);
            }
            Event::Renew { request } => {
                drop(orders);
                drop(seen);
                session.renewed(Ok(self.certify(&request).chain)).unwrap();
            }
            Event::Hold(hold) => seen.holds.push(hold),
            Event::SealingKey(key) => assert_eq!(key.len(), 32),
            Event::Leave => {
                seen.left = true;
                session.farewell().unwrap();
            }
        }
        self.changed();
        opened
    }

    async fn give_artifacts(self, connection: quinn::Connection) {
        while let Ok((send, receive)) = connection.accept_bi().await {
            let coordinator = self.clone();
            tokio::spawn(async move { coordinator.give_artifact(send, receive).await });
        }
    }

    async fn give_artifact(
        &self,
        mut send: quinn::SendStream,
        mut receive: quinn::RecvStream,
    ) -> Option<()> {
        let bytes = receive.read_to_end(FIRST_FRAME_MAX_BYTES).await.ok()?;
        let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
        decoder.feed(&bytes);
        let AgentOpens::Artifact { digest, offset } = decoder.next_message().ok()?? else {
            panic!("these tests have no secrets");
        };
        self.look(|seen| seen.artifact_offsets.push(offset));
        let (content, cut) = {
            let mut orders = self.inner.orders.lock().unwrap();
            (
                orders.artifacts.get(&digest).cloned(),
                orders.break_off_after.take(),
            )
        };
        let Some(content) = content else {
            let reply = frame::encode(&ArtifactReply::Unavailable).unwrap();
            send.write_all(&reply).await.ok()?;
            return send.finish().ok();
        };
        let size = content.len() as u64;
        send.write_all(&frame::encode(&ArtifactReply::Content { size }).unwrap())
            .await
            .ok()?;
        let rest = &content[usize::try_from(offset).unwrap()..];
        match cut {
            Some(bytes) => {
                send.write_all(&rest[..bytes]).await.ok()?;
                send.finish().ok()
            }
            None => {
                send.write_all(rest).await.ok()?;
                send.finish().ok()
            }
        }
    }
}

/// A coordinator that is away.
pub(crate) struct Stopped {
    inner: Arc<Inner>,
    pub(crate) address: SocketAddr,
}

impl Stopped {
    /// Comes back on the same port.
    pub(crate) fn start(self) -> Coordinator {
        Coordinator::listen(self.inner, self.address)
    }
}
