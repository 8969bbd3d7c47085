//! The coordinator's end of the conversation.
//!
//! *Expected flow:* `Waiting` for `Hello` under the small frame limit, then `Open`.
//! *Guarantees:* nothing is handed out before a `Hello` with a common version; a second `Hello` ends
//! the session; what is wanted is handed out as asked, and whether the target may have it is decided
//! by the caller, who knows its assignment.

use std::collections::VecDeque;

use crate::assignment::{Generation, Held, SignedAssignment};
use crate::digest::Digest;
use crate::frame::{Decoder, FIRST_FRAME_MAX_BYTES, FRAME_MAX_BYTES, encode};
use crate::message::{Hello, Refusal, ToAgent, ToCoordinator, Welcome};
use crate::observed::{Hold, Report};
use crate::time::Timestamp;
use crate::version;

use super::{OUTGOING_MAX, SessionError};

/// A public key of X25519 (RFC 7748), in bytes.
const KEY_BYTES: usize = 32;
/// Bytes of bodies put into one message.
const BODIES_PER_MESSAGE_BYTES: usize = 512 * 1024;

/// One connection's conversation, seen from the coordinator.
#[derive(Debug)]
pub struct CoordinatorSession {
    state: State,
    decoder: Decoder,
    events: VecDeque<Event>,
    outgoing: VecDeque<Vec<u8>>,
    /// Whether the target has said its key: once is enough, and each other one would be work for many.
    keyed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Introduced { version: u16 },
    Open,
    Closed,
}

/// What the target said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It introduced itself: answer with [`CoordinatorSession::welcome`] or
    /// [`CoordinatorSession::busy`].
    Hello(Hello),
    /// It lacks these bodies.
    Want(Vec<Digest>),
    /// An assignment is in force there.
    Accepted(Held),
    /// An assignment was not taken.
    Refused {
        /// Its number.
        generation: Generation,
        /// Why.
        reason: Refusal,
    },
    /// What it observed.
    Report(Report),
    /// It asks for a new certificate.
    Renew {
        /// PKCS #10, DER.
        request: Vec<u8>,
    },
    /// It leaves for good.
    Leave,
    /// Whether its own site asks for it to be left alone.
    Hold(Option<Hold>),
    /// What its secrets are sealed to.
    SealingKey(Vec<u8>),
}

impl Default for CoordinatorSession {
    fn default() -> Self {
        Self {
            state: State::Waiting,
            decoder: Decoder::new(FIRST_FRAME_MAX_BYTES),
            events: VecDeque::new(),
            outgoing: VecDeque::new(),
            keyed: false,
        }
    }
}

