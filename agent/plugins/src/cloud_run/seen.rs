//! What there is of a service in Cloud Run, and what is sent to change it. Pure.

use holdfast_protocol::digest::Digest;
use serde_json::{Map, Value, json};

use super::settings::{Settings, strange};

/// A service with the revisions that are made of what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// All that Cloud Run says, for sending it back: what is not ours stays as it is.
    whole: Value,
    /// Whose it is, by its label.
    pub(super) owner: Option<String>,
    /// The body that calls were last led to.
    pub(super) body: Option<Digest>,
    /// Grows with every change.
    pub(super) generation: u64,
    /// Whether Cloud Run is done with the last change, and how it ended.
    pub(super) ready: Ready,
    /// Somebody asked for its end.
    pub(super) is_going: bool,
    /// What the next revision is made of.
    pub(super) latest: Revision,
    /// Where calls should go.
    pub(super) traffic: Vec<Part>,
    /// Where calls go.
    pub(super) led: Vec<Part>,
    pub(super) ingress: String,
    /// Of the content that is asked about, oldest first.
    pub(super) revisions: Vec<Revision>,
}

/// A revision, or what one would be made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Revision {
    /// Empty where Cloud Run would choose one.
    pub(super) name: String,
    pub(super) settings: Settings,
    /// What it has that none of ours has.
    pub(super) strange: Vec<String>,
    pub(super) ready: Ready,
}

/// How far Cloud Run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    /// It is at it, or says nothing yet.
    NotYet(String),
    /// It gave up, in its own words.
    No(String),
}

/// A part of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Whichever is newest, where there is none.
    pub(super) revision: Option<String>,
    pub(super) percent: u64,
    /// An address of its own.
    pub(super) tag: Option<String>,
}

/// What is to become of a service.
pub(super) struct Change<'a> {
    pub(super) owner: &'a str,
    /// None while no calls are led to it.
    pub(super) body: Option<Digest>,
    /// None where it stays as it is.
    pub(super) template: Option<Value>,
    pub(super) traffic: &'a [Part],
    pub(super) ingress: &'a str,
}

impl Seen {
    /// Reads what Cloud Run says of a service and of its revisions.
    pub(super) fn read(service: Value, revisions: &[Value]) -> Self {
        let (metadata, spec) = (&service["metadata"], &service["spec"]);
        let annotation = |key: &str| metadata["annotations"][key].as_str();
        let generation = metadata["generation"].as_u64().unwrap_or_default();
        let is_done = service["status"]["observedGeneration"].as_u64() == Some(generation);
        let ready = if is_done {
            ready(&service)
        } else {
            Ready::NotYet("Cloud Run has not begun with the last change".to_owned())
        };
        // A service that was deleted leaves its revisions behind for a while.
        let own = |revision: &&Value| {
            let service = revision["metadata"]["labels"][SERVICE_UID].as_str();
            service.is_none_or(|uid| Some(uid) == metadata["uid"].as_str())
        };
        let mut revisions: Vec<&Value> = revisions.iter().filter(own).collect();
        revisions.sort_by_key(|revision| revision["metadata"]["creationTimestamp"].as_str());
        Self {
            owner: metadata["labels"][OWNER_LABEL].as_str().map(str::to_owned),
            body: annotation(BODY).and_then(|text| text.parse().ok()),
            generation,
            ready,
            is_going: metadata["deletionTimestamp"].is_string(),
            latest: revision(&spec["template"]),
            traffic: parts(&spec["traffic"]),
            led: parts(&service["status"]["traffic"]),
            ingress: annotation(INGRESS).unwrap_or("all").to_owned(),
            revisions: revisions.into_iter().map(revision).collect(),
            whole: service,
        }
    }

    /// Where calls go now, by names of revisions alone, so that a new one gets none by itself.
    pub(super) fn held(&self) -> Vec<Part> {
        let named = |part: &&Part| part.revision.is_some();
        let held: Vec<Part> = self.led.iter().filter(named).cloned().collect();
        if held.iter().any(|part| part.percent > 0) {
            held
        } else {
            newest()
        }
    }

