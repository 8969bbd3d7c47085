//! A cluster that serves the paths of Cloud Run's API, and what Cloud Run does behind them: each
//! template becomes a revision, whose container is rolled out by Kubernetes itself, and calls are led
//! to revisions that are ready. No request of a caller is served.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{ADMIN, Cluster, missing};
use crate::skip;

/// The project, which is a namespace here.
pub(crate) const PROJECT: &str = "shop";
/// Longest time that something may take that normally takes a second.
const LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks of Cloud Run's part.
const LOOK: Duration = Duration::from_millis(100);

/// Cloud Run, as far as it is here.
pub(crate) struct Cloud {
    pub(crate) cluster: Arc<Cluster>,
    stop: Arc<AtomicBool>,
    controller: Option<JoinHandle<()>>,
}

impl Cloud {
    /// Starts it; says why it cannot run here, and counts that.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if let Some(why) = missing() {
            skip::skip(test, &why);
            return None;
        }
        let cluster = Arc::new(Cluster::start());
        cluster.namespace(PROJECT);
        for (plural, kind) in [("services", "Service"), ("revisions", "Revision")] {
            define(&cluster, plural, kind);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (own, over) = (Arc::clone(&cluster), Arc::clone(&stop));
        let controller = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                look(&own);
                std::thread::sleep(LOOK);
            }
        });
        Some(Self {
            cluster,
            stop,
            controller: Some(controller),
        })
    }

    pub(crate) fn service(&self, name: &str) -> Option<Value> {
        self.cluster.get(&path("services", name))
    }

    pub(crate) fn revisions(&self) -> Vec<String> {
        let (_, listed) = self.cluster.ask("GET", &path("revisions", ""), None);
        let items = listed["items"].as_array().unwrap();
        let names = items.iter().map(|one| one["metadata"]["name"].as_str());
        names.map(|name| name.unwrap().to_owned()).collect()
    }

    /// The releases that calls reach.
    pub(crate) fn alive(&self, service: &str) -> Vec<String> {
        alive(
            &|method, path| self.cluster.ask(method, path, None),
            service,
        )
    }

    /// Where calls of a service go, as `REVISION PERCENT`.
    pub(crate) fn led(&self, service: &str) -> Vec<String> {
        let service = self.service(service).unwrap();
        let parts = service["status"]["traffic"].as_array().unwrap();
        let word = |part: &Value| {
            let name = part["revisionName"].as_str().unwrap();
            format!("{name} {}", part["percent"])
        };
        parts.iter().map(word).collect()
    }

    /// Somebody changes a service, by a merge patch.
    pub(crate) fn edit(&self, service: &str, patch: &Value) {
        self.cluster.edit(&path("services", service), patch);
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(controller) = self.controller.take() {
            let _ = controller.join();
        }
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn path(plural: &str, name: &str) -> String {
    let path = format!("/apis/serving.knative.dev/v1/namespaces/{PROJECT}/{plural}/{name}");
    path.trim_end_matches('/').to_owned()
}

/// What the suite has done behind the plugin's back, by commands.
pub(crate) fn behind(port: u16, act: &str, service: &str) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
    let client = client.build().unwrap();
    let ask = |method: &str, path: &str, body: Option<&Value>| {
        let url = format!("https://127.0.0.1:{port}{path}");
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = client.request(method, url).bearer_auth(ADMIN);
        if let Some(body) = body {
            let kind = "application/merge-patch+json";
            request = request.header("content-type", kind).body(body.to_string());
        }
        runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let code = answer.status().as_u16();
            (
                code,
                serde_json::from_str(&answer.text().await.unwrap()).unwrap(),
            )
        })
    };
    let place = path("services", service);
    match act {
        "kill" => drop(ask("DELETE", &place, None)),
        // As its console does it: the new revision has a name of Cloud Run's choice.
        "edit" => {
            let template = json!({"metadata": {"name": null}, "spec": {"timeoutSeconds": 17}});
            let patch = json!({"spec": {"template": template}});
            drop(ask("PATCH", &place, Some(&patch)));
        }
        "alive" => {
            let releases = alive(&|method, path| ask(method, path, None), service);
            releases.iter().for_each(|release| println!("{release}"));
        }
        other => panic!("{other:?} is no act"),
    }
    ExitCode::SUCCESS
}

