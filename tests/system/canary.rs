//! Promise: what a secret holds is in the clear nowhere but with its workload, whatever runs that: no disk of
//! ours, no log, no answer and no record has it, as it is or in Base64.

use std::path::PathBuf;

use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::json;

use crate::clusters::cluster::{AGENT, Cluster};
use crate::containers::engine::{Engine, Kind};
use crate::containers::registry::{Registry, image};
use crate::secrets::files_with;
use crate::{clusters, containers};

/// One target, three runtimes, each with a secret of its own in every place that it takes one in.
fn services(repository: &str) -> String {
    format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: program, owner: team-web}}
spec:
  runtime: process
  template:
    command: [/bin/sh, -c, 'cat conf/token > /dev/null; exec sleep 100000']
    workingDirectory: '{{{{ workload.dir }}}}'
    environment: {{TOKEN: {{secret: program-token}}}}
    files: {{conf/token: {{secret: program-token}}}}
    stop: {{signal: SIGTERM, grace: 2s}}
  environments: {{production: {{enabled: false}}}}
---
apiVersion: holdfast/v1
kind: Service
metadata: {{name: image, owner: team-web}}
spec:
  runtime: container
  artifacts: {{app: {{image: {repository}}}}}
  template:
    image: '{{{{ artifacts.app.image }}}}'
    network: none
    user: '1000:1000'
    command: [/bin/sh, -c, 'cat /etc/token | wc -c; exec sleep 86400']
    files: {{/etc/token: {{secret: image-token}}}}
    stop: {{grace: 2s}}
  environments: {{production: {{enabled: false}}}}
---
apiVersion: holdfast/v1
kind: Service
metadata: {{name: objects, owner: team-web}}
spec:
  runtime: kubernetes
  template:
    namespace: shop
    objects:
      - apiVersion: v1
        kind: Secret
        metadata: {{name: token}}
        stringData: {{token: {{secret: objects-token}}}}
  environments: {{production: {{enabled: false}}}}
"
    )
}

fn set(fleet: &Fleet, name: &str, value: &str) {
    let set = ["secret", "set", name, "-e", "staging"];
    drop(fleet.operator_given(value.as_bytes(), &set).succeeds());
}

/// Waits until each workload has its value, by the word of its own runtime.
fn each_has(fleet: &Fleet, cluster: &Cluster, round: &str) {
    let value = |name: &str| format!("canary-{name}-{round}");
    wait_for("the program has its value", PATIENCE, || {
        let there = fleet.agent("staging-1").one("program").variable("TOKEN");
        expect(there == Some(value("program")), &there)
    });
    let length = value("image").len().to_string();
    wait_for("the container has its value", PATIENCE, || {
        let said = fleet.operator(&["logs", "image", "-e", "staging"]).stdout;
        expect(said.lines().any(|line| line.ends_with(&length)), &said)
    });
    let path = "/api/v1/namespaces/shop/secrets/token";
    wait_for("the cluster has its value", PATIENCE, || {
        let there = cluster
            .get(path)
            .map(|object| object["data"]["token"].clone());
        expect(there == Some(json!(base64(&value("objects")))), &there)
    });
    for service in ["program", "image", "objects"] {
        fleet.wait_stable(service, "staging", "1.0");
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// What of ours, or of the engine, holds one of the values, or says it.
fn assert_nowhere(fleet: &Fleet, engine: &Engine, values: &[String]) {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    files_with(fleet.directory(), &values, &mut found);
    files_with(engine.path(), &values, &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    for line in [
        "secret list -o json",
        "get targets -o json",
        "get revisions -o json",
        "history -o json",
        "events -o json",
        "status -o json",
        "logs program -e staging",
        "logs image -e staging",
        "logs objects -e staging",
        "why program -e staging -o json",
        "explain image -e staging --target staging-1 -o json",
        "explain objects -e staging --target staging-1 -o json",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let said = format!("{:?}", fleet.operator(&words));
        assert!(
            values.iter().all(|value| !said.contains(value)),
            "{line}: {said}"
        );
    }
}

#[test]
fn values_of_all_runtimes_on_one_target_are_in_no_file_and_no_answer_of_ours() {
    let test = "values_of_all_runtimes_on_one_target_are_in_no_file_and_no_answer_of_ours";
    if !containers::engine::available(test) || !clusters::available(test) {
        return;
    }
    let (engine, registry) = (Engine::start(Kind::Docker), Registry::start(false));
    let cluster = Cluster::start();
    cluster.namespace("shop");
    let mut fleet = Fleet::start();
    let (socket, kubeconfig) = (engine.socket(), cluster.kubeconfig(AGENT, None));
    fleet.configure_agents(&format!(
        "[container]\nsocket = {socket:?}\n[kubernetes]\nkubeconfig = {kubeconfig:?}\n"
    ));
    let repository = format!("{}/team/image", registry.host());
    fleet.apply(&[ENVIRONMENTS, &services(&repository)].join("---\n"));
    let _ = fleet.join("staging-1", "staging", &[]);
    let names = ["program", "image", "objects"];
    let all = |round: &str| names.map(|name| format!("canary-{name}-{round}"));
    let give = |round: &str| {
        for (name, value) in names.iter().zip(all(round)) {
            set(&fleet, &format!("{name}-token"), &value);
        }
    };
    give("one");
    let artifact = format!("app={}", registry.push("team/image", &image(1, &json!({}))));
    let release = ["release", "create", "image", "--version", "1.0"];
    let release = [&release[..], &["--artifact", &artifact]].concat();
    drop(fleet.operator(&release).succeeds());
    fleet.release("program", "1.0", &[]);
    fleet.release("objects", "1.0", &[]);
    each_has(&fleet, &cluster, "one");
    give("second");
    each_has(&fleet, &cluster, "second");
    let values: Vec<String> = ["one", "second"].into_iter().flat_map(all).collect();
    let encoded: Vec<String> = values.iter().map(|value| base64(value)).collect();
    assert_nowhere(&fleet, &engine, &[values, encoded].concat());
    for (_, agent) in fleet.agents() {
        agent.cut_power();
        agent.program.start();
    }
    each_has(&fleet, &cluster, "second");
}
