//! Disks that are full: what runs goes on, the lack of room is named, and what is wanted comes as soon
//! as there is some.

use std::sync::Arc;

use holdfast_adapters::conformance::Subject;
use holdfast_adapters::failure::Failure;
use holdfast_protocol::name::ServiceName;
use serde_json::json;

use crate::bench::{ProcessBench, eventually};
use crate::bench_bucket::BucketBench;
use crate::bench_container::ContainerBench;
use crate::bench_plugin::NoticeBench;
use crate::bench_static::StaticBench;
use crate::disk::Disk;
use crate::driver::Driver;
use crate::engine::{Engine, Kind, available};
use crate::registry::Registry;
use crate::skip::skip;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "programs_go_on_while_the_disk_of_their_agent_is_full",
        programs_go_on_while_the_disk_of_their_agent_is_full,
    ),
    (
        "a_site_stays_while_the_disk_of_its_agent_is_full",
        a_site_stays_while_the_disk_of_its_agent_is_full,
    ),
    (
        "a_site_in_a_folder_stays_while_the_disk_of_the_folder_is_full",
        a_site_in_a_folder_stays_while_the_disk_of_the_folder_is_full,
    ),
    (
        "what_a_plugin_made_stays_while_the_disk_of_its_agent_is_full",
        what_a_plugin_made_stays_while_the_disk_of_its_agent_is_full,
    ),
    (
        "containers_go_on_while_the_disk_of_their_agent_is_full",
        containers_go_on_while_the_disk_of_their_agent_is_full,
    ),
    (
        "containers_go_on_while_the_disk_of_their_engine_is_full",
        containers_go_on_while_the_disk_of_their_engine_is_full,
    ),
];

/// Room for what an agent keeps of a few small workloads.
const SMALL: &str = "4m";
/// Room for three images of the tests, and what an engine keeps besides.
const ENGINE: &str = "40m";
const UNMOUNTED: &str = "this machine lets no file system be mounted";

/// A disk of its own for the agent of `home`.
fn disk_of(test: &str, home: &crate::bench::Home) -> Option<Disk> {
    let disk = Disk::mount(&home.agent(), SMALL);
    if disk.is_none() {
        skip(test, UNMOUNTED);
    }
    disk
}

/// An update that finds no room, and the same again once there is some.
pub(crate) fn rides_out(subject: &dyn Subject, disk: &Disk) {
    let name = subject.name();
    let service = ServiceName::parse("full").unwrap();
    let alive = |release: u32| {
        eventually(&format!("{name}: release {release} is alive"), || {
            subject.alive(&service) == [release]
        });
    };
    let [first, second] = [1, 2].map(|release| subject.wanted(&service, release));
    let driver = Driver::new(subject);
    driver.converge(&first);
    alive(1);
    disk.fill();
    match driver.try_converge(&second) {
        Err(Failure::Retryable(why)) => {
            println!("{name}: {why}");
            let why = why.to_lowercase();
            assert!(why.contains("no space left"), "{name}: {why}");
        }
        other => panic!("{name}: {other:?}"),
    }
    alive(1);
    // What is as it is wanted is known to be so, also by an agent that starts now.
    let again = Driver::new(subject);
    for driver in [&driver, &again] {
        let seen = driver.observe("full").expect("it is known");
        assert_eq!(seen.body, Some(first.body), "{name}");
        match driver.try_converge(&first) {
            Ok(()) => {}
            // A plugin is asked for nothing that could not be noted first.
            Err(Failure::Retryable(why)) if name == "notice" => {
                assert!(why.contains("No space left"), "{why}");
            }
            Err(failure) => panic!("{name}: {failure}"),
        }
    }
    alive(1);
    disk.free();
    driver.converge(&second);
    alive(2);
    driver.remove("full");
    assert_eq!(subject.alive(&service), [0; 0], "{name}");
}

fn programs_go_on_while_the_disk_of_their_agent_is_full() {
    let bench = ProcessBench::new();
    let test = "programs_go_on_while_the_disk_of_their_agent_is_full";
    if let Some(disk) = disk_of(test, &bench.home) {
        rides_out(&bench, &disk);
    }
}

fn a_site_stays_while_the_disk_of_its_agent_is_full() {
    let bench = StaticBench::new();
    let test = "a_site_stays_while_the_disk_of_its_agent_is_full";
    if let Some(disk) = disk_of(test, &bench.home) {
        rides_out(&bench, &disk);
    }
}

fn a_site_in_a_folder_stays_while_the_disk_of_the_folder_is_full() {
    let bench = BucketBench::folder("site");
    let Some(disk) = Disk::mount(&bench.home.path().join("bucket"), SMALL) else {
        let test = "a_site_in_a_folder_stays_while_the_disk_of_the_folder_is_full";
        return skip(test, UNMOUNTED);
    };
    rides_out(&bench, &disk);
}

fn what_a_plugin_made_stays_while_the_disk_of_its_agent_is_full() {
    let bench = NoticeBench::new();
    let test = "what_a_plugin_made_stays_while_the_disk_of_its_agent_is_full";
    if let Some(disk) = disk_of(test, &bench.home) {
        rides_out(&bench, &disk);
    }
}

fn containers_go_on_while_the_disk_of_their_agent_is_full() {
    let test = "containers_go_on_while_the_disk_of_their_agent_is_full";
    if !available(test) {
        return;
    }
    let bench = ContainerBench::shared();
    if let Some(disk) = disk_of(test, &bench.home) {
        rides_out(&bench, &disk);
    }
}

fn containers_go_on_while_the_disk_of_their_engine_is_full() {
    let test = "containers_go_on_while_the_disk_of_their_engine_is_full";
    if !available(test) {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        let Some(engine) = Engine::start_small(kind, ENGINE) else {
            return skip(test, UNMOUNTED);
        };
        let bench = ContainerBench::over(Arc::new(engine), Arc::new(Registry::start(false)));
        let driver = Driver::new(&bench);
        let [first, second] = [1, 2].map(|release| bench.release("full", release, &json!({})));
        driver.converge(&first);
        eventually("it runs", || driver.runs("full"));
        let id = bench.id("full");
        bench.engine.disk().fill();
        match driver.try_converge(&second) {
            Err(Failure::Retryable(why)) => {
                println!("{kind:?}: {why}");
                assert!(why.contains("no space left"), "{kind:?}: {why}");
            }
            other => panic!("{kind:?}: {other:?}"),
        }
        assert_eq!(bench.id("full"), id, "{kind:?}: what runs was touched");
        assert!(driver.runs("full"), "{kind:?}");
        bench.engine.disk().free();
        driver.converge(&second);
        let service = ServiceName::parse("full").unwrap();
        eventually("the next runs", || bench.alive(&service) == [2]);
        driver.remove("full");
    }
}