/// The release of each container that runs and that calls are led to, by its environment.
fn alive(ask: &dyn Fn(&str, &str) -> (u16, Value), service: &str) -> Vec<String> {
    let (code, service) = ask("GET", &path("services", service));
    if code != 200 {
        return Vec::new();
    }
    let parts = service["status"]["traffic"].as_array();
    let parts = parts.into_iter().flatten();
    let led = parts.filter(|part| part["percent"].as_u64() > Some(0));
    let mut all = Vec::new();
    for part in led {
        let revision = part["revisionName"].as_str().unwrap();
        let pods = format!("/api/v1/namespaces/{PROJECT}/pods?labelSelector=revision%3D{revision}");
        let (_, pods) = ask("GET", &pods);
        let runs = |pod: &&Value| {
            pod["status"]["phase"] == "Running" && !pod["metadata"]["deletionTimestamp"].is_string()
        };
        let pods = pods["items"].as_array().unwrap().iter().filter(runs);
        all.extend(pods.map(|pod| {
            let release = &pod["spec"]["containers"][0]["env"][0]["value"];
            release.as_str().unwrap_or_default().to_owned()
        }));
    }
    all
}

fn define(cluster: &Cluster, plural: &str, kind: &str) {
    let group = "serving.knative.dev";
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cluster.create(definitions, &definition);
    until("the paths are served", || {
        cluster.ask("GET", &path(plural, ""), None).0 == 200
    });
}

/// One look at all services.
fn look(cluster: &Cluster) {
    let (code, listed) = cluster.ask("GET", &path("services", ""), None);
    if code != 200 {
        return;
    }
    for service in listed["items"].as_array().into_iter().flatten() {
        let name = text(&service["metadata"]["name"]);
        let selector = format!("?labelSelector=serving.knative.dev%2Fservice%3D{name}");
        let revisions = path("revisions", "") + &selector;
        let (_, found) = cluster.ask("GET", &revisions, None);
        let found = found["items"].as_array().cloned().unwrap_or_default();
        let latest = latest(service);
        if !found.iter().any(|one| one["metadata"]["name"] == *latest) {
            make(cluster, service, &latest);
            continue;
        }
        let uid = &service["metadata"]["uid"];
        let own =
            |one: &&Value| one["metadata"]["labels"]["serving.knative.dev/serviceUid"] == *uid;
        let told: Vec<Value> = found
            .iter()
            .filter(own)
            .map(|one| tell(cluster, one))
            .collect();
        tell_of_service(cluster, service, &latest, &told);
    }
}

/// The name of the revision that a service's template makes.
fn latest(service: &Value) -> String {
    let named = service["spec"]["template"]["metadata"]["name"].as_str();
    let generation = &service["metadata"]["generation"];
    let own = || {
        format!(
            "{}-{generation:0>5}-own",
            text(&service["metadata"]["name"])
        )
    };
    named.map_or_else(own, str::to_owned)
}

/// A revision, and what rolls out its container.
fn make(cluster: &Cluster, service: &Value, name: &str) {
    let (metadata, template) = (&service["metadata"], &service["spec"]["template"]);
    let owner = |kind: &str, version: &str, of: &Value| json!([{"apiVersion": version, "kind": kind, "name": of["name"], "uid": of["uid"]}]);
    let mut labels = template["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels["serving.knative.dev/service"] = metadata["name"].clone();
    labels["serving.knative.dev/serviceUid"] = metadata["uid"].clone();
    let revision = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "spec": template["spec"],
        "metadata": {"name": name, "labels": labels,
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": owner("Service", "serving.knative.dev/v1", metadata)},
    });
    let (code, revision) = cluster.ask("POST", &path("revisions", ""), Some(&revision));
    if code != 201 {
        return;
    }
    let container = &template["spec"]["containers"][0];
    let image = text(&container["image"]);
    let image = image.split('@').next().unwrap();
    // The kubelet of the tests never has such an image: that is soon known.
    let patience = if image.contains("bad") { 2 } else { 50 };
    let own = json!({"revision": name});
    let pod = json!({"metadata": {"labels": own}, "spec": {"containers": [{
        "name": "main", "image": image, "command": container["command"], "env": container["env"],
    }]}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name,
            "ownerReferences": owner("Revision", "serving.knative.dev/v1", &revision["metadata"])},
        "spec": {"replicas": 1, "selector": {"matchLabels": own}, "template": pod,
            "progressDeadlineSeconds": patience},
    });
    let deployments = format!("/apis/apps/v1/namespaces/{PROJECT}/deployments");
    cluster.ask("POST", &deployments, Some(&deployment));
}

