//! What is particular to clusters: order, ownership, conflicts, readiness, drift, pruning, jobs.

use holdfast_adapters::conformance::run;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Exit, Live, LogRequest};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::JobTerms;
use serde_json::{Value, json};

use crate::bench::{PATIENCE, patiently, runtime};
use crate::bench_kubernetes::{KubernetesBench, available, config_map, deployment};
use crate::driver::Driver;
use crate::table;

pub(crate) const TESTS: &[crate::Test] = &[
    ("kubernetes_conforms", kubernetes_conforms),
    (
        "a_definition_and_an_object_of_it_come_in_one_set",
        a_definition_and_an_object_of_it_come_in_one_set,
    ),
    (
        "a_namespace_of_its_own_comes_and_goes_with_its_set",
        a_namespace_of_its_own_comes_and_goes_with_its_set,
    ),
    (
        "what_left_the_set_is_deleted_and_nothing_else",
        what_left_the_set_is_deleted_and_nothing_else,
    ),
    (
        "what_others_made_is_refused_and_not_touched",
        what_others_made_is_refused_and_not_touched,
    ),
    (
        "a_field_of_somebody_else_is_named_and_left",
        a_field_of_somebody_else_is_named_and_left,
    ),
    (
        "every_kind_of_drift_in_a_cluster_is_announced_named_and_repaired",
        every_kind_of_drift,
    ),
    (
        "an_image_that_cannot_be_pulled_fails_after_its_deadline",
        an_image_that_cannot_be_pulled_fails_after_its_deadline,
    ),
    (
        "a_set_is_refused_as_a_whole_before_anything_is_touched",
        a_set_is_refused_as_a_whole_before_anything_is_touched,
    ),
    (
        "a_job_in_a_cluster_ends_with_the_exit_code_of_its_pod",
        a_job_in_a_cluster_ends_with_the_exit_code_of_its_pod,
    ),
    (
        "an_agent_that_lost_its_directory_finds_its_sets",
        an_agent_that_lost_its_directory_finds_its_sets,
    ),
    (
        "a_record_that_somebody_changed_is_named_and_nothing_is_left_behind",
        a_record_that_somebody_changed_is_named_and_nothing_is_left_behind,
    ),
    (
        "only_the_namespaces_that_the_target_allows_are_used",
        only_the_namespaces_that_the_target_allows_are_used,
    ),
    (
        "output_of_every_pod_is_read_and_followed",
        output_of_every_pod_is_read_and_followed,
    ),
];

fn kubernetes_conforms() {
    if !available("kubernetes_conforms") {
        return;
    }
    let bench = KubernetesBench::shared("conformance");
    let report = runtime().block_on(run(&bench));
    table::conform(&[report]);
}

/// The definition of a kind of objects, such as `Gadget`.
fn definition(kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

fn custom(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"size": 3}})
}

