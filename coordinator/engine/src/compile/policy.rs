//! Policies from their documents: which tracks each matches, and whether two contradict each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_protocol::name::PolicyName;

use crate::compile::canonical::canonical;
use crate::compile::order::list;
use crate::compile::{Declared, Owned, Report};
use crate::compiled::Policy;
use crate::diagnostic::Place;
use crate::manifest::node::{Entry, Node, NodeValue};
use crate::manifest::{Document, join, use_name};

/// A policy as its document says.
#[derive(Clone)]
pub(super) struct Rule<'a> {
    pub(super) owned: Owned<'a>,
    pub(super) policy: Arc<Policy>,
    environments: BTreeSet<&'a str>,
    services: BTreeSet<&'a str>,
    labels: &'a [Entry],
}

/// Every policy by name, those first that are laid first.
pub(super) fn rules<'a>(declared: &Declared<'a>) -> Vec<Rule<'a>> {
    let rules = declared.policies.iter();
    rules.map(|(name, owned)| Rule::of(name, *owned)).collect()
}

/// The policies that match one track.
pub(super) fn matching<'a>(
    declared: &Declared<'a>,
    service: Owned<'_>,
    stage: Owned<'_>,
) -> Vec<Rule<'a>> {
    let mut rules = rules(declared);
    rules.retain(|rule| rule.matches(service.document, stage.document));
    rules
}

impl<'a> Rule<'a> {
    fn of(name: &PolicyName, owned: Owned<'a>) -> Self {
        let matched = owned.document.spec().and_then(|spec| spec.at("match"));
        let labels = matched.and_then(|matched| matched.at("labels"));
        Self {
            owned,
            policy: Arc::new(Policy {
                name: name.clone(),
                owner: owned.document.owner.clone(),
                set: owned.set.clone(),
                summary: summary(owned.document),
            }),
            environments: list(matched, "environments")
                .filter_map(Node::text)
                .collect(),
            services: list(matched, "services").filter_map(Node::text).collect(),
            labels: labels.map_or(&[], Node::entries),
        }
    }

    /// Whether it speaks of this service in this environment. What it does not name, it does not ask.
    pub(super) fn matches(&self, service: &Document, stage: &Document) -> bool {
        let named = |names: &BTreeSet<&str>, name: &str| names.is_empty() || names.contains(name);
        let metadata = service.root.at("metadata");
        let labels = metadata.and_then(|metadata| metadata.at("labels"));
        let has = |wanted: &Entry| {
            let value = labels.and_then(|labels| labels.at(&wanted.key));
            value.and_then(Node::text) == wanted.node.text()
        };
        named(&self.environments, &stage.name)
            && named(&self.services, &service.name)
            && self.labels.iter().all(has)
    }

    /// What it sets.
    pub(super) fn set(&self) -> Option<&'a Node> {
        self.part("set")
    }

    /// What it adds.
    pub(super) fn added(&self) -> Option<&'a Node> {
        self.part("add")
    }

    /// What it bounds.
    pub(super) fn limits(&self) -> &'a [Entry] {
        self.part("limit").map_or(&[], Node::entries)
    }

    /// What it requires.
    pub(super) fn required(&self) -> &'a [Node] {
        self.part("require").map_or(&[], Node::items)
    }

    fn part(&self, key: &str) -> Option<&'a Node> {
        self.owned.document.spec()?.at(key)
    }

    /// Every field that it sets, and every setting of the protections that it uses.
    fn says(&self) -> Vec<Said<'a>> {
        let mut said = Vec::new();
        for part in [self.set(), self.added()].into_iter().flatten() {
            for entry in part.entries() {
                if entry.key == "protections" {
                    uses(&entry.node, &mut said);
                } else {
                    leaves(entry, entry.key.clone(), &mut said);
                }
            }
        }
        said
    }
}

/// Pairs of policies that have been compared.
#[derive(Default)]
pub(super) struct Compared(BTreeSet<(PolicyName, PolicyName)>);

