//! Notifiers from their documents.

use holdfast_protocol::name::{EnvironmentName, NotifierName, SecretName, ServiceName};

use crate::compile::Owned;
use crate::compile::field::{names, text};
use crate::compiled::Notifier;
use crate::compiled::notifier::{Channel, Sealable};
use crate::manifest::node::Node;

/// The notifier that a checked document describes.
pub(super) fn notifier(name: &NotifierName, owned: Owned<'_>) -> Option<Notifier> {
    let spec = owned.document.spec()?;
    let matched = spec.at("match");
    let listed = |key: &str| matched.and_then(|matched| matched.at(key));
    let on = spec.at("on").map_or(&[][..], Node::items);
    Some(Notifier {
        name: name.clone(),
        owner: owned.document.owner.clone(),
        set: owned.set.clone(),
        on: on.iter().map(|kind| text(kind).to_owned()).collect(),
        services: names(listed("services"), ServiceName::parse)
            .into_iter()
            .collect(),
        environments: names(listed("environments"), EnvironmentName::parse)
            .into_iter()
            .collect(),
        channel: channel(spec)?,
    })
}

fn channel(spec: &Node) -> Option<Channel> {
    let url = |node: &Node| sealable(node.at("url")?);
    if let Some(node) = spec.at("slack") {
        return Some(Channel::Slack { url: url(node)? });
    }
    if let Some(node) = spec.at("teams") {
        return Some(Channel::Teams { url: url(node)? });
    }
    let node = spec.at("webhook")?;
    Some(Channel::Webhook {
        url: url(node)?,
        key: node.at("key").and_then(sealable),
    })
}

fn sealable(node: &Node) -> Option<Sealable> {
    match (node.text(), node.at("file")) {
        (Some(plain), _) => Some(Sealable::Plain(plain.to_owned())),
        (None, Some(file)) => Some(Sealable::File(text(file).to_owned())),
        (None, None) => {
            let environment = EnvironmentName::parse(text(node.at("environment")?)).ok()?;
            let secret = SecretName::parse(text(node.at("secret")?)).ok()?;
            Some(Sealable::Secret(environment, secret))
        }
    }
}
