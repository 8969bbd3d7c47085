//! `examples/mixed`: one service as a process and as a container, another that differs by environment,
//! files on some targets; a real engine, a real registry.

use std::collections::BTreeMap;
use std::fs;

use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::json;

use super::Example;
use crate::containers::engine::{Engine, Kind, available};
use crate::containers::registry::{Registry, image};

/// The runtime of a service on each target where it is ready.
fn runtimes(example: &Example, service: &str) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let items = example.items(&format!("where {service}")).into_iter();
    let ready = items.filter(|one| one["ready"] == true);
    ready
        .map(|one| (text(&one["target"]), text(&one["runtime"])))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, runtime): &(&str, &str)| ((*name).to_owned(), (*runtime).to_owned());
    of.iter().map(owned).collect()
}

/// Whether the service has processes that the agent itself supervises.
fn is_process(example: &Example, target: &str) -> bool {
    !example.fleet.agent(target).workload("web").is_empty()
}

#[test]
fn each_target_runs_a_service_in_its_own_runtime_and_may_change_it() {
    if !available("each target runs a service in its own runtime") {
        return;
    }
    let (engine, registry) = (Engine::start(Kind::Docker), Registry::start(false));
    let reference = registry.push("web", &image(1, &json!({})));
    let mut example = Example::of("mixed").replace("127.0.0.1:5000", &registry.host());
    let config = format!("[container]\nsocket = {:?}\n", engine.socket());
    example.fleet.configure_agents(&config);
    example.does(1);
    fs::write(example.folder.join("image.txt"), reference).unwrap();
    example.step(2);

    let seen = example.step(3);
    assert!(seen.contains("RUNTIME"), "{seen}");
    let web = [
        ("staging-1", "process"),
        ("production-1", "process"),
        ("production-2", "container"),
    ];
    assert_eq!(runtimes(&example, "web"), pairs(&web));
    let api = [("staging-1", "process"), ("production-2", "container")];
    assert_eq!(runtimes(&example, "api"), pairs(&api));
    let page = [("staging-1", "static"), ("production-1", "static")];
    assert_eq!(runtimes(&example, "page"), pairs(&page));
    let page = example.root.path().join("production-1/page/README.md");
    assert!(page.is_file(), "the site is there");
    assert!(is_process(&example, "production-1"));
    assert!(!is_process(&example, "production-2"));

    let seen = example.step(4);
    for said in [
        "container on production-2",
        "process on production-1",
        "variants.engine.runtime",
    ] {
        assert!(seen.contains(said), "{said}: {seen}");
    }
    let seen = example.step(5);
    let both = "variants engine and small of web in staging both mean a target with runs=containers, \
                size=small";
    let whole: Vec<&str> = seen.split_whitespace().collect();
    assert!(whole.join(" ").contains(both), "{seen}");
    assert!(seen.contains("exit code 65"), "{seen}");
    let seen = example.step(6);
    assert!(
        seen.contains("container, on 1 target: production-2"),
        "{seen}"
    );

    example.step(7);
    let after = [
        ("staging-1", "process"),
        ("production-1", "container"),
        ("production-2", "container"),
    ];
    wait_for("the target runs it as a container", PATIENCE, || {
        let now = runtimes(&example, "web");
        expect(
            now == pairs(&after) && !is_process(&example, "production-1"),
            &now,
        )
    });
    example.is_whole();
}
