//! The agent's end of the conversation.
//!
//! *Expected flow:* `Introducing` until `Welcome`, then `Open`; an offered assignment is collected
//! until every body that was wanted has come. A newer offer replaces one that is being collected.
//! *Guarantees:* an assignment is handed out only with every body that was asked for, each of which
//! hashes to its name. Whether it is signed and newer is not decided here (`agent/src/accept.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::assignment::{Held, SignedAssignment};
use crate::digest::Digest;
use crate::frame::{Decoder, FRAME_MAX_BYTES, encode};
use crate::message::{Hello, Refusal, ToAgent, ToCoordinator, Welcome};
use crate::observed::{Hold, Report};
use crate::version::{HOLDS, SECRETS};

use super::{OUTGOING_MAX, SessionError};

/// One connection's conversation, seen from the target.
#[derive(Debug)]
pub struct AgentSession {
    state: State,
    decoder: Decoder,
    events: VecDeque<Event>,
    outgoing: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    Introducing,
    Open {
        collecting: Option<Collecting>,
        /// The minor version that both speak.
        version: u16,
    },
    Closed,
}

/// An offered assignment whose bodies are on their way.
#[derive(Debug)]
struct Collecting {
    signed: SignedAssignment,
    missing: BTreeSet<Digest>,
    bodies: BTreeMap<Digest, Vec<u8>>,
}

/// What the coordinator said, as far as the agent has to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection is in use.
    Welcomed(Welcome),
    /// The coordinator has no room; the connection ends.
    Busy {
        /// Milliseconds after which to come back.
        retry_after_ms: u64,
    },
    /// An assignment is offered: verify it, then call [`AgentSession::want`] or
    /// [`AgentSession::refuse`].
    Offered(SignedAssignment),
    /// An offered assignment and every body that was wanted: store it, then call
    /// [`AgentSession::accepted`] or [`AgentSession::refuse`].
    Complete {
        /// The assignment.
        signed: SignedAssignment,
        /// The bodies, by digest.
        bodies: BTreeMap<Digest, Vec<u8>>,
    },
    /// Reports up to this one are stored.
    Stored {
        /// The report's sequence number.
        sequence: u64,
    },
    /// A new certificate.
    Renewed {
        /// The chain, leaf first, DER.
        chain: Vec<Vec<u8>>,
    },
    /// No new certificate.
    RenewalRefused {
        /// Why.
        reason: String,
    },
    /// The coordinator has forgotten this target, as it asked.
    Farewell,
}

impl AgentSession {
    /// Begins a conversation with `hello`.
    ///
    /// # Errors
    /// [`SessionError::Frame`] when the hello does not fit a frame.
    pub fn new(hello: Hello) -> Result<Self, SessionError> {
        let mut session = Self {
            state: State::Introducing,
            decoder: Decoder::new(FRAME_MAX_BYTES),
            events: VecDeque::new(),
            outgoing: VecDeque::new(),
        };
        session.send(&ToCoordinator::Hello(hello))?;
        Ok(session)
    }

