//! A merged tree to a track: every field read into its type, everything checked that needs the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::api::apply::{ManifestFile, default_set};
use holdfast_protocol::name::{ArtifactName, EnvironmentName, LabelKey, LabelValue, ServiceName};
use holdfast_protocol::time::{millis, parse_span};
use holdfast_protocol::workload::{BODY_MAX_BYTES, Rollback};

use crate::compile::merge::Tree;
use crate::compile::{Declared, Owned, Report, Validate, canonical, layers, order, reference};
use crate::compiled::{
    CheckSpec, Compiled, Configuration, Disconnected, Environment, Extent, HealthSpec, OnFailure,
    OnWindowClose, Promotion, Provenance, RemovalLimit, Rollout, Selector, Service, TrackSpec,
    Wave,
};
use crate::diagnostic::Place;
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::{self, Document, Reach, read_extent};
use crate::track::TrackName;

/// All environments, services and tracks. Names and order have been checked.
pub(super) fn compiled(
    declared: &Declared<'_>,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) -> Compiled {
    let mut compiled = Compiled::default();
    for (name, owned) in &declared.environments {
        compiled
            .environments
            .insert(name.clone(), environment(name, *owned));
    }
    for (name, owned) in &declared.services {
        compiled
            .services
            .insert(name.clone(), service(name, *owned));
    }
    for (name, owned) in &declared.environments {
        tracks_of(name, *owned, declared, &mut compiled, validate, report);
    }
    check_unplaced(declared, &compiled, validate, report);
    compiled
}

/// Checks the templates of services that run nowhere yet: what is wrong with one must not wait for
/// somebody else's environment. What only an environment can give, such as a variable, is not missed.
fn check_unplaced(
    declared: &Declared<'_>,
    compiled: &Compiled,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) {
    let placed: BTreeSet<&ServiceName> = compiled.tracks.keys().map(|name| &name.service).collect();
    let (stand_in, set) = (manifest::parse(&[stand_in()]).0, default_set());
    let Some((environment, document)) = stand_in.environments.first_key_value() else {
        return;
    };
    let unplaced = declared
        .services
        .iter()
        .filter(|(name, _)| !placed.contains(*name));
    for (name, owned) in unplaced {
        let merged = Merged {
            tree: layers::track(owned.document, document),
            service: *owned,
            environment: Owned {
                set: &set,
                document,
            },
        };
        let name = TrackName {
            service: ServiceName::clone(name),
            environment: environment.clone(),
        };
        check_template(&track(name, Vec::new(), &merged), &merged, validate, report);
    }
}

/// An environment that says nothing.
fn stand_in() -> ManifestFile {
    ManifestFile {
        path: String::new(),
        content: "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {name: any}\n".to_owned(),
    }
}

fn tracks_of(
    environment: &EnvironmentName,
    stage: Owned<'_>,
    declared: &Declared<'_>,
    compiled: &mut Compiled,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) {
    let mut depends_on = BTreeMap::new();
    for (name, owned) in &declared.services {
        if !runs_in(owned.document, stage.document) {
            continue;
        }
        let merged = Merged {
            tree: layers::track(owned.document, stage.document),
            service: *owned,
            environment: stage,
        };
        let wanted = dependencies(&merged, environment, declared, report);
        depends_on.insert(name.clone(), wanted);
        let after = after(name, environment, declared);
        let spec = track(
            TrackName {
                service: name.clone(),
                environment: environment.clone(),
            },
            after,
            &merged,
        );
        check(&spec, &merged, validate, report);
        compiled.tracks.insert(spec.name.clone(), Arc::new(spec));
    }
    order::circles_of_services(environment, &depends_on, report);
}

/// The layers of one track and the documents that they come from.
struct Merged<'a> {
    tree: Tree<'a>,
    service: Owned<'a>,
    environment: Owned<'a>,
}

impl<'a> Merged<'a> {
    /// The document and place of a path.
    fn place_of(&self, path: &str) -> (Owned<'a>, Place) {
        let (source, place) = self.tree.place_of(path);
        let of_environment = source
            .document
            .is_some_and(|d| std::ptr::eq(d, self.environment.document));
        match source.document {
            Some(_) if of_environment => (self.environment, place),
            Some(_) => (self.service, place),
            None => (self.service, self.service.document.place),
        }
    }
}

/// Whether the service is not left out of the environment.
pub(super) fn runs_in(service: &Document, stage: &Document) -> bool {
    let enabled = layers::exception(service, stage).and_then(|e| e.at("enabled"));
    !matches!(
        enabled.map(|node| &node.value),
        Some(NodeValue::Flag(false))
    )
}

