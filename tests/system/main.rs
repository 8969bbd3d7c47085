//! The whole system as real programs: one file a promise.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "all of this is a test: what it prints is shown when it fails, and its deadlines are \
              real time"
)]

mod access;
mod cache;
mod canary;
mod check;
mod clusters;
mod confined;
mod containers;
mod converging;
mod declarative;
mod demo;
mod examples;
mod explained;
mod held;
mod homes;
mod identity;
mod logins;
mod offline;
mod plugins;
mod rotation;
mod safe;
mod secrets;
mod software;
mod verbs;

// Where the engines of the adapter's tests look for them.
use holdfast_tests::{disk, skip};
