//! The plugin `cloud-run` against the API server of Kubernetes, which serves the paths of Cloud Run's
//! API, version 1, called as an agent calls it.
//!
//! The store, its versions and conflicts, who may do what, and the roll-out of containers are the
//! real thing; Cloud Run's own part, from a service to its revisions and its status, is played by
//! [`cloud`]. This program is also the agent's launcher (`confine`), and what harms a service behind
//! its plugin's back (`behind`), so it brings its own small harness.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "all of it is tests, which clippy only sees in functions marked as such"
)]

use std::ffi::OsString;
use std::process::ExitCode;

#[path = "../harness/agent.rs"]
mod agent;
#[path = "../../../../tests/harness/cases.rs"]
mod cases;
mod cloud;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "tests of Kubernetes itself use the rest"
)]
#[path = "../../../../tests/kubernetes/cluster.rs"]
mod cluster;
mod credentials;
mod faults;
#[allow(dead_code, reason = "tests of other clouds use the rest")]
#[path = "../harness/front.rs"]
mod front;
mod service;
#[allow(
    unreachable_pub,
    reason = "it is a part of the tests of whole programs"
)]
#[path = "../../../../tests/harness/skip.rs"]
mod skip;
#[path = "../../../../tests/harness/table.rs"]
mod table;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    match words.as_slice() {
        ["confine", ..] => {
            let Err(error) = holdfast_confine::launch::main();
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        ["behind", port, act, service] => cloud::behind(port.parse().unwrap(), act, service),
        _ => {
            let tests = [service::TESTS, faults::TESTS, credentials::TESTS].concat();
            cases::run(&tests, &words)
        }
    }
}
