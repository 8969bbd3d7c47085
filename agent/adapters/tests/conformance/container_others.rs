//! Containers that look like this agent's and are not, and those that it left half way.

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters as query;
use holdfast_adapters::conformance::Subject as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::Live;
use holdfast_protocol::name::ServiceName;
use serde_json::json;

use crate::bench::eventually;
use crate::bench_container::ContainerBench;
use crate::container::force_remove;
use crate::driver::Driver;
use crate::engine::available;
use crate::killed;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "two_agents_at_the_same_path_keep_to_their_own_containers",
        two_agents_at_the_same_path_keep_to_their_own_containers,
    ),
    (
        "what_somebody_starts_from_an_image_of_a_container_is_not_touched",
        what_somebody_starts_from_an_image_of_a_container_is_not_touched,
    ),
    (
        "an_update_that_was_cut_off_stops_nothing_for_a_release_that_is_not_ready",
        an_update_that_was_cut_off_stops_nothing_for_a_release_that_is_not_ready,
    ),
];

/// As agents in containers of their own are, which are given the socket of the host's engine.
fn two_agents_at_the_same_path_keep_to_their_own_containers() {
    if !available("two_agents_at_the_same_path_keep_to_their_own_containers") {
        return;
    }
    let mut bench = ContainerBench::shared();
    let wanted = bench.release("twice", 1, &json!({}));
    let mut drivers = Vec::new();
    for owner in ["staging/node", "production/node"] {
        bench.owner = Some(owner.to_owned());
        // The other one's file system is another.
        let _ = std::fs::remove_dir_all(bench.home.agent().join("container"));
        let driver = Driver::new(&bench);
        assert_eq!(driver.try_observe().unwrap(), [], "{owner}");
        driver.converge(&wanted);
        drivers.push(driver);
    }
    let running = || bench.engine.ask(running_of("twice"));
    assert_eq!(running().len(), 2);
    // The one whose file system this is now.
    drivers[1].remove("twice");
    let left = running();
    assert_eq!(left.len(), 1);
    force_remove(&bench, &left[0]);
}

async fn all_of(api: Docker, service: String) -> Vec<String> {
    let own = vec![format!("holdfast.service={service}")];
    let filters = std::collections::HashMap::from([("label".to_owned(), own)]);
    let list = query::ListContainersOptionsBuilder::default().filters(&filters);
    let found = api.list_containers(Some(list.build())).await.unwrap();
    found.into_iter().filter_map(|found| found.id).collect()
}

fn running_of(
    service: &str,
) -> impl FnOnce(Docker) -> std::pin::Pin<Box<dyn Future<Output = Vec<String>> + Send>> + Send {
    let service = service.to_owned();
    |api| Box::pin(all_of(api, service))
}

fn what_somebody_starts_from_an_image_of_a_container_is_not_touched() {
    if !available("what_somebody_starts_from_an_image_of_a_container_is_not_touched") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let wanted = bench.release("copied", 1, &json!({}));
    driver.converge(&wanted);
    let (own, before) = (bench.id("copied"), driver.observe("copied"));
    let id = own.clone();
    let copy = bench.engine.ask(|api: Docker| async move {
        let options = query::CommitContainerOptionsBuilder::default()
            .container(&id)
            .repo("hf-copy")
            .tag("1")
            .build();
        let config = ContainerConfig::default();
        api.commit_container(options, config).await.unwrap();
        let body = ContainerCreateBody {
            image: Some("hf-copy:1".to_owned()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let none = None::<query::CreateContainerOptions>;
        let copy = api.create_container(none, body).await.unwrap().id;
        api.start_container(&copy, None).await.unwrap();
        copy
    });
    assert_eq!(driver.observe("copied"), before);
    driver.converge(&wanted);
    driver.converge(&bench.release("copied", 2, &json!({})));
    driver.remove("copied");
    let left = bench.engine.ask(running_of("copied"));
    assert_eq!(left.as_slice(), std::slice::from_ref(&copy));
    force_remove(&bench, &copy);
}

fn an_update_that_was_cut_off_stops_nothing_for_a_release_that_is_not_ready() {
    if !available("an_update_that_was_cut_off_stops_nothing_for_a_release_that_is_not_ready") {
        return;
    }
    let bench = ContainerBench::shared();
    let first = bench.release("cut", 1, &json!({"update": "start-first"}));
    Driver::new(&bench).converge(&first);
    let health = json!({"command": ["/bin/sh", "-c", "exit 1"], "interval": "200ms", "retries": 2});
    let never = json!({"update": "start-first", "health": health});
    let second = bench.release("cut", 2, &never);
    let service = ServiceName::parse("cut").unwrap();
    let socket = bench.engine.socket();
    let updates = std::slice::from_ref(&second);
    let agent = killed::spawn_at(&bench.home, "container", "once", updates, &socket);
    eventually("both run", || bench.alive(&service) == [1, 2]);
    killed::kill_after(agent, std::time::Duration::ZERO);
    let driver = Driver::new(&bench);
    match driver.try_converge(&second) {
        Err(Failure::Retryable(why)) => assert!(why.contains("not ready"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.alive(&service), [1]);
    let seen = driver.observe("cut").unwrap();
    assert_eq!(seen.body, Some(first.body));
    assert!(matches!(seen.live, Live::Running { .. }), "{:?}", seen.live);
    driver.remove("cut");
}
