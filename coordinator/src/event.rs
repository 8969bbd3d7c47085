//! Everything that can happen to the driver: a closed list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use holdfast_certs::verify::Peer;
use holdfast_engine::check::Answer;
use holdfast_engine::track::TrackName;
use holdfast_homes::resolve::Found;
use holdfast_protocol::api::apply::{Applied, ApplyRequest, Plan};
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::freeze::NewFreeze;
use holdfast_protocol::api::release::{NewRelease, Release};
use holdfast_protocol::api::steer::{Judgement, Steer, Steered};
use holdfast_protocol::api::token::{CreatedToken, NewToken, Token};
use holdfast_protocol::api::{Code, Diagnostic};
use holdfast_protocol::assignment::{Generation, Held};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::join::{JoinRequest, Joined, RenewRequest};
use holdfast_protocol::message::{Hello, Refusal};
use holdfast_protocol::name::{
    ArtifactName, EnvironmentName, LabelKey, LabelValue, NotifierName, ServiceName, TargetName,
};
use holdfast_protocol::observed::{Hold, Report};
use tokio::sync::{oneshot, watch};

use crate::access::Caller;
use crate::world::access;
use crate::world::apply::{NotApplied, Prepared};
use crate::world::secret::Change;
use crate::world::{Orders, SessionId, World};

/// Why something was not done; becomes a problem document of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What kind of reason.
    pub code: Code,
    /// The reason in one sentence.
    pub detail: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Everything wrong with manifests.
    pub diagnostics: Vec<Diagnostic>,
}

/// Where the answer to an event goes.
pub type Reply<T, E = Refused> = oneshot::Sender<Result<T, E>>;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A target introduced itself.
    Connected(Box<Connected>),
    /// A connection ended.
    Disconnected {
        /// Whose.
        target: TargetName,
        /// Which.
        session: SessionId,
    },
    /// An assignment is in force on a target.
    Accepted {
        /// Where.
        target: TargetName,
        /// By which connection.
        session: SessionId,
        /// Which assignment.
        held: Held,
    },
    /// A target did not take an assignment.
    AssignmentRefused {
        /// Which target.
        target: TargetName,
        /// By which connection.
        session: SessionId,
        /// The assignment's number.
        generation: Generation,
        /// Why.
        reason: Refusal,
    },
    /// A target reports what it observed.
    Report {
        /// Which target.
        target: TargetName,
        /// By which connection.
        session: SessionId,
        /// What it observed.
        report: Box<Report>,
    },
    /// Whether a target's own site asks for it to be left alone.
    Hold {
        /// Which target.
        target: TargetName,
        /// By which connection.
        session: SessionId,
        /// The wish; none once it is over.
        hold: Option<Hold>,
    },
    /// Somebody asks to join.
    Join {
        /// The request.
        request: Box<JoinRequest>,
        /// From where.
        from: SocketAddr,
        /// The answer.
        reply: Reply<Joined>,
    },
    /// A target asks for a new certificate on its live connection.
    Renew {
        /// Who it is.
        peer: Box<Peer>,
        /// The request for a certificate.
        request: Vec<u8>,
        /// The answer: the new chain.
        reply: Reply<Vec<Vec<u8>>>,
    },
    /// A target whose certificate expired asks for a new one.
    RenewExpired {
        /// The request.
        request: Box<RenewRequest>,
        /// Bytes of the TLS exporter of its connection.
        exporter: Vec<u8>,
        /// From where.
        from: SocketAddr,
        /// The answer.
        reply: Reply<Joined>,
    },
    /// A target leaves for good.
    Leave {
        /// Which.
        target: TargetName,
        /// By which connection.
        session: SessionId,
        /// The answer, after which the connection may be closed.
        reply: Reply<()>,
    },
    /// A peer did what it may not.
    Offence {
        /// Who, as far as it is known.
        target: Option<TargetName>,
        /// From where.
        from: SocketAddr,
        /// What.
        what: String,
    },
    /// Manifests were applied.
    Apply {
        /// The parsed and compiled request.
        prepared: Box<Prepared>,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Applied, NotApplied>,
    },
    /// What would an apply do?
    Plan {
        /// The parsed and compiled request.
        prepared: Box<Prepared>,
        /// The request itself, to be given back.
        request: Box<ApplyRequest>,
        /// The answer.
        reply: Reply<Plan, NotApplied>,
    },
    /// A person lets held removals happen.
    ConfirmRemovals {
        /// The revision that made them.
        revision: u64,
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
        /// The answer.
        reply: Reply<Steered>,
    },
    /// A new release.
    Release {
        /// Of which service.
        service: ServiceName,
        /// The release.
        new: Box<NewRelease>,
        /// What its homes lead to.
        found: BTreeMap<ArtifactName, Found>,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Release>,
    },
    /// The content of an artifact is on disk.
    ArtifactStored {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// The answer.
        reply: Reply<()>,
    },
    /// Files that have been there for a while; those that nothing needs are forgotten.
    ForgetArtifacts {
        /// Which.
        old: BTreeSet<Digest>,
        /// How many of the newest releases of each service keep theirs.
        keep: usize,
        /// Which may be removed now.
        reply: Reply<Vec<Digest>>,
    },
    /// They are removed.
    ArtifactsRemoved(Vec<Digest>),
    /// A check was performed, or could not be.
    Checked {
        /// For which track.
        track: TrackName,
        /// What came of it.
        answer: Answer,
    },
    /// A target answered with the end of the output of what failed there.
    LastLines {
        /// In which deployment.
        deployment: u64,
        /// Which target.
        target: TargetName,
        /// The lines, oldest first.
        lines: Vec<String>,
    },
    /// A notifier has told an event, or gave up on it.
    Told {
        /// Which notifier.
        notifier: NotifierName,
        /// The event's number.
        sequence: u64,
        /// Why it gave up.
        outcome: Result<(), String>,
        /// The answer.
        reply: Reply<()>,
    },
    /// A person freezes an environment, or all.
    Freeze {
        /// The wish.
        new: NewFreeze,
        /// Who.
        by: Box<Caller>,
        /// The answer.
        reply: Reply<Steered>,
    },
    /// A person ends a freeze.
    Unfreeze {
        /// Of which environment; the one of all where none is named.
        environment: Option<EnvironmentName>,
        /// Who.
        by: Box<Caller>,
        /// Why.
        reason: Option<String>,
        /// The answer.
        reply: Reply<Steered>,
    },
    /// A person steers a track.
    Steer {
        /// Which.
        track: TrackName,
        /// How.
        verb: Verb,
        /// Why, and to what.
        wish: Steer,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Steered>,
    },
    /// A person says something of a deployment.
    Judge {
        /// Its number.
        deployment: u64,
        /// What.
        judging: Judging,
        /// Why, and of which protection.
        judgement: Judgement,
        /// Who.
        caller: Box<Caller>,
        /// The answer.
        reply: Reply<Steered>,
    },
    /// A person wants what a deployment brought once more.
    Repeat {
        /// The deployment, as it is recorded.
        deployment: Box<Deployment>,
        /// Why.
        reason: Option<String>,
        /// Who.
        caller: Box<Caller>,
        /// The answer.
        reply: Reply<Steered>,
    },
    /// A new join token.
    CreateToken {
        /// The wish.
        new: NewToken,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<CreatedToken>,
    },
    /// A join token is to be void.
    RevokeToken {
        /// Which.
        id: String,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<Token>,
    },
    /// A person asks something of one target.
    SteerTarget {
        /// Which.
        target: TargetName,
        /// What.
        verb: TargetVerb,
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
        /// The answer.
        reply: Reply<()>,
    },
    /// Secrets change, or what they are sealed to.
    Secret(Box<Change>),
    /// A target's labels change.
    Label {
        /// Which target.
        target: TargetName,
        /// Label to value, or to none.
        change: Vec<(LabelKey, Option<LabelValue>)>,
        /// Who.
        by: String,
        /// The answer.
        reply: Reply<()>,
    },
    /// Who may do what changes.
    Access {
        /// How.
        change: Box<access::Change>,
        /// Who, with what they may do.
        by: Box<Caller>,
    },
}

