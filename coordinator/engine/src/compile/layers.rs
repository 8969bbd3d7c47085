//! Which parts of which document make a track, in which order.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::compile::Owned;
use crate::compile::field::default_of;
use crate::compile::merge::{Source, Tree};
use crate::compile::policy::Rule;
use crate::compiled::Layer;
use crate::diagnostic::Place;
use crate::manifest::kinds::{
    ENVIRONMENT, HEALTH, REMOVAL_LIMIT, ROLLOUT, SERVICE, TRACK, VARIANT,
};
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::{Document, Need, Object, use_name};

/// The layers of a track, laid over each other.
pub(super) struct Layered<'a> {
    /// Every field. `protections` are below the name that each has here, and `when` is an object with
    /// each word as its own key, so that no layer takes away another's.
    pub(super) tree: Tree<'a>,
    /// Names that two layers give to different protections.
    pub(super) clashes: Vec<Clash<'a>>,
}

/// A name that two layers give to different protections.
pub(super) struct Clash<'a> {
    /// The stronger layer's document.
    pub(super) owned: Owned<'a>,
    /// Where it uses the name.
    pub(super) place: Place,
    /// The name.
    pub(super) name: &'a str,
    /// What it calls so.
    pub(super) protection: &'a str,
    /// What the weaker layer calls so.
    pub(super) first: &'a str,
    /// The weaker layer.
    pub(super) layer: Layer,
}

/// One service in one environment, with the policies that match it, by name.
pub(super) fn track<'a>(
    service: Owned<'a>,
    environment: Owned<'a>,
    rules: &[&Rule<'a>],
) -> Layered<'a> {
    layered((service, environment), rules, None)
}

/// The same on the targets that one of its variants means.
pub(super) fn variant<'a>(
    track: (Owned<'a>, Owned<'a>),
    rules: &[&Rule<'a>],
    name: &str,
) -> Layered<'a> {
    layered(track, rules, Some(name))
}

/// The names of a track's variants: those that no later layer takes away.
pub(super) fn variants<'a>(
    (service, environment): (Owned<'a>, Owned<'a>),
    rules: &[&Rule<'a>],
) -> Vec<&'a str> {
    let own = service.document.spec().into_iter();
    let layers = own
        .chain(exception(service.document, environment.document))
        .chain(rules.iter().filter_map(|rule| rule.set()));
    let mut names = BTreeSet::new();
    for entry in layers
        .filter_map(|spec| spec.at("variants"))
        .flat_map(Node::entries)
    {
        if matches!(entry.node.value, NodeValue::Null) {
            names.remove(entry.key.as_str());
        } else {
            names.insert(entry.key.as_str());
        }
    }
    names.into_iter().collect()
}

fn layered<'a>(
    (service, environment): (Owned<'a>, Owned<'a>),
    rules: &[&Rule<'a>],
    variant: Option<&str>,
) -> Layered<'a> {
    let own = Source::of(Layer::Service, service);
    let mut layered = Layered {
        tree: Tree::empty(own, service.document.place),
        clashes: Vec::new(),
    };
    let tree = &mut layered.tree;
    tree.lay_some(
        &DEFAULTS,
        &["promotion", "rollback", "rollout"],
        Source::BUILT_IN,
    );
    if let Some(spec) = service.document.spec() {
        layered.lay(spec, OF_SERVICE, own);
    }
    if let Some(spec) = environment.document.spec() {
        let source = Source::of(Layer::Environment, environment);
        layered.lay(spec, OF_ENVIRONMENT, source);
    }
    if let Some(spec) = exception(service.document, environment.document) {
        layered.lay_over(spec, Source::of(Layer::Override, service));
    }
    let differs = |spec: &'a Node| spec.at("variants")?.at(variant?);
    let own = service.document.spec().and_then(differs);
    let there = exception(service.document, environment.document).and_then(differs);
    for spec in own.into_iter().chain(there) {
        layered.lay_variant(spec, Source::of(Layer::Variant, service));
    }
    for rule in rules {
        let source = Source::of(Layer::Policy, rule.owned);
        if let Some(set) = rule.set() {
            layered.lay_over(set, source);
        }
        if let Some(differs) = rule.set().and_then(differs) {
            layered.lay_variant(differs, source);
        }
        if let Some(added) = rule.added() {
            layered.lay(added, &[], source);
        }
    }
    layered.finish()
}

