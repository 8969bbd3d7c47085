//! One connection: bytes between QUIC and the session, until it ends.

use std::time::Duration;

use holdfast_certs::certificate::TargetCertificate;
use holdfast_certs::keystore::KeystoreError;
use holdfast_certs::keystore::agent::{Files, StoredIdentity};
use holdfast_protocol::join::Joined;
use holdfast_protocol::message::Hello;
use holdfast_protocol::session::agent::{AgentSession, Event};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pulse::{Counters, LOOK_INTERVAL, Pulse, REST_INTERVAL};
use super::{COMMANDS_MAX, Command, Greeting, Link, LinkError, LinkEvent};
use crate::streams;
use crate::{beat, clock};

/// Time that a message may wait for the coordinator to take it.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Time until the coordinator's answer to the introduction.
const WELCOME_LIMIT: Duration = Duration::from_secs(15);
/// Longest pause between two requests for a certificate.
pub const RENEWAL_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The parts of one connection.
struct Conversation<'a> {
    link: &'a mut Link,
    connection: &'a Connection,
    session: AgentSession,
    send: SendStream,
    events: &'a mpsc::Sender<LinkEvent>,
    commands: mpsc::Receiver<Command>,
    command_sender: mpsc::Sender<Command>,
    welcomed: bool,
    /// When the certificate is old enough, by the clock of this machine, which may be wrong.
    renew_at: Timestamp,
    /// No request for a certificate before this, whatever that clock says.
    not_before: Instant,
}

/// Talks until the connection ends; gives the reason.
pub(super) async fn pump(
    link: &mut Link,
    connection: &Connection,
    greeting: Greeting,
    events: &mpsc::Sender<LinkEvent>,
    stop: &CancellationToken,
) -> LinkError {
    let (send, receive) = match connection.open_bi().await {
        Ok(streams) => streams,
        Err(error) => return LinkError::Connection(error),
    };
    let hello = Hello {
        versions: version::SUPPORTED,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        held: greeting.held,
        time: clock::wall(),
        facts: greeting.facts,
    };
    let session = match AgentSession::new(hello) {
        Ok(session) => session,
        Err(error) => return error.into(),
    };
    let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let renew_at = renewal_time(&link.identity, rand::random());
    let conversation = Conversation {
        link,
        connection,
        session,
        send,
        events,
        commands,
        command_sender,
        welcomed: false,
        renew_at,
        not_before: Instant::now(),
    };
    match conversation.run(receive, stop).await {
        Ok(()) => LinkError::Stopped,
        Err(error) => error,
    }
}