fn a_definition_and_an_object_of_it_come_in_one_set() {
    if !available("a_definition_and_an_object_of_it_come_in_one_set") {
        return;
    }
    let bench = KubernetesBench::shared("custom");
    let driver = Driver::new(&bench);
    // In the wrong order: the adapter has its own.
    let objects = [custom("Gadget", "first"), definition("Gadget")];
    let wanted = bench.set("gadgets", &objects, &json!({}));
    driver.converge(&wanted);
    driver.await_running("gadgets");
    assert_eq!(
        bench.get("example.com/v1/gadgets/first").unwrap()["spec"]["size"],
        3
    );
    // It is ready when its own controller says so.
    let path = bench.path("example.com/v1/gadgets/first") + "/status";
    let say = |status: &str| {
        let condition = json!({"type": "Ready", "status": status, "reason": "Assembling"});
        let patch = json!({"status": {"conditions": [condition]}});
        bench.cluster.edit(&path, &patch);
    };
    say("False");
    patiently("it is not ready", || {
        matches!(driver.live("gadgets"), Live::Unready { failing: false, ref why, .. }
            if why.contains("Gadget custom/first: Assembling"))
    });
    say("True");
    driver.await_running("gadgets");
    // An object of somebody else keeps the definition where it is.
    let theirs = custom("Gadget", "theirs");
    bench
        .cluster
        .create("/apis/example.com/v1/namespaces/custom/gadgets", &theirs);
    let service = ServiceName::parse("gadgets").unwrap();
    match driver.runtime.block_on(driver.adapter.remove(&service)) {
        Err(Failure::Retryable(why)) => assert!(why.contains("Gadget theirs of others"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(bench.get("example.com/v1/gadgets/theirs").is_some());
    bench
        .cluster
        .delete(&bench.path("example.com/v1/gadgets/theirs"));
    driver.remove("gadgets");
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.example.com";
    assert_eq!(bench.cluster.get(definition), None);
    assert_eq!(driver.observe("gadgets"), None);
}

fn a_namespace_of_its_own_comes_and_goes_with_its_set() {
    if !available("a_namespace_of_its_own_comes_and_goes_with_its_set") {
        return;
    }
    let bench = KubernetesBench::shared("home");
    let driver = Driver::new(&bench);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "own-space"}});
    let mut map = config_map("conf", &json!({"a": "1"}));
    map["metadata"]["namespace"] = json!("own-space");
    let wanted = bench.set("spaced", &[map, namespace], &json!({}));
    driver.converge(&wanted);
    driver.await_running("spaced");
    let theirs = config_map("theirs", &json!({}));
    bench
        .cluster
        .create("/api/v1/namespaces/own-space/configmaps", &theirs);
    let service = ServiceName::parse("spaced").unwrap();
    match driver.runtime.block_on(driver.adapter.remove(&service)) {
        Err(Failure::Retryable(why)) => assert!(why.contains("ConfigMap theirs"), "{why}"),
        other => panic!("{other:?}"),
    }
    let theirs = "/api/v1/namespaces/own-space/configmaps/theirs";
    assert!(bench.cluster.get(theirs).is_some());
    bench.cluster.delete(theirs);
    driver.remove("spaced");
    assert_eq!(bench.cluster.get("/api/v1/namespaces/own-space"), None);
}

fn what_left_the_set_is_deleted_and_nothing_else() {
    if !available("what_left_the_set_is_deleted_and_nothing_else") {
        return;
    }
    let bench = KubernetesBench::shared("prune");
    let driver = Driver::new(&bench);
    let map = |name: &str| config_map(name, &json!({"a": "1"}));
    bench
        .cluster
        .create(&bench.path("configmaps"), &map("theirs"));
    driver.converge(&bench.set("pruned", &[map("a"), map("b"), map("c")], &json!({})));
    let kept = bench.get("configmaps/a").unwrap()["metadata"]["uid"].clone();
    driver.converge(&bench.set("pruned", &[map("a"), map("d")], &json!({})));
    assert_eq!(bench.get("configmaps/a").unwrap()["metadata"]["uid"], kept);
    for (name, there) in [("b", false), ("c", false), ("d", true), ("theirs", true)] {
        let found = bench.get(&format!("configmaps/{name}"));
        assert_eq!(found.is_some(), there, "{name}");
    }
    // What somebody made anew under the same name is theirs.
    bench.cluster.delete(&bench.path("configmaps/d"));
    bench.cluster.create(&bench.path("configmaps"), &map("d"));
    driver.remove("pruned");
    assert!(bench.get("configmaps/d").is_some());
    assert_eq!(bench.get("configmaps/a"), None);
    assert!(bench.get("configmaps/theirs").is_some());
}

fn what_others_made_is_refused_and_not_touched() {
    if !available("what_others_made_is_refused_and_not_touched") {
        return;
    }
    let bench = KubernetesBench::shared("foreign");
    let driver = Driver::new(&bench);
    let theirs = config_map("taken", &json!({"a": "theirs"}));
    let before = bench.cluster.create(&bench.path("configmaps"), &theirs);
    let objects = [
        config_map("fresh", &json!({})),
        config_map("taken", &json!({"a": "ours"})),
    ];
    let why = driver.refused(&bench.set("bold", &objects, &json!({"force": true})));
    assert!(
        why.contains("ConfigMap foreign/taken exists and it was not made by"),
        "{why}"
    );
    assert_eq!(bench.get("configmaps/taken"), Some(before));
    assert_eq!(bench.get("configmaps/fresh"), None);
    // Nor is what this agent made for another service.
    driver.converge(&bench.set("first", &[config_map("one", &json!({}))], &json!({})));
    let why = driver.refused(&bench.set("second", &[config_map("one", &json!({}))], &json!({})));
    assert!(why.contains("it belongs to service first"), "{why}");
    driver.remove("first");
}

