//! Values of checked documents as their types. What the check of shapes refuses cannot be here.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::name::{LabelKey, LabelValue};
use holdfast_protocol::time::parse_span;
use serde_json::Value;

use crate::compiled::Extent;
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::{Need, Object, Reach, read_extent};

pub(super) fn extent(node: &Node) -> Extent {
    match read_extent(node) {
        Some(Reach::Count(count)) => Extent::Count(count),
        Some(Reach::Percent(share)) => Extent::Percent(share),
        // Cannot be: the shape was checked. One target at a time is what harms least.
        None => Extent::Count(1),
    }
}

pub(super) fn names<N, E>(node: Option<&Node>, parse: impl Fn(&str) -> Result<N, E>) -> Vec<N> {
    node.map_or(&[][..], Node::items)
        .iter()
        .filter_map(|n| parse(text(n)).ok())
        .collect()
}

pub(super) fn text(node: &Node) -> &str {
    node.text().unwrap_or_default()
}

pub(super) fn number(node: &Node) -> u32 {
    node.number()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

pub(super) fn span(node: &Node) -> Duration {
    parse_span(text(node)).unwrap_or_default()
}

/// The value at `key`, or else what the table of fields says that it is then.
pub(super) fn given(node: &Node, object: &'static Object, key: &str) -> Node {
    let written = node.at(key).cloned();
    written.unwrap_or_else(|| Node::of_json(&default_of(object, key)))
}

/// What a field is where nobody says; null where that is nothing.
pub(super) fn default_of(object: &'static Object, name: &str) -> Value {
    match object.field(name).map(|field| &field.need) {
        Some(Need::Default(json)) => serde_json::from_str(json).expect("defaults are JSON"),
        Some(Need::Required | Need::Optional | Need::Refused(_)) | None => Value::Null,
    }
}

pub(super) fn is_true(node: &Node) -> bool {
    node.value == NodeValue::Flag(true)
}

/// The labels that an object says.
pub(super) fn labels(node: &Node) -> BTreeMap<LabelKey, LabelValue> {
    let pairs = node.entries().iter().filter_map(|entry| {
        Some((
            LabelKey::parse(&entry.key).ok()?,
            LabelValue::parse(entry.node.text()?).ok()?,
        ))
    });
    pairs.collect()
}
