//! Promise: a whole cluster is a target like any other. A real API server is brought to each release and
//! back, also while the coordinator is away; the manifests of `deploy/kubernetes` give the agent what it
//! needs there, and no more.

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::archive::tar_gz;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::program::{Program, built};
use holdfast_tests::skip::skip;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::{Value, json};

use cluster::{ADMIN, AGENT, Cluster};

#[allow(dead_code, reason = "the tests of the adapter use the rest")]
#[path = "../kubernetes/cluster.rs"]
pub(crate) mod cluster;

/// A service of a few objects, some of them from an artifact.
fn service(namespace: &str) -> String {
    format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: web, owner: team-web}}
spec:
  runtime: kubernetes
  artifacts: {{app: {{file: deploy.tar.gz}}}}
  template:
    namespace: {namespace}
    objects:
      - apiVersion: v1
        kind: ConfigMap
        metadata: {{name: web}}
        data: {{version: \"{{{{ release.version }}}}\"}}
    manifests: [\"{{{{ artifacts.app.path }}}}/deploy\"]
"
    )
}

/// Manifests as a build renders them: a deployment and, where there is one, a map beside it.
fn rendered(version: &str, extra: bool) -> Vec<u8> {
    rendered_with("web", version, extra)
}

/// The same with an image of this name: of `bad` ones there is none.
fn rendered_with(image: &str, version: &str, extra: bool) -> Vec<u8> {
    let container = json!({"name": "main", "image": image,
        "command": ["/bin/sh", "-c", format!("while :; do echo version {version} tick; sleep 1; done")]});
    let pod = json!({"metadata": {"labels": {"app": "web", "version": version}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 5, "template": pod,
            "selector": {"matchLabels": {"app": "web"}}}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}});
    let (web, map) = (web.to_string(), map.to_string());
    let mut files = vec![("deploy/web.json", 0o644, web.as_bytes())];
    if extra {
        files.push(("deploy/extra.yaml", 0o644, map.as_bytes()));
    }
    tar_gz(&files)
}

fn pods(cluster: &Cluster, namespace: &str, version: &str) -> usize {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=version={version}");
    let (_, found) = cluster.ask("GET", &path, None);
    found["items"].as_array().map_or(0, Vec::len)
}

fn map(cluster: &Cluster, name: &str) -> Option<Value> {
    cluster.get(&format!("/api/v1/namespaces/shop/configmaps/{name}"))
}

pub(crate) fn available(test: &str) -> bool {
    let missing = cluster::missing();
    if let Some(why) = &missing {
        skip(test, why);
    }
    missing.is_none()
}

/// A cluster with a namespace `shop`, and a fleet whose agents have its credentials.
fn shop() -> (Cluster, Fleet) {
    let cluster = Cluster::start();
    cluster.namespace("shop");
    let mut fleet = Fleet::start();
    let kubeconfig = cluster.kubeconfig(AGENT, None);
    fleet.configure_agents(&format!("[kubernetes]\nkubeconfig = {kubeconfig:?}\n"));
    (cluster, fleet)
}

