//! Whether documents refer to each other in ways that can be followed: nothing dangling, nothing that
//! says two things at once.

use holdfast_protocol::name::{
    EnvironmentName, NotifierName, ProtectionName, RoleName, ServiceName,
};

use crate::compile::layers::JOB_ONLY;
use crate::compile::{Declared, Owned, Report, circle};
use crate::diagnostic::{Place, suggestion};
use crate::manifest::node::{Node, NodeValue};

/// Reports every name that leads nowhere, every circle in the order of environments, and what
/// contradicts itself within one document.
pub(super) fn check(declared: &Declared<'_>, report: &mut Report<'_>) {
    let mut checking = Checking { declared, report };
    for owned in declared.environments.values() {
        checking.track(At::spec(*owned));
    }
    for owned in declared.services.values() {
        checking.service(*owned);
    }
    for owned in declared.protections.values() {
        checking.protection(*owned);
    }
    for owned in declared.policies.values() {
        checking.policy(*owned);
    }
    for owned in declared.notifiers.values() {
        checking.matched(At::spec(*owned));
        checking.confidential(At::spec(*owned));
    }
    if report.problems.is_empty() {
        circle::of_environments(declared, report);
    }
}

/// The texts of the list at `key`, each with its value.
pub(super) fn list<'n>(
    node: Option<&'n Node>,
    key: &str,
) -> impl Iterator<Item = &'n Node> + Clone + use<'n> {
    node.and_then(|n| n.at(key))
        .map_or(&[][..], Node::items)
        .iter()
}

/// The names of the environments that come before, or the one that is followed.
pub(super) fn before_of(spec: Option<&Node>) -> impl Iterator<Item = &Node> + Clone {
    let follow = spec.and_then(|spec| spec.at("follow"));
    list(spec, "after").chain(follow)
}

/// A part of a document; none where it says nothing.
#[derive(Clone, Copy)]
struct At<'a> {
    owned: Owned<'a>,
    node: Option<&'a Node>,
}

impl<'a> At<'a> {
    fn spec(owned: Owned<'a>) -> Self {
        Self {
            owned,
            node: owned.document.spec(),
        }
    }

    fn below(self, key: &str) -> Self {
        let node = self.node.and_then(|node| node.at(key));
        Self { node, ..self }
    }

    fn list(self, key: &str) -> impl Iterator<Item = &'a Node> {
        list(self.node, key)
    }

    fn text(self, key: &str) -> Option<&'a Node> {
        self.node?.at(key)
    }
}

struct Checking<'a, 'r, 'k> {
    declared: &'a Declared<'a>,
    report: &'r mut Report<'k>,
}

