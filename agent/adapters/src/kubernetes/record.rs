//! What the agent notes of a set, in the cluster itself: a Secret in the agent's own namespace.
//!
//! So an agent that lost its directory finds what it made, also what is wanted no longer. It is a
//! Secret since digests of what is secret may be guessed from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::object::Name;

/// The label of an object: which agent made it, by the id of its directory.
pub(super) const AGENT_LABEL: &str = "holdfast.agent";
/// The label of an object and of a record: of which service it is.
pub(super) const SERVICE_LABEL: &str = "holdfast.service";
/// The label of a record: of which agent it is. Another one than that of objects, so that records are
/// none of them.
pub(super) const RECORD_LABEL: &str = "holdfast.record";
/// Longest set of fields that is kept of one object, in bytes; of others only their digest is known.
const FIELDS_MAX: usize = 8 << 10;
/// What all sets of fields of a record may have, in bytes: a Secret holds 1 MiB.
const FIELDS_TOTAL_MAX: usize = 400 << 10;

/// What was made for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Set {
    /// The body it was last brought to; none before the first time.
    pub(super) body: Option<Digest>,
    /// Since when it is as it is.
    pub(super) since: Timestamp,
    /// Whether it runs to completion.
    #[serde(default)]
    pub(super) job: bool,
    /// Everything that was, or is just being, made.
    pub(super) objects: Vec<Entry>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// What it is called.
    pub(super) name: Name,
    /// As it was left; none while it is being made.
    pub(super) left: Option<Left>,
}

/// How an object was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Left {
    /// The cluster's id of it.
    pub(super) uid: String,
    /// Digest of what was applied.
    pub(super) manifest: Digest,
    /// Digest of what came of it: this agent's fields and their values.
    pub(super) values: Digest,
    /// This agent's fields, where they are not too many.
    pub(super) fields: Option<Value>,
}

impl Set {
    /// Nothing yet.
    pub(super) const fn empty(since: Timestamp) -> Self {
        Self {
            body: None,
            since,
            job: false,
            objects: Vec::new(),
        }
    }

    pub(super) fn entry(&self, name: &Name) -> Option<&Entry> {
        self.objects.iter().find(|entry| entry.name.means(name))
    }

    /// The same, small enough for a Secret.
    fn bounded(mut self) -> Self {
        let mut room = FIELDS_TOTAL_MAX;
        for left in self
            .objects
            .iter_mut()
            .filter_map(|entry| entry.left.as_mut())
        {
            let size = left
                .fields
                .as_ref()
                .map_or(0, |fields| fields.to_string().len());
            if size > FIELDS_MAX.min(room) {
                left.fields = None;
            } else {
                room -= size;
            }
        }
        self
    }
}

/// The name of a record.
pub(super) fn name(agent: &str, service: &ServiceName) -> String {
    let short: String = agent.chars().take(8).collect();
    format!("holdfast-{short}-{service}")
}

/// A record as an object.
pub(super) fn to_secret(agent: &str, service: &ServiceName, namespace: &str, set: Set) -> Value {
    let set = serde_json::to_vec(&set.bounded()).expect("a set is plain data");
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "holdfast/set",
        "metadata": {
            "name": name(agent, service),
            "namespace": namespace,
            "labels": {RECORD_LABEL: agent, SERVICE_LABEL: service.as_str()},
        },
        "data": {"set": BASE64.encode(set)},
    })
}

/// Reads a record back; nothing where it is none.
pub(super) fn of_secret(secret: &Value) -> Option<(ServiceName, Set)> {
    let service = secret.pointer("/metadata/labels")?.get(SERVICE_LABEL)?;
    let service = ServiceName::parse(service.as_str()?).ok()?;
    let set = BASE64.decode(secret.pointer("/data/set")?.as_str()?).ok()?;
    Some((service, serde_json::from_slice(&set).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: usize, fields: usize) -> Entry {
        Entry {
            name: Name {
                api: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                namespace: Some("shop".to_owned()),
                name: format!("map-{i}"),
            },
            left: Some(Left {
                uid: i.to_string(),
                manifest: Digest::of(b"a"),
                values: Digest::of(b"b"),
                fields: Some(json!({"f:x": "y".repeat(fields)})),
            }),
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was() {
        let service = ServiceName::parse("web").unwrap();
        let set = Set {
            body: Some(Digest::of(b"body")),
            since: Timestamp::from_millis(7),
            job: false,
            objects: vec![entry(1, 10)],
        };
        let secret = to_secret("0123456789abcdef", &service, "holdfast", set.clone());
        assert_eq!(secret["metadata"]["name"], "holdfast-01234567-web");
        assert_eq!(of_secret(&secret), Some((service, set)));
    }

    #[test]
    fn a_record_never_outgrows_a_secret() {
        let service = ServiceName::parse("web").unwrap();
        let mut set = Set::empty(Timestamp::default());
        set.objects = (0..1000).map(|i| entry(i, 7 << 10)).collect();
        set.objects.push(entry(1000, 9 << 10));
        let secret = to_secret("0123456789abcdef", &service, "holdfast", set);
        assert!(
            secret.to_string().len() < 1 << 20,
            "{}",
            secret.to_string().len()
        );
        let (_, read) = of_secret(&secret).unwrap();
        assert_eq!(read.objects.len(), 1001);
        let fields = |entry: &Entry| entry.left.as_ref().unwrap().fields.is_some();
        assert!(fields(&read.objects[0]) && !fields(&read.objects[1000]));
    }
}
