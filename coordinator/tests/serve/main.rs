//! The coordinator's program as it is served: its API against the contract, its limits, and what it
//! does when disks, files and ports are not as they should be.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits by the clock"
)]

mod access;
mod artifact;
mod check;
mod contract;
mod disk;
mod idempotency;
mod notify;
mod outside;
mod program;
mod start;
mod stop;
mod stream;
