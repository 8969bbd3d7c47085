//! What differs between two states of the input sets, document by document and field by field.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::api::apply::{Change, ChangeAction};
use holdfast_protocol::api::diff::FieldChange;
use holdfast_protocol::name::InputSetName;
use serde_json::Value;

use crate::compile::canonical::canonical;
use crate::compiled::Configuration;
use crate::manifest::kinds::Kind;
use crate::manifest::{Document, ManifestSet, join};

/// What became of each document between `before` and `after`, by kind and name; unchanged ones are
/// left out. The order of files, documents and keys does not count.
#[must_use]
pub fn changes(
    before: &BTreeMap<InputSetName, ManifestSet>,
    after: &BTreeMap<InputSetName, ManifestSet>,
) -> Vec<Change> {
    let (before, after) = (documents(before), documents(after));
    let mut changes = Vec::new();
    for (key, document) in &after {
        let change = |action, fields| Change {
            kind: document.kind.name().to_owned(),
            name: document.name.clone(),
            action,
            fields,
        };
        match before.get(key) {
            None => changes.push(change(ChangeAction::Added, Vec::new())),
            Some(old) => {
                let fields = differences(&content(old), &content(document));
                if !fields.is_empty() {
                    changes.push(change(ChangeAction::Changed, fields));
                }
            }
        }
    }
    for document in before
        .iter()
        .filter(|(key, _)| !after.contains_key(*key))
        .map(|(_, d)| d)
    {
        changes.push(Change {
            kind: document.kind.name().to_owned(),
            name: document.name.clone(),
            action: ChangeAction::Removed,
            fields: Vec::new(),
        });
    }
    changes.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    changes
}

/// The fields of a track's configuration that differ, as `vars.port: 8080 -> 9090`.
///
/// # Panics
/// Never: configurations hold only what JSON can hold.
#[must_use]
pub fn configuration_changes(before: &Configuration, after: &Configuration) -> Vec<String> {
    let json = |c| serde_json::to_value(c).expect("a configuration is plain data");
    differences(&json(before), &json(after))
}

/// What differs between two values, leaf by leaf, each as JSON and whole.
#[must_use]
pub fn leaf_changes(before: &Value, after: &Value) -> Vec<FieldChange> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, "", &mut old);
    leaves(after, "", &mut new);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |path: &String| FieldChange {
        path: path.clone(),
        from: old.get(path).cloned(),
        to: new.get(path).cloned(),
    };
    let changes = paths.into_iter().map(change);
    changes.filter(|change| change.from != change.to).collect()
}

fn documents(sets: &BTreeMap<InputSetName, ManifestSet>) -> BTreeMap<(Kind, &str), &Document> {
    sets.values()
        .flat_map(ManifestSet::documents)
        .map(|document| ((document.kind, document.name.as_str()), document))
        .collect()
}

/// All that a document says, but for what it is.
fn content(document: &Document) -> Value {
    let mut json = document.root.json();
    if let Some(map) = json.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    json
}

fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, "", &mut old);
    leaves(after, "", &mut new);
    let mut paths: Vec<_> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| {
            let (from, to) = (shown(old.get(path)), shown(new.get(path)));
            match secret(path) {
                Some(name) => format!("secret {name} (changed): version {from} -> {to}"),
                None => format!("{path}: {from} -> {to}"),
            }
        })
        .collect()
}

/// The secret that a path is the number of.
fn secret(path: &str) -> Option<&str> {
    let own = path.strip_prefix("secrets.");
    own.or_else(|| Some(path.strip_prefix("variants.")?.split_once(".secrets.")?.1))
}

fn leaves(value: &Value, path: &str, into: &mut BTreeMap<String, String>) {
    match value {
        // Null stands for "as if it were not there".
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, &join(path, key), into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}[{index}]"), into);
            }
        }
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            into.insert(path.to_owned(), canonical(value));
        }
    }
}

fn shown(value: Option<&String>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(value) if value.chars().count() <= SHOWN_MAX_CHARS => value.clone(),
        Some(value) => value.chars().take(SHOWN_MAX_CHARS).chain(['…']).collect(),
    }
}

/// Longest value that a difference shows, in characters; of a longer one the beginning.
const SHOWN_MAX_CHARS: usize = 80;
