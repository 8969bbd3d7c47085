//! Whether environments and services refer to each other in ways that can be followed: nothing
//! dangling, no circle.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::name::{EnvironmentName, ServiceName};

use crate::compile::{Declared, Owned, Report};
use crate::diagnostic::{Place, suggestion};
use crate::manifest::node::Node;

/// Reports every name that leads nowhere and every circle in `after`.
pub(super) fn check(declared: &Declared<'_>, report: &mut Report<'_>) {
    let environments = || declared.environments.keys().map(|name| name.as_str());
    let services = || declared.services.keys().map(|name| name.as_str());
    for owned in declared.environments.values() {
        for node in list(owned.document.spec(), "after") {
            resolve(*owned, node, "environment", environments(), report);
        }
    }
    for owned in declared.services.values() {
        let spec = owned.document.spec();
        for node in list(spec, "dependsOn") {
            resolve(*owned, node, "service", services(), report);
        }
        for entry in spec
            .and_then(|s| s.at("environments"))
            .map_or(&[][..], Node::entries)
        {
            if !declared.environments.contains_key(entry.key.as_str()) {
                unknown(
                    *owned,
                    entry.place,
                    &entry.key,
                    "environment",
                    environments(),
                    report,
                );
            }
            for node in list(Some(&entry.node), "dependsOn") {
                resolve(*owned, node, "service", services(), report);
            }
        }
    }
    if report.problems.is_empty() {
        circles_in_order(declared, report);
    }
}

/// The texts of the list at `key`, each with its value.
pub(super) fn list<'n>(
    node: Option<&'n Node>,
    key: &str,
) -> impl Iterator<Item = &'n Node> + use<'n> {
    node.and_then(|n| n.at(key))
        .map_or(&[][..], Node::items)
        .iter()
}

/// Reports the services of one environment that wait for each other in a circle.
pub(super) fn circles_of_services(
    environment: &EnvironmentName,
    depends_on: &BTreeMap<ServiceName, Vec<(ServiceName, Owned<'_>, Place)>>,
    report: &mut Report<'_>,
) {
    let edges = |name: &&str| -> Vec<&str> {
        depends_on
            .get(*name)
            .into_iter()
            .flatten()
            .map(|(to, ..)| to.as_str())
            .collect()
    };
    for circle in circles(depends_on.keys().map(|name| name.as_str()).collect(), edges) {
        let (from, to) = (circle[0], circle[1 % circle.len()]);
        let found = depends_on
            .get(from)
            .and_then(|all| all.iter().find(|(name, ..)| name.as_str() == to));
        if let Some((_, owned, place)) = found {
            let message = format!(
                "services depend on each other in {environment}: {}",
                chain(&circle)
            );
            report.add(*owned, *place, message, None);
        }
    }
}

fn circles_in_order(declared: &Declared<'_>, report: &mut Report<'_>) {
    let edges = |name: &&str| -> Vec<&str> {
        let owned = declared.environments.get(*name);
        list(owned.and_then(|o| o.document.spec()), "after")
            .filter_map(Node::text)
            .collect()
    };
    let names = declared
        .environments
        .keys()
        .map(|name| name.as_str())
        .collect();
    for circle in circles(names, edges) {
        let Some(owned) = declared.environments.get(circle[0]) else {
            continue;
        };
        let to = circle[1 % circle.len()];
        let node = list(owned.document.spec(), "after").find(|n| n.text() == Some(to));
        let place = node.map_or(owned.document.place, |n| n.place);
        let message = format!(
            "environments come after each other in a circle: {}",
            chain(&circle)
        );
        report.add(*owned, place, message, None);
    }
}

fn chain(circle: &[impl std::fmt::Display]) -> String {
    let names: Vec<String> = circle
        .iter()
        .chain(circle.first())
        .map(ToString::to_string)
        .collect();
    names.join(" -> ")
}

/// One circle for each knot of names that lead to each other, beginning with its least name. Does not
/// recurse, since a chain may be as long as there are names.
fn circles<N: Ord + Copy>(names: Vec<N>, edges: impl Fn(&N) -> Vec<N>) -> Vec<Vec<N>> {
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for start in names {
        let mut path: Vec<(N, Vec<N>)> = vec![(start, edges(&start))];
        if done.contains(&start) {
            continue;
        }
        while let Some((name, ahead)) = path.last_mut() {
            let Some(next) = ahead.pop() else {
                done.insert(*name);
                path.pop();
                continue;
            };
            if let Some(at) = path.iter().position(|(n, _)| *n == next) {
                let mut circle: Vec<N> = path[at..].iter().map(|(n, _)| *n).collect();
                let least = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or(0);
                circle.rotate_left(least);
                found.push(circle);
            } else if !done.contains(&next) {
                path.push((next, edges(&next)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn resolve<'k>(
    owned: Owned<'_>,
    node: &Node,
    kind: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    report: &mut Report<'_>,
) {
    let name = node.text().unwrap_or_default();
    if !known.clone().any(|k| k == name) {
        unknown(owned, node.place, name, kind, known, report);
    }
}

fn unknown<'k>(
    owned: Owned<'_>,
    place: Place,
    name: &str,
    kind: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    report: &mut Report<'_>,
) {
    let message = format!("there is no {kind} `{name}`");
    let elsewhere = "offline, pass the files of every set that belongs to it with -f";
    let help = match suggestion(name, known) {
        Some(help) => format!("{help}; {elsewhere}"),
        None => elsewhere.to_owned(),
    };
    report.add(owned, place, message, Some(help));
}
