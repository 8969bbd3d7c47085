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

mod agent;
#[path = "../../../../../tests/cache.rs"]
mod cache;
mod ecs;
mod engine;
mod lambda;
mod server;
#[allow(
    unreachable_pub,
    reason = "it is a part of the tests of whole programs"
)]
#[path = "../../../../../tests/harness/skip.rs"]
mod skip;
#[path = "../../../../../tests/harness/table.rs"]
mod table;

type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [lambda::TESTS, ecs::TESTS].concat()
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
        ["behind", endpoint, act, function] => lambda::behind(endpoint, act, function),
        ["behind-ecs", endpoint, act, service] => ecs::behind(endpoint, act, service),
        _ => harness(&words),
    }
}

fn harness(words: &[&str]) -> ExitCode {
    let is = |flag: &str| words.contains(&flag);
    let names: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| {
        let named = |wanted: &&str| name == *wanted || (!is("--exact") && name.contains(*wanted));
        names.is_empty() || names.iter().any(named)
    };
    if is("--list") {
        for (name, _) in tests().iter().filter(|_| !is("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests().into_iter().filter(|(name, _)| wanted(name)) {
        let good = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        *(if good { &mut passed } else { &mut failed }) += 1;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
