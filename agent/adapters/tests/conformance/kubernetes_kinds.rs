//! Kinds of workloads other than Deployments, brought to readiness by the cluster's own controllers.

use holdfast_adapters::run::Live;
use serde_json::{Value, json};

use crate::bench::patiently;
use crate::bench_kubernetes::{KubernetesBench, available};
use crate::driver::Driver;

pub(crate) const TESTS: &[crate::Test] = &[(
    "stateful_sets_daemon_sets_and_jobs_are_waited_for",
    stateful_sets_daemon_sets_and_jobs_are_waited_for,
)];

/// One that is ready when all of its pods are, which run `script`.
fn kind(kind: &str, name: &str, release: u32, spec: &Value) -> Value {
    let container = json!({"name": "main", "image": "web",
        "command": ["/bin/sh", "-c", "exec sleep 86400"]});
    let mut whole = json!({
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name, "release": release.to_string()}},
            // Nobody takes from the node what says that it is new.
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}]},
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": whole})
}

fn job(name: &str) -> Value {
    let container = json!({"name": "main", "image": "web",
        "command": ["/bin/sh", "-c", "exit 0"]});
    let pod = json!({"spec": {"containers": [container], "restartPolicy": "Never"}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": pod}})
}

fn stateful_sets_daemon_sets_and_jobs_are_waited_for() {
    if !available("stateful_sets_daemon_sets_and_jobs_are_waited_for") {
        return;
    }
    let bench = KubernetesBench::shared("kinds");
    let driver = Driver::new(&bench);
    let set = |release: u32| {
        let store = json!({"replicas": 3, "serviceName": "store"});
        let objects = [
            kind("StatefulSet", "store", release, &store),
            kind("DaemonSet", "watch", release, &json!({})),
            job("prepare"),
        ];
        bench.set("kinds", &objects, &json!({}))
    };
    let status = |object: &str| bench.get(object).unwrap()["status"].clone();
    for release in [1, 2] {
        driver.converge(&set(release));
        // Not before each of them is.
        let waits = |live: &Live| match live {
            Live::Running { .. } => {
                let (store, watch) = (
                    status("apps/v1/statefulsets/store"),
                    status("apps/v1/daemonsets/watch"),
                );
                assert_eq!(store["readyReplicas"], 3, "{store}");
                assert_eq!(store["updatedReplicas"], store["replicas"], "{store}");
                assert_eq!(
                    watch["numberAvailable"], watch["desiredNumberScheduled"],
                    "{watch}"
                );
                assert!(
                    watch["desiredNumberScheduled"].as_u64() >= Some(1),
                    "{watch}"
                );
                assert_eq!(status("batch/v1/jobs/prepare")["succeeded"], 1);
                true
            }
            Live::Unready { .. } => false,
            other @ (Live::Altered { .. } | Live::Ended { .. }) => panic!("{other:?}"),
        };
        patiently("all of them are ready", || waits(&driver.live("kinds")));
        let pods = bench.path("pods") + &format!("?labelSelector=release={release}");
        let (_, pods) = bench.cluster.ask("GET", &pods, None);
        let count = pods["items"].as_array().unwrap().len();
        assert!(count >= 4, "{count} pods of release {release}");
    }
    driver.remove("kinds");
    assert_eq!(bench.get("apps/v1/statefulsets/store"), None);
}
