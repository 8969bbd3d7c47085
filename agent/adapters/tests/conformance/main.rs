//! Adapters against real runtimes: the conformance suite, and what is particular to each.
//!
//! This program is also its own launcher (`launch`) and its own agent to be killed (`agent`), so it
//! brings its own small harness; `--list` and `--exact` are as `cargo nextest` wants them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    reason = "all of it is tests, which clippy only sees in functions marked as such"
)]

use std::ffi::OsString;
use std::process::ExitCode;

mod archives;
mod bench;
mod bench_bucket;
mod bench_container;
mod bench_kubernetes;
mod bench_plugin;
mod bench_static;
mod bench_systemd;
mod bucket;
mod container;
mod container_faults;
mod container_images;
mod container_networks;
mod container_others;
mod driver;
mod engine;
mod full;
mod inside_power;
mod inside_secret;
mod inside_systemd;
mod killed;
mod kubernetes;
mod kubernetes_faults;
mod kubernetes_kinds;
mod many;
mod plugin;
mod process;
mod proxy;
mod registry;
mod secret;
mod static_files;
mod systemd;

#[path = "../../../../tests/harness/cases.rs"]
mod cases;
// It asks the API server with reqwest, beside the client of the adapter.
#[allow(dead_code, reason = "tests of whole programs use the rest")]
#[path = "../../../../tests/kubernetes/cluster.rs"]
mod cluster;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is a part of the tests of whole programs"
)]
#[path = "../../../../tests/harness/disk.rs"]
mod disk;
#[allow(dead_code, reason = "the tests of the installer use the rest")]
#[path = "../../../../tests/systemd/host.rs"]
mod host;
#[allow(
    unreachable_pub,
    reason = "it is a part of the tests of whole programs"
)]
#[path = "../../../../tests/harness/skip.rs"]
mod skip;
#[path = "../../../../tests/harness/table.rs"]
mod table;
#[path = "../../../../tests/systemd/tree.rs"]
mod tree;
#[path = "../../../../tests/systemd/wait.rs"]
mod wait;

use cases::Test;

fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = vec![("every_adapter_conforms", every_adapter_conforms)];
    tests.extend(killed::TESTS);
    tests.extend(archives::TESTS);
    tests.extend(process::TESTS);
    tests.extend(many::TESTS);
    tests.extend(full::TESTS);
    tests.extend(plugin::TESTS);
    tests.extend(secret::TESTS);
    tests.extend(static_files::TESTS);
    tests.extend(bucket::TESTS);
    tests.extend(systemd::TESTS);
    tests.extend(container::TESTS);
    tests.extend(container_faults::TESTS);
    tests.extend(container_images::TESTS);
    tests.extend(container_networks::TESTS);
    tests.extend(container_others::TESTS);
    tests.extend(kubernetes::TESTS);
    tests.extend(kubernetes_faults::TESTS);
    tests.extend(kubernetes_kinds::TESTS);
    tests
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("launch") => {
            let Err(error) = holdfast_adapters::process::launch::main(std::iter::empty());
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Some("confine") => {
            let Err(error) = holdfast_confine::launch::main();
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Some("agent") => killed::agent(&arguments[1..]),
        Some("inside") => systemd::inside(arguments[1].to_str().unwrap()),
        _ => tested(&arguments),
    }
}

/// Runs the tests that are named, and ends the servers that they share.
fn tested(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let told = cases::run(&tests(), &words);
    bench_container::end();
    bench_kubernetes::end();
    told
}

fn every_adapter_conforms() {
    let process = bench::ProcessBench::new();
    let sites = bench_static::StaticBench::new();
    let reports = bench::runtime().block_on(async {
        vec![
            holdfast_adapters::conformance::run(&process).await,
            holdfast_adapters::conformance::run(&sites).await,
        ]
    });
    table::conform(&reports);
}
