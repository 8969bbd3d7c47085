//! One target's control connection: bytes between the stream and the session, events to the driver,
//! the driver's orders to the target.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_certs::certificate::TargetCertificate;
use holdfast_certs::verify::{Peer, peer_identity};
use holdfast_protocol::api::Code;
use holdfast_protocol::assignment::WORKLOADS_MAX;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::message::Hello;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::session::SessionError;
use holdfast_protocol::session::coordinator::{CoordinatorSession, Event as Said};
use holdfast_protocol::time::Timestamp;
use quinn::{RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{CloseReason, Context, artifacts};
use crate::clock;
use crate::event::{Connected, Event, Refused};
use crate::world::secret::Change;
use crate::world::{Orders, SessionId};

/// Time from the handshake to the whole hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that one write to a peer may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Time for a farewell to reach the peer.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time for the driver to say why it has let go of a connection. A revoked target is out after that,
/// even if nothing can be written to disk.
const LETTING_GO: Duration = Duration::from_millis(800);
/// Messages that a target may send at once, beyond the steady rate.
const MESSAGES_BURST: u32 = 200;
/// Time after which it may send one more. It is not read faster, so none takes the driver's time from
/// the others.
const MESSAGE_EVERY: Duration = Duration::from_millis(50);
/// Longest time between two looks at whether the peer's certificate is still valid.
const VALIDITY_LOOK_MAX: Duration = Duration::from_secs(60);

/// Why a conversation ends.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("{0}")]
    Offence(String),
    #[error("{}", .0.detail)]
    Refused(Refused),
    #[error("the connection is gone")]
    Gone,
    #[error("the target has left")]
    Left,
    #[error("the certificate has expired and no new one was asked for")]
    Expired,
}

/// Runs one connection to its end.
pub async fn run(context: Context, connection: quinn::Connection, from: SocketAddr) {
    let peer = match identify(&context, &connection) {
        Ok(peer) => peer,
        Err(what) => {
            offence(&context, None, from, what).await;
            CloseReason::Refused.close(&connection);
            return;
        }
    };
    let target = peer.identity.target.clone();
    let session = context.next_session();
    let mut streams = JoinSet::new();
    let mut conversation = Conversation::new(&context, &connection, peer, session);
    let ended = conversation.run(&mut streams).await;
    // Whatever the driver has heard of this connection, it is over now. While the coordinator stops,
    // there is nobody to tell.
    drop(
        context
            .driver
            .bring(Event::Disconnected {
                target: target.clone(),
                session,
            })
            .await,
    );
    streams.abort_all();
    tracing::debug!(%target, reason = %ended, "connection ended");
    match ended {
        Ended::Session(error) => {
            offence(&context, Some(target), from, error.to_string()).await;
            CloseReason::Refused.close(&connection);
        }
        Ended::Offence(what) => {
            offence(&context, Some(target), from, what).await;
            CloseReason::Refused.close(&connection);
        }
        Ended::Refused(refused) if refused.code == Code::Unavailable => {
            CloseReason::Stopping.close(&connection);
        }
        Ended::Refused(_) => CloseReason::Refused.close(&connection),
        Ended::Gone | Ended::Left => CloseReason::Done.close(&connection),
        Ended::Expired => CloseReason::Expired.close(&connection),
    }
}

async fn offence(context: &Context, target: Option<TargetName>, from: SocketAddr, what: String) {
    context.metrics.refusals.inc();
    // While the coordinator stops, there is nobody to tell.
    drop(
        context
            .driver
            .bring(Event::Offence { target, from, what })
            .await,
    );
}

/// Who speaks: from the certificate alone, checked again in full against its own environment.
fn identify(context: &Context, connection: &quinn::Connection) -> Result<Peer, String> {
    let presented = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .unwrap_or_default();
    let alpn = super::negotiated(connection);
    peer_identity(
        &presented,
        alpn.as_deref(),
        &context.registry.load(),
        clock::now(),
    )
    .map_err(|refused| crate::chain(&refused))
}

/// A conversation, from the hello to its end.
struct Conversation<'c> {
    context: &'c Context,
    connection: &'c quinn::Connection,
    peer: Peer,
    id: SessionId,
    session: CoordinatorSession,
    /// Until when the peer has proven who it is: the end of its certificate, or of the one that it
    /// was given on this connection.
    valid_until: Timestamp,
    /// When the target's allowance of messages is whole again.
    rested: Instant,
    /// Digest of the newest assignment that the target holds or was offered.
    offered: Option<Digest>,
    /// The newest report that the target was told is stored.
    stored: u64,
}

/// The control stream and what the driver wants said on it.
struct Control {
    send: SendStream,
    receive: RecvStream,
    orders: watch::Receiver<Orders>,
}

