//! Protections, policies and notifiers, as bodies of the API.

use std::collections::BTreeMap;

use holdfast_engine::compiled::notifier::Channel;
use holdfast_engine::compiled::protection::Skippable;
use holdfast_protocol::api::guardrail::{Notifier, Policy, Protection};
use holdfast_protocol::name::ProtectionName;
use holdfast_protocol::time::friendly;

use super::World;

impl World {
    /// The protections, each with the tracks that use it.
    #[must_use]
    pub fn protections(&self) -> Vec<Protection> {
        let mut tracks: BTreeMap<&ProtectionName, Vec<String>> = BTreeMap::new();
        for (track, spec) in &self.compiled.tracks {
            for guard in &spec.guards {
                let users = tracks.entry(&guard.protection.name).or_default();
                users.push(track.to_string());
            }
        }
        let one = |protection: &holdfast_engine::compiled::Protection| Protection {
            name: protection.name.clone(),
            owner: protection.owner.clone(),
            set: protection.set.clone(),
            kind: protection.check.kind().to_owned(),
            interval: friendly(protection.interval),
            failure_threshold: protection.failure_threshold,
            skippable: skippable(&protection.skippable),
            tracks: tracks.remove(&protection.name).unwrap_or_default(),
        };
        let declared = self.compiled.protections.values();
        declared.map(AsRef::as_ref).map(one).collect()
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> Vec<Policy> {
        let one = |policy: &std::sync::Arc<holdfast_engine::compiled::Policy>| Policy {
            name: policy.name.clone(),
            owner: policy.owner.clone(),
            set: policy.set.clone(),
            summary: policy.summary.clone(),
        };
        self.compiled.policies.values().map(one).collect()
    }

    /// The notifiers, without what is confidential.
    #[must_use]
    pub fn notifiers(&self) -> Vec<Notifier> {
        let one = |notifier: &std::sync::Arc<holdfast_engine::compiled::Notifier>| Notifier {
            name: notifier.name.clone(),
            owner: notifier.owner.clone(),
            set: notifier.set.clone(),
            channel: channel(&notifier.channel).to_owned(),
            on: notifier.on.iter().cloned().collect(),
        };
        self.compiled.notifiers.values().map(one).collect()
    }
}

fn skippable(skippable: &Skippable) -> Vec<String> {
    match skippable {
        Skippable::Anyone => vec!["anyone".to_owned()],
        Skippable::Nobody => vec!["nobody".to_owned()],
        Skippable::Roles(roles) => roles.iter().map(ToString::to_string).collect(),
    }
}

const fn channel(channel: &Channel) -> &'static str {
    match channel {
        Channel::Webhook { .. } => "webhook",
        Channel::Slack { .. } => "slack",
        Channel::Teams { .. } => "teams",
    }
}
