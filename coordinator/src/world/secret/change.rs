//! What happens to secrets, as one event each.

use holdfast_certs::vault::Plain;
use holdfast_protocol::api::secret::Secret;
use holdfast_protocol::api::steer::Steered;
use holdfast_protocol::name::{EnvironmentName, SecretName, TargetName};

use crate::event::Reply;
use crate::world::{Round, SessionId};

/// What happens.
#[derive(Debug)]
pub enum Change {
    /// What a target's secrets are sealed to.
    Key {
        /// Which target.
        target: TargetName,
        /// By which connection.
        session: SessionId,
        /// The public key.
        key: Vec<u8>,
    },
    /// A secret has a new value.
    Set {
        /// Of which environment.
        environment: EnvironmentName,
        /// The secret.
        name: SecretName,
        /// The value.
        value: Plain,
        /// Whether there has to be one already.
        rotate: bool,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Secret>,
    },
    /// A secret is to be forgotten.
    Delete {
        /// Of which environment.
        environment: EnvironmentName,
        /// The secret.
        name: SecretName,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Secret>,
    },
    /// The values of all secrets are to be under a new key.
    Rekey {
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Steered>,
    },
}

impl Round<'_> {
    /// Does it, and answers whoever asked.
    pub fn change_secret(&mut self, change: Change) {
        match change {
            Change::Key {
                target,
                session,
                key,
            } => self.sealing_key(&target, session, &key),
            Change::Set {
                environment,
                name,
                value,
                rotate,
                by,
                reply,
            } => {
                let answer = self.set_secret((&environment, &name), &value, rotate, &by);
                self.answer(reply, answer);
            }
            Change::Delete {
                environment,
                name,
                by,
                reply,
            } => {
                let answer = self.delete_secret(&environment, &name, &by);
                self.answer(reply, answer);
            }
            Change::Rekey { by, reply } => {
                let answer = self.rekey_secrets(&by);
                self.answer(reply, answer);
            }
        }
    }
}