#[test]
fn a_service_comes_to_a_cluster_stays_there_and_goes() {
    if !available("a_service_comes_to_a_cluster_stays_there_and_goes") {
        return;
    }
    let (cluster, mut fleet) = shop();
    fleet.apply(&[ENVIRONMENTS, &service("shop")].join("---\n"));
    let _ = fleet.join("cluster-1", "staging", &[]);
    fleet.wait_connected("cluster-1", true);
    let agent = &fleet.agent("cluster-1").program;
    let before = agent.resident_kib();

    let _ = fleet.release("web", "1.0", &[("app", &rendered("1.0", true))]);
    fleet.wait_stable("web", "staging", "1.0");
    let after = agent.resident_kib();
    println!("resident memory of the agent: {before} KiB before its first set, {after} KiB after");
    assert_eq!(pods(&cluster, "shop", "1.0"), 2, "stable means ready");
    assert_eq!(map(&cluster, "web").unwrap()["data"]["version"], "1.0");
    assert!(map(&cluster, "extra").is_some());

    let _ = fleet.release("web", "2.0", &[("app", &rendered("2.0", false))]);
    fleet.wait_stable("web", "staging", "2.0");
    assert_eq!(pods(&cluster, "shop", "2.0"), 2);
    assert_eq!(map(&cluster, "extra"), None, "it left the set");
    // Its pods are heard as they speak, and what those before said is kept.
    fleet.hear_ticks("web", "staging");
    let before = fleet.said_during(("web", "staging"), "1.0");
    assert!(
        before.contains("version 1.0") && !before.contains("version 2.0"),
        "{before}"
    );

    // What somebody edits or deletes comes back without the coordinator.
    fleet.coordinator.kill9();
    let path = "/api/v1/namespaces/shop/configmaps/web";
    cluster.edit(path, &json!({"data": {"version": "mine"}}));
    cluster.delete("/apis/apps/v1/namespaces/shop/deployments/web");
    wait_for("the cluster is repaired", PATIENCE, || {
        let version = map(&cluster, "web").map(|map| map["data"]["version"].clone());
        expect(version == Some(json!("2.0")), &version)?;
        expect(pods(&cluster, "shop", "2.0") == 2, "its pods are not there")
    });
    fleet.start_coordinator();
    fleet.wait_stable("web", "staging", "2.0");
    let said = wait_for("its output is there", PATIENCE, || {
        let said = fleet.operator(&["logs", "web", "-e", "staging"]);
        expect(said.stdout.contains("version 2.0"), &said.stdout)?;
        Ok(said.stdout)
    });
    assert!(said.contains("web-"), "each line is some pod's: {said}");

    // What never becomes ready is put back, in the cluster's own words.
    let bad = rendered_with("bad", "3.0", true);
    let _ = fleet.release("web", "3.0", &[("app", &bad)]);
    let failed = fleet.wait_phase(("web", "staging"), "3.0", Phase::RolledBack);
    let why = &failed.reason;
    assert!(why.contains("ProgressDeadlineExceeded"), "{why}");
    wait_for("the release before is back", PATIENCE, || {
        let old = pods(&cluster, "shop", "2.0");
        let new = pods(&cluster, "shop", "3.0");
        expect((old, new) == (2, 0), (old, new))?;
        expect(map(&cluster, "extra").is_none(), "the new map is there")
    });

    fleet.apply(ENVIRONMENTS);
    wait_for("the set is gone", PATIENCE, || {
        let web = cluster.get("/apis/apps/v1/namespaces/shop/deployments/web");
        expect(web.is_none(), "the deployment is there")?;
        expect(map(&cluster, "web").is_none(), "the map is there")
    });
    let log = agent.log();
    assert!(!log.contains(AGENT), "no credentials are logged");
}

/// A job that fails in its first attempt of each release; its pods know that by a file.
fn job(marks: &str) -> String {
    format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: migrate, owner: team-web}}
spec:
  kind: job
  attempts: 2
  runtime: kubernetes
  template:
    namespace: shop
    objects:
      - apiVersion: batch/v1
        kind: Job
        metadata: {{name: migrate}}
        spec:
          template:
            spec:
              containers:
                - name: main
                  image: migrate
                  command:
                    - /bin/sh
                    - -c
                    - \"echo moving {{{{ release.version }}}}; echo run >>{marks}/{{{{ release.version }}}}; \
                      test {{{{ release.version }}}} = 2.0 && exit 3; \
                      test $(wc -l <{marks}/{{{{ release.version }}}}) -ge 2 || exit 4\"
"
    )
}

#[test]
fn a_job_in_a_cluster_is_tried_again_and_its_end_is_the_release_s() {
    if !available("a_job_in_a_cluster_is_tried_again_and_its_end_is_the_release_s") {
        return;
    }
    let (_cluster, mut fleet) = shop();
    let marks = fleet.directory().join("marks");
    std::fs::create_dir(&marks).unwrap();
    fleet.apply(&[ENVIRONMENTS, &job(marks.to_str().unwrap())].join("---\n"));
    let _ = fleet.join("cluster-1", "staging", &[]);
    let _ = fleet.release("migrate", "1.0", &[]);
    fleet.wait_stable("migrate", "staging", "1.0");
    let runs = |version: &str| {
        let noted = std::fs::read_to_string(marks.join(version)).unwrap_or_default();
        noted.lines().count()
    };
    assert_eq!(runs("1.0"), 2, "the second attempt succeeded");
    let said = fleet.operator(&["logs", "migrate", "-e", "staging"]);
    assert!(said.stdout.contains("moving 1.0"), "{}", said.stdout);

    // An agent that comes back does not run it again.
    let agent = &fleet.agent("cluster-1").program;
    agent.restart();
    fleet.wait_converged("cluster-1");
    fleet.wait_stable("migrate", "staging", "1.0");
    assert_eq!(runs("1.0"), 2);

    let _ = fleet.release("migrate", "2.0", &[]);
    let failed = wait_for("it has failed", PATIENCE, || {
        let all = fleet.history("migrate", "staging")?;
        let newest = all.into_iter().rfind(|one| one.version.as_str() == "2.0");
        let newest = newest.ok_or("no such deployment")?;
        expect(newest.phase.is_final(), &newest)?;
        Ok(newest)
    });
    assert!(failed.phase != Phase::Stable, "{failed:?}");
    assert!(failed.reason.contains("code 3"), "{}", failed.reason);
    assert_eq!(runs("2.0"), 2, "two attempts");
}

