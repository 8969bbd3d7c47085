//! The values that are kept, where they are not types of the protocol or the engine already.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_engine::track::{Placement, Point};
use holdfast_protocol::api::apply::Change;
use holdfast_protocol::api::event::Event;
use holdfast_protocol::api::role::{Permission, Scope};
use holdfast_protocol::api::target::Condition;
use holdfast_protocol::api::token;
use holdfast_protocol::assignment::Generation;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{
    EnvironmentName, InputSetName, NotifierName, RoleName, SecretName, ServiceName, TargetName,
    UserName, Version,
};
use holdfast_protocol::observed::{Facts, Hold, Labels, State};
use holdfast_protocol::secret::SecretRef;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A revision with the content of the one set that it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// The set.
    pub set: InputSetName,
    /// The set's files as JSON.
    pub files: String,
    /// What changed.
    pub changes: Vec<Change>,
    /// When.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A track that is declared no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The revision that no longer declares it.
    pub revision: u64,
    /// Whether it may go.
    pub confirmed: bool,
}

/// What a target is assigned of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Release and configuration.
    pub point: Point,
    /// Since when.
    pub since: Timestamp,
    /// The rendered workload, or why there is none for this target.
    pub body: Result<Digest, String>,
}

/// A joined host or cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its name.
    pub name: TargetName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// The labels that people and its token gave it.
    pub given: Labels,
    /// What it is, as it last said.
    pub facts: Facts,
    /// When it joined.
    pub joined_at: Timestamp,
    /// The agent's release.
    pub agent_version: String,
    /// When its newest certificate ends.
    pub certificate_expires: Timestamp,
    /// What is wrong with it.
    pub conditions: Vec<Condition>,
    /// When it was last known to come or go.
    pub since: Timestamp,
    /// Set once its certificates are void.
    pub revoked_at: Option<Timestamp>,
    /// The newest assignment that it has made so.
    pub converged: Option<Generation>,
    /// The assignment that it holds, where that is newer than any that was known here: nothing is sent
    /// to it until a person lets it go on.
    #[serde(default)]
    pub ahead: Option<Generation>,
    /// The wish of its own site to be left alone, as it last said.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// The public key that its secrets are sealed to, hexadecimal; none before it has told one.
    #[serde(default)]
    pub sealing_key: Option<String>,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub target: TargetName,
    /// The environment whose authority issued it.
    pub environment: EnvironmentName,
    /// When it ends.
    pub not_after: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What was last observed of a service on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The service.
    pub service: ServiceName,
    /// Digest of the body that the target was asked to run then.
    pub wanted: Option<Digest>,
    /// Digest of the body that it ran.
    pub running: Option<Digest>,
    /// The release that it ran.
    pub version: Option<Version>,
    /// How it did.
    pub state: State,
    /// Why.
    pub message: String,
    /// Since when, by the target's clock.
    pub since: Timestamp,
    /// Since when by the coordinator's clock: when this state of this body was first heard of.
    pub heard_at: Timestamp,
    /// How often it was started again without being asked to.
    pub restarts: u32,
}

/// A join token as it is kept: the secret only as its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
    /// What may be told of it.
    pub about: token::Token,
}

/// Somebody whom a token let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The token's public part.
    pub token: String,
    /// Digest of the public key.
    pub public_key: Digest,
    /// The target it became.
    pub target: TargetName,
    /// The certificate that it got, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// When.
    pub at: Timestamp,
}

/// Somebody who may use the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// SHA-256 of the bearer token.
    pub token_hash: Digest,
    /// The user's name.
    pub name: UserName,
    /// The user's roles, sorted.
    pub roles: Vec<RoleName>,
    /// When the token was made.
    pub created_at: Timestamp,
    /// By whom.
    #[serde(default = "the_coordinator")]
    pub created_by: String,
    /// When it ends; never, if nothing is said.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Set once it is void.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
}

/// Who made the users of the first schema.
fn the_coordinator() -> String {
    "coordinator".to_owned()
}

/// A role that somebody declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// What it allows.
    pub permissions: BTreeSet<Permission>,
    /// Where.
    pub scope: Scope,
    /// When it was declared or last changed.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// One value of a secret, or that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The environment that it is for.
    pub environment: EnvironmentName,
    /// The secret.
    pub name: SecretName,
    /// Its number.
    pub version: u64,
    /// The value, encrypted; none where the secret was deleted.
    pub closed: Option<Vec<u8>>,
    /// When.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
}

impl Secret {
    /// Which value it is, as targets ask for it.
    #[must_use]
    pub fn which(&self) -> SecretRef {
        SecretRef {
            name: self.name.clone(),
            version: self.version,
        }
    }
}

/// An event that a notifier has not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The notifier.
    pub notifier: NotifierName,
    /// The event.
    pub event: Event,
}

/// Facts about the installation, by key.
pub type Installation = BTreeMap<String, String>;

/// The placement that a row holds, as the engine knows it.
impl From<&Placed> for Placement {
    fn from(placed: &Placed) -> Self {
        Self {
            point: placed.point.clone(),
            since: placed.since,
        }
    }
}
