//! The fields of an object that this agent manages, and what became of them. Pure.
//!
//! The server notes who manages which field (`metadata.managedFields`, in the form `FieldsV1` of
//! structured-merge-diff): whoever changes a field takes it over, and it leaves the set of whoever had
//! it. So what somebody changed is what has left the set that this agent was given when it last
//! applied. Fields of others are never looked at. Some writers are not noted (a scale subresource
//! before Kubernetes 1.22): for them the values count, too.

use std::collections::BTreeSet;

use holdfast_protocol::digest::Digest;
use serde_json::{Map, Value};

/// The field manager of this agent.
pub(super) const APPLIER: &str = "holdfast-agent";
/// Most fields that are named in one difference.
const NAMED_MAX: usize = 3;

/// Which fields of a live object this agent manages; nothing where it never applied it.
pub(super) fn owned(live: &Value) -> Option<&Value> {
    entries(live)
        .find(|entry| {
            let says = |key: &str| entry.get(key).and_then(Value::as_str);
            says("manager") == Some(APPLIER) && says("operation") == Some("Apply")
        })
        .and_then(|entry| entry.get("fieldsV1"))
}

/// Digest of the fields that this agent manages and of their values.
pub(super) fn digest(live: &Value) -> Option<Digest> {
    let fields = owned(live)?.as_object()?;
    let mut text = String::new();
    walk(fields, Some(live), "", &mut |path, value| {
        text.push_str(path);
        text.push('=');
        if let Some(value) = value {
            text.push_str(&value.to_string());
        }
        text.push('\n');
    });
    Some(Digest::of(text.as_bytes()))
}

/// The paths of a set of fields, as the server writes them in conflicts: `.spec.replicas`,
/// `.spec.template.spec.containers[name="web"].image`.
pub(super) fn paths(fields: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    if let Some(fields) = fields.as_object() {
        walk(fields, None, "", &mut |path, _| {
            paths.insert(path.to_owned());
        });
    }
    paths
}

/// How a live object differs from the fields that this agent was given when it last applied, for
/// people: which fields, and who changed them. Values are told only where they cannot be secret.
pub(super) fn difference(given: Option<&Value>, live: &Value) -> String {
    let now = owned(live).map(paths).unwrap_or_default();
    let before = given.map(paths).unwrap_or_default();
    let lost: Vec<&String> = before.difference(&now).collect();
    if lost.is_empty() {
        return "its fields were changed".to_owned();
    }
    let mut named: Vec<String> = lost
        .iter()
        .take(NAMED_MAX)
        .map(|path| changed(path, given, live))
        .collect();
    if lost.len() > NAMED_MAX {
        named.push(format!("{} more", lost.len() - NAMED_MAX));
    }
    named.join(", ")
}

/// One field that was changed: by whom, and what it is now.
fn changed(path: &str, given: Option<&Value>, live: &Value) -> String {
    let others = entries(live).filter(|entry| {
        let manager = entry.get("manager").and_then(Value::as_str);
        manager.is_some_and(|manager| manager != APPLIER)
    });
    let by = others
        .filter(|entry| {
            entry
                .get("fieldsV1")
                .is_some_and(|fields| paths(fields).contains(path))
        })
        .find_map(|entry| entry.get("manager").and_then(Value::as_str));
    let value = given.and_then(|given| value_at(given, live, path));
    let now = match &value {
        Some(Value::Number(number)) => format!("is now {number}"),
        Some(Value::Bool(flag)) => format!("is now {flag}"),
        Some(Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            "was changed".to_owned()
        }
        None => "was removed".to_owned(),
    };
    match by {
        Some(by) => format!("{path} {now} (by {by})"),
        None => format!("{path} {now}"),
    }
}

fn value_at(given: &Value, live: &Value, wanted: &str) -> Option<Value> {
    let mut found = None;
    walk(given.as_object()?, Some(live), "", &mut |path, value| {
        if path == wanted {
            found = value.cloned();
        }
    });
    found
}

fn entries(live: &Value) -> impl Iterator<Item = &Value> {
    let entries = live.pointer("/metadata/managedFields");
    entries.and_then(Value::as_array).into_iter().flatten()
}

