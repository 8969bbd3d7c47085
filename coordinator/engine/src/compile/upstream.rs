//! Which environments a track reads: those before it, or the one that it mirrors.

use std::collections::BTreeSet;

use holdfast_protocol::name::{EnvironmentName, ServiceName};

use crate::compile::field::{names, text};
use crate::compile::merge::Tree;
use crate::compile::order::before_of;
use crate::compile::track::{Merged, runs_in};
use crate::compile::{Declared, Report, layers};
use crate::compiled::Promotion;
use crate::manifest::Document;
use crate::manifest::node::Node;

/// Which of the releases that may come is taken.
pub(super) fn promotion(tree: &Tree<'_>) -> Promotion {
    match tree.leaf("promotion").map_or("", text) {
        "every" => Promotion::Every,
        "manual" => Promotion::Manual,
        _ => Promotion::Latest,
    }
}

/// The environment that is mirrored.
pub(super) fn follow(tree: &Tree<'_>) -> Option<EnvironmentName> {
    EnvironmentName::parse(tree.leaf("follow").map(text)?).ok()
}

/// The environments before a track in which the service runs: where it does not run in one, those
/// before that one.
pub(super) fn after(merged: &Merged<'_>, declared: &Declared<'_>) -> Vec<EnvironmentName> {
    let service = merged.service.document;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut ahead = names(merged.tree.leaf("after"), EnvironmentName::parse);
    ahead.reverse();
    while let Some(name) = ahead.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        match declared.environments.get(&name) {
            Some(stage) if runs_in(service, stage.document) => found.push(name),
            Some(stage) => ahead.extend(before(service, stage.document).into_iter().rev()),
            None => {}
        }
    }
    found
}

/// The environments before one in which the service does not run.
fn before(service: &Document, stage: &Document) -> Vec<EnvironmentName> {
    let own = layers::exception(service, stage);
    let own = own.filter(|own| before_of(Some(own)).next().is_some());
    let names = before_of(own.or_else(|| stage.spec())).filter_map(Node::text);
    names
        .filter_map(|name| EnvironmentName::parse(name).ok())
        .collect()
}

/// Reports what a track cannot mirror, and what two layers say against each other.
pub(super) fn check(
    service: &ServiceName,
    merged: &Merged<'_>,
    declared: &Declared<'_>,
    report: &mut Report<'_>,
) {
    let Some(followed) = follow(&merged.tree) else {
        return;
    };
    let environment = &merged.environment.document.name;
    for key in ["after", "promotion"] {
        if merged.tree.at(key).is_some() {
            let (owned, place) = merged.place_of(key);
            let message = format!(
                "{} follows {followed}, so `{key}` says nothing there",
                merged.words()
            );
            let help =
                format!("write follow: null below environments.{environment}, or take this out");
            report.add(owned, place, message, Some(help));
        }
    }
    let stage = declared.environments.get(&followed);
    if stage.is_some_and(|stage| !runs_in(merged.service.document, stage.document)) {
        let (owned, place) = merged.place_of("follow");
        let message = format!("{environment} follows {followed}, where {service} does not run");
        let help =
            format!("override follow or after below environments.{environment} of {service}");
        report.add(owned, place, message, Some(help));
    }
}