/// The environments before this one in which the service runs: where it does not run in one, those
/// before that one.
fn after(
    service: &ServiceName,
    environment: &EnvironmentName,
    declared: &Declared<'_>,
) -> Vec<EnvironmentName> {
    let Some(service) = declared.services.get(service) else {
        return Vec::new();
    };
    let before = |name: &str| -> Vec<EnvironmentName> {
        let stage = declared.environments.get(name);
        let texts = order::list(stage.and_then(|s| s.document.spec()), "after").map(text);
        texts
            .filter_map(|name| EnvironmentName::parse(name).ok())
            .collect()
    };
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut ahead = before(environment.as_str());
    ahead.reverse();
    while let Some(name) = ahead.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        match declared.environments.get(&name) {
            Some(stage) if runs_in(service.document, stage.document) => found.push(name),
            Some(_) | None => ahead.extend(before(name.as_str()).into_iter().rev()),
        }
    }
    found
}

fn dependencies<'a>(
    merged: &Merged<'a>,
    environment: &EnvironmentName,
    declared: &Declared<'a>,
    report: &mut Report<'_>,
) -> Vec<(ServiceName, Owned<'a>, Place)> {
    let mut found = Vec::new();
    for (index, node) in merged
        .tree
        .leaf("dependsOn")
        .map_or(&[][..], Node::items)
        .iter()
        .enumerate()
    {
        let Some((name, other)) = declared.services.get_key_value(text(node)) else {
            continue;
        };
        let (owned, place) = merged.place_of(&format!("dependsOn[{index}]"));
        if runs_in(other.document, merged.environment.document) {
            found.push((name.clone(), owned, place));
        } else {
            let message =
                format!("{name} does not run in {environment}, so nothing there can depend on it");
            let help = format!("override dependsOn below environments.{environment}");
            report.add(owned, place, message, Some(help));
        }
    }
    found
}

fn environment(name: &EnvironmentName, owned: Owned<'_>) -> Environment {
    let tree = layers::environment(owned.document);
    let limit = tree.at("removalLimit");
    let services = limit.and_then(|l| l.leaf("services")).map_or(0, number);
    let share = limit.and_then(|l| l.leaf("workloads")).map_or("", text);
    Environment {
        name: name.clone(),
        owner: owned.document.owner.clone(),
        set: owned.set.clone(),
        after: names(tree.leaf("after"), EnvironmentName::parse),
        promotion: Promotion::Latest,
        follow: None,
        rollout: rollout(&tree),
        removal_limit: RemovalLimit {
            services,
            workloads_percent: share.trim_end_matches('%').parse().unwrap_or(0),
        },
    }
}

fn service(name: &ServiceName, owned: Owned<'_>) -> Service {
    let spec = owned.document.spec();
    let runtime = spec.and_then(|s| s.at("runtime")).map_or("", text);
    let artifacts = spec
        .and_then(|s| s.at("artifacts"))
        .map_or(&[][..], Node::entries);
    Service {
        name: name.clone(),
        owner: owned.document.owner.clone(),
        set: owned.set.clone(),
        runtime: runtime.to_owned(),
        artifacts: artifacts
            .iter()
            .filter_map(|e| {
                Some((
                    ArtifactName::parse(&e.key).ok()?,
                    text(e.node.at("file")?).to_owned(),
                ))
            })
            .collect(),
        depends_on: names(spec.and_then(|s| s.at("dependsOn")), ServiceName::parse),
    }
}

fn track(name: TrackName, after: Vec<EnvironmentName>, merged: &Merged<'_>) -> TrackSpec {
    let tree = &merged.tree;
    let rollout = rollout(tree);
    let configuration = configuration(&name, tree, &rollout);
    TrackSpec {
        after,
        selector: selector(tree),
        rollout,
        ..TrackSpec::plain(name, configuration)
    }
}

/// Every field of a track with who set it, by path.
pub(super) fn provenance(tree: &Tree<'_>) -> Vec<Provenance> {
    let mut provenance = Vec::new();
    for (key, value) in tree.entries() {
        value.provenance(key, &mut provenance);
    }
    // Kept for every track as long as the revision is in force.
    provenance.shrink_to_fit();
    provenance
}

fn configuration(name: &TrackName, tree: &Tree<'_>, rollout: &Rollout) -> Configuration {
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    let entries = |key: &str| tree.at(key).into_iter().flat_map(Tree::entries);
    Configuration {
        service: name.service.clone(),
        environment: name.environment.clone(),
        runtime: tree.leaf("runtime").map_or("", text).to_owned(),
        template: tree.at("template").map_or_else(empty, Tree::json),
        vars: entries("vars")
            .map(|(key, value)| (key.to_owned(), value.json()))
            .collect(),
        artifacts: entries("artifacts").filter_map(artifact).collect(),
        health: tree.at("health").and_then(health),
        depends_on: names(tree.leaf("dependsOn"), ServiceName::parse),
        rollback: match tree.leaf("rollback").map_or("", text) {
            "local" => Rollback::Local,
            _ => Rollback::Central,
        },
        progress_deadline_ms: millis(rollout.progress_deadline),
    }
}

