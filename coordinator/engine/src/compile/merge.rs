//! Layers laid over each other: later wins, maps merge, lists and all else replace, null takes away.
//! Every value of the result still knows the document that set it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::compile::Owned;
use crate::compile::canonical::canonical;
use crate::compiled::{Layer, Provenance};
use crate::diagnostic::Place;
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::{Document, join};

/// Who set a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Which layer.
    pub(crate) layer: Layer,
    /// The document; none for what is built in.
    pub(crate) owned: Option<Owned<'a>>,
}

impl<'a> Source<'a> {
    /// What is built in.
    pub(crate) const BUILT_IN: Self = Self {
        layer: Layer::Default,
        owned: None,
    };

    /// A layer that `owned` describes.
    pub(crate) const fn of(layer: Layer, owned: Owned<'a>) -> Self {
        Self {
            layer,
            owned: Some(owned),
        }
    }

    pub(crate) fn document(&self) -> Option<&'a Document> {
        self.owned.map(|owned| owned.document)
    }
}

/// A value put together from layers.
#[derive(Debug, Clone)]
pub(crate) enum Tree<'a> {
    /// An object to which several layers may have added.
    Map {
        /// Its values.
        entries: BTreeMap<&'a str, Self>,
        /// The last layer that spoke of it, and where.
        source: Source<'a>,
        /// The place of its key there.
        place: Place,
    },
    /// A scalar or a list: all of it from one layer.
    Leaf {
        /// The value.
        node: &'a Node,
        /// Who set it.
        source: Source<'a>,
    },
}

impl<'a> Tree<'a> {
    /// A tree of nothing, to be shown at `place`.
    pub(crate) const fn empty(source: Source<'a>, place: Place) -> Self {
        Self::Map {
            entries: BTreeMap::new(),
            source,
            place,
        }
    }

    /// Lays the entries of `node` named in `keys` over this.
    pub(crate) fn lay_some(&mut self, node: &'a Node, keys: &[&str], source: Source<'a>) {
        for entry in node
            .entries()
            .iter()
            .filter(|e| keys.contains(&e.key.as_str()))
        {
            self.lay_entry(&entry.key, &entry.node, entry.place, source);
        }
    }

    /// Lays `node` over what is at `key`.
    pub(crate) fn lay_entry(&mut self, key: &'a str, node: &'a Node, at: Place, from: Source<'a>) {
        let Self::Map { entries, .. } = self else {
            return;
        };
        match &node.value {
            NodeValue::Null => {
                entries.remove(key);
            }
            NodeValue::Map(below) => {
                let slot = entries.entry(key).or_insert_with(|| Self::empty(from, at));
                if matches!(slot, Self::Leaf { .. }) {
                    *slot = Self::empty(from, at);
                }
                for entry in below {
                    slot.lay_entry(&entry.key, &entry.node, entry.place, from);
                }
                if let Self::Map { source, place, .. } = slot {
                    (*source, *place) = (from, at);
                }
            }
            NodeValue::Flag(_) | NodeValue::Number(_) | NodeValue::Text(_) | NodeValue::List(_) => {
                entries.insert(key, Self::Leaf { node, source: from });
            }
        }
    }

    /// The object at `key`, made where there is none.
    pub(crate) fn map_at(
        &mut self,
        key: &'a str,
        from: Source<'a>,
        at: Place,
    ) -> Option<&mut Self> {
        match self {
            Self::Map { entries, .. } => {
                Some(entries.entry(key).or_insert_with(|| Self::empty(from, at)))
            }
            Self::Leaf { .. } => None,
        }
    }