fn a_field_of_somebody_else_is_named_and_left() {
    if !available("a_field_of_somebody_else_is_named_and_left") {
        return;
    }
    let bench = KubernetesBench::shared("conflict");
    let driver = Driver::new(&bench);
    let web = deployment("web", "web", "exec sleep 86400");
    driver.converge(&bench.set("web", std::slice::from_ref(&web), &json!({})));
    driver.await_running("web");
    // A field that the set does not have is others' to set, and no drift.
    let path = bench.path("apps/v1/deployments/web");
    bench.cluster.edit(&path, &json!({"spec": {"replicas": 2}}));
    patiently("both pods are there", || {
        bench.get("apps/v1/deployments/web").unwrap()["status"]["availableReplicas"] == 2
    });
    driver.await_running("web");
    let mut scaled = web.clone();
    scaled["spec"]["replicas"] = json!(3);
    let why = driver.refused(&bench.set("web", &[scaled.clone()], &json!({})));
    assert!(
        why.contains(".spec.replicas is managed by kubectl-edit"),
        "{why}"
    );
    assert!(why.contains("force: true"), "{why}");
    assert_eq!(
        bench.get("apps/v1/deployments/web").unwrap()["spec"]["replicas"],
        2
    );
    assert!(driver.runs("web"), "the old release runs on");
    driver.converge(&bench.set("web", &[scaled], &json!({"force": true})));
    assert_eq!(
        bench.get("apps/v1/deployments/web").unwrap()["spec"]["replicas"],
        3
    );
    driver.remove("web");
}

type Harm = fn(&KubernetesBench);

/// What somebody does, and what is said of it.
const HARMS: &[(&str, Harm, &str)] = &[
    (
        "edits data",
        |b| {
            let patch = json!({"data": {"secret": "hunter2"}});
            b.cluster.edit(&b.path("configmaps/drift"), &patch);
        },
        "ConfigMap drift/drift: .data.secret was changed (by kubectl-edit)",
    ),
    (
        "removes data",
        |b| {
            let patch = json!({"data": {"secret": null}});
            b.cluster.edit(&b.path("configmaps/drift"), &patch);
        },
        ".data.secret was removed",
    ),
    (
        "scales",
        |b| {
            let path = b.path("apps/v1/deployments/drift");
            b.cluster.edit(&path, &json!({"spec": {"replicas": 2}}));
        },
        "Deployment drift/drift: .spec.replicas is now 2 (by kubectl-edit)",
    ),
    (
        "scales by the subresource, which notes nobody",
        |b| {
            let path = b.path("apps/v1/deployments/drift") + "/scale";
            b.cluster.edit(&path, &json!({"spec": {"replicas": 0}}));
        },
        "Deployment drift/drift: ",
    ),
    (
        "takes the labels off",
        |b| {
            let patch = json!({"metadata": {"labels": null}});
            b.cluster.edit(&b.path("configmaps/drift"), &patch);
        },
        ".metadata.labels.holdfast.agent",
    ),
    (
        "deletes",
        |b| b.cluster.delete(&b.path("configmaps/drift")),
        "ConfigMap drift/drift was removed",
    ),
];

fn every_kind_of_drift() {
    if !available("every_kind_of_drift_in_a_cluster_is_announced_named_and_repaired") {
        return;
    }
    let bench = KubernetesBench::shared("drift");
    let driver = Driver::new(&bench);
    let mut changes = driver.adapter.changes();
    let mut web = deployment("drift", "web", "exec sleep 86400");
    web["spec"]["replicas"] = json!(1);
    let map = config_map("drift", &json!({"secret": "a", "other": "b"}));
    let wanted = bench.set("drift", &[map, web], &json!({}));
    driver.converge(&wanted);
    for (name, harm, said) in HARMS {
        driver.await_running("drift");
        while changes.try_recv().is_ok() {}
        harm(&bench);
        let wait = async { tokio::time::timeout(PATIENCE, changes.recv()).await };
        let announced = driver.runtime.block_on(wait);
        let announced = announced.unwrap_or_else(|_| panic!("{name} was not announced"));
        assert_eq!(announced.unwrap().as_str(), "drift");
        let what = driver.await_altered("drift");
        assert!(what.contains(said), "{name}: {what}");
        assert!(!what.contains("hunter2"), "{name}: {what}");
        assert_eq!(driver.observe("drift").unwrap().body, Some(wanted.body));
        driver.converge(&wanted);
    }
    driver.await_running("drift");
    let map = bench.get("configmaps/drift").unwrap();
    assert_eq!(map["data"], json!({"secret": "a", "other": "b"}));
    // What others add is theirs.
    let patch = json!({"data": {"theirs": "c"}, "metadata": {"annotations": {"x": "y"}}});
    bench.cluster.edit(&bench.path("configmaps/drift"), &patch);
    driver.converge(&wanted);
    assert!(driver.runs("drift"), "{:?}", driver.live("drift"));
    assert_eq!(
        bench.get("configmaps/drift").unwrap()["data"]["theirs"],
        "c"
    );
    driver.remove("drift");
}

