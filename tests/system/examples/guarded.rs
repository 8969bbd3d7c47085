//! `examples/guarded`: a real Prometheus and a program on a target decide.

use std::fs;

use holdfast_tests::port::Port;
use holdfast_tests::program::{Program, built};
use holdfast_tests::wait::{expect, holds_for};

use super::{Example, QUIET};

/// What the page starts in its first step: who is asked, and who asks.
struct Around {
    _metrics: Program,
    _prometheus: Program,
    _ports: [Port; 2],
}

/// The example with ports of its own, and Prometheus beside it.
fn guarded() -> (Example, Around) {
    let ports = [Port::free(), Port::free()];
    let [prometheus, metrics] = ports.each_ref().map(Port::text);
    let example = Example::of("guarded")
        .replace("127.0.0.1:9090", &format!("127.0.0.1:{prometheus}"))
        .replace("127.0.0.1:9100", &format!("127.0.0.1:{metrics}"));
    let root = example.root.path().display().to_string();
    let folder = example.fleet.directory();
    let start = |name: &str, path, arguments: Vec<String>| {
        let program = Program::new(name, path, arguments, &[], folder);
        program.start();
        program
    };
    let server = built("holdfast-example-server");
    let words = ["--dir", &root, "--port", &metrics];
    let served = start("metrics", server, words.map(str::to_owned).to_vec());
    let config = example.folder.join("prometheus/prometheus.yml");
    let words = vec![
        format!("--config.file={}", config.display()),
        format!("--web.listen-address=127.0.0.1:{prometheus}"),
        format!("--storage.tsdb.path={root}/prometheus"),
    ];
    let asking = start("prometheus", "prometheus".into(), words);
    let around = Around {
        _metrics: served,
        _prometheus: asking,
        _ports: ports,
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
