//! A document as a tree of values that know where they stand.

use serde_json::{Map, Number, Value};

use crate::diagnostic::Place;

/// A value of a document and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: NodeValue,
    /// Where it begins, to the end of that line at most.
    pub place: Place,
}

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    /// Nothing.
    Null,
    /// True or false.
    Flag(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// An object in the order in which it was written; no key is there twice.
    Map(Vec<Entry>),
}

/// One key of an object and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The entry of `key`, where this is an object that has it and it is not null.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()
            .iter()
            .find(|e| e.key == key && e.node.value != NodeValue::Null)
    }

    /// The value of `key`, where this is an object that has it and it is not null.
    #[must_use]
    pub fn at(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entries of an object; none where this is not one.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Null
            | NodeValue::Flag(_)
            | NodeValue::Number(_)
            | NodeValue::Text(_)
            | NodeValue::List(_) => &[],
        }
    }

    /// The items of a list; none where this is not one.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            NodeValue::List(items) => items,
            NodeValue::Null
            | NodeValue::Flag(_)
            | NodeValue::Number(_)
            | NodeValue::Text(_)
            | NodeValue::Map(_) => &[],
        }
    }

    /// The text, where this is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            NodeValue::Null
            | NodeValue::Flag(_)
            | NodeValue::Number(_)
            | NodeValue::List(_)
            | NodeValue::Map(_) => None,
        }
    }

    /// The whole number from 0, where this is one.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match &self.value {
            NodeValue::Number(number) => number.as_u64(),
            NodeValue::Null
            | NodeValue::Flag(_)
            | NodeValue::Text(_)
            | NodeValue::List(_)
            | NodeValue::Map(_) => None,
        }
    }

    /// The number, where this is one.
    #[must_use]
    pub fn real(&self) -> Option<f64> {
        match &self.value {
            NodeValue::Number(number) => number.as_f64(),
            NodeValue::Null
            | NodeValue::Flag(_)
            | NodeValue::Text(_)
            | NodeValue::List(_)
            | NodeValue::Map(_) => None,
        }
    }

    /// What this kind of value is called in messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Null => "nothing",
            NodeValue::Flag(_) => "true or false",
            NodeValue::Number(_) => "a number",
            NodeValue::Text(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "an object",
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Flag(flag) => Value::Bool(*flag),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => Value::String(text.clone()),
            NodeValue::List(items) => items.iter().map(Self::json).collect(),
            NodeValue::Map(entries) => {
                let pairs = entries.iter().map(|e| (e.key.clone(), e.node.json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// A tree without places from JSON.
    pub(crate) fn of_json(value: &Value) -> Self {
        let value = match value {
            Value::Null => NodeValue::Null,
            Value::Bool(flag) => NodeValue::Flag(*flag),
            Value::Number(number) => NodeValue::Number(number.clone()),
            Value::String(text) => NodeValue::Text(text.clone()),
            Value::Array(items) => NodeValue::List(items.iter().map(Self::of_json).collect()),
            Value::Object(map) => NodeValue::Map(map.iter().map(entry_of_json).collect()),
        };
        Self {
            value,
            place: Place::default(),
        }
    }
}

fn entry_of_json((key, value): (&String, &Value)) -> Entry {
    Entry {
        key: key.clone(),
        place: Place::default(),
        node: Node::of_json(value),
    }
}
