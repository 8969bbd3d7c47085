//! The order in which services are looked at.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;

use crate::desired::Bodies;

/// The services, each after the ones it depends on; the rest of a circle comes last, by name.
pub(super) fn dependencies_first(
    selected: &BTreeMap<ServiceName, Digest>,
    bodies: &Bodies,
) -> Vec<ServiceName> {
    let mut order = Vec::with_capacity(selected.len());
    let mut placed = BTreeSet::new();
    while order.len() < selected.len() {
        let before = order.len();
        for (service, body) in selected {
            let needs = bodies.get(body).map_or(&[][..], |b| &b.workload.depends_on);
            let free = needs
                .iter()
                .all(|n| placed.contains(n) || !selected.contains_key(n));
            if free && placed.insert(service.clone()) {
                order.push(service.clone());
            }
        }
        if order.len() == before {
            let circle = selected.keys().filter(|service| !placed.contains(*service));
            order.extend(circle.cloned());
            break;
        }
    }
    order
}
