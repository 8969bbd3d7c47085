//! Runs a program that somebody declared in a manifest, with nothing of the program that runs it:
//! another user, a session and a temporary directory of its own, a clean environment, limits on
//! time, memory, files and output.
//!
//! ```text
//! run ── spawns ──► launcher (the caller's own executable) ── becomes ──► the program
//!  ▲ ◄── why it could not ──┘                                               │
//!  └───────────────────────────── output ◄──────────────────────────────────┘
//! ```
//!
//! Both ends of an installation use it: the coordinator where its operator allows that, and every
//! agent. A plugin is given its request the same way, and answers on an output of its own
//! ([`run::converse`]). Whoever calls it offers [`launch::main`] as a hidden subcommand.
#![deny(
    missing_docs,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod group;
pub mod launch;
pub mod output;
pub mod run;
mod scratch;
pub mod user;

pub use launch::Limits;
pub use run::converse::Conversation;
pub use run::{Ended, Outcome, Program, run};
pub use user::User;

/// Removes what processes that are gone left: what a killed coordinator or agent had under way.
pub fn sweep() {
    group::sweep();
    scratch::sweep();
}
