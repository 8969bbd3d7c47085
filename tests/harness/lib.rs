//! Real programs for tests: a coordinator, agents, the operator's command line, in a directory of
//! their own, on loopback. Nothing that a [`fleet::Fleet`] starts outlives it, workloads included.
//!
//! ```no_run
//! # use holdfast_tests::fleet::Fleet;
//! # use holdfast_tests::manifest;
//! let mut fleet = Fleet::start();
//! fleet.apply(&[manifest::ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
//! fleet.join("staging-1", "staging", &[]);
//! fleet.release("web", "1.0.0", &[]);
//! fleet.wait_stable("web", "staging", "1.0.0");
//! fleet.coordinator.kill9();
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`fleet`] | the whole: start, apply, release, join, wait |
//! | [`program`] | one started program: kill, stop, start again, its log |
//! | [`api`], [`operator`] | the two ways in: typed HTTP, and `holdfast …` as a subprocess |
//! | [`process`] | the kernel's table: which workloads run, since when |
//! | [`wait`] | a condition with a deadline |
//! | [`prometheus`] | a real Prometheus server |
//! | [`home`] | a web server, a registry, and what can be wrong on the way to them |
//! | [`faults`] | a network that can be cut, chance that can be repeated |
//! | [`disk`] | a small disk, which can be filled |
//! | [`port`], [`archive`], [`manifest`], [`visitor`], [`skip`] | what tests deploy, and how they look at it |
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "all of this is for tests: a failure is a panic, what is printed is shown when a test \
              fails, and a test's deadline is real time"
)]

pub mod api;
pub mod archive;
pub mod disk;
pub mod faults;
pub mod fleet;
pub mod home;
pub mod manifest;
pub mod operator;
pub mod port;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod skip;
pub mod visitor;
pub mod wait;