impl<'c> Conversation<'c> {
    fn new(
        context: &'c Context,
        connection: &'c quinn::Connection,
        peer: Peer,
        id: SessionId,
    ) -> Self {
        Self {
            context,
            connection,
            valid_until: peer.not_after,
            peer,
            id,
            session: CoordinatorSession::default(),
            rested: Instant::now(),
            offered: None,
            stored: 0,
        }
    }

    async fn run(&mut self, streams: &mut JoinSet<()>) -> Ended {
        match self.open().await {
            Ok(control) => self.go_on(control, streams).await,
            Err(ended) => ended,
        }
    }

    /// From the hello to the welcome. The time-out is the peer's alone: a driver that waits for its
    /// disk is no fault of the target's.
    async fn open(&mut self) -> Result<Control, Ended> {
        let reading = read_hello(self.connection, &mut self.session);
        let read = tokio::time::timeout(HELLO_TIMEOUT, reading).await;
        let late = || Ended::Offence("no hello in time".to_owned());
        let (send, receive, hello) = read.unwrap_or_else(|_| Err(late()))?;
        self.offered = hello.held.map(|held| held.digest);
        let (orders_sender, orders) = watch::channel(Orders::default());
        let (peer, session) = (self.peer.clone(), self.id);
        let connected = |reply| {
            Event::Connected(Box::new(Connected {
                peer,
                session,
                hello,
                connection: self.connection.clone(),
                orders: orders_sender,
                reply,
            }))
        };
        let welcome = self.context.driver.request(connected);
        welcome.await.map_err(Ended::Refused)?;
        self.session
            .welcome(env!("CARGO_PKG_VERSION"), clock::now())?;
        let mut control = Control {
            send,
            receive,
            orders,
        };
        self.follow_orders(&mut control)?;
        self.transmit(&mut control).await?;
        Ok(control)
    }

