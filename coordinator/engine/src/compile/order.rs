//! Whether environments and services refer to each other in ways that can be followed: nothing
//! dangling, no circle.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::name::{EnvironmentName, ServiceName};

use crate::compile::{Declared, Owned, Report};
use crate::diagnostic::{Place, suggestion};
use crate::manifest::node::Node;

/// Reports every name that leads nowhere and every circle in `after`.
pub(super) fn check(declared: &Declared<'_>, report: &mut Report<'_>) {
    for owned in declared.environments.values() {
        for node in list(owned.document.spec(), "after") {
            is_environment(declared, *owned, text(node), node.place, report);
        }
    }
    for owned in declared.services.values() {
        let spec = owned.document.spec();
        are_services(declared, *owned, spec, report);
        for entry in spec
            .and_then(|s| s.at("environments"))
            .map_or(&[][..], Node::entries)
        {
            is_environment(declared, *owned, &entry.key, entry.place, report);
            are_services(declared, *owned, Some(&entry.node), report);
        }
    }
    if report.problems.is_empty() {
        circles_in_order(declared, report);
    }
}

fn is_environment(
    declared: &Declared<'_>,
    owned: Owned<'_>,
    name: &str,
    place: Place,
    report: &mut Report<'_>,
) {
    if !declared.environments.contains_key(name) {
        let known = declared.environments.keys().map(EnvironmentName::as_str);
        unknown(owned, place, ("environment", name), known, report);
    }
}

fn are_services(
    declared: &Declared<'_>,
    owned: Owned<'_>,
    node: Option<&Node>,
    report: &mut Report<'_>,
) {
    for node in list(node, "dependsOn") {
        if !declared.services.contains_key(text(node)) {
            let known = declared.services.keys().map(ServiceName::as_str);
            unknown(owned, node.place, ("service", text(node)), known, report);
        }
    }
}

fn text(node: &Node) -> &str {
    node.text().unwrap_or_default()
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
            report.add(*owned, *place, message, Some(OPEN_THE_CIRCLE.to_owned()));
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
        report.add(*owned, place, message, Some(OPEN_THE_CIRCLE.to_owned()));
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

/// One circle for each knot of names that lead to each other, beginning with its least name; at most
/// [`CIRCLES_MAX`]. Does not recurse, since a chain may be as long as there are names.
fn circles<N: Ord + Copy>(names: Vec<N>, edges: impl Fn(&N) -> Vec<N>) -> Vec<Vec<N>> {
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for start in names {
        if done.contains(&start) {
            continue;
        }
        let mut path: Vec<(N, Vec<N>)> = vec![(start, edges(&start))];
        let mut on_path = BTreeSet::from([start]);
        while let Some((name, ahead)) = path.last_mut() {
            let Some(next) = ahead.pop() else {
                on_path.remove(name);
                done.insert(*name);
                path.pop();
                continue;
            };
            if on_path.contains(&next) {
                found.push(circle(&path, next));
                if found.len() == CIRCLES_MAX {
                    return found;
                }
            } else if !done.contains(&next) {
                path.push((next, edges(&next)));
                on_path.insert(next);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The end of `path` from `first` on, turned so that it begins with its least name.
fn circle<N: Ord + Copy>(path: &[(N, Vec<N>)], first: N) -> Vec<N> {
    let names = path.iter().map(|(name, _)| *name);
    let mut circle: Vec<N> = names.skip_while(|name| *name != first).collect();
    let least = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or(0);
    circle.rotate_left(least);
    circle
}

fn unknown<'k>(
    owned: Owned<'_>,
    place: Place,
    (kind, name): (&str, &str),
    known: impl Iterator<Item = &'k str> + Clone,
    report: &mut Report<'_>,
) {
    let message = format!("there is no {kind} `{name}`");
    let mut help = match report.problems.is_full() {
        true => None,
        false => suggestion(name, known),
    };
    if report.offline {
        let elsewhere = "if another set declares it, pass its files with -f as well";
        help = Some(help.map_or_else(|| elsewhere.to_owned(), |h| format!("{h}; {elsewhere}")));
    }
    report.add(owned, place, message, help);
}

/// What to do about a circle.
const OPEN_THE_CIRCLE: &str = "take one of these references out, so that one of them comes first";
/// Most circles that are reported.
const CIRCLES_MAX: usize = 10;