/// Writes down how far a revision is; the revision.
fn tell(cluster: &Cluster, revision: &Value) -> Value {
    let name = text(&revision["metadata"]["name"]);
    let deployment = format!("/apis/apps/v1/namespaces/{PROJECT}/deployments/{name}");
    let deployment = cluster.get(&deployment).unwrap_or_default();
    let found = |kind: &str, status: &str| {
        let conditions = deployment["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.find(|one| one["type"] == kind && one["status"] == status)
    };
    let ready = if found("Available", "True").is_some() {
        json!({"type": "Ready", "status": "True"})
    } else if let Some(why) = found("Progressing", "False") {
        json!({"type": "Ready", "status": "False", "reason": why["reason"],
            "message": why["message"]})
    } else {
        json!({"type": "Ready", "status": "Unknown", "reason": "Deploying"})
    };
    write(
        cluster,
        "revisions",
        revision,
        &json!({"conditions": [ready]}),
    )
}

/// Writes down how far a service is.
fn tell_of_service(cluster: &Cluster, service: &Value, latest: &str, revisions: &[Value]) {
    let condition = |name: &str| {
        let named = |one: &&Value| one["metadata"]["name"] == *name;
        let found = revisions.iter().find(named);
        found.map(|one| one["status"]["conditions"][0].clone())
    };
    let good = |name: &str| condition(name).is_some_and(|one| one["status"] == "True");
    let before = service["status"]["latestReadyRevisionName"].as_str();
    let newest = if good(latest) { Some(latest) } else { before };
    let (mut led, mut waits) = (Vec::new(), None);
    for part in service["spec"]["traffic"].as_array().into_iter().flatten() {
        let mut part = part.clone();
        let to = part["revisionName"].as_str().or(newest).map(str::to_owned);
        match to.filter(|to| good(to)) {
            Some(to) => part["revisionName"] = to.into(),
            None => waits = Some(format!("Revision {} is not ready.", part["revisionName"])),
        }
        led.push(part);
    }
    let led = if waits.is_some() {
        service["status"]["traffic"].clone()
    } else {
        Value::Array(led)
    };
    let unknown = |why: &str| json!({"type": "Ready", "status": "Unknown", "message": why});
    let of_latest = condition(latest).unwrap_or_else(|| unknown("the revision is made"));
    let ready = match waits {
        Some(why) if of_latest["status"] == "True" => unknown(&why),
        Some(_) | None => of_latest,
    };
    let status = json!({
        "observedGeneration": service["metadata"]["generation"], "conditions": [ready],
        "latestCreatedRevisionName": latest, "latestReadyRevisionName": newest, "traffic": led,
    });
    write(cluster, "services", service, &status);
}

/// Writes a status where it is another one.
fn write(cluster: &Cluster, plural: &str, of: &Value, status: &Value) -> Value {
    let mut after = of.clone();
    after["status"] = status.clone();
    // Empty values are not kept.
    let same = of["status"]["conditions"] == status["conditions"]
        && of["status"]["traffic"] == status["traffic"]
        && of["status"]["observedGeneration"] == status["observedGeneration"];
    if !same {
        let path = path(plural, &text(&of["metadata"]["name"])) + "/status";
        cluster.ask("PUT", &path, Some(&after));
    }
    after
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