fn artifact((name, tree): (&str, &Tree<'_>)) -> Option<(ArtifactName, String)> {
    Some((
        ArtifactName::parse(name).ok()?,
        text(tree.leaf("file")?).to_owned(),
    ))
}

fn selector(tree: &Tree<'_>) -> Selector {
    let labels = tree.at("targets").and_then(|t| t.at("matchLabels"));
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

fn rollout(tree: &Tree<'_>) -> Rollout {
    let leaf = |key: &str| tree.at("rollout").and_then(|r| r.leaf(key));
    let waves = leaf("waves").map_or(&[][..], Node::items);
    Rollout {
        waves: waves.iter().map(extent).map(Wave::Extent).collect(),
        max_unavailable: leaf("maxUnavailable").map_or(Extent::Count(1), extent),
        max_failures: leaf("maxFailures").map_or(0, number),
        soak: leaf("soak").map(span).unwrap_or_default(),
        min_ready: leaf("minReady").map(span).unwrap_or_default(),
        progress_deadline: leaf("progressDeadline").map(span).unwrap_or_default(),
        on_failure: match leaf("onFailure").map_or("", text) {
            "halt" => OnFailure::Halt,
            _ => OnFailure::Rollback,
        },
        disconnected: match leaf("disconnected").map_or("", text) {
            "wait" => Disconnected::Wait,
            _ => Disconnected::Skip,
        },
        max_disconnected: leaf("maxDisconnected").map_or(Extent::Percent(100), extent),
        on_window_close: match leaf("onWindowClose").map_or("", text) {
            "hold" => OnWindowClose::Hold,
            "rollback" => OnWindowClose::Rollback,
            _ => OnWindowClose::Finish,
        },
    }
}

fn health(tree: &Tree<'_>) -> Option<HealthSpec> {
    let span_ms = |key: &str| tree.leaf(key).map_or(0, |node| millis(span(node)));
    Some(HealthSpec {
        check: health_check(tree)?,
        interval_ms: span_ms("interval"),
        timeout_ms: span_ms("timeout"),
        success_threshold: tree.leaf("successThreshold").map_or(1, number),
        failure_threshold: tree.leaf("failureThreshold").map_or(1, number),
        start_period_ms: span_ms("startPeriod"),
    })
}

fn health_check(tree: &Tree<'_>) -> Option<CheckSpec> {
    if let Some(http) = tree.at("http") {
        let expect = http.leaf("expect").and_then(Node::number);
        let url = match http {
            Tree::Leaf { node, .. } => text(node),
            Tree::Map { .. } => http.leaf("url").map_or("", text),
        };
        let expect = expect.and_then(|status| u16::try_from(status).ok());
        return Some(CheckSpec::Http {
            url: url.to_owned(),
            expect,
        });
    }
    if let Some(tcp) = tree.leaf("tcp") {
        return Some(CheckSpec::Tcp {
            address: text(tcp).to_owned(),
        });
    }
    let command = tree
        .leaf("exec")?
        .items()
        .iter()
        .map(|n| text(n).to_owned())
        .collect();
    Some(CheckSpec::Exec { command })
}

/// What needs all layers together: the template, the health check, and what texts refer to.
fn check(spec: &TrackSpec, merged: &Merged<'_>, validate: Validate<'_>, report: &mut Report<'_>) {
    let configuration = &*spec.configuration;
    check_template(spec, merged, validate, report);
    for problem in reference::check(configuration) {
        let (owned, place) = merged.place_of(&problem.path);
        let place = owned.document.file.narrowed(place, &problem.text);
        report.add(owned, place, problem.message, problem.help);
    }
}

/// What the runtime says of the template, and what can be said without knowing it.
fn check_template(
    spec: &TrackSpec,
    merged: &Merged<'_>,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) {
    let configuration = &*spec.configuration;
    let problems = validate(
        &configuration.runtime,
        &configuration.template,
        &configuration.artifacts,
    );
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

fn extent(node: &Node) -> Extent {
    match read_extent(node) {
        Some(Reach::Count(count)) => Extent::Count(count),
        Some(Reach::Percent(share)) => Extent::Percent(share),
        // Cannot be: the shape was checked. One target at a time is what harms least.
        None => Extent::Count(1),
    }
}

fn names<N, E>(node: Option<&Node>, parse: impl Fn(&str) -> Result<N, E>) -> Vec<N> {
    node.map_or(&[][..], Node::items)
        .iter()
        .filter_map(|n| parse(text(n)).ok())
        .collect()
}

fn text(node: &Node) -> &str {
    node.text().unwrap_or_default()
}

fn number(node: &Node) -> u32 {
    node.number()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

fn span(node: &Node) -> Duration {
    parse_span(text(node)).unwrap_or_default()
}
