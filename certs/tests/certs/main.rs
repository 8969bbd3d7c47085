//! The trust chain from outside: what a hostile peer, request, token or file gets, which is nothing.
#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod coordinator_trust;
mod files;
mod handshake;
mod issue;
mod renewal;
mod target_trust;
mod world;
