//! Which parts of which document make a track, in which order.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::compile::merge::{Source, Tree};
use crate::compiled::Layer;
use crate::diagnostic::Place;
use crate::manifest::node::Node;
use crate::manifest::{
    Document, ENVIRONMENT, HEALTH, Need, Object, REMOVAL_LIMIT, ROLLOUT, SERVICE,
};

/// The tree of one service in one environment: `after`, `promotion`, `rollout`, `vars`, `runtime`,
/// `template`, `artifacts`, `health`, `dependsOn`, `targets`, `rollback`.
pub(super) fn track<'a>(service: &'a Document, environment: &'a Document) -> Tree<'a> {
    let built_in = Source {
        layer: Layer::Default,
        document: None,
    };
    let own = Source {
        layer: Layer::Service,
        document: Some(service),
    };
    let mut tree = Tree::empty(own, service.place);
    tree.lay_some(&DEFAULTS, &["promotion", "rollback", "rollout"], built_in);
    if let Some(spec) = service.spec() {
        tree.lay_some(spec, OF_SERVICE, own);
    }
    if let Some(spec) = environment.spec() {
        let source = Source {
            layer: Layer::Environment,
            document: Some(environment),
        };
        tree.lay_some(spec, OF_ENVIRONMENT, source);
    }
    if let Some(spec) = exception(service, environment) {
        let source = Source {
            layer: Layer::Override,
            document: Some(service),
        };
        clear_replaced(&mut tree, spec);
        tree.lay_some(spec, OF_EXCEPTION, source);
    }
    if tree.at("health").is_some() {
        lay_below(&mut tree, "health", &DEFAULTS, built_in);
    }
    tree
}

/// The tree of an environment by itself: `after`, `rollout`, `removalLimit`.
pub(super) fn environment(environment: &Document) -> Tree<'_> {
    let built_in = Source {
        layer: Layer::Default,
        document: None,
    };
    let source = Source {
        layer: Layer::Environment,
        document: Some(environment),
    };
    let mut tree = Tree::empty(source, environment.place);
    tree.lay_some(&DEFAULTS, &["rollout", "removalLimit"], built_in);
    if let Some(spec) = environment.spec() {
        tree.lay_some(spec, &["after", "rollout", "removalLimit"], source);
    }
    tree
}

/// What a service says of one environment.
pub(super) fn exception<'a>(service: &'a Document, environment: &Document) -> Option<&'a Node> {
    service.spec()?.at("environments")?.at(&environment.name)
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
}

/// Lays the entries of `below` at `key` beneath those that `tree` has there.
fn lay_below<'a>(tree: &mut Tree<'a>, key: &str, below: &'a Node, source: Source<'a>) {
    let (Some(slot), Some(below)) = (tree.at_mut(key), below.at(key)) else {
        return;
    };
    for entry in below.entries() {
        if slot.at(&entry.key).is_none() {
            slot.lay_entry(&entry.key, &entry.node, Place::default(), source);
        }
    }
}

/// What is built in, from the tables of fields.
static DEFAULTS: LazyLock<Node> = LazyLock::new(|| {
    Node::of_json(&serde_json::json!({
        "health": defaults(&HEALTH),
        "promotion": default_of(&ENVIRONMENT, "promotion"),
        "removalLimit": defaults(&REMOVAL_LIMIT),
        "rollback": default_of(&SERVICE, "rollback"),
        "rollout": defaults(&ROLLOUT),
    }))
});

/// The defaults of the fields of an object.
fn defaults(object: &'static Object) -> Value {
    let with_default = object
        .fields
        .iter()
        .filter(|f| matches!(f.need, Need::Default(_)));
    let map: Map<_, _> = with_default
        .map(|f| (f.name.to_owned(), default_of(object, f.name)))
        .collect();
    Value::Object(map)
}

fn default_of(object: &'static Object, name: &str) -> Value {
    match object.field(name).map(|field| &field.need) {
        Some(Need::Default(json)) => serde_json::from_str(json).expect("defaults are JSON"),
        Some(Need::Required | Need::Optional | Need::Refused(_)) | None => Value::Null,
    }
}

const OF_SERVICE: &[&str] = &[
    "artifacts",
    "dependsOn",
    "health",
    "rollback",
    "runtime",
    "targets",
    "template",
    "vars",
];
const OF_ENVIRONMENT: &[&str] = &["after", "promotion", "rollout", "vars"];
const OF_EXCEPTION: &[&str] = &[
    "dependsOn",
    "health",
    "rollback",
    "rollout",
    "runtime",
    "targets",
    "template",
    "vars",
];
