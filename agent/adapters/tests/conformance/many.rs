//! Two hundred workloads on one target, of the adapters that need no server: what is unchanged is left
//! exactly as it is.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use holdfast_adapters::conformance::Subject;
use holdfast_adapters::run::{Live, Wanted};
use holdfast_protocol::name::ServiceName;
use serde_json::json;

use crate::bench::{Home, patiently};
use crate::bench_plugin::NoticeBench;
use crate::bench_static::StaticBench;
use crate::driver::Driver;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "two_hundred_unchanged_programs_are_left_as_they_are",
        two_hundred_unchanged_programs_are_left_as_they_are,
    ),
    (
        "two_hundred_unchanged_sites_are_left_as_they_are",
        two_hundred_unchanged_sites_are_left_as_they_are,
    ),
    (
        "two_hundred_unchanged_workloads_of_a_plugin_are_left_as_they_are",
        two_hundred_unchanged_workloads_of_a_plugin_are_left_as_they_are,
    ),
];

const WORKLOADS: usize = 200;

/// Makes two hundred, again, and removes them. `mark` is something of a service that any change of it
/// changes, too.
fn many(
    name: &str,
    driver: &Driver,
    wanted: impl Fn(&ServiceName) -> Wanted,
    mark: impl Fn(&ServiceName) -> String,
) {
    let services: Vec<ServiceName> = (0..WORKLOADS)
        .map(|i| format!("many-{i}").parse().unwrap())
        .collect();
    let wanted: Vec<Wanted> = services.iter().map(wanted).collect();
    let marks = || -> Vec<String> { services.iter().map(&mark).collect() };
    let running = || {
        let seen = driver.try_observe().unwrap();
        let running = seen
            .iter()
            .filter(|seen| matches!(seen.live, Live::Running { .. }));
        running.count()
    };
    let begun = Instant::now();
    driver.converge_all(&wanted);
    println!("{name}: {WORKLOADS} made in {:?}", begun.elapsed());
    patiently("all of them run", || running() == WORKLOADS);
    let before = marks();
    let begun = Instant::now();
    assert_eq!(running(), WORKLOADS);
    println!("{name}: a look took {:?}", begun.elapsed());
    let begun = Instant::now();
    driver.converge_all(&wanted);
    println!("{name}: the same again took {:?}", begun.elapsed());
    assert_eq!(marks(), before);
    let begun = Instant::now();
    driver.remove_all(&wanted);
    println!("{name}: removed in {:?}", begun.elapsed());
    assert_eq!(driver.try_observe().unwrap(), []);
    let left = marks().into_iter().filter(|mark| !mark.is_empty());
    assert_eq!(left.count(), 0);
}

/// The number of a file, and when it was last written or renamed; nothing where there is none.
fn file(path: &Path) -> String {
    fs::symlink_metadata(path).map_or_else(
        |_| String::new(),
        |own| format!("{} {}.{}", own.ino(), own.ctime(), own.ctime_nsec()),
    )
}

fn two_hundred_unchanged_programs_are_left_as_they_are() {
    struct Programs(Home);
    impl Programs {
        fn wanted(&self, service: &ServiceName) -> Wanted {
            let more = json!({"stop": {"signal": "SIGKILL"}});
            self.0.script(service.as_str(), "exec sleep 86400", &more)
        }
    }
    let programs = Programs(Home::new());
    let driver = Driver::over(programs.0.open("process"));
    let pids = |service: &ServiceName| {
        let found = programs.0.marked(service.as_str());
        let found: Vec<String> = found.iter().map(|one| one.pid.to_string()).collect();
        found.join(" ")
    };
    many("process", &driver, |service| programs.wanted(service), pids);
}

fn two_hundred_unchanged_sites_are_left_as_they_are() {
    let bench = StaticBench::new();
    let link = |service: &ServiceName| file(&bench.link(service.as_str()));
    let driver = Driver::new(&bench);
    many("static", &driver, |service| bench.wanted(service, 1), link);
}

fn two_hundred_unchanged_workloads_of_a_plugin_are_left_as_they_are() {
    let bench = NoticeBench::new();
    let notice = |service: &ServiceName| file(&bench.notice(service));
    let driver = Driver::new(&bench);
    many(
        "plugin",
        &driver,
        |service| bench.wanted(service, 1),
        notice,
    );
}
