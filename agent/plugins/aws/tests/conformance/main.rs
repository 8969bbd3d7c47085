//! The plugins for AWS against a server of its API, called as an agent calls them.
//!
//! This program is also the agent's launcher (`confine`), and what harms a function behind its
//! plugin's back (`behind`), so it brings its own small harness.

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

// What it begins is cancelled by a token of tokio_util.
#[path = "../../../tests/harness/agent.rs"]
mod agent;
#[path = "../../../../../tests/cache.rs"]
mod cache;
#[path = "../../../../../tests/harness/cases.rs"]
mod cases;
mod ecs;
mod engine;
mod faults;
#[allow(dead_code, reason = "tests of other clouds use the rest")]
#[path = "../../../tests/harness/front.rs"]
mod front;
mod lambda;
mod lambda_image;
mod server;
#[allow(
    unreachable_pub,
    reason = "it is a part of the tests of whole programs"
)]
#[path = "../../../../../tests/harness/skip.rs"]
mod skip;
#[path = "../../../../../tests/harness/table.rs"]
mod table;

fn tests() -> Vec<cases::Test> {
    [
        lambda::TESTS,
        lambda_image::TESTS,
        faults::TESTS,
        ecs::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    match words.as_slice() {
        ["confine", ..] => {
            let Err(error) = holdfast_confine::launch::main();
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        ["behind", endpoint, act, function] => ended(lambda::behind(endpoint, act, function)),
        ["behind-ecs", endpoint, act, service] => ended(ecs::behind(endpoint, act, service)),
        _ => cases::run(&tests(), &words),
    }
}

/// The end of a command that the suite runs.
fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// An agent with the plugins of this crate, and credentials that the server takes.
fn plugins() -> agent::Agent {
    let program = env!("CARGO_BIN_EXE_holdfast-plugins-aws");
    let mut agent = agent::Agent::new(program, &["aws-lambda", "aws-ecs"]);
    let words = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "not-to-be-shown"),
    ];
    for (name, value) in words {
        agent.set(name, Some(value));
    }
    agent
}
