//! Protections from their documents, and whether their texts refer to what will be there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_protocol::name::{
    EnvironmentName, NotifierName, ProtectionName, RoleName, ServiceName,
};

use crate::compile::field::{given, is_true, names, number, span, text};
use crate::compile::reference::Asking;
use crate::compile::{Declared, Owned, Report};
use crate::compiled::Protection;
use crate::compiled::protection::{
    Approval, Check, Comparison, Http, Notify, Place, Prometheus, Run, Samples, Skippable,
};
use crate::expression::Expression;
use crate::manifest::kinds::protection::{APPROVAL, CHECKED, HTTP, PROMETHEUS, PROTECTION, RUN};
use crate::manifest::node::Node;

/// A protection, and the variables that its texts cannot do without.
pub(super) struct Asked {
    pub(super) protection: Arc<Protection>,
    pub(super) vars: BTreeSet<String>,
}

/// Every protection by name. Says what is wrong with texts.
pub(super) fn protections(
    declared: &Declared<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<ProtectionName, Asked> {
    let one = |(name, owned): (&ProtectionName, &Owned<'_>)| {
        let vars = texts(*owned, report);
        let protection = Arc::new(protection(name, *owned)?);
        Some((name.clone(), Asked { protection, vars }))
    };
    declared.protections.iter().filter_map(one).collect()
}

fn protection(name: &ProtectionName, owned: Owned<'_>) -> Option<Protection> {
    let document = owned.document;
    let spec = document.spec()?;
    let parameters = spec.at("parameters").map_or(&[][..], Node::entries);
    Some(Protection {
        name: name.clone(),
        owner: document.owner.clone(),
        set: owned.set.clone(),
        check: check(spec)?,
        parameters: parameters
            .iter()
            .map(|entry| (entry.key.clone(), entry.node.at("default").map(Node::json)))
            .collect(),
        interval: span(&given(spec, &PROTECTION, "interval")),
        failure_threshold: number(&given(spec, &PROTECTION, "failureThreshold")),
        skippable: skippable(&given(spec, &PROTECTION, "skippable")),
        notify: spec.at("notify").and_then(notify),
    })
}

fn skippable(node: &Node) -> Skippable {
    match (is_true(node), node.at("roles")) {
        (true, _) => Skippable::Anyone,
        (false, Some(_)) => Skippable::Roles(names(node.at("roles"), RoleName::parse)),
        (false, None) => Skippable::Nobody,
    }
}

fn notify(node: &Node) -> Option<Notify> {
    Some(Notify {
        after: node.at("after").map(span)?,
        to: NotifierName::parse(text(node.at("to")?)).ok()?,
    })
}

fn check(spec: &Node) -> Option<Check> {
    let of = |key: &str| spec.at(key);
    if let Some(node) = of("run") {
        return Some(Check::Run(run(node)));
    }
    if let Some(node) = of("resource") {
        return Some(Check::Resource(run(node.at("run")?)));
    }
    if let Some(node) = of("http") {
        return Some(Check::Http(http(node)));
    }
    if let Some(node) = of("prometheus") {
        return Some(Check::Prometheus(prometheus(node)));
    }
    if let Some(node) = of("expression") {
        let expression = Expression::parse(text(node), CHECKED).ok()?;
        return Some(Check::Expression(expression));
    }
    if let Some(node) = of("approval") {
        return Some(Check::Approval(Approval {
            roles: names(node.at("roles"), RoleName::parse),
            count: number(&given(node, &APPROVAL, "count")),
            expires: span(&given(node, &APPROVAL, "expires")),
        }));
    }
    let stable = of("stable")?;
    let environment = stable.at("environment").map(text);
    Some(Check::Stable {
        service: ServiceName::parse(text(stable.at("service")?)).ok()?,
        environment: environment.and_then(|name| EnvironmentName::parse(name).ok()),
    })
}

fn run(node: &Node) -> Run {
    let environment = node.at("environment").map_or(&[][..], Node::entries);
    let command = node.at("command").map_or(&[][..], Node::items);
    Run {
        command: command.iter().map(|word| text(word).to_owned()).collect(),
        environment: environment
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), entry.node.text()?.to_owned())))
            .collect(),
        on: match text(&given(node, &RUN, "on")) {
            "coordinator" => Place::Coordinator,
            _ => Place::Target,
        },
        timeout: span(&given(node, &RUN, "timeout")),
    }
}

fn http(node: &Node) -> Http {
    let expect = node.at("expect").and_then(Node::number);
    Http {
        url: node
            .text()
            .or_else(|| node.at("url")?.text())
            .unwrap_or_default()
            .to_owned(),
        expect: expect.and_then(|status| u16::try_from(status).ok()),
        contains: node.at("contains").map(|node| text(node).to_owned()),
        timeout: span(&given(node, &HTTP, "timeout")),
    }
}

fn prometheus(node: &Node) -> Prometheus {
    let of = |key: &str| node.at(key).map_or("", text).to_owned();
    Prometheus {
        url: of("url"),
        query: of("query"),
        expect: node.at("expect").map_or(Samples::Empty, samples),
        timeout: span(&given(node, &PROMETHEUS, "timeout")),
    }
}

fn samples(node: &Node) -> Samples {
    let comparison = node.entries().iter().find_map(|entry| {
        let comparison = match entry.key.as_str() {
            "lessThan" => Comparison::Less,
            "atMost" => Comparison::AtMost,
            "greaterThan" => Comparison::Greater,
            "atLeast" => Comparison::AtLeast,
            "equals" => Comparison::Equal,
            "differs" => Comparison::Differs,
            _ => return None,
        };
        Some(Samples::Each(comparison, entry.node.real()?))
    });
    match (comparison, node.text()) {
        (Some(each), _) => each,
        (None, Some("some")) => Samples::Some,
        (None, Some(_) | None) => Samples::Empty,
    }
}

/// Says what is wrong with the texts of a check, and gives the variables that they need.
fn texts(owned: Owned<'_>, report: &mut Report<'_>) -> BTreeSet<String> {
    let Some(spec) = owned.document.spec() else {
        return BTreeSet::new();
    };
    let parameters = spec.at("parameters").map_or(&[][..], Node::entries);
    let mut asking = Asking::new(parameters.iter().map(|entry| entry.key.as_str()));
    for key in ["run", "http", "prometheus", "resource"] {
        if let Some(node) = spec.at(key) {
            asking.node(node);
        }
    }
    for (place, problem) in asking.found {
        let place = owned.document.file.narrowed(place, &problem.text);
        report.add(owned, place, problem.message, problem.help);
    }
    asking.vars
}