impl Conversation<'_> {
    async fn run(
        mut self,
        mut receive: RecvStream,
        stop: &CancellationToken,
    ) -> Result<(), LinkError> {
        let mut pulse = Pulse::default();
        let mut look_at = Instant::now();
        let welcome_by = Instant::now() + WELCOME_LIMIT;
        let mut opened = tokio::task::JoinSet::new();
        self.flush().await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                chunk = receive.read_chunk(64 * 1024, true) => match chunk {
                    Ok(Some(chunk)) => self.session.handle(&chunk.bytes)?,
                    Ok(None) => return Err(LinkError::Ended),
                    Err(_) => return Err(self.connection_error().await),
                },
                Some(command) = self.commands.recv() => {
                    self.say(command)?;
                    look_at = look_at.min(Instant::now() + LOOK_INTERVAL);
                }
                streams = self.connection.accept_bi() => {
                    let (send, receive) = streams.map_err(LinkError::Connection)?;
                    opened.spawn(streams::serve(self.link.offers.clone(), send, receive));
                }
                Some(_) = opened.join_next(), if !opened.is_empty() => {}
                () = tokio::time::sleep_until(look_at) => {
                    if !pulse.look(counters(self.connection)) {
                        return Err(LinkError::Silent);
                    }
                    self.renew_if_due()?;
                    let pause = pulse.pause().min(self.renewal_pause());
                    look_at = beat::after(pause);
                }
                () = tokio::time::sleep_until(welcome_by), if !self.welcomed => {
                    return Err(LinkError::Silent);
                }
            }
            self.tell().await?;
            self.flush().await?;
        }
    }

    /// Hands what was said to the driver.
    async fn tell(&mut self) -> Result<(), LinkError> {
        while let Some(event) = self.session.poll_event() {
            let told = match event {
                Event::Welcomed(welcome) => {
                    self.welcomed = true;
                    let key = self.link.sealing_key;
                    self.session.sealing_key(key.as_bytes())?;
                    tracing::info!(coordinator = welcome.coordinator_version, "connected");
                    let commands = self.command_sender.clone();
                    LinkEvent::Up {
                        welcome,
                        commands,
                        connection: self.connection.clone(),
                        signing_keys: self.link.identity.signing_keys.clone(),
                        certificate_expires: self.link.identity.certificate.not_after,
                    }
                }
                Event::Busy { retry_after_ms } => {
                    return Err(LinkError::Busy(Duration::from_millis(retry_after_ms)));
                }
                Event::Offered(signed) => LinkEvent::Offered(signed),
                Event::Complete { signed, bodies } => LinkEvent::Complete { signed, bodies },
                Event::Stored { sequence } => LinkEvent::Stored { sequence },
                Event::Farewell => LinkEvent::Farewell,
                Event::Renewed { chain } => {
                    if !self.keep_certificate(chain) {
                        continue;
                    }
                    LinkEvent::Renewed {
                        certificate_expires: self.link.identity.certificate.not_after,
                    }
                }
                Event::RenewalRefused { reason } => {
                    tracing::warn!(reason, "the certificate was not renewed");
                    continue;
                }
            };
            self.events
                .send(told)
                .await
                .map_err(|_| LinkError::Stopped)?;
        }
        Ok(())
    }

    fn say(&mut self, command: Command) -> Result<(), LinkError> {
        match command {
            Command::Want { signed, missing } => self.session.want(signed, missing)?,
            Command::Accepted(held) => self.session.accepted(held)?,
            Command::Refuse { generation, reason } => self.session.refuse(generation, reason)?,
            Command::Report(report) => self.session.report(report)?,
            Command::Hold(hold) => self.session.hold(hold)?,
            Command::Leave => self.session.leave()?,
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        while let Some(bytes) = self.session.poll_transmit() {
            let written = tokio::time::timeout(WRITE_LIMIT, self.send.write_all(&bytes)).await;
            match written {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.connection_error().await),
                Err(_) => return Err(LinkError::Stuck),
            }
        }
        Ok(())
    }

    /// Why the control stream broke: the connection's own reason, where it has one by now.
    async fn connection_error(&self) -> LinkError {
        let closed = tokio::time::timeout(Duration::from_millis(100), self.connection.closed());
        closed.await.map_or(LinkError::Ended, LinkError::Connection)
    }

    /// Asks for a new certificate from the half-life of the present one, and again after a pause.
    /// A disk that takes no key now is no reason to lose the connection on which that can be told.
    fn renew_if_due(&mut self) -> Result<(), LinkError> {
        let now = self.link.clock.now();
        if !self.welcomed || now < self.renew_at || Instant::now() < self.not_before {
            return Ok(());
        }
        let left = self.link.identity.certificate.not_after.since(now) / 8;
        self.not_before = Instant::now() + left.clamp(LOOK_INTERVAL, RENEWAL_PAUSE_MAX);
        match self.link.files.next_key() {
            Ok(key) => match key.request() {
                Ok(request) => self.session.renew(request)?,
                Err(error) => tracing::error!(%error, "no certificate can be asked for"),
            },
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(error, "no certificate can be asked for");
            }
        }
        Ok(())
    }

    /// Pause until a look at whether a certificate is to be asked for.
    fn renewal_pause(&self) -> Duration {
        let old = self.link.clock.now().after(REST_INTERVAL) >= self.renew_at;
        if old || !self.welcomed {
            LOOK_INTERVAL
        } else {
            REST_INTERVAL
        }
    }

    /// Keeps a new certificate; whether it could be kept.
    fn keep_certificate(&mut self, chain: Vec<Vec<u8>>) -> bool {
        match accept(&self.link.identity, &self.link.files, chain) {
            Ok(identity) => self.link.identity = identity,
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(
                    error,
                    "a new certificate could not be kept; asking again later"
                );
                return false;
            }
        }
        let until = self.link.identity.certificate.not_after;
        tracing::info!(%until, "the certificate was renewed");
        self.renew_at = renewal_time(&self.link.identity, rand::random());
        self.not_before = Instant::now() + least_use(&self.link.identity.certificate);
        true
    }
}

/// Keeps the answer to a request for the next key.
fn accept(
    identity: &StoredIdentity,
    files: &Files,
    chain: Vec<Vec<u8>>,
) -> Result<StoredIdentity, KeystoreError> {
    let answer = Joined {
        environment: identity.certificate.identity.environment.clone(),
        target: identity.certificate.identity.target.clone(),
        chain,
        roots: identity.roots.iter().map(|der| der.to_vec()).collect(),
        signing_keys: identity
            .signing_keys
            .iter()
            .map(|k| k.as_bytes().to_vec())
            .collect(),
    };
    files.accept(&files.next_key()?, &answer)
}

/// How long a certificate is used at least, from when it came: a quarter of its validity. To a clock
/// that is years ahead each new certificate is an old one, and must not be exchanged at once.
fn least_use(certificate: &TargetCertificate) -> Duration {
    certificate.not_after.since(certificate.not_before) / 4
}

/// When to ask for the next certificate: at half-life, earlier or later by up to a tenth of it, as
/// `random` (0 to 1) says, so that what joined together does not renew together.
fn renewal_time(identity: &StoredIdentity, random: f64) -> Timestamp {
    let certificate = &identity.certificate;
    let half = certificate.renew_at().since(certificate.not_before);
    certificate
        .not_before
        .after(half.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0)))
}

fn counters(connection: &Connection) -> Counters {
    let stats = connection.stats();
    let sent = stats.frame_tx;
    Counters {
        // What is not acknowledged is asked after with the third kind, ever more slowly.
        asked: sent.stream + sent.ping + sent.immediate_ack,
        answered: stats.frame_rx.acks,
    }
}