impl CoordinatorSession {
    /// Takes bytes as they arrived.
    ///
    /// # Errors
    /// [`SessionError`] ends the conversation.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.decoder.feed(bytes);
        while let Some(message) = self
            .decoder
            .next_message::<ToCoordinator>()
            .map_err(SessionError::Frame)?
        {
            self.message(message)?;
        }
        Ok(())
    }

    fn message(&mut self, message: ToCoordinator) -> Result<(), SessionError> {
        let event = match (self.state, message) {
            (State::Waiting, ToCoordinator::Hello(hello)) => return self.introduced(hello),
            (State::Waiting, _) => return Err(SessionError::Unexpected("message before Hello")),
            (State::Closed, _) => return Err(SessionError::Unexpected("message after the end")),
            (State::Introduced { .. } | State::Open, ToCoordinator::Hello(_)) => {
                return Err(SessionError::Unexpected("second Hello"));
            }
            (_, ToCoordinator::Want(digests)) => Event::Want(digests),
            (_, ToCoordinator::Accepted(held)) => Event::Accepted(held),
            (_, ToCoordinator::Refused { generation, reason }) => {
                Event::Refused { generation, reason }
            }
            (_, ToCoordinator::Report(report)) => Event::Report(report),
            (_, ToCoordinator::Renew { request }) => Event::Renew { request },
            (_, ToCoordinator::Leave) => Event::Leave,
            (_, ToCoordinator::Hold(hold)) => Event::Hold(hold),
            (_, ToCoordinator::SealingKey(key)) => {
                if key.len() != KEY_BYTES || std::mem::replace(&mut self.keyed, true) {
                    return Err(SessionError::Unexpected(
                        "second sealing key, or one that is none",
                    ));
                }
                Event::SealingKey(key)
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    fn introduced(&mut self, hello: Hello) -> Result<(), SessionError> {
        let version = version::SUPPORTED.common(hello.versions).ok_or({
            SessionError::NoCommonVersion {
                lowest: hello.versions.lowest,
                highest: hello.versions.highest,
            }
        })?;
        self.state = State::Introduced { version };
        self.decoder.set_limit(FRAME_MAX_BYTES);
        self.events.push_back(Event::Hello(hello));
        Ok(())
    }

    /// The next thing the target said.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next bytes to write.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Lets the target in.
    ///
    /// # Errors
    /// [`SessionError::Unexpected`] without a `Hello` to answer.
    pub fn welcome(
        &mut self,
        coordinator_version: &str,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        let State::Introduced { version } = self.state else {
            return Err(SessionError::Unexpected("welcome without a Hello"));
        };
        self.state = State::Open;
        let coordinator_version = coordinator_version.to_owned();
        self.send(&ToAgent::Welcome(Welcome {
            version,
            coordinator_version,
            time: now,
        }))
    }

    /// Sends the target away for a while; the conversation is over.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn busy(&mut self, retry_after_ms: u64) -> Result<(), SessionError> {
        self.send(&ToAgent::Busy { retry_after_ms })?;
        self.state = State::Closed;
        Ok(())
    }

    /// Offers an assignment.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn assign(&mut self, signed: SignedAssignment) -> Result<(), SessionError> {
        self.send_open(&ToAgent::Assign(signed))
    }

    /// Sends bodies, several to a message as far as they fit.
    ///
    /// # Errors
    /// [`SessionError`] when a message cannot be queued.
    pub fn bodies(
        &mut self,
        bodies: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(), SessionError> {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut batch_bytes = 0;
        for body in bodies {
            if batch_bytes + body.len() > BODIES_PER_MESSAGE_BYTES && !batch.is_empty() {
                self.send_open(&ToAgent::Bodies(std::mem::take(&mut batch)))?;
                batch_bytes = 0;
            }
            batch_bytes += body.len();
            batch.push(body);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.send_open(&ToAgent::Bodies(batch))
    }

    /// Says that everything up to a report is stored.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn stored(&mut self, sequence: u64) -> Result<(), SessionError> {
        self.send_open(&ToAgent::Stored { sequence })
    }

    /// Hands over a new certificate, or says why there is none.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn renewed(&mut self, chain: Result<Vec<Vec<u8>>, String>) -> Result<(), SessionError> {
        self.send_open(&match chain {
            Ok(chain) => ToAgent::Renewed { chain },
            Err(reason) => ToAgent::RenewalRefused { reason },
        })
    }

    /// Says goodbye to a target that has left; the conversation is over.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn farewell(&mut self) -> Result<(), SessionError> {
        self.send_open(&ToAgent::Farewell)?;
        self.state = State::Closed;
        Ok(())
    }

    fn send_open(&mut self, message: &ToAgent) -> Result<(), SessionError> {
        if self.state != State::Open {
            return Err(SessionError::Unexpected("message outside the conversation"));
        }
        self.send(message)
    }

    fn send(&mut self, message: &ToAgent) -> Result<(), SessionError> {
        if self.outgoing.len() >= OUTGOING_MAX {
            return Err(SessionError::TooSlow);
        }
        self.outgoing.push_back(encode(message)?);
        Ok(())
    }
}
