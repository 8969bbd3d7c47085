//! Promise: it deploys images as well. A real engine pulls what a real registry keeps, by the digest
//! that a release names; what somebody removes comes back, also while the coordinator is away.

use bollard::Docker;
use bollard::query_parameters as query;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::json;

use engine::{Engine, Kind, available};
use registry::{Registry, image};

#[allow(dead_code, reason = "the tests of the adapter use the rest")]
#[path = "../../agent/adapters/tests/conformance/engine.rs"]
pub(crate) mod engine;
#[allow(dead_code, reason = "the tests of the adapter use the rest")]
#[path = "../../agent/adapters/tests/conformance/registry.rs"]
pub(crate) mod registry;

/// A service whose releases are images of one repository.
fn service(repository: &str) -> String {
    format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: web, owner: team-web}}
spec:
  runtime: container
  artifacts: {{app: {{image: {repository}}}}}
  template:
    image: \"{{{{ artifacts.app.image }}}}\"
    command: [/bin/sh, -c]
    args: [\"trap 'exit 0' TERM; while :; do echo $RELEASE tick; sleep 1 & wait $!; done\"]
    network: none
    environment: {{VERSION: \"{{{{ release.version }}}}\"}}
    restart: {{policy: always, backoff: {{initial: 100ms, max: 1s}}}}
    stop: {{grace: 2s}}
"
    )
}

/// The ids and images of what runs of the service, by the engine's own word.
fn running(engine: &Engine) -> Vec<(String, String)> {
    let label = vec!["holdfast.service=web".to_owned()];
    let filters = std::collections::HashMap::from([("label".to_owned(), label)]);
    let list = query::ListContainersOptionsBuilder::default().filters(&filters);
    let list = list.build();
    let all = engine.ask(|api: Docker| async move { api.list_containers(Some(list)).await });
    let named = all.unwrap().into_iter();
    named.map(|c| (c.id.unwrap(), c.image.unwrap())).collect()
}

fn runs(engine: &Engine, image: &str) -> String {
    wait_for(&format!("one container of {image}"), PATIENCE, || {
        let found = running(engine);
        expect(found.len() == 1 && found[0].1 == image, &found)?;
        Ok(found[0].0.clone())
    })
}

/// It is heard as it speaks, and what the release before said is kept, though its container is gone.
fn is_heard_and_kept(fleet: &Fleet) {
    fleet.hear_ticks("web", "staging");
    let before = fleet.said_during(("web", "staging"), "1.0");
    assert!(
        before.contains("1 tick") && !before.contains("2 tick"),
        "{before}"
    );
}

#[test]
fn images_by_digest_reach_a_target_and_stay_there() {
    if !available("images_by_digest_reach_a_target_and_stay_there") {
        return;
    }
    let (engine, registry) = (Engine::start(Kind::Docker), Registry::start(false));
    let images = [1, 2].map(|n| registry.push("team/web", &image(n, &json!({}))));
    let mut fleet = Fleet::start();
    fleet.configure_agents(&format!("[container]\nsocket = {:?}\n", engine.socket()));
    fleet.try_apply("platform", ENVIRONMENTS).unwrap();
    let repository = format!("{}/team/web", registry.host());
    fleet.try_apply("team-web", &service(&repository)).unwrap();
    let _ = fleet.join("staging-1", "staging", &[]);
    let agent = &fleet.agent("staging-1").program;
    let release = |version: &str, image: &str| {
        let artifact = format!("app={image}");
        fleet.operator(&[
            "release",
            "create",
            "web",
            "--version",
            version,
            "--artifact",
            &artifact,
        ])
    };

    fleet.wait_connected("staging-1", true);
    let before = agent.resident_kib();
    let _ = release("1.0", &images[0]).succeeds();
    fleet.wait_stable("web", "staging", "1.0");
    let first = runs(&engine, &images[0]);
    let after = agent.resident_kib();
    println!(
        "resident memory of the agent: {before} KiB before its first container, {after} after"
    );

    // What is no pinned image of this repository is refused before anything moves.
    let tag = release("1.1", &format!("{repository}:latest"));
    assert!(
        tag.complaint().contains("pin the image as"),
        "{}",
        tag.stderr
    );
    let other = images[1].replace("team/web", "team/other");
    let other = release("1.1", &other);
    assert!(
        other.complaint().contains("is an image of"),
        "{}",
        other.stderr
    );

    let _ = release("2.0", &images[1]).succeeds();
    fleet.wait_stable("web", "staging", "2.0");
    let second = runs(&engine, &images[1]);
    assert_ne!(first, second);
    is_heard_and_kept(&fleet);

    fleet.coordinator.kill9();
    let force = query::RemoveContainerOptionsBuilder::default()
        .force(true)
        .build();
    engine
        .ask(|api: Docker| async move { api.remove_container(&second, Some(force)).await })
        .unwrap();
    let third = runs(&engine, &images[1]);
    fleet.start_coordinator();
    fleet.wait_stable("web", "staging", "2.0");

    // An agent that comes back finds it running.
    agent.restart();
    fleet.wait_converged("staging-1");
    assert_eq!(runs(&engine, &images[1]), third);
    let log = agent.log();
    assert!(!log.contains("VERSION="), "no environment is logged: {log}");
    agent.terminate();
}