impl Compared {
    /// Reports where two of these policies, which match the same track, set one field to different
    /// values. Each pair is compared once.
    pub(super) fn check(&mut self, rules: &[&Rule<'_>], track: &str, report: &mut Report<'_>) {
        for (index, second) in rules.iter().enumerate() {
            for first in &rules[..index] {
                let pair = (first.policy.name.clone(), second.policy.name.clone());
                if self.0.insert(pair) {
                    compare(first, second, track, report);
                }
            }
        }
    }
}

fn compare(first: &Rule<'_>, second: &Rule<'_>, track: &str, report: &mut Report<'_>) {
    let before = first.says();
    for said in second.says() {
        for other in before.iter().filter(|other| other.contradicts(&said)) {
            let message = format!(
                "policy {} sets `{}` to {}, and policy {} sets `{}` to {}",
                second.policy.name,
                said.path,
                said.value,
                first.policy.name,
                other.path,
                other.value
            );
            let document = first.owned.document;
            let help = format!(
                "both match {track}; policy {} is described in {} line {}",
                first.policy.name,
                document.file.path(),
                other.place.line,
            );
            report.add(second.owned, said.place, message, Some(help));
        }
    }
}

/// One field that a policy sets.
struct Said<'a> {
    path: String,
    value: String,
    place: Place,
    /// The first part of its path.
    field: &'a str,
}

impl Said<'_> {
    fn contradicts(&self, other: &Self) -> bool {
        if self.path == other.path {
            return self.value != other.value;
        }
        let below = |path: &str, of: &str| {
            path.strip_prefix(of)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let order = |field: &str| field == "after" || field == "promotion";
        let mirrors = |a: &Self, b: &Self| a.field == "follow" && order(b.field);
        below(&self.path, &other.path)
            || below(&other.path, &self.path)
            || mirrors(self, other)
            || mirrors(other, self)
    }
}

fn leaves<'a>(entry: &'a Entry, path: String, into: &mut Vec<Said<'a>>) {
    leaves_of(&entry.node, entry.place, path, &entry.key, into);
}

fn leaves_of<'a>(
    node: &'a Node,
    at: Place,
    path: String,
    field: &'a str,
    into: &mut Vec<Said<'a>>,
) {
    match &node.value {
        NodeValue::Map(entries) => {
            for entry in entries {
                let path = join(&path, &entry.key);
                leaves_of(&entry.node, entry.place, path, field, into);
            }
        }
        NodeValue::Null
        | NodeValue::Flag(_)
        | NodeValue::Number(_)
        | NodeValue::Text(_)
        | NodeValue::List(_) => into.push(Said {
            path,
            value: canonical(&node.json()),
            place: if node.value == NodeValue::Null {
                at
            } else {
                node.place
            },
            field,
        }),
    }
}

/// The settings of uses, but for when: that is united.
fn uses<'a>(list: &'a Node, into: &mut Vec<Said<'a>>) {
    for item in list.items() {
        let Some(name) = use_name(item).and_then(Node::text) else {
            continue;
        };
        let settings = item.entries().iter();
        for entry in settings.filter(|e| e.key != "as" && e.key != "when") {
            leaves(entry, format!("protections.{name}.{}", entry.key), into);
        }
    }
}

/// What it does, in a few words.
fn summary(document: &Document) -> String {
    let spec = document.spec();
    let part = |key: &str| spec.and_then(|spec| spec.at(key));
    let keys = |node: Option<&Node>| -> Vec<String> {
        let entries = node.map_or(&[][..], Node::entries);
        let mut said = Vec::new();
        for entry in entries.iter().filter(|entry| entry.key != "protections") {
            leaves(entry, entry.key.clone(), &mut said);
        }
        said.into_iter().map(|said| said.path).collect()
    };
    let checks = [part("add"), part("set")];
    let checks = checks
        .into_iter()
        .flat_map(|node| list(node, "protections"));
    let checks: Vec<&str> = checks.filter_map(|use_| use_name(use_)?.text()).collect();
    let limits = part("limit").map_or(&[][..], Node::entries).iter();
    let limits: Vec<&str> = limits.map(|entry| entry.key.as_str()).collect();
    let mut words = Vec::new();
    match part("require").map_or(0, |list| list.items().len()) {
        0 => {}
        count => words.push(format!("require {count}")),
    }
    let mut name = |verb: &str, names: &[&str]| {
        if !names.is_empty() {
            words.push(format!("{verb} {}", names.join(" and ")));
        }
    };
    name("add", &checks);
    let set = keys(part("set"));
    name("set", &set.iter().map(String::as_str).collect::<Vec<_>>());
    name("limit", &limits);
    words.join(", ")
}
