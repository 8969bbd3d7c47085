//! The program on every target: it keeps the last desired state and converges on it, with and without
//! a connection.
//!
//! ```text
//!  coordinator ══ QUIC ══ link ── LinkEvent ──┐                    ┌── perform ── adapter ── runtime
//!                          ▲                  ▼                    │                            │
//!                       Command ────────── driver ── plan(…) ── Action                          │
//!                                             ▲    diff, attempt                                │
//!   cache ◄── accept ◄────────────────────────┤                                                 │
//!   journal, snapshot (status) ◄──────────────┴────────────── Event ◄───────────────────────────┘
//! ```
//!
//! In reading order: what is wanted ([`desired`]), may it be taken ([`accept`]), where it is kept
//! ([`cache`]); what differs ([`diff`]), what was tried ([`attempt`]), what is next ([`plan`]); the
//! one loop ([`driver`], [`event`]) and what it starts ([`perform`], [`health`], [`artifacts`]); what
//! is said ([`journal`], [`snapshot`], [`facts`]) and over what ([`link`], [`transport`], [`join`],
//! [`logs`] without the values of secrets ([`veil`]), [`socket`]); when it wakes ([`beat`]) and what it
//! keeps in memory ([`resident`]); how it is put together ([`run`], [`config`], [`command`]).
//!
//! *Absent here:* policy of a deployment (which release, when, on which targets) and everything that
//! is particular to a runtime.
#![deny(
    missing_docs,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

pub mod accept;
pub mod artifacts;
pub mod attempt;
pub mod beat;
pub mod cache;
pub mod checks;
pub mod clock;
pub mod command;
pub mod config;
pub mod desired;
pub mod diff;
pub mod driver;
pub mod event;
pub mod facts;
pub mod health;
pub mod hold;
pub mod join;
pub mod journal;
pub mod link;
pub mod logs;
pub mod output;
pub mod perform;
pub mod plan;
pub mod resident;
pub mod run;
pub mod secrets;
pub mod snapshot;
pub mod socket;
pub mod streams;
pub mod transport;
pub mod veil;

#[cfg(test)]
mod fixture;

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