    async fn go_on(&mut self, mut control: Control, streams: &mut JoinSet<()>) -> Ended {
        let mut buffer = vec![0; READ_BYTES];
        // What the target said together with its hello.
        let mut done = self.answer(&mut control).await;
        loop {
            let sent = match done {
                Ok(()) => self.transmit(&mut control).await,
                Err(Ended::Left) => return self.farewell(control).await,
                Err(ended) => return ended,
            };
            if let Err(ended) = sent {
                return ended;
            }
            done = tokio::select! {
                read = control.receive.read(&mut buffer) => match read {
                    Ok(Some(length)) => {
                        self.heard(&mut control, buffer.get(..length).unwrap_or_default()).await
                    }
                    Ok(None) | Err(_) => Err(Ended::Gone),
                },
                changed = control.orders.changed() => match changed {
                    Ok(()) => self.follow_orders(&mut control),
                    Err(_) => Err(self.let_go().await),
                },
                stream = self.connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        streams.spawn(artifacts::serve(
                            self.context.clone(),
                            self.asker(),
                            send,
                            receive,
                        ));
                        Ok(())
                    }
                    Err(_) => Err(Ended::Gone),
                },
                Some(_) = streams.join_next() => Ok(()),
                () = tokio::time::sleep(self.next_look()) => self.still_valid(),
            };
        }
    }

    /// The driver gives no more orders: it closes the connection once that is on disk, and says why.
    /// Until then nothing more is taken, and it ends in any case.
    async fn let_go(&self) -> Ended {
        drop(tokio::time::timeout(LETTING_GO, self.connection.closed()).await);
        Ended::Gone
    }

    fn asker(&self) -> artifacts::Asker {
        artifacts::Asker {
            target: self.peer.identity.target.clone(),
            connection: self.connection.clone(),
        }
    }

    /// Looked at again and again instead of slept through, since the clock may be set.
    fn next_look(&self) -> Duration {
        let left = self.valid_until.since(clock::now()) + Duration::from_millis(1);
        left.min(VALIDITY_LOOK_MAX)
    }

    fn still_valid(&self) -> Result<(), Ended> {
        if clock::now() > self.valid_until {
            return Err(Ended::Expired);
        }
        Ok(())
    }

    /// Tells the target what it does not know yet.
    fn follow_orders(&mut self, control: &mut Control) -> Result<(), Ended> {
        let orders = control.orders.borrow_and_update().clone();
        if let Some(signed) = orders.assignment {
            let digest = signed.digest();
            if self.offered != Some(digest) {
                self.offered = Some(digest);
                self.session.assign((*signed).clone())?;
            }
        }
        if orders.stored > self.stored {
            self.stored = orders.stored;
            self.session.stored(orders.stored)?;
        }
        Ok(())
    }

    async fn heard(&mut self, control: &mut Control, bytes: &[u8]) -> Result<(), Ended> {
        self.session.handle(bytes)?;
        self.answer(control).await
    }

    /// Acts on what was said, one after the other. Each answer is on its way before the next is made:
    /// many small requests must not pile up large answers.
    async fn answer(&mut self, control: &mut Control) -> Result<(), Ended> {
        while let Some(said) = self.session.poll_event() {
            self.pace().await;
            self.said(said).await?;
            // What is to be told does not wait until all that was said is answered.
            match control.orders.has_changed() {
                Ok(true) => self.follow_orders(control)?,
                Ok(false) => {}
                Err(_) => return Err(self.let_go().await),
            }
            self.transmit(control).await?;
        }
        Ok(())
    }

    /// Waits where more is said than one target may say: a leaky bucket.
    async fn pace(&mut self) {
        let now = Instant::now();
        self.rested = self.rested.max(now) + MESSAGE_EVERY;
        let allowed = self.rested.checked_sub(MESSAGE_EVERY * MESSAGES_BURST);
        tokio::time::sleep_until(allowed.unwrap_or(now)).await;
    }

    async fn said(&mut self, said: Said) -> Result<(), Ended> {
        let target = self.peer.identity.target.clone();
        let session = self.id;
        let event = match said {
            Said::Hello(_) => return Err(Ended::Offence("second hello".to_owned())),
            Said::Want(digests) => return self.hand_over(target, digests).await,
            Said::Renew { request } => return self.renew(request).await,
            Said::Leave => {
                let leave = |reply| Event::Leave {
                    target,
                    session,
                    reply,
                };
                self.context
                    .driver
                    .request(leave)
                    .await
                    .map_err(Ended::Refused)?;
                return Err(Ended::Left);
            }
            Said::Accepted(held) => Event::Accepted {
                target,
                session,
                held,
            },
            Said::Refused { generation, reason } => Event::AssignmentRefused {
                target,
                session,
                generation,
                reason,
            },
            Said::Hold(hold) => Event::Hold {
                target,
                session,
                hold,
            },
            Said::SealingKey(key) => Event::Secret(Box::new(Change::Key {
                target,
                session,
                key,
            })),
            Said::Report(report) => Event::Report {
                target,
                session,
                report: Box::new(report),
            },
        };
        self.context
            .driver
            .bring(event)
            .await
            .map_err(Ended::Refused)
    }

    /// Hands over bodies of the target's own assignment. Asking for anything else is an offence.
    async fn hand_over(&mut self, target: TargetName, digests: Vec<Digest>) -> Result<(), Ended> {
        if digests.len() > WORKLOADS_MAX {
            let what = format!("asked for {} bodies at once", digests.len());
            return Err(Ended::Offence(what));
        }
        let wanted: BTreeSet<Digest> = digests.into_iter().collect();
        let asked = wanted.clone();
        let bodies = self
            .context
            .driver
            .ask(move |world| world.bodies_for(&target, &asked))
            .await
            .map_err(Ended::Refused)?;
        let given: BTreeSet<Digest> = bodies.iter().map(|body| Digest::of(body)).collect();
        if given != wanted {
            return Err(Ended::Offence(
                "asked for bodies of another assignment".to_owned(),
            ));
        }
        Ok(self.session.bodies(bodies)?)
    }

    async fn renew(&mut self, request: Vec<u8>) -> Result<(), Ended> {
        let peer = Box::new(self.peer.clone());
        let answer = self.context.driver.request(|reply| Event::Renew {
            peer,
            request,
            reply,
        });
        let chain = answer.await.map_err(|refused| refused.detail);
        let leaf = chain.as_ref().ok().and_then(|chain| chain.first());
        if let Some(new) = leaf.and_then(|leaf| TargetCertificate::read(leaf).ok()) {
            self.valid_until = new.not_after;
        }
        Ok(self.session.renewed(chain)?)
    }

    async fn transmit(&mut self, control: &mut Control) -> Result<(), Ended> {
        while let Some(bytes) = self.session.poll_transmit() {
            let writing = control.send.write_all(&bytes);
            match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Ended::Gone),
                Err(_) => return Err(Ended::Offence("does not read".to_owned())),
            }
        }
        Ok(())
    }

    async fn farewell(&mut self, mut control: Control) -> Ended {
        if self.session.farewell().is_ok() && self.transmit(&mut control).await.is_ok() {
            // The peer closes when it has heard; if it does not, the connection ends here.
            drop(control.send.finish());
            drop(tokio::time::timeout(FAREWELL, self.connection.closed()).await);
        }
        Ended::Left
    }
}

async fn read_hello(
    connection: &quinn::Connection,
    session: &mut CoordinatorSession,
) -> Result<(SendStream, RecvStream, Hello), Ended> {
    let (send, mut receive) = connection.accept_bi().await.map_err(|_| Ended::Gone)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match receive.read(&mut buffer).await {
            Ok(Some(length)) => session.handle(buffer.get(..length).unwrap_or_default())?,
            Ok(None) | Err(_) => return Err(Ended::Gone),
        }
        match session.poll_event() {
            Some(Said::Hello(hello)) => return Ok((send, receive, hello)),
            Some(_) => return Err(Ended::Offence("spoke before the hello".to_owned())),
            None => {}
        }
    }
}