/// The tree of an environment by itself: `after`, `promotion`, `follow`, `rollout`, `removalLimit`.
pub(super) fn environment(environment: Owned<'_>) -> Tree<'_> {
    let source = Source::of(Layer::Environment, environment);
    let mut tree = Tree::empty(source, environment.document.place);
    tree.lay_some(
        &DEFAULTS,
        &["promotion", "rollout", "removalLimit"],
        Source::BUILT_IN,
    );
    if let Some(spec) = environment.document.spec() {
        let fields = ["after", "promotion", "follow", "rollout", "removalLimit"];
        tree.lay_some(spec, &fields, source);
    }
    tree
}

/// What a service says of one environment.
pub(super) fn exception<'a>(service: &'a Document, environment: &Document) -> Option<&'a Node> {
    exception_at(service, &environment.name)
}

/// What a service says of the environment of that name.
pub(super) fn exception_at<'a>(service: &'a Document, environment: &str) -> Option<&'a Node> {
    service.spec()?.at("environments")?.at(environment)
}

impl<'a> Layered<'a> {
    /// Lays an override over what is there.
    fn lay_over(&mut self, exception: &'a Node, source: Source<'a>) {
        clear_replaced(&mut self.tree, exception);
        let fields: Vec<&str> = TRACK
            .names()
            .filter(|name| !matches!(*name, "protections" | "variants"))
            .collect();
        self.lay(exception, &fields, source);
    }

    /// Lays what differs on targets of one kind over what is there.
    fn lay_variant(&mut self, spec: &'a Node, source: Source<'a>) {
        clear_replaced(&mut self.tree, spec);
        let fields: Vec<&str> = VARIANT.names().collect();
        self.tree.lay_some(spec, &fields, source);
    }

    /// Lays the fields of a document over what is there, and its protections beside what is there.
    fn lay(&mut self, spec: &'a Node, fields: &[&str], source: Source<'a>) {
        self.tree.lay_some(spec, fields, source);
        if let Some(uses) = spec.entry("protections") {
            for item in uses.node.items() {
                self.lay_use(item, uses.place, source);
            }
        }
    }

    fn lay_use(&mut self, item: &'a Node, at: Place, source: Source<'a>) {
        let name = use_name(item).and_then(Node::text);
        let (Some(name), Some(protection)) = (name, item.at("use").and_then(Node::text)) else {
            return;
        };
        let slot = self.tree.map_at("protections", source, at);
        let Some(slot) = slot.and_then(|all| all.map_at(name, source, item.place)) else {
            return;
        };
        if let Some((first, by)) = slot.leaf_at("use")
            && first.text() != Some(protection)
        {
            if let Some(owned) = source.owned {
                self.clashes.push(Clash {
                    owned,
                    place: item.place,
                    name,
                    protection,
                    first: first.text().unwrap_or_default(),
                    layer: by.layer,
                });
            }
            return;
        }
        for entry in item.entries() {
            match entry.key.as_str() {
                "as" => {}
                "use" if slot.at("use").is_some() => {}
                "when" => lay_words(slot, entry.place, &entry.node, source),
                key => slot.lay_entry(key, &entry.node, entry.place, source),
            }
        }
    }

    /// Lays what is built in below what only some tracks have.
    fn finish(mut self) -> Self {
        let tree = &mut self.tree;
        if tree.at("health").is_some() {
            lay_below(tree, "health", &DEFAULTS);
        }
        if tree.leaf("kind").and_then(Node::text) == Some("job") {
            for entry in DEFAULTS.at("job").map_or(&[][..], Node::entries) {
                if tree.at(&entry.key).is_none() {
                    tree.lay_entry(&entry.key, &entry.node, Place::default(), Source::BUILT_IN);
                }
            }
        }
        let follows = tree.at("follow").is_some();
        let promotion = tree.leaf_at("promotion");
        if follows && promotion.is_some_and(|(_, by)| by.layer == Layer::Default) {
            tree.remove("promotion");
        }
        self
    }
}

