//! Notifiers: where events are told outside.

use std::collections::BTreeSet;

use holdfast_protocol::name::{
    EnvironmentName, InputSetName, NotifierName, SecretName, ServiceName,
};

/// A notifier as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notifier {
    /// Its name.
    pub name: NotifierName,
    /// Who owns it; empty where nobody said.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// The kinds of event that it tells; none where it is only named by protections.
    pub on: BTreeSet<String>,
    /// Only of these services; of all where there are none.
    pub services: BTreeSet<ServiceName>,
    /// Only of these environments; of all where there are none.
    pub environments: BTreeSet<EnvironmentName>,
    /// How.
    pub channel: Channel,
}

/// How a notifier tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// `CloudEvents` JSON, signed (Standard Webhooks) where there is a key.
    Webhook {
        /// Where to.
        url: Sealable,
        /// The key of the signature.
        key: Option<Sealable>,
    },
    /// A message for people.
    Slack {
        /// The incoming webhook.
        url: Sealable,
    },
    /// An adaptive card.
    Teams {
        /// The workflow's address.
        url: Sealable,
    },
}

/// A text that may be too confidential for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealable {
    /// As written.
    Plain(String),
    /// The content of this file on the coordinator, below its directory for such files.
    File(String),
    /// The newest value of a secret of an environment.
    Secret(EnvironmentName, SecretName),
}

impl Notifier {
    /// Whether a secret is a part of how it tells.
    #[must_use]
    pub fn names(&self, environment: &EnvironmentName, secret: &SecretName) -> bool {
        let is_it = |text: &Sealable| match text {
            Sealable::Secret(of, name) => of == environment && name == secret,
            Sealable::Plain(_) | Sealable::File(_) => false,
        };
        self.channel.confidential().any(is_it)
    }
}

impl Channel {
    /// All that may be too confidential for a manifest.
    pub fn confidential(&self) -> impl Iterator<Item = &Sealable> {
        let (url, key) = match self {
            Self::Webhook { url, key } => (url, key.as_ref()),
            Self::Slack { url } | Self::Teams { url } => (url, None),
        };
        std::iter::once(url).chain(key)
    }
}
