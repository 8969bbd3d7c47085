//! Circles: names that wait for each other, found and told in full.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::name::{EnvironmentName, ServiceName};

use crate::compile::order::{before_of, list};
use crate::compile::{Declared, Owned, Report};
use crate::compiled::{Compiled, TrackSpec};
use crate::diagnostic::Place;
use crate::manifest::node::Node;
use crate::track::TrackName;

/// Reports the services of one environment that wait for each other in a circle.
pub(super) fn of_services(
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

/// Reports the environments that come after each other, or mirror each other, in a circle.
pub(super) fn of_environments(declared: &Declared<'_>, report: &mut Report<'_>) {
    let spec = |name: &str| declared.environments.get(name)?.document.spec();
    let edges = |name: &&str| before_of(spec(name)).filter_map(Node::text).collect();
    let names = declared.environments.keys();
    for circle in circles(names.map(|name| name.as_str()).collect(), edges) {
        let Some(owned) = declared.environments.get(circle[0]) else {
            continue;
        };
        let to = circle[1 % circle.len()];
        let node = before_of(spec(circle[0])).find(|node| node.text() == Some(to));
        let place = node.map_or(owned.document.place, |node| node.place);
        let ordered = list(spec(circle[0]), "after").any(|node| node.text() == Some(to));
        let verb = if ordered { "come after" } else { "follow" };
        let message = format!(
            "environments {verb} each other in a circle: {}",
            chain(&circle)
        );
        report.add(*owned, place, message, Some(OPEN_THE_CIRCLE.to_owned()));
    }
}

/// Reports tracks that wait for each other in a circle, by whatever they wait: environments before,
/// services that they depend on, checks that ask whether another track is stable. Where nothing but the
/// order of environments and services counts, those circles have been found before.
pub(super) fn of_tracks(declared: &Declared<'_>, compiled: &Compiled, report: &mut Report<'_>) {
    let specs: Vec<&TrackSpec> = compiled.tracks.values().map(AsRef::as_ref).collect();
    let index: BTreeMap<&TrackName, usize> = compiled.tracks.keys().zip(0..).collect();
    let edges: Vec<Vec<(usize, Edge<'_>)>> = specs
        .iter()
        .map(|spec| {
            waits_for(spec)
                .filter_map(|(to, edge)| Some((*index.get(&to)?, edge)))
                .collect()
        })
        .collect();
    let next = |at: &usize| edges[*at].iter().map(|(to, _)| *to).collect();
    for circle in circles((0..specs.len()).collect(), next) {
        let steps: Vec<(usize, &Edge<'_>)> = circle
            .iter()
            .zip(circle.iter().skip(1).chain(circle.first()))
            .filter_map(|(from, to)| {
                let edge = edges[*from].iter().find(|(next, _)| next == to)?;
                Some((*to, &edge.1))
            })
            .collect();
        let first = circle
            .first()
            .map_or_else(String::new, |at| words(specs[*at]));
        let message = steps.iter().fold(first, |text, (to, edge)| {
            format!("{text} -> ({}) {}", edge.words(), words(specs[*to]))
        });
        let (owned, place) = place(declared, specs[circle[0]], &steps);
        let message = format!("tracks wait for each other in a circle: {message}");
        report.add(owned, place, message, Some(OPEN_THE_CIRCLE.to_owned()));
    }
}

/// By what one track waits for another.
enum Edge<'c> {
    After,
    Follow,
    DependsOn,
    Stable(&'c str),
}

impl Edge<'_> {
    fn words(&self) -> String {
        match self {
            Self::After => "after".to_owned(),
            Self::Follow => "follows".to_owned(),
            Self::DependsOn => "depends on".to_owned(),
            Self::Stable(protection) => format!("{protection} asks about"),
        }
    }
}

fn waits_for(spec: &TrackSpec) -> impl Iterator<Item = (TrackName, Edge<'_>)> {
    let track = |service: &ServiceName, environment: &EnvironmentName| TrackName {
        service: service.clone(),
        environment: environment.clone(),
    };
    let TrackName {
        service,
        environment,
    } = &spec.name;
    let upstream = spec.upstream().map(move |before| {
        let edge = if spec.follow.is_some() {
            Edge::Follow
        } else {
            Edge::After
        };
        (track(service, before), edge)
    });
    let dependencies = spec.depends_on.iter();
    let dependencies = dependencies.map(move |on| (track(on, environment), Edge::DependsOn));
    let checks = spec.guards.iter().filter_map(move |guard| {
        let protection = &guard.protection;
        let (service, environment) = protection.check.stable_elsewhere(&spec.name)?;
        Some((
            track(service, environment),
            Edge::Stable(protection.name.as_str()),
        ))
    });
    upstream.chain(dependencies).chain(checks)
}

fn words(spec: &TrackSpec) -> String {
    format!("{} in {}", spec.name.service, spec.name.environment)
}

/// Where a circle of tracks is told: at the check that closes it, or else at the service.
fn place<'a>(
    declared: &Declared<'a>,
    first: &TrackSpec,
    steps: &[(usize, &Edge<'_>)],
) -> (Owned<'a>, Place) {
    let check = steps.iter().find_map(|(_, edge)| match edge {
        Edge::Stable(name) => declared.protections.get(*name),
        Edge::After | Edge::Follow | Edge::DependsOn => None,
    });
    if let Some(owned) = check {
        let stable = owned.document.spec().and_then(|spec| spec.entry("stable"));
        return (
            *owned,
            stable.map_or(owned.document.place, |entry| entry.place),
        );
    }
    let owned = declared.services[&first.name.service];
    (owned, owned.document.place)
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

/// What to do about a circle.
const OPEN_THE_CIRCLE: &str = "take one of these references out, so that one of them comes first";
/// Most circles that are reported.
const CIRCLES_MAX: usize = 10;