impl Checking<'_, '_, '_> {
    fn service(&mut self, owned: Owned<'_>) {
        let spec = At::spec(owned);
        let is_job = spec.text("kind").and_then(Node::text) == Some("job");
        self.track(spec);
        self.job_only(spec, is_job);
        let exceptions = spec.below("environments").node;
        for entry in exceptions.map_or(&[][..], Node::entries) {
            self.environment(owned, &entry.key, entry.place);
            let node = (entry.node.value != NodeValue::Null).then_some(&entry.node);
            let exception = At { owned, node };
            self.track(exception);
            self.job_only(exception, is_job);
        }
    }

    /// What an environment, a service, an override and the `set` of a policy have in common.
    fn track(&mut self, at: At<'_>) {
        for node in at.list("after").chain(at.text("follow")) {
            self.environment(at.owned, text(node), node.place);
        }
        for node in at.list("dependsOn") {
            self.service_name(at.owned, node);
        }
        self.uses(at);
        let Some(node) = at.node.filter(|node| node.at("follow").is_some()) else {
            return;
        };
        for key in ["after", "promotion"] {
            if let Some(entry) = node.entry(key) {
                let message =
                    format!("`follow` mirrors another environment; `{key}` says nothing beside it");
                let help = "take one of the two out".to_owned();
                self.report.add(at.owned, entry.place, message, Some(help));
            }
        }
    }

    fn job_only(&mut self, at: At<'_>, is_job: bool) {
        for key in JOB_ONLY.iter().filter(|_| !is_job) {
            if let Some(entry) = at.node.and_then(|node| node.entry(key)) {
                let message = format!("`{key}` says something of jobs, and this is a service");
                let help = "write kind: job beside the runtime if it runs to completion".to_owned();
                self.report.add(at.owned, entry.place, message, Some(help));
            }
        }
    }

    fn uses(&mut self, at: At<'_>) {
        for item in at.list("protections") {
            let Some(name) = item.at("use") else { continue };
            let Some(protection) = self.declared.protections.get(text(name)) else {
                let known = self.declared.protections.keys();
                let known = known.map(ProtectionName::as_str);
                self.unknown(at.owned, name.place, ("protection", text(name)), known);
                continue;
            };
            self.parameters(at.owned, item, *protection);
            self.moments(at.owned, item, *protection);
        }
    }

    /// Whether every parameter of a use is one that its protection has.
    fn parameters(&mut self, owned: Owned<'_>, item: &Node, protection: Owned<'_>) {
        let declared = At::spec(protection).below("parameters").node;
        let known = declared.map_or(&[][..], Node::entries);
        let known = known.iter().map(|entry| entry.key.as_str());
        for entry in item.at("parameters").map_or(&[][..], Node::entries) {
            if known.clone().all(|name| name != entry.key) {
                let name = &protection.document.name;
                let message = format!("protection {name} has no parameter `{}`", entry.key);
                let help = suggestion(&entry.key, known.clone());
                self.report.add(owned, entry.place, message, help);
            }
        }
    }

    /// People agree to what has not begun yet.
    fn moments(&mut self, owned: Owned<'_>, item: &Node, protection: Owned<'_>) {
        if At::spec(protection).text("approval").is_none() {
            return;
        }
        for word in list(Some(item), "when").filter(|word| text(word) != "pre") {
            let name = &protection.document.name;
            let message = format!(
                "{name} is an approval, which is given before a deployment starts, not `{}`",
                text(word)
            );
            let help = Some("write when: [pre]".to_owned());
            self.report.add(owned, word.place, message, help);
        }
    }

    fn protection(&mut self, owned: Owned<'_>) {
        let spec = At::spec(owned);
        let stable = spec.below("stable");
        if let Some(node) = stable.text("service") {
            self.service_name(owned, node);
        }
        if let Some(node) = stable.text("environment") {
            self.environment(owned, text(node), node.place);
        }
        if let Some(node) = spec.below("notify").text("to")
            && !self.declared.notifiers.contains_key(text(node))
        {
            let known = self.declared.notifiers.keys().map(NotifierName::as_str);
            self.unknown(owned, node.place, ("notifier", text(node)), known);
        }
        self.roles(owned, spec.below("skippable"));
        let approval = spec.below("approval");
        if self.roles(owned, approval) {
            self.people(owned, approval);
        }
    }

    /// A secret of a notifier is one environment's, which is named.
    fn confidential(&mut self, spec: At<'_>) {
        let channels = ["slack", "teams", "webhook"].map(|channel| spec.below(channel));
        for at in channels
            .into_iter()
            .flat_map(|c| [c.below("url"), c.below("key")])
        {
            match (at.text("secret"), at.text("environment")) {
                (_, Some(node)) => self.environment(at.owned, text(node), node.place),
                (Some(secret), None) => {
                    let message = format!("whose secret {} is, is not said", text(secret));
                    let help = format!(
                        "write {{secret: {}, environment: NAME}}: each environment has its own",
                        text(secret)
                    );
                    self.report.add(at.owned, secret.place, message, Some(help));
                }
                (None, None) => {}
            }
        }
    }

    /// Whether every role is known; true where roles are not.
    fn roles(&mut self, owned: Owned<'_>, at: At<'_>) -> bool {
        let Some(roles) = &self.report.known.roles else {
            return true;
        };
        let mut known = true;
        for node in at.list("roles").filter(|n| !roles.contains_key(text(n))) {
            known = false;
            let names = roles.keys().map(RoleName::as_str);
            let near = suggestion(text(node), names).unwrap_or_default();
            let help = format!("{near}; or make it: holdfast role create {}", text(node));
            let message = format!("there is no role `{}`", text(node));
            let help = Some(help.trim_start_matches("; ").to_owned());
            self.report.add(owned, node.place, message, help);
        }
        known
    }

    /// Whether there are as many people as have to agree.
    fn people(&mut self, owned: Owned<'_>, approval: At<'_>) {
        let Some(roles) = &self.report.known.roles else {
            return;
        };
        let named: Vec<&str> = approval.list("roles").filter_map(Node::text).collect();
        let holders = named.iter().filter_map(|name| roles.get(*name)).flatten();
        let people = holders.collect::<std::collections::BTreeSet<_>>().len();
        let count = approval.text("count").and_then(Node::number).unwrap_or(1);
        let (Some(first), true) = (named.first(), (people as u64) < count) else {
            return;
        };
        let Some(list) = approval.text("roles") else {
            return;
        };
        let words = named.join(" or ");
        let message = match people {
            0 => format!("nobody has the role {words}, which this approval asks for"),
            people => format!("{count} people have to agree, and {people} have the role {words}"),
        };
        let help = format!("holdfast user create NAME --role {first}");
        self.report.add(owned, list.place, message, Some(help));
    }

    fn policy(&mut self, owned: Owned<'_>) {
        let spec = At::spec(owned);
        self.matched(spec);
        self.track(spec.below("set"));
        self.uses(spec.below("add"));
        let says = |key: &&str| {
            let node = spec.text(key);
            node.is_some_and(|node| !node.entries().is_empty() || !node.items().is_empty())
        };
        if !["require", "add", "set", "limit"].iter().any(says) {
            let message = format!("policy {} says nothing", owned.document.name);
            let help = Some("write require, add, set or limit".to_owned());
            self.report.add(owned, owned.document.place, message, help);
        }
    }

    fn matched(&mut self, at: At<'_>) {
        let matched = at.below("match");
        for node in matched.list("environments") {
            self.environment(at.owned, text(node), node.place);
        }
        for node in matched.list("services") {
            self.service_name(at.owned, node);
        }
    }

    fn environment(&mut self, owned: Owned<'_>, name: &str, place: Place) {
        if !self.declared.environments.contains_key(name) {
            let known = self.declared.environments.keys();
            let known = known.map(EnvironmentName::as_str);
            self.unknown(owned, place, ("environment", name), known);
        }
    }

    fn service_name(&mut self, owned: Owned<'_>, node: &Node) {
        if !self.declared.services.contains_key(text(node)) {
            let known = self.declared.services.keys().map(ServiceName::as_str);
            self.unknown(owned, node.place, ("service", text(node)), known);
        }
    }

    fn unknown<'n>(
        &mut self,
        owned: Owned<'_>,
        place: Place,
        (kind, name): (&str, &str),
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        let message = format!("there is no {kind} `{name}`");
        let mut help = match self.report.problems.is_full() {
            true => None,
            false => suggestion(name, known),
        };
        if self.report.offline {
            let elsewhere = "if another set declares it, pass its files with -f as well";
            help = Some(help.map_or_else(|| elsewhere.to_owned(), |h| format!("{h}; {elsewhere}")));
        }
        self.report.add(owned, place, message, help);
    }
}

fn text(node: &Node) -> &str {
    node.text().unwrap_or_default()
}