/// Visits every field of a set with its path and, in `live`, its value.
fn walk<'v>(
    fields: &Map<String, Value>,
    live: Option<&'v Value>,
    path: &str,
    visit: &mut dyn FnMut(&str, Option<&'v Value>),
) {
    for (key, below) in fields {
        let Some((step, child)) = step(key, live) else {
            continue;
        };
        let path = format!("{path}{step}");
        match below.as_object().filter(|below| !is_leaf(below)) {
            Some(below) => walk(below, child, &path, visit),
            None => visit(&path, child),
        }
    }
}

/// Whether a set holds a field as a whole: nothing below it, or only the mark of the field itself.
fn is_leaf(below: &Map<String, Value>) -> bool {
    below.keys().all(|key| key == ".")
}

/// One step of a path, and where it leads to.
fn step<'v>(key: &str, live: Option<&'v Value>) -> Option<(String, Option<&'v Value>)> {
    let (sort, rest) = key.split_once(':')?;
    match sort {
        "f" => Some((format!(".{rest}"), live.and_then(|live| live.get(rest)))),
        "k" => {
            let keys: Value = serde_json::from_str(rest).ok()?;
            let keys = keys.as_object()?;
            let matches = |item: &&Value| keys.iter().all(|(k, v)| item.get(k) == Some(v));
            let item = items(live).find(matches);
            let shown: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Some((format!("[{}]", shown.join(",")), item))
        }
        "v" => {
            let value: Value = serde_json::from_str(rest).ok()?;
            let item = items(live).find(|item| **item == value);
            Some((format!("[={value}]"), item))
        }
        "i" => {
            let item = live.and_then(|live| live.get(rest.parse::<usize>().ok()?));
            Some((format!("[{rest}]"), item))
        }
        _ => None,
    }
}

fn items(live: Option<&Value>) -> impl Iterator<Item = &Value> {
    live.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields() -> Value {
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {"f:spec": {"f:containers": {
                    "k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}}}},
                }}},
            },
        })
    }

    fn live(replicas: u32, ours: &Value, editor: &Value) -> Value {
        json!({
            "metadata": {
                "labels": {"app": "web", "theirs": "x"},
                "managedFields": [
                    {"manager": APPLIER, "operation": "Apply", "fieldsV1": ours},
                    {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": editor},
                ],
            },
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                {"name": "web", "image": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            ]}}},
        })
    }

    #[test]
    fn fields_are_named_as_the_server_names_them_in_conflicts() {
        let paths: Vec<String> = paths(&fields()).into_iter().collect();
        let containers = ".spec.template.spec.containers[name=\"web\"]";
        assert_eq!(
            paths,
            [
                ".metadata.labels.app",
                ".spec.replicas",
                &format!("{containers}.image"),
                &format!("{containers}.name"),
                &format!("{containers}.ports[containerPort=80,protocol=\"TCP\"]"),
            ]
        );
    }

    #[test]
    fn only_values_of_own_fields_count() {
        let before = live(2, &fields(), &json!({}));
        let mut theirs = before.clone();
        theirs["metadata"]["labels"]["theirs"] = json!("y");
        theirs["spec"]["paused"] = json!(true);
        assert_eq!(digest(&before), digest(&theirs));
        let scaled = live(3, &fields(), &json!({}));
        assert_ne!(
            digest(&before),
            digest(&scaled),
            "a writer that is not noted"
        );
        assert_eq!(digest(&json!({"metadata": {}})), None, "never applied");
    }

    #[test]
    fn a_difference_says_which_field_and_who() {
        let mut ours = fields();
        ours["f:spec"].as_object_mut().unwrap().remove("f:replicas");
        let edited = live(5, &ours, &json!({"f:spec": {"f:replicas": {}}}));
        let said = difference(Some(&fields()), &edited);
        assert_eq!(said, ".spec.replicas is now 5 (by kubectl-edit)");
        let container = ours["f:spec"]["f:template"]["f:spec"]["f:containers"]
            .as_object_mut()
            .unwrap();
        container.clear();
        let said = difference(Some(&fields()), &live(5, &ours, &json!({})));
        assert!(said.contains("image was changed"), "{said}");
        assert!(said.ends_with("1 more"), "{said}");
        assert!(!said.contains("\"a\""), "texts may be secrets: {said}");
    }
}
