//! One object of a set, as a manifest describes it: what it is called, and what is applied. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::kind as kind_of;

/// What an object is called in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// `apps/v1`, `v1`.
    pub api: String,
    /// `Deployment`.
    pub kind: String,
    /// None for what is not in a namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// One object as it is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is called. Its namespace is the manifest's own until its kind is known.
    pub name: Name,
    /// What is applied.
    pub body: Value,
}

/// What the server adds to an object, and a manifest copied from one may still hold.
const SERVERS_OWN: &[&str] = &[
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Longest name, in characters.
const NAME_MAX: usize = 253;

impl Name {
    /// The group of its kind; empty for the core.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api.split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether two names mean the same object, whatever version they use of its kind.
    #[must_use]
    pub fn means(&self, other: &Self) -> bool {
        self.group() == other.group()
            && self.kind == other.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Object {
    /// Reads a manifest.
    ///
    /// # Errors
    /// What is missing or wrong, with its path inside the object.
    pub fn parse(value: Value) -> Result<Self, (String, String)> {
        let name = Name {
            api: text(&value, &["apiVersion"], "such as v1 or apps/v1")?,
            kind: text(&value, &["kind"], "such as Deployment")?,
            namespace: namespace(&value)?,
            name: text(&value, &["metadata", "name"], "the object's name")?,
        };
        if name.name.contains('/') || name.name.chars().count() > NAME_MAX {
            let refused = format!("{:?} is not a name", name.name);
            return Err(("metadata.name".to_owned(), refused));
        }
        if name.kind.ends_with("List") && value.get("items").is_some() {
            let refused = "a list is none of a set's objects: write each by itself";
            return Err(("kind".to_owned(), refused.to_owned()));
        }
        Ok(Self {
            name,
            body: cleaned(value),
        })
    }

    /// Adds an annotation.
    pub fn annotate(&mut self, key: &str, value: &str) {
        let own = &mut self.body["metadata"]["annotations"];
        if !own.is_object() {
            *own = Value::Object(serde_json::Map::new());
        }
        own[key] = Value::String(value.to_owned());
    }

    /// The same with these labels.
    #[must_use]
    pub fn labelled<'a>(mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let own = &mut self.body["metadata"]["labels"];
        if !own.is_object() {
            *own = Value::Object(serde_json::Map::new());
        }
        for (key, value) in labels {
            own[key] = Value::String(value.to_owned());
        }
        self
    }
}

/// What a manifest says, without what only a server says.
fn cleaned(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in SERVERS_OWN {
                metadata.remove(*key);
            }
        }
    }
    value
}

fn namespace(value: &Value) -> Result<Option<String>, (String, String)> {
    match value.pointer("/metadata/namespace") {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(value, &["metadata", "namespace"], "a namespace").map(Some),
    }
}

fn text(value: &Value, keys: &[&str], expected: &str) -> Result<String, (String, String)> {
    let found = value.pointer(&format!("/{}", keys.join("/")));
    let refused = |why: String| Err((keys.join("."), why));
    match found {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        None | Some(Value::Null | Value::String(_)) => {
            refused(format!("is missing: expected {expected}"))
        }
        Some(other) => refused(format!("expected text, found {}", kind_of(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_named_by_group_and_not_by_version() {
        let parse = |api: &str| {
            let metadata = json!({"name": "web", "namespace": "shop"});
            let value = json!({"apiVersion": api, "kind": "Deployment", "metadata": metadata});
            Object::parse(value).unwrap().name
        };
        let (new, old, other) = (parse("apps/v1"), parse("apps/v1beta1"), parse("v1"));
        assert_eq!(new.to_string(), "Deployment shop/web");
        assert!(new.means(&old) && !new.means(&other));
    }

    #[test]
    fn what_only_a_server_says_is_left_out() {
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "status": {"a": 1},
            "metadata": {"name": "a", "uid": "1", "resourceVersion": "7", "labels": {"x": "y"}},
        });
        let object = Object::parse(value).unwrap().labelled([("b", "c")]);
        let expected = json!({"name": "a", "labels": {"x": "y", "b": "c"}});
        assert_eq!(object.body["metadata"], expected);
        assert!(object.body.get("status").is_none());
    }

    #[test]
    fn what_is_missing_is_named_by_its_path() {
        let refused = |value: Value| Object::parse(value).unwrap_err();
        assert_eq!(refused(json!({})).0, "apiVersion");
        assert_eq!(refused(json!({"apiVersion": "v1"})).0, "kind");
        let nameless =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a"}});
        assert_eq!(refused(nameless).0, "metadata.name");
        let number = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 7}});
        assert!(refused(number).1.contains("found a number"));
        let list = json!({
            "apiVersion": "v1", "kind": "PodList", "metadata": {"name": "a"}, "items": [],
        });
        assert_eq!(refused(list).0, "kind");
    }
}
