//! Environments and services as declared, from their documents.

use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName};

use crate::compile::field::{labels, names, number, text};
use crate::compile::rollout::rollout;
use crate::compile::upstream::{follow, promotion};
use crate::compile::{Owned, layers};
use crate::compiled::{Environment, RemovalLimit, Service};
use crate::manifest::node::Node;
use crate::manifest::read_percent;

/// The environment that a checked document describes.
pub(super) fn environment(name: &EnvironmentName, owned: Owned<'_>) -> Environment {
    let tree = layers::environment(owned);
    let limit = tree.at("removalLimit");
    let services = limit.and_then(|l| l.leaf("services")).map_or(0, number);
    let share = limit
        .and_then(|l| l.leaf("workloads"))
        .and_then(read_percent)
        .unwrap_or(0);
    Environment {
        name: name.clone(),
        owner: owned.document.owner.clone(),
        set: owned.set.clone(),
        after: names(tree.leaf("after"), EnvironmentName::parse),
        promotion: promotion(&tree),
        follow: follow(&tree),
        rollout: rollout(&tree),
        removal_limit: RemovalLimit {
            services,
            workloads_percent: share,
        },
    }
}

/// The service that a checked document describes.
pub(super) fn service(name: &ServiceName, owned: Owned<'_>) -> Service {
    let spec = owned.document.spec();
    let runtime = spec.and_then(|s| s.at("runtime")).map_or("", text);
    let metadata = owned.document.root.at("metadata");
    let artifacts = spec
        .and_then(|s| s.at("artifacts"))
        .map_or(&[][..], Node::entries);
    let of_kind = |kind: &str| {
        let entries = artifacts.iter().filter_map(|e| {
            Some((
                ArtifactName::parse(&e.key).ok()?,
                text(e.node.at(kind)?).to_owned(),
            ))
        });
        entries.collect()
    };
    Service {
        name: name.clone(),
        owner: owned.document.owner.clone(),
        set: owned.set.clone(),
        runtime: runtime.to_owned(),
        artifacts: of_kind("file"),
        images: of_kind("image"),
        depends_on: names(spec.and_then(|s| s.at("dependsOn")), ServiceName::parse),
        labels: metadata
            .and_then(|m| m.at("labels"))
            .map(labels)
            .unwrap_or_default(),
    }
}
