//! What workload bodies of a track are rendered from, from its tree.

use std::collections::BTreeMap;

use holdfast_protocol::name::{ArtifactName, LabelKey, LabelValue, SecretName, ServiceName};
use holdfast_protocol::secret;
use holdfast_protocol::time::millis;
use holdfast_protocol::workload::{BODY_MAX_BYTES, Rollback};

use crate::calendar::{DURATION_MIN, Window};
use crate::compile::field::{is_true, names, number, span, text};
use crate::compile::health::health;
use crate::compile::merge::Tree;
use crate::compile::track::Merged;
use crate::compile::{Asked, Report, Validate, canonical, reference};
use crate::compiled::{Configuration, Credentials, Job, JobTerms, Rollout, Selector};
use crate::track::TrackName;

/// The configuration of a track.
pub(super) fn configuration(name: &TrackName, tree: &Tree<'_>, rollout: &Rollout) -> Configuration {
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    let entries = |key: &str| tree.at(key).into_iter().flat_map(Tree::entries);
    let template = tree.at("template").map_or_else(empty, Tree::json);
    let pulls = tree.leaf("runtime").map_or("", text) == PULLS;
    let credentials: BTreeMap<_, _> = entries("artifacts")
        .filter(|(_, artifact)| pulls || artifact.leaf("image").is_none())
        .filter_map(credentials)
        .collect();
    Configuration {
        service: name.service.clone(),
        environment: name.environment.clone(),
        runtime: tree.leaf("runtime").map_or("", text).to_owned(),
        secrets: secret::names(&template)
            .into_iter()
            .map(|name| (name, 0))
            .collect(),
        credentials,
        template,
        vars: entries("vars")
            .map(|(key, value)| (key.to_owned(), value.json()))
            .collect(),
        artifacts: entries("artifacts").filter_map(artifact).collect(),
        images: entries("artifacts").filter_map(image).collect(),
        health: tree.at("health").and_then(health),
        depends_on: names(tree.leaf("dependsOn"), ServiceName::parse),
        rollback: match tree.leaf("rollback").map_or("", text) {
            "local" => Rollback::Local,
            _ => Rollback::Central,
        },
        progress_deadline_ms: millis(rollout.progress_deadline),
        job: job(tree).map(|job| job.terms),
        variants: BTreeMap::new(),
    }
}

fn artifact((name, tree): (&str, &Tree<'_>)) -> Option<(ArtifactName, String)> {
    // An environment may have the image where the service has the file.
    let file = tree.leaf("file").filter(|_| tree.leaf("image").is_none())?;
    Some((ArtifactName::parse(name).ok()?, text(file).to_owned()))
}

fn image((name, tree): (&str, &Tree<'_>)) -> Option<(ArtifactName, String)> {
    Some((
        ArtifactName::parse(name).ok()?,
        text(tree.leaf("image")?).to_owned(),
    ))
}

fn credentials((name, tree): (&str, &Tree<'_>)) -> Option<(ArtifactName, Credentials)> {
    let tree = tree.at("credentials")?;
    let known = Credentials {
        secret: SecretName::parse(text(tree.leaf("secret")?)).ok()?,
        host: tree.leaf("host").map(|node| text(node).to_owned()),
        is_set: false,
    };
    Some((ArtifactName::parse(name).ok()?, known))
}

/// The runtime whose images this system has pulled; others pull with credentials of their own.
const PULLS: &str = "container";

/// The targets that a selector means, `targets` or `when`.
pub(super) fn selector(tree: &Tree<'_>, key: &str) -> Selector {
    let labels = tree.at(key).and_then(|t| t.at("matchLabels"));
    let pair = |(key, value): (&str, &Tree<'_>)| match value {
        Tree::Leaf { node, .. } => Some((
            LabelKey::parse(key).ok()?,
            LabelValue::parse(text(node)).ok()?,
        )),
        Tree::Map { .. } => None,
    };
    Selector {
        labels: labels
            .into_iter()
            .flat_map(Tree::entries)
            .filter_map(pair)
            .collect(),
    }
}

/// How it runs to completion, if it does.
pub(super) fn job(tree: &Tree<'_>) -> Option<Job> {
    if tree.leaf("kind").map_or("", text) != "job" {
        return None;
    }
    let terms = JobTerms::default();
    Some(Job {
        once: tree.leaf("once").is_some_and(is_true),
        schedule: tree.at("schedule").and_then(schedule),
        terms: JobTerms {
            attempts: tree.leaf("attempts").map_or(terms.attempts, number),
            time_limit_ms: tree
                .leaf("timeLimit")
                .map_or(terms.time_limit_ms, |node| millis(span(node))),
        },
    })
}

fn schedule(tree: &Tree<'_>) -> Option<Window> {
    let text = |key: &str| tree.leaf(key).map_or("", text);
    Window::parse(text("start"), DURATION_MIN, text("timezone")).ok()
}

/// What needs all layers together: the template, the health check, and what texts refer to.
pub(super) fn check(
    configuration: &Configuration,
    merged: &Merged<'_>,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) {
    check_template(configuration, merged, validate, report);
    for problem in reference::check(configuration) {
        let (owned, place) = merged.place_of(&problem.path);
        let place = owned.document.file.narrowed(place, &problem.text);
        report.add(owned, place, problem.message, problem.help);
    }
}

/// What the runtime says of the template, and what can be said without knowing it.
pub(super) fn check_template(
    configuration: &Configuration,
    merged: &Merged<'_>,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) {
    let problems = validate(&Asked {
        runtime: &configuration.runtime,
        template: &configuration.template,
        artifacts: &configuration.artifacts,
        is_job: configuration.job.is_some(),
    });
    for problem in problems {
        let (path, message) = match problem.path.as_str() {
            "" => ("runtime".to_owned(), problem.message),
            path => (
                format!("template.{path}"),
                format!("`template.{path}`: {}", problem.message),
            ),
        };
        let known = merged.tree.at("template").is_some();
        let (owned, place) = merged.place_of(if known { &path } else { "runtime" });
        let help = format!(
            "docs/adapters.md tells what `{}` takes",
            configuration.runtime
        );
        report.add(owned, place, message, Some(help));
    }
    if let Some(chosen) = secret::references(&configuration.template).first() {
        let (owned, place) = merged.place_of("template");
        let place = owned.document.file.narrowed(place, chosen.name.as_str());
        let message = format!("the template chooses which value of secret {}", chosen.name);
        let help = format!(
            "write {{secret: {}}}: it is the newest value of the environment, and the coordinator puts \
             its number in",
            chosen.name
        );
        report.add(owned, place, message, Some(help));
    }
    let size = canonical::canonical(&configuration.template).len();
    if size > BODY_MAX_BYTES {
        let (owned, place) = merged.place_of("template");
        let message =
            format!("the template has {size} bytes, more than the {BODY_MAX_BYTES} allowed");
        report.add(owned, place, message, None);
    }
    if merged.tree.at("health").is_some() && configuration.health.is_none() {
        let (owned, place) = merged.place_of("health");
        let message = "`health` needs one of: http, tcp, exec".to_owned();
        report.add(owned, place, message, None);
    }
}