/// Each word of a list as a key of its own: what an earlier layer has stays its own.
fn lay_words<'a>(slot: &mut Tree<'a>, at: Place, words: &'a Node, source: Source<'a>) {
    let Some(all) = slot.map_at("when", source, at) else {
        return;
    };
    for word in words.items() {
        if let Some(text) = word.text().filter(|text| all.at(text).is_none()) {
            all.lay_entry(text, word, word.place, source);
        }
    }
}

/// Takes away what an override replaces as a whole.
fn clear_replaced(tree: &mut Tree<'_>, exception: &Node) {
    let runtime = exception.at("runtime").and_then(Node::text);
    let before = tree.leaf("runtime").and_then(Node::text);
    if runtime.is_some() && runtime != before {
        tree.remove("template");
    }
    let names_check = |health: &Node| HEALTH.one_of.iter().any(|check| health.at(check).is_some());
    if exception.at("health").is_some_and(names_check)
        && let Some(health) = tree.at_mut("health")
    {
        HEALTH.one_of.iter().for_each(|check| health.remove(check));
    }
    if exception.at("schedule").is_some() {
        tree.remove("schedule");
    }
    if exception.at("follow").is_some() {
        tree.remove("after");
        tree.remove("promotion");
    } else if exception.at("after").is_some() {
        tree.remove("follow");
        if tree.at("promotion").is_none() {
            tree.lay_some(&DEFAULTS, &["promotion"], Source::BUILT_IN);
        }
    }
}

/// Lays the entries of `below` at `key` beneath those that `tree` has there.
fn lay_below<'a>(tree: &mut Tree<'a>, key: &str, below: &'a Node) {
    let (Some(slot), Some(below)) = (tree.at_mut(key), below.at(key)) else {
        return;
    };
    for entry in below.entries() {
        if slot.at(&entry.key).is_none() {
            slot.lay_entry(&entry.key, &entry.node, Place::default(), Source::BUILT_IN);
        }
    }
}

/// What is built in, from the tables of fields.
static DEFAULTS: LazyLock<Node> = LazyLock::new(|| {
    let of_jobs = JOB_ONLY.iter().filter_map(|name| {
        let value = default_of(&SERVICE, name);
        (!value.is_null()).then(|| ((*name).to_owned(), value))
    });
    Node::of_json(&serde_json::json!({
        "health": defaults(&HEALTH),
        "job": Value::Object(of_jobs.collect()),
        "promotion": default_of(&ENVIRONMENT, "promotion"),
        "removalLimit": defaults(&REMOVAL_LIMIT),
        "rollback": default_of(&SERVICE, "rollback"),
        "rollout": defaults(&ROLLOUT),
    }))
});

/// The defaults of the fields of an object.
fn defaults(object: &'static Object) -> Value {
    let with_default = object
        .fields()
        .filter(|f| matches!(f.need, Need::Default(_)));
    let map: Map<_, _> = with_default
        .map(|f| (f.name.to_owned(), default_of(object, f.name)))
        .collect();
    Value::Object(map)
}

/// Fields that say something of jobs alone.
pub(super) const JOB_ONLY: &[&str] = &["once", "schedule", "attempts", "timeLimit"];

const OF_SERVICE: &[&str] = &[
    "artifacts",
    "attempts",
    "dependsOn",
    "health",
    "kind",
    "once",
    "pin",
    "releases",
    "rollback",
    "runtime",
    "schedule",
    "targets",
    "template",
    "timeLimit",
    "vars",
];
const OF_ENVIRONMENT: &[&str] = &["after", "follow", "promotion", "rollout", "vars", "windows"];