/// Applies a file of `deploy/kubernetes`, as kubectl does.
fn apply(cluster: &Cluster, file: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/");
    let text = std::fs::read_to_string(format!("{path}{file}")).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let api = text("/apiVersion").unwrap();
        let root = if api == "v1" { "/api/" } else { "/apis/" };
        let within = text("/metadata/namespace").map(|name| format!("/namespaces/{name}"));
        let plural = format!("{}s", text("/kind").unwrap().to_lowercase());
        let path = format!(
            "{root}{api}{}/{plural}/{}?fieldManager=kubectl",
            within.unwrap_or_default(),
            text("/metadata/name").unwrap()
        );
        let body = Some(("application/apply-patch+yaml", &object));
        let (code, said) = cluster.ask_as(ADMIN, "PATCH", &path, body);
        assert!(code == 200 || code == 201, "{file}: {path}: {code} {said}");
    }
}

/// A token of the agent's account, as the cluster gives it to the agent's pod.
fn account_token(cluster: &Cluster) -> String {
    let path = "/api/v1/namespaces/holdfast/serviceaccounts/holdfast-agent/token";
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600}});
    let (code, said) = cluster.ask("POST", path, Some(&request));
    assert_eq!(code, 201, "{said}");
    said["status"]["token"].as_str().unwrap().to_owned()
}

/// Whether the cluster lets whoever has `token` do this: `VERB RESOURCE[/SUB][.GROUP] [NAMESPACE]`.
fn may(cluster: &Cluster, token: &str, what: &str) -> bool {
    let words: Vec<&str> = what.split(' ').collect();
    let (resource, group) = words[1].split_once('.').unwrap_or((words[1], ""));
    let (resource, below) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": words[0], "resource": resource, "group": group,
            "subresource": below, "namespace": words.get(2).unwrap_or(&"")}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = Some(("application/json", &review));
    let (code, said) = cluster.ask_as(token, "POST", path, body);
    assert_eq!(code, 201, "{what}: {said}");
    said["status"]["allowed"] == true
}

fn demand(cluster: &Cluster, token: &str, allowed: bool, all: &[&str]) {
    for what in all {
        assert_eq!(may(cluster, token, what), allowed, "{what}");
    }
}

/// What it needs in a namespace that is given to it, and for its records.
const NEEDED: &[&str] = &[
    "get secrets holdfast",
    "list secrets holdfast",
    "patch secrets holdfast",
    "create secrets holdfast",
    "delete secrets holdfast",
    "watch configmaps shop",
    "patch configmaps shop",
    "create deployments.apps shop",
    "patch deployments.apps shop",
    "delete statefulsets.apps shop",
    "watch daemonsets.apps shop",
    "create jobs.batch shop",
    "patch cronjobs.batch shop",
    "patch services shop",
    "patch serviceaccounts shop",
    "patch persistentvolumeclaims shop",
    "patch ingresses.networking.k8s.io shop",
    "patch poddisruptionbudgets.policy shop",
    "patch horizontalpodautoscalers.autoscaling shop",
    "list pods shop",
    "get pods/log shop",
];

/// What it never needs, however much of the cluster is given to it.
const NEVER: &[&str] = &[
    "list nodes",
    "get nodes/proxy",
    "create pods shop",
    "create pods/exec shop",
    "create pods/attach shop",
    "create serviceaccounts/token shop",
    "create roles.rbac.authorization.k8s.io shop",
    "patch rolebindings.rbac.authorization.k8s.io shop",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "impersonate users",
    "patch validatingwebhookconfigurations.admissionregistration.k8s.io",
];

