//! What can be changed of a container that exists: as it was left, as it is, what differs. Pure.

use std::collections::BTreeSet;

use bollard::models::{ContainerInspectResponse, ContainerUpdateBody, RestartPolicy};
use serde::{Deserialize, Serialize};

/// Everything of a container that somebody can change without making another one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) networks: BTreeSet<String>,
    pub(super) restart: String,
    /// In the order of [`LIMITS`], in the engine's units; 0 is none.
    pub(super) limits: [i64; 9],
    pub(super) cpuset: String,
}

/// The numbers among a container's limits.
const LIMITS: [&str; 9] = [
    "its memory limit",
    "its limit of memory and swap",
    "its memory reservation",
    "its processors (in billionths)",
    "its share of processors",
    "its processor period",
    "its processor quota",
    "its limit of processes",
    "its weight of block I/O",
];

impl Shape {
    pub(super) fn of(container: &ContainerInspectResponse) -> Self {
        let host = container.host_config.clone().unwrap_or_default();
        let networks = container
            .network_settings
            .as_ref()
            .and_then(|settings| settings.networks.as_ref());
        let number = |value: Option<i64>| value.unwrap_or(0);
        let set = |set: Option<String>| set.unwrap_or_default();
        Self {
            name: plain_name(container.name.as_deref().unwrap_or_default()),
            networks: networks
                .map(|n| n.keys().cloned().collect())
                .unwrap_or_default(),
            restart: host.restart_policy.map(said).unwrap_or_default(),
            limits: [
                number(host.memory),
                number(host.memory_swap),
                number(host.memory_reservation),
                number(host.nano_cpus),
                number(host.cpu_shares),
                number(host.cpu_period),
                number(host.cpu_quota),
                number(host.pids_limit),
                host.blkio_weight.map_or(0, i64::from),
            ],
            cpuset: format!("{}/{}", set(host.cpuset_cpus), set(host.cpuset_mems)),
        }
    }

    /// What differs in `now` from this, for people; nothing where nothing does.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        let mut found = Vec::new();
        let mut differs = |what: &str, was: &str, is: &str| {
            if was != is {
                found.push(format!("{what} is {is:?}, not {was:?}"));
            }
        };
        differs("its name", &self.name, &now.name);
        differs("its restart policy", &self.restart, &now.restart);
        differs("its set of processors", &self.cpuset, &now.cpuset);
        let numbers = LIMITS.iter().zip(self.limits.iter().zip(&now.limits));
        for (what, (was, is)) in numbers.filter(|(_, (was, is))| was != is) {
            found.push(format!("{what} is {is}, not {was}"));
        }
        let left = self.networks.difference(&now.networks);
        found.extend(left.map(|network| format!("it was taken off network {network}")));
        let joined = now.networks.difference(&self.networks);
        found.extend(joined.map(|network| format!("it was put on network {network}")));
        (!found.is_empty()).then(|| found.join(", "))
    }

    /// The limits that bring `now` back to this; nothing where none differ.
    pub(super) fn update(&self, now: &Self) -> Option<ContainerUpdateBody> {
        if self.limits == now.limits && self.restart == now.restart {
            return None;
        }
        let [
            memory,
            swap,
            reservation,
            nano,
            shares,
            period,
            quota,
            pids,
            _,
        ] = self.limits;
        let memory_differs = self
            .limits
            .iter()
            .zip(&now.limits)
            .take(2)
            .any(|(a, b)| a != b);
        let differing =
            |i: usize, value: i64| (self.limits.get(i) != now.limits.get(i)).then_some(value);
        Some(ContainerUpdateBody {
            // The two are checked against each other.
            memory: memory_differs.then_some(memory),
            memory_swap: memory_differs.then_some(swap),
            memory_reservation: differing(2, reservation),
            nano_cpus: differing(3, nano),
            cpu_shares: differing(4, shares),
            cpu_period: differing(5, period),
            cpu_quota: differing(6, quota),
            pids_limit: differing(7, pids),
            restart_policy: (self.restart != now.restart).then_some(RestartPolicy {
                name: Some(bollard::models::RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..ContainerUpdateBody::default()
        })
    }
}

/// A container's name without the engine's slash.
pub(super) fn plain_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn said(policy: RestartPolicy) -> String {
    let name = policy.name.map(|name| name.to_string()).unwrap_or_default();
    // Engines write "no" or nothing for the same.
    if name == "no" { String::new() } else { name }
}