    /// Takes `key` away.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Self::Map { entries, .. } = self {
            entries.remove(key);
        }
    }

    /// The value of `key`.
    pub(crate) fn at(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map { entries, .. } => entries.get(key),
            Self::Leaf { .. } => None,
        }
    }

    /// The value of `key`, to be changed.
    pub(crate) fn at_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Map { entries, .. } => entries.get_mut(key),
            Self::Leaf { .. } => None,
        }
    }

    /// The value of `key` where that is a scalar or a list.
    pub(crate) fn leaf(&self, key: &str) -> Option<&'a Node> {
        match self.at(key) {
            Some(Self::Leaf { node, .. }) => Some(node),
            Some(Self::Map { .. }) | None => None,
        }
    }

    /// The scalar or list at a path of keys, with who set it.
    pub(crate) fn leaf_at(&self, path: &str) -> Option<(&'a Node, Source<'a>)> {
        let found = path.split('.').try_fold(self, Self::at)?;
        match found {
            Self::Leaf { node, source } => Some((node, *source)),
            Self::Map { .. } => None,
        }
    }

    /// The values of an object; none of anything else.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &Self)> {
        let entries = match self {
            Self::Map { entries, .. } => Some(entries),
            Self::Leaf { .. } => None,
        };
        entries
            .into_iter()
            .flatten()
            .map(|(key, value)| (*key, value))
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Map { entries, .. } => {
                let pairs = entries
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
            Self::Leaf { node, .. } => without_nulls(&node.json()),
        }
    }

    /// The document and place of `path` below this, or of the nearest thing around it. Paths are
    /// written as in [`Provenance`].
    pub(crate) fn place_of(&self, path: &str) -> (Source<'a>, Place) {
        match self {
            Self::Map {
                entries,
                source,
                place,
            } => match split(entries.iter(), path) {
                Some((value, rest)) => value.place_of(rest),
                None => (*source, *place),
            },
            Self::Leaf { node, source } => (*source, place_in(node, path)),
        }
    }

    /// Every leaf below this with its path and who set it.
    pub(crate) fn provenance(&self, path: &str, into: &mut Vec<Provenance>) {
        match self {
            Self::Map {
                entries,
                source,
                place,
            } if entries.is_empty() => {
                into.push(field(path, "{}".to_owned(), *source, *place));
            }
            Self::Map { entries, .. } => {
                for (key, value) in entries {
                    value.provenance(&join(path, key), into);
                }
            }
            Self::Leaf { node, source } => leaves(node, path, *source, into),
        }
    }
}

fn leaves(node: &Node, path: &str, source: Source<'_>, into: &mut Vec<Provenance>) {
    match &node.value {
        NodeValue::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}[{index}]"), source, into);
            }
        }
        NodeValue::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                leaves(&entry.node, &join(path, &entry.key), source, into);
            }
        }
        NodeValue::Null
        | NodeValue::Flag(_)
        | NodeValue::Number(_)
        | NodeValue::Text(_)
        | NodeValue::List(_)
        | NodeValue::Map(_) => {
            into.push(field(path, canonical(&node.json()), source, node.place));
        }
    }
}

fn field(path: &str, value: String, source: Source<'_>, place: Place) -> Provenance {
    let document = source.document();
    let is_locked = source.layer == Layer::Policy;
    Provenance {
        path: path.to_owned(),
        value,
        layer: source.layer,
        owner: document.map(|d| d.owner.clone()).unwrap_or_default(),
        file: document.map(|d| d.file.path().to_owned()),
        line: document.map(|_| place.line),
        locked_by: document.filter(|_| is_locked).map(|d| d.name.clone()),
    }
}

/// The place of `path` within one value, or of the nearest thing around it.
fn place_in(node: &Node, path: &str) -> Place {
    if let Some(rest) = path.strip_prefix('[') {
        let Some((index, rest)) = rest.split_once(']') else {
            return node.place;
        };
        let item = index
            .parse::<usize>()
            .ok()
            .and_then(|index| node.items().get(index));
        return item.map_or(node.place, |item| place_in(item, rest));
    }
    let entries = node.entries().iter().map(|e| (&e.key, &e.node));
    split(entries, path).map_or(node.place, |(value, rest)| place_in(value, rest))
}

/// The entry whose key begins `path`, and the rest of it. Keys may hold dots: the longest wins.
fn split<'e, 'p, K: AsRef<str> + 'e, V: 'e>(
    entries: impl Iterator<Item = (&'e K, &'e V)>,
    path: &'p str,
) -> Option<(&'e V, &'p str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    entries
        .filter_map(|(key, value)| {
            let rest = path.strip_prefix(key.as_ref())?;
            let ends = rest.is_empty() || rest.starts_with(['.', '[']);
            ends.then_some((key.as_ref().len(), value, rest))
        })
        .max_by_key(|(length, ..)| *length)
        .map(|(_, value, rest)| (value, rest))
}

/// Null within a list or below one stands for nothing, as everywhere.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