/// What it may only where all of the cluster is given to it.
const WIDE: &[&str] = &[
    "get secrets kube-system",
    "patch configmaps other",
    "list deployments.apps",
    "create namespaces",
    "patch customresourcedefinitions.apiextensions.k8s.io",
];

/// An agent that finds what a pod finds: its account's token and the cluster's address.
fn agent_in_pod(fleet: &Fleet, cluster: &Cluster, token: &str) -> Program {
    let account = fleet.write("token", token);
    let vouch = cluster.certificate();
    let here = format!(
        "mount -t tmpfs none /run && cd /run && mkdir -p secrets/kubernetes.io/serviceaccount && \
         cd secrets/kubernetes.io/serviceaccount && cp {account} token && cp {} ca.crt && \
         printf holdfast >namespace && exec \"$@\"",
        vouch.display()
    );
    let data = fleet.directory().join("cluster-1").display().to_string();
    let join = fleet.token("staging", &[]);
    let agent = built("holdfast-agent").display().to_string();
    let arguments = ["--mount", "--", "/bin/sh", "-c", &here, "sh", &agent, "run"];
    let port = cluster.port().to_string();
    let environment = [
        ("HOLDFAST_COORDINATOR", fleet.address()),
        ("HOLDFAST_NAME", "cluster-1"),
        ("HOLDFAST_DATA", &data),
        ("HOLDFAST_TOKEN", &join),
        ("HOLDFAST_LOG", "debug"),
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", &port),
    ];
    let unshare = "/usr/bin/unshare".into();
    Program::new(
        "cluster-1",
        unshare,
        arguments,
        &environment,
        fleet.directory(),
    )
}

#[test]
fn an_agent_in_a_cluster_has_the_rights_that_it_needs_and_no_others() {
    if !available("an_agent_in_a_cluster_has_the_rights_that_it_needs_and_no_others") {
        return;
    }
    let cluster = Cluster::start();
    for namespace in ["shop", "other"] {
        cluster.namespace(namespace);
    }
    for file in ["agent.yaml", "workloads.yaml", "namespace.yaml"] {
        apply(&cluster, file);
    }
    let deployment = "/apis/apps/v1/namespaces/holdfast/deployments/holdfast-agent";
    wait_for("the cluster takes the agent's pod", PATIENCE, || {
        let live = cluster.get(deployment).unwrap();
        expect(live["status"]["readyReplicas"] == 1, &live["status"])
    });
    let token = account_token(&cluster);
    demand(&cluster, &token, true, NEEDED);
    demand(&cluster, &token, false, NEVER);
    demand(&cluster, &token, false, WIDE);

    // The same by a real agent, which finds its credentials as it does in a pod.
    let fleet = Fleet::start();
    fleet.try_apply("platform", ENVIRONMENTS).unwrap();
    fleet.try_apply("team-web", &service("other")).unwrap();
    let agent = agent_in_pod(&fleet, &cluster, &token);
    agent.start();
    fleet.wait_connected("cluster-1", true);
    let _ = fleet.release("web", "1.0", &[("app", &rendered("1.0", true))]);
    let failed = fleet.wait_phase(("web", "staging"), "1.0", Phase::RolledBack);
    let missing = "cannot get resource \"configmaps\" in API group \"\" in the namespace \"other\"";
    assert!(failed.reason.contains(missing), "{}", failed.reason);
    fleet.try_apply("team-web", &service("shop")).unwrap();
    let _ = fleet.release("web", "1.1", &[("app", &rendered("1.1", true))]);
    fleet.wait_stable("web", "staging", "1.1");
    assert_eq!(pods(&cluster, "shop", "1.1"), 2);
    let log = agent.log();
    assert!(!log.contains(&token), "no credentials are logged");
    agent.terminate();

    apply(&cluster, "cluster.yaml");
    wait_for("all of the cluster is given to it", PATIENCE, || {
        expect(may(&cluster, &token, WIDE[0]), "not yet")
    });
    demand(&cluster, &token, true, WIDE);
    demand(&cluster, &token, false, NEVER);
}