/// A target that introduced itself.
#[derive(Debug)]
pub struct Connected {
    /// Who, from the certificate.
    pub peer: Peer,
    /// Which connection.
    pub session: SessionId,
    /// How it introduced itself.
    pub hello: Hello,
    /// The connection.
    pub connection: quinn::Connection,
    /// What the connection's task shall send.
    pub orders: watch::Sender<Orders>,
    /// Whether it is let in.
    pub reply: Reply<()>,
}

/// How a person can steer a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Bring one release, once.
    Deploy,
    /// Let a release come that is stable before.
    Promote,
    /// Keep one release.
    Pin,
    /// End a pin.
    Unpin,
    /// Put an earlier release back.
    Rollback,
    /// Try again what failed.
    Retry,
    /// Stop what is under way, for good.
    Halt,
    /// Start nothing new.
    Pause,
    /// End a pause.
    Resume,
}

/// What a person can say of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judging {
    /// Yes.
    Approve,
    /// No.
    Reject,
    /// One protection shall not hold it.
    Skip,
}

impl Judging {
    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "approve" => Some(Self::Approve),
            "reject" => Some(Self::Reject),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }
}

/// What a person can ask of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetVerb {
    /// Make its certificates void.
    Revoke,
    /// Let it go on, though it is ahead of what is known here.
    Resume,
}

/// A question about the world, asked between two rounds.
pub type Question = Box<dyn FnOnce(&World) + Send>;

impl Refused {
    /// A refusal without help.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            help: None,
            diagnostics: Vec::new(),
        }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Event {
    /// A change to who may do what.
    #[must_use]
    pub fn access(by: Caller, change: access::Change) -> Self {
        Self::Access {
            change: Box::new(change),
            by: Box::new(by),
        }
    }
}

impl Verb {
    /// Every verb with its name in paths and commands.
    pub const ALL: [(&'static str, Self); 9] = [
        ("deploy", Self::Deploy),
        ("promote", Self::Promote),
        ("pin", Self::Pin),
        ("unpin", Self::Unpin),
        ("rollback", Self::Rollback),
        ("retry", Self::Retry),
        ("halt", Self::Halt),
        ("pause", Self::Pause),
        ("resume", Self::Resume),
    ];

    /// The verb of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, verb)| *verb)
    }
}
