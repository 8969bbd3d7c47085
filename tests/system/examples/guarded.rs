//! `examples/guarded`: a real Prometheus and a program on a target decide.

use std::fs;

use holdfast_tests::port::Port;
use holdfast_tests::program::{Program, built};
use holdfast_tests::prometheus::Prometheus;
use holdfast_tests::wait::{expect, holds_for};

use super::{Example, QUIET};

/// What the page starts in its first step: who is asked, and who asks.
struct Around {
    _metrics: Program,
    _prometheus: Prometheus,
    _port: Port,
}

/// The example with ports of its own, and Prometheus beside it.
fn guarded() -> (Example, Around) {
    let (asking, metrics) = (Port::free(), Port::free());
    let example = Example::of("guarded")
        .replace("127.0.0.1:9090", &format!("127.0.0.1:{}", asking.number()))
        .replace("127.0.0.1:9100", &format!("127.0.0.1:{}", metrics.number()));
    let root = example.root.path().display().to_string();
    let words = ["--dir", &root, "--port", &metrics.text()];
    let server = built("holdfast-example-server");
    let served = Program::new("metrics", server, words, &[], example.fleet.directory());
    served.start();
    let config = example.folder.join("prometheus/prometheus.yml");
    let around = Around {
        _metrics: served,
        _prometheus: Prometheus::start_on(asking, &config, example.fleet.directory()),
        _port: metrics,
    };
    (example, around)
}

#[test]
fn a_release_that_makes_an_alert_fire_goes_back_by_itself_and_stays_back() {
    let (mut example, _around) = guarded();
    example.does(1);
    example.step(2);
    let seen = example.step(3);
    assert!(
        seen.contains("db-migrated failed: production-1: exit code 1"),
        "{seen}"
    );

    let seen = example.step(4);
    assert!(seen.contains("exit code 7"), "{seen}");
    let back = &example.items("history web -e production")[1];
    assert_eq!(back["phase"], "RolledBack", "{back}");
    let reason = back["reason"].as_str().unwrap();
    assert!(reason.contains("TooManyErrors"), "{reason}");
    let other = example.root.path().join("production-2/metrics");
    assert_eq!(fs::read_to_string(other).unwrap(), "web_errors 0\n");
    let first = example.fleet.status("web", "production").unwrap();
    holds_for("it stays back", QUIET, || {
        let status = example.fleet.status("web", "production")?;
        expect(status.current == first.current, &status)
    });

    let seen = example.step(5);
    assert!(
        seen.contains("ended by: holdfast retry web -e production"),
        "{seen}"
    );
    example.fleet.wait_stable("web", "production", "2.1");
    example.is_whole();
}