    /// Takes bytes as they arrived.
    ///
    /// # Errors
    /// [`SessionError`] ends the conversation.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.decoder.feed(bytes);
        while let Some(message) = self
            .decoder
            .next_message::<ToAgent>()
            .map_err(SessionError::Frame)?
        {
            self.message(message)?;
        }
        Ok(())
    }

    fn message(&mut self, message: ToAgent) -> Result<(), SessionError> {
        match (&mut self.state, message) {
            (State::Introducing, ToAgent::Welcome(welcome)) => {
                self.state = State::Open {
                    collecting: None,
                    version: welcome.version,
                };
                self.events.push_back(Event::Welcomed(welcome));
            }
            (State::Introducing, ToAgent::Busy { retry_after_ms }) => {
                self.state = State::Closed;
                self.events.push_back(Event::Busy { retry_after_ms });
            }
            (State::Open { collecting, .. }, ToAgent::Assign(signed)) => {
                *collecting = None;
                self.events.push_back(Event::Offered(signed));
            }
            (State::Open { collecting, .. }, ToAgent::Bodies(bodies)) => {
                let complete = collect(collecting, bodies)?;
                self.events.extend(complete);
            }
            (State::Open { .. }, ToAgent::Stored { sequence }) => {
                self.events.push_back(Event::Stored { sequence });
            }
            (State::Open { .. }, ToAgent::Renewed { chain }) => {
                self.events.push_back(Event::Renewed { chain });
            }
            (State::Open { .. }, ToAgent::RenewalRefused { reason }) => {
                self.events.push_back(Event::RenewalRefused { reason });
            }
            (State::Open { .. }, ToAgent::Farewell) => {
                self.state = State::Closed;
                self.events.push_back(Event::Farewell);
            }
            (State::Open { .. }, ToAgent::Welcome(_)) => {
                return Err(SessionError::Unexpected("second Welcome"));
            }
            (State::Open { .. }, ToAgent::Busy { .. }) => {
                return Err(SessionError::Unexpected("Busy after Welcome"));
            }
            (State::Introducing | State::Closed, _) => {
                return Err(SessionError::Unexpected("message outside the conversation"));
            }
        }
        Ok(())
    }

    /// The next thing to act on.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next bytes to write.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Asks for the bodies of `signed` that are not at hand. With none lacking, the assignment is
    /// complete at once.
    ///
    /// # Errors
    /// [`SessionError`] when the request cannot be queued.
    pub fn want(
        &mut self,
        signed: SignedAssignment,
        missing: BTreeSet<Digest>,
    ) -> Result<(), SessionError> {
        let State::Open { collecting, .. } = &mut self.state else {
            return Err(SessionError::Unexpected("want outside the conversation"));
        };
        if missing.is_empty() {
            *collecting = None;
            self.events.push_back(Event::Complete {
                signed,
                bodies: BTreeMap::new(),
            });
            return Ok(());
        }
        let wanted: Vec<Digest> = missing.iter().copied().collect();
        *collecting = Some(Collecting {
            signed,
            missing,
            bodies: BTreeMap::new(),
        });
        self.send(&ToCoordinator::Want(wanted))
    }

    /// Says that an assignment is in force and on disk.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn accepted(&mut self, held: Held) -> Result<(), SessionError> {
        self.send(&ToCoordinator::Accepted(held))
    }

    /// Says that an assignment was not taken.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn refuse(
        &mut self,
        generation: crate::assignment::Generation,
        reason: Refusal,
    ) -> Result<(), SessionError> {
        self.send(&ToCoordinator::Refused { generation, reason })
    }

    /// Sends what was observed.
    ///
    /// # Errors
    /// [`SessionError`] when the report does not fit a frame or the queue is full.
    pub fn report(&mut self, report: Report) -> Result<(), SessionError> {
        self.send(&ToCoordinator::Report(report))
    }

    /// Asks for a new certificate.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn renew(&mut self, request: Vec<u8>) -> Result<(), SessionError> {
        self.send(&ToCoordinator::Renew { request })
    }

    /// Says whether this target's own site asks to be left alone. A coordinator that does not know of
    /// this yet is told nothing.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn hold(&mut self, hold: Option<Hold>) -> Result<(), SessionError> {
        match self.state {
            State::Open { version, .. } if version >= HOLDS => {
                self.send(&ToCoordinator::Hold(hold))
            }
            State::Open { .. } => Ok(()),
            State::Introducing | State::Closed => {
                Err(SessionError::Unexpected("hold outside the conversation"))
            }
        }
    }

    /// Says what this target's secrets are sealed to. A coordinator that does not know of secrets yet
    /// is told nothing.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn sealing_key(&mut self, key: &[u8]) -> Result<(), SessionError> {
        match self.state {
            State::Open { version, .. } if version >= SECRETS => {
                self.send(&ToCoordinator::SealingKey(key.to_vec()))
            }
            State::Open { .. } => Ok(()),
            State::Introducing | State::Closed => Err(SessionError::Unexpected(
                "sealing key outside the conversation",
            )),
        }
    }

    /// Asks to be forgotten.
    ///
    /// # Errors
    /// [`SessionError`] when the message cannot be queued.
    pub fn leave(&mut self) -> Result<(), SessionError> {
        self.send(&ToCoordinator::Leave)
    }

    fn send(&mut self, message: &ToCoordinator) -> Result<(), SessionError> {
        if self.outgoing.len() >= OUTGOING_MAX {
            return Err(SessionError::TooSlow);
        }
        self.outgoing.push_back(encode(message)?);
        Ok(())
    }
}

/// Takes bodies off the list of missing ones; gives the finished assignment with the last of them.
fn collect(
    collecting: &mut Option<Collecting>,
    bodies: Vec<Vec<u8>>,
) -> Result<Option<Event>, SessionError> {
    // Bodies of an offer that a newer one has replaced may still be under way: they are dropped.
    let Some(wanted) = collecting else {
        return Ok(None);
    };
    for body in bodies {
        let digest = Digest::of(&body);
        if wanted.missing.remove(&digest) {
            wanted.bodies.insert(digest, body);
        }
    }
    if !wanted.missing.is_empty() {
        return Ok(None);
    }
    Ok(collecting.take().map(|done| Event::Complete {
        signed: done.signed,
        bodies: done.bodies,
    }))
}
