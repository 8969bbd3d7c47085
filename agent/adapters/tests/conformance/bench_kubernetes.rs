//! Sets of objects of a real cluster.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_adapters::conformance::{Ending, Subject};
use holdfast_adapters::kubernetes::Settings;
use holdfast_adapters::run::{self, Adapter, Wanted};
use holdfast_protocol::name::{ArtifactName, ServiceName};
use holdfast_protocol::workload::Placeholder;
use serde_json::{Value, json};

use crate::bench::{Home, as_job, job_script, lines, tar_gz};
use crate::cluster::{AGENT, Cluster, missing};

/// One agent's directory, and a cluster.
pub(crate) struct KubernetesBench {
    pub(crate) home: Home,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) settings: Settings,
    /// The namespace of what is made here.
    pub(crate) namespace: String,
}

thread_local! {
    /// The cluster that tests share, until the last of them is over.
    static SHARED: RefCell<Option<Arc<Cluster>>> = const { RefCell::new(None) };
}

/// Ends what tests shared.
pub(crate) fn end() {
    SHARED.with_borrow_mut(Option::take);
}

/// Whether a cluster can run here; says why not, and counts it.
pub(crate) fn available(test: &str) -> bool {
    match missing() {
        None => true,
        Some(why) => {
            crate::skip::skip(test, &why);
            false
        }
    }
}

impl KubernetesBench {
    /// Over the cluster that other tests use, too, in a namespace of its own.
    pub(crate) fn shared(namespace: &str) -> Self {
        let cluster = SHARED.with_borrow_mut(|shared| {
            Arc::clone(shared.get_or_insert_with(|| Arc::new(Cluster::start())))
        });
        Self::over(cluster, namespace)
    }

    /// Over a cluster of its own.
    pub(crate) fn own(namespace: &str) -> Self {
        Self::over(Arc::new(Cluster::start()), namespace)
    }

    fn over(cluster: Arc<Cluster>, namespace: &str) -> Self {
        cluster.namespace(namespace);
        let settings = Settings {
            kubeconfig: Some(cluster.kubeconfig(AGENT, None)),
            ..Settings::default()
        };
        Self {
            home: Home::new(),
            cluster,
            settings,
            namespace: namespace.to_owned(),
        }
    }

    pub(crate) fn adapter(&self) -> Arc<dyn Adapter> {
        let settings = run::Settings {
            kubernetes: self.settings.clone(),
            ..run::Settings::default()
        };
        let all = run::adapters_with(&self.home.agent(), Vec::new(), settings).unwrap();
        let mut all = all.into_iter();
        all.find(|adapter| adapter.runtime() == "kubernetes")
            .unwrap()
    }

    /// A set of objects, with `more` in its template.
    pub(crate) fn set(&self, service: &str, objects: &[Value], more: &Value) -> Wanted {
        let mut template = json!({"namespace": self.namespace, "objects": objects});
        for (key, value) in more.as_object().unwrap() {
            template[key] = value.clone();
        }
        self.home
            .wanted(service, "kubernetes", &template, Vec::new())
    }

    /// The path of one of this bench's objects: `configmaps/a`, `apps/v1/deployments/web`.
    pub(crate) fn path(&self, object: &str) -> String {
        let (api, rest) = match object.split('/').collect::<Vec<_>>()[..] {
            [plural, name] => ("/api/v1".to_owned(), format!("{plural}/{name}")),
            [plural] => ("/api/v1".to_owned(), plural.to_owned()),
            [group, version, plural, name] => (
                format!("/apis/{group}/{version}"),
                format!("{plural}/{name}"),
            ),
            _ => panic!("{object}"),
        };
        format!("{api}/namespaces/{}/{rest}", self.namespace)
    }

    pub(crate) fn get(&self, object: &str) -> Option<Value> {
        self.cluster.get(&self.path(object))
    }

    pub(crate) fn kubeconfig(&self, token: &str) -> PathBuf {
        self.cluster.kubeconfig(token, None)
    }
}

pub(crate) fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A deployment of pods that run a shell script.
pub(crate) fn deployment(name: &str, image: &str, script: &str) -> Value {
    let container = json!({
        "name": "main", "image": image, "command": ["/bin/sh", "-c", script],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    })
}

impl Subject for KubernetesBench {
    fn name(&self) -> &str {
        "kubernetes"
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(self.adapter())
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        let app = Placeholder::ArtifactPath(ArtifactName::parse("app").unwrap()).text();
        let script = format!("echo release {release} begins; exec sleep 86400");
        let mut web = deployment(service.as_str(), "web", &script);
        web["spec"]["template"]["metadata"]["labels"]["release"] = json!(release.to_string());
        let map = config_map(service.as_str(), &json!({"release": release.to_string()}));
        let text = format!("{map}\n---\n{web}\n");
        let blob = tar_gz(&[("deploy/all.yaml", 0o644, &text)]);
        let artifact = self.home.artifact("app", "app.tar.gz", &blob);
        let template = json!({
            "namespace": self.namespace,
            "manifests": [format!("{app}/deploy")],
        });
        self.home
            .wanted(service.as_str(), "kubernetes", &template, vec![artifact])
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        // The template is one; the server refuses what it is given.
        let mut web = deployment(service.as_str(), "web", "exit 0");
        web["spec"]["replicas"] = json!(-1);
        self.set(service.as_str(), &[web], &json!({}))
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        let path = self.path(&format!("apps/v1/deployments/{service}"));
        if self.cluster.get(&path).is_some() {
            self.cluster.delete(&path);
        }
        Ok(())
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        let path = self.path(&format!("configmaps/{service}"));
        self.cluster
            .edit(&path, &json!({"data": {"release": "mine"}}));
        Ok(())
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let path = self.path(&format!("pods?labelSelector=app={service}"));
        let (_, pods) = self.cluster.ask("GET", &path, None);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let release = |pod: &Value| pod["metadata"]["labels"]["release"].as_str()?.parse().ok();
        let mut alive: Vec<u32> = pods
            .iter()
            .filter(|pod| pod["metadata"].get("deletionTimestamp").is_none())
            .filter_map(release)
            .collect();
        alive.sort_unstable();
        alive
    }

    fn has_output(&self) -> bool {
        true
    }

    fn job(&self, service: &ServiceName, release: u32, ending: Ending) -> Option<Wanted> {
        let runs = self.home.runs(service);
        let script = job_script(runs.to_str().unwrap(), release, ending);
        let job = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": service.as_str()},
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "job", "command": ["/bin/sh", "-c", script]},
        ]}}}});
        let map = config_map(service.as_str(), &json!({"release": release.to_string()}));
        Some(as_job(self.set(service.as_str(), &[map, job], &json!({}))))
    }

    fn runs(&self, service: &ServiceName) -> usize {
        lines(&self.home.runs(service))
    }
}
