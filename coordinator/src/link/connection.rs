//! One target's control connection: bytes between the stream and the session, events to the driver,
//! the driver's orders to the target.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_certs::verify::{Peer, peer_identity};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::message::Hello;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::session::SessionError;
use holdfast_protocol::session::coordinator::{CoordinatorSession, Event as Said};
use quinn::{RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{CloseReason, Context, artifacts};
use crate::clock;
use crate::event::{Connected, Event, Refused};
use crate::world::{Orders, SessionId};

/// Time from the handshake to a welcome.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that one write to a peer may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Time for a farewell to reach the peer.
const FAREWELL: Duration = Duration::from_secs(2);

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
    let opened = Conversation::open(&context, &connection, peer, session).await;
    let ended = match opened {
        Ok(mut conversation) => {
            let ended = conversation.run(&mut streams).await;
            // While the coordinator stops, there is nobody to tell.
            drop(
                context
                    .driver
                    .bring(Event::Disconnected {
                        target: target.clone(),
                        session,
                    })
                    .await,
            );
            ended
        }
        Err(ended) => ended,
    };
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
        Ended::Refused(_) => CloseReason::Refused.close(&connection),
        Ended::Gone | Ended::Left => CloseReason::Done.close(&connection),
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

/// A conversation that was opened.
struct Conversation<'c> {
    context: &'c Context,
    connection: &'c quinn::Connection,
    peer: Peer,
    id: SessionId,
    session: CoordinatorSession,
    send: SendStream,
    receive: RecvStream,
    orders: watch::Receiver<Orders>,
    /// Digest of the newest assignment that the target holds or was offered.
    offered: Option<Digest>,
    /// The newest report that the target was told is stored.
    stored: u64,
}

impl<'c> Conversation<'c> {
    async fn open(
        context: &'c Context,
        connection: &'c quinn::Connection,
        peer: Peer,
        id: SessionId,
    ) -> Result<Self, Ended> {
        let opening = Self::open_unbounded(context, connection, peer, id);
        match tokio::time::timeout(HELLO_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Ended::Offence("no hello in time".to_owned())),
        }
    }

    async fn open_unbounded(
        context: &'c Context,
        connection: &'c quinn::Connection,
        peer: Peer,
        id: SessionId,
    ) -> Result<Self, Ended> {
        let (send, mut receive) = connection.accept_bi().await.map_err(|_| Ended::Gone)?;
        let mut session = CoordinatorSession::default();
        let hello = read_hello(&mut session, &mut receive).await?;
        let held = hello.held.map(|held| held.digest);
        let (orders_sender, orders) = watch::channel(Orders::default());
        let connected = |reply| {
            Event::Connected(Box::new(Connected {
                peer: peer.clone(),
                session: id,
                hello,
                connection: connection.clone(),
                orders: orders_sender,
                reply,
            }))
        };
        context
            .driver
            .request(connected)
            .await
            .map_err(Ended::Refused)?;
        session.welcome(env!("CARGO_PKG_VERSION"), clock::now())?;
        let mut conversation = Self {
            context,
            connection,
            peer,
            id,
            session,
            send,
            receive,
            orders,
            offered: held,
            stored: 0,
        };
        conversation.follow_orders()?;
        conversation.transmit().await?;
        Ok(conversation)
    }

    async fn run(&mut self, streams: &mut JoinSet<()>) -> Ended {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let done = tokio::select! {
                read = self.receive.read(&mut buffer) => match read {
                    Ok(Some(length)) => self.heard(buffer.get(..length).unwrap_or_default()).await,
                    Ok(None) | Err(_) => Err(Ended::Gone),
                },
                changed = self.orders.changed() => match changed {
                    Ok(()) => self.follow_orders(),
                    Err(_) => Err(Ended::Gone),
                },
                stream = self.connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        let asker = artifacts::Asker {
                            target: self.peer.identity.target.clone(),
                            connection: self.connection.clone(),
                        };
                        let context = self.context.clone();
                        streams.spawn(artifacts::serve(context, asker, send, receive));
                        Ok(())
                    }
                    Err(_) => Err(Ended::Gone),
                },
                Some(_) = streams.join_next() => Ok(()),
            };
            let sent = match done {
                Ok(()) => self.transmit().await,
                Err(Ended::Left) => return self.farewell().await,
                Err(ended) => return ended,
            };
            if let Err(ended) = sent {
                return ended;
            }
        }
    }

    /// Tells the target what it does not know yet.
    fn follow_orders(&mut self) -> Result<(), Ended> {
        let orders = self.orders.borrow_and_update().clone();
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

    async fn heard(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.session.handle(bytes)?;
        while let Some(said) = self.session.poll_event() {
            self.said(said).await?;
        }
        Ok(())
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
        let wanted: BTreeSet<Digest> = digests.iter().copied().collect();
        let bodies = self
            .context
            .driver
            .ask(move |world| world.bodies_for(&target, &digests))
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
        Ok(self.session.renewed(chain)?)
    }

    async fn transmit(&mut self) -> Result<(), Ended> {
        while let Some(bytes) = self.session.poll_transmit() {
            let writing = self.send.write_all(&bytes);
            match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Ended::Gone),
                Err(_) => return Err(Ended::Offence("does not read".to_owned())),
            }
        }
        Ok(())
    }

    async fn farewell(&mut self) -> Ended {
        if self.session.farewell().is_ok() && self.transmit().await.is_ok() {
            // The peer closes when it has heard; if it does not, the connection ends here.
            drop(self.send.finish());
            drop(tokio::time::timeout(FAREWELL, self.connection.closed()).await);
        }
        Ended::Left
    }
}

async fn read_hello(
    session: &mut CoordinatorSession,
    receive: &mut RecvStream,
) -> Result<Hello, Ended> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match receive.read(&mut buffer).await {
            Ok(Some(length)) => session.handle(buffer.get(..length).unwrap_or_default())?,
            Ok(None) | Err(_) => return Err(Ended::Gone),
        }
        match session.poll_event() {
            Some(Said::Hello(hello)) => return Ok(hello),
            Some(_) => return Err(Ended::Offence("spoke before the hello".to_owned())),
            None => {}
        }
    }
}