fn an_image_that_cannot_be_pulled_fails_after_its_deadline() {
    if !available("an_image_that_cannot_be_pulled_fails_after_its_deadline") {
        return;
    }
    let bench = KubernetesBench::shared("bad");
    let driver = Driver::new(&bench);
    let mut web = deployment("web", "bad-image", "exec sleep 86400");
    web["spec"]["progressDeadlineSeconds"] = json!(3);
    driver.converge(&bench.set("web", &[web], &json!({})));
    let unready = |failing: bool| {
        patiently(
            "it is not ready",
            || matches!(driver.live("web"), Live::Unready { failing: found, .. } if found == failing),
        );
        driver.live("web")
    };
    let Live::Unready { why, .. } = unready(false) else {
        panic!("it is ready");
    };
    assert!(why.starts_with("Deployment bad/web: "), "{why}");
    let Live::Unready { why, .. } = unready(true) else {
        panic!("it is ready");
    };
    assert!(why.contains("ProgressDeadlineExceeded"), "{why}");
    // A good release puts it right.
    let good = deployment("web", "web", "exec sleep 86400");
    driver.converge(&bench.set("web", &[good], &json!({})));
    driver.await_running("web");
    driver.remove("web");
}

fn a_set_is_refused_as_a_whole_before_anything_is_touched() {
    if !available("a_set_is_refused_as_a_whole_before_anything_is_touched") {
        return;
    }
    let bench = KubernetesBench::shared("whole");
    let driver = Driver::new(&bench);
    let release = |n: u32| config_map("conf", &json!({"release": n.to_string()}));
    driver.converge(&bench.set("web", &[release(1)], &json!({})));
    let mut invalid = config_map("second", &json!({}));
    invalid["data"] = json!({"a": 7});
    let mut twice = release(2);
    twice["metadata"]["labels"] = json!({"x": "y"});
    let mut unserved = release(2);
    unserved["kind"] = json!("Confection");
    for (objects, said, permanent) in [
        (vec![release(2), invalid], "ConfigMap whole/second", false),
        (
            vec![release(2), twice],
            "holds ConfigMap whole/conf twice",
            true,
        ),
        (
            vec![release(2), unserved],
            "does not serve kind Confection",
            false,
        ),
    ] {
        match driver.try_converge(&bench.set("web", &objects, &json!({}))) {
            Err(Failure::Permanent(why)) => assert!(why.contains(said), "{why}"),
            Err(Failure::Retryable(why)) if !permanent => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
        let conf = bench.get("configmaps/conf").unwrap();
        assert_eq!(conf["data"]["release"], "1", "{said}");
        assert!(driver.runs("web"));
    }
    driver.remove("web");
}

fn a_job_in_a_cluster_ends_with_the_exit_code_of_its_pod() {
    if !available("a_job_in_a_cluster_ends_with_the_exit_code_of_its_pod") {
        return;
    }
    let bench = KubernetesBench::shared("jobs");
    let driver = Driver::new(&bench);
    let job = |script: &str, run: u64| {
        let container = json!({"name": "main", "image": "x", "command": ["/bin/sh", "-c", script]});
        let object = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "migrate"},
            "spec": {"template": {"spec": {"containers": [container]}}}});
        let mut wanted = bench.set("migrate", &[object], &json!({}));
        wanted.workload.job = Some(JobTerms {
            run: Some(Timestamp::from_millis(run)),
            attempts: 2,
            time_limit_ms: 60_000,
        });
        wanted.body = wanted.workload.clone().seal().0;
        wanted
    };
    let ended = || match driver.live("migrate") {
        Live::Ended { exit, .. } => Some(exit),
        Live::Running { .. } | Live::Unready { .. } | Live::Altered { .. } => None,
    };
    let uid = || bench.get("batch/v1/jobs/migrate").unwrap()["metadata"]["uid"].clone();
    let good = job("echo migrating", 1);
    driver.converge(&good);
    patiently("it ends", || ended().is_some());
    assert_eq!(ended(), Some(Exit::Code(0)));
    let first = uid();
    // Another run of the same release is another Job.
    driver.converge(&job("echo migrating", 2));
    patiently("it ends again", || ended().is_some());
    assert_ne!(uid(), first);
    let failing = job("echo no such table; exit 3", 3);
    driver.converge(&failing);
    patiently("it fails", || ended() == Some(Exit::Code(3)));
    let service = ServiceName::parse("migrate").unwrap();
    let lines = driver.runtime.block_on(async {
        let request = LogRequest {
            since: None,
            tail: 10,
            follow: false,
        };
        let mut lines = driver.adapter.logs(&service, request).await.unwrap();
        let mut texts = Vec::new();
        while let Some(line) = lines.recv().await {
            texts.push(line.text);
        }
        texts
    });
    assert!(
        lines.iter().any(|line| line.ends_with("no such table")),
        "{lines:?}"
    );
    // One that runs is left alone.
    let long = job("exec sleep 86400", 4);
    driver.converge(&long);
    driver.await_running("migrate");
    let running = uid();
    driver.converge(&long);
    assert_eq!(uid(), running);
    driver.remove("migrate");
    assert_eq!(bench.get("batch/v1/jobs/migrate"), None);
    let mut none = bench.set("migrate", &[config_map("a", &json!({}))], &json!({}));
    none.workload.job = long.workload.job;
    assert!(driver.refused(&none).contains("exactly one Job"));
}