    /// Addresses of revisions that somebody made; they stay, without a part of the calls.
    pub(super) fn tagged(&self) -> impl Iterator<Item = Part> {
        let tagged = self.traffic.iter().filter(|part| part.tag.is_some());
        tagged.map(|part| Part {
            percent: 0,
            ..part.clone()
        })
    }

    /// The service as it should become; Cloud Run refuses it where somebody changed it meanwhile.
    pub(super) fn changed(&self, change: &Change<'_>) -> Value {
        let mut service = self.whole.clone();
        if let Some(fields) = service.as_object_mut() {
            fields.remove("status");
        }
        write(&mut service, change);
        service
    }
}

/// All calls go to whichever revision is newest.
pub(super) fn newest() -> Vec<Part> {
    vec![Part {
        revision: None,
        percent: 100,
        tag: None,
    }]
}

/// A service that is not there yet.
pub(super) fn fresh(project: &str, name: &str, change: &Change<'_>) -> Value {
    let mut service = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": name, "namespace": project}, "spec": {},
    });
    write(&mut service, change);
    service
}

fn write(service: &mut Value, change: &Change<'_>) {
    let metadata = &mut service["metadata"];
    entry(metadata, "labels").insert(OWNER_LABEL.to_owned(), change.owner.into());
    let annotations = entry(metadata, "annotations");
    annotations.insert(INGRESS.to_owned(), change.ingress.into());
    if let Some(body) = change.body {
        annotations.insert(BODY.to_owned(), body.to_string().into());
    }
    if let Some(template) = &change.template {
        service["spec"]["template"] = template.clone();
    }
    service["spec"]["traffic"] = change.traffic.iter().map(Part::json).collect();
}

/// The map at `key`, made where there is none.
fn entry<'a>(metadata: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !metadata[key].is_object() {
        metadata[key] = json!({});
    }
    metadata[key].as_object_mut().expect("it was just made")
}

impl Part {
    fn json(&self) -> Value {
        let mut part = match &self.revision {
            Some(revision) => json!({"revisionName": revision}),
            None => json!({"latestRevision": true}),
        };
        if self.percent > 0 {
            part["percent"] = self.percent.into();
        }
        if let Some(tag) = &self.tag {
            part["tag"] = tag.clone().into();
        }
        part
    }
}

fn parts(traffic: &Value) -> Vec<Part> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let part = |part: &Value| Part {
        revision: text(&part["revisionName"]),
        percent: part["percent"].as_u64().unwrap_or_default(),
        tag: text(&part["tag"]),
    };
    traffic.as_array().into_iter().flatten().map(part).collect()
}

fn revision(found: &Value) -> Revision {
    Revision {
        name: found["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        settings: Settings::read(found),
        strange: strange(found),
        ready: ready(found),
    }
}

fn ready(found: &Value) -> Ready {
    let conditions = found["status"]["conditions"].as_array();
    let is_ready = |condition: &&Value| condition["type"] == "Ready";
    let Some(ready) = conditions.and_then(|all| all.iter().find(is_ready)) else {
        return Ready::NotYet("Cloud Run says nothing yet".to_owned());
    };
    let text = |key: &str| ready[key].as_str().unwrap_or_default();
    let why = match (text("message"), text("reason")) {
        ("", "") => "Cloud Run does not say why".to_owned(),
        ("", reason) => reason.to_owned(),
        (message, "") => message.to_owned(),
        (message, reason) => format!("{message} ({reason})"),
    };
    let why = why.chars().take(WHY_MAX_CHARS).collect();
    match text("status") {
        "True" => Ready::Yes,
        "False" => Ready::No(why),
        _ => Ready::NotYet(why),
    }
}

/// The label that says whose a service is.
pub(super) const OWNER_LABEL: &str = "holdfast-workload";
/// The annotation that says which body calls are led to.
const BODY: &str = "holdfast-body";
/// The label of revisions that says of which service they are, also where two had one name.
const SERVICE_UID: &str = "serving.knative.dev/serviceUid";
const INGRESS: &str = "run.googleapis.com/ingress";
/// Longest reason of Cloud Run's that is passed on, in characters.
const WHY_MAX_CHARS: usize = 400;