fn an_agent_that_lost_its_directory_finds_its_sets() {
    if !available("an_agent_that_lost_its_directory_finds_its_sets") {
        return;
    }
    let bench = KubernetesBench::shared("lost");
    let wanted = bench.set(
        "kept",
        &[config_map("kept", &json!({"a": "1"}))],
        &json!({}),
    );
    Driver::new(&bench).converge(&wanted);
    let before = bench.get("configmaps/kept");
    std::fs::remove_dir_all(bench.home.agent().join("kubernetes")).unwrap();
    let driver = Driver::new(&bench);
    let seen = driver.observe("kept").expect("it is found by its record");
    assert_eq!(seen.body, Some(wanted.body));
    driver.converge(&wanted);
    assert_eq!(
        bench.get("configmaps/kept"),
        before,
        "it was not written to"
    );
    // Another agent does not see it, and may not take it.
    let other = KubernetesBench::shared("lost");
    let second = Driver::new(&other);
    assert_eq!(second.try_observe().unwrap(), []);
    let why = second.refused(&other.set("kept", &[config_map("kept", &json!({}))], &json!({})));
    assert!(why.contains("of another agent"), "{why}");
    driver.remove("kept");
    assert_eq!(bench.get("configmaps/kept"), None);
}

fn a_record_that_somebody_changed_is_named_and_nothing_is_left_behind() {
    if !available("a_record_that_somebody_changed_is_named_and_nothing_is_left_behind") {
        return;
    }
    let bench = KubernetesBench::shared("record");
    let driver = Driver::new(&bench);
    let wanted = bench.set("noted", &[config_map("noted", &json!({}))], &json!({}));
    driver.converge(&wanted);
    let labelled = "/api/v1/secrets?labelSelector=holdfast.service=noted";
    let (_, records) = bench.cluster.ask("GET", labelled, None);
    let record = &records["items"][0];
    let text = |pointer: &str| record.pointer(pointer).unwrap().as_str().unwrap();
    let path = format!(
        "/api/v1/namespaces/{}/secrets/{}",
        text("/metadata/namespace"),
        text("/metadata/name")
    );
    bench.cluster.edit(&path, &json!({"data": {"set": "AAAA"}}));
    let other = bench.set("noted", &[config_map("other", &json!({}))], &json!({}));
    let why = driver.refused(&other);
    assert!(why.contains(text("/metadata/name")), "{why}");
    let service = ServiceName::parse("noted").unwrap();
    match driver.runtime.block_on(driver.adapter.remove(&service)) {
        Err(Failure::Permanent(why)) => assert!(why.contains("put it back"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(bench.get("configmaps/noted").is_some());
    let before = text("/data/set");
    bench.cluster.edit(&path, &json!({"data": {"set": before}}));
    driver.remove("noted");
    assert_eq!(bench.get("configmaps/noted"), None);
}

fn only_the_namespaces_that_the_target_allows_are_used() {
    if !available("only_the_namespaces_that_the_target_allows_are_used") {
        return;
    }
    let mut bench = KubernetesBench::shared("allowed");
    bench.settings.namespaces = vec!["allowed".to_owned()];
    let driver = Driver::new(&bench);
    let mut outside = config_map("a", &json!({}));
    outside["metadata"]["namespace"] = json!("kube-system");
    let why = driver.refused(&bench.set("bold", &[outside], &json!({})));
    assert!(why.contains("allows the namespaces allowed alone"), "{why}");
    let why = driver.refused(&bench.set("bold", &[definition("Outsider")], &json!({})));
    assert!(why.contains("outside of the namespaces"), "{why}");
    driver.converge(&bench.set("meek", &[config_map("a", &json!({}))], &json!({})));
    driver.remove("meek");
}

fn output_of_every_pod_is_read_and_followed() {
    if !available("output_of_every_pod_is_read_and_followed") {
        return;
    }
    let bench = KubernetesBench::shared("talk");
    let driver = Driver::new(&bench);
    let mut web = deployment("talk", "web", "echo begins; exec sleep 86400");
    web["spec"]["replicas"] = json!(2);
    driver.converge(&bench.set("talk", &[web], &json!({})));
    driver.await_running("talk");
    let service = ServiceName::parse("talk").unwrap();
    let past = |tail: usize| {
        driver.runtime.block_on(async {
            let request = LogRequest {
                since: None,
                tail,
                follow: false,
            };
            let mut lines = driver.adapter.logs(&service, request).await.unwrap();
            let mut texts = Vec::new();
            while let Some(line) = lines.recv().await {
                assert!(line.at.is_some());
                texts.push(line.text);
            }
            texts
        })
    };
    patiently("both have said something", || past(10).len() == 2);
    let mut whose: Vec<_> = past(10)
        .iter()
        .map(|t| t.split(':').next().unwrap().to_owned())
        .collect();
    whose.dedup();
    assert_eq!(whose.len(), 2, "each line says whose it is");
    assert_eq!(past(1).len(), 1);
    let follow = LogRequest {
        since: None,
        tail: 0,
        follow: true,
    };
    let mut lines = driver
        .runtime
        .block_on(driver.adapter.logs(&service, follow))
        .unwrap();
    let next = deployment("talk", "web", "echo another; exec sleep 86400");
    driver.converge(&bench.set("talk", &[next], &json!({})));
    let heard = driver.runtime.block_on(async {
        let listen = async {
            while let Some(line) = lines.recv().await {
                if line.text.ends_with("another") {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(PATIENCE, listen).await
    });
    assert_eq!(heard, Ok(true));
    // Whatever a program writes, the rest of its output is read.
    let script = "echo before; printf 'caf\\351\\n'; echo after; exec sleep 86400";
    let odd = deployment("talk", "web", script);
    driver.converge(&bench.set("talk", &[odd], &json!({})));
    patiently("bytes that are no text are read over", || {
        let said = past(10);
        let one = |end: &str| said.iter().any(|line| line.ends_with(end));
        one("before") && one("caf\u{fffd}") && one("after")
    });
    driver.remove("talk");
    driver.converge(&bench.set("mute", &[config_map("mute", &json!({}))], &json!({})));
    let mute = ServiceName::parse("mute").unwrap();
    let follow = LogRequest {
        since: None,
        tail: 1,
        follow: false,
    };
    match driver.runtime.block_on(driver.adapter.logs(&mute, follow)) {
        Err(Failure::Permanent(why)) => assert!(why.contains("has no output"), "{why}"),
        other => panic!("{other:?}"),
    }
    driver.remove("mute");
}
