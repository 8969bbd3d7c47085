//! Artifacts that stay in a home of their own: a web server or an OCI registry.
//!
//! In reading order: [`reach`] judges addresses, [`lookup`] finds those of a name, [`credentials`]
//! knows what a host is to be told, [`way`] is the one client that keeps to all that, [`registry`]
//! speaks the distribution specification, [`resolve`] finds out once, at a release, what a name leads
//! to, [`partial`] is a file on its way, and [`download`] brings it there.
//!
//! Agents fetch with it; the coordinator resolves releases, and fetches for targets that cannot reach
//! a home. *Guarantees:* what is given its name hashes to it; nothing is asked of an address that
//! [`way::Rules`] do not admit, also after redirects; no credential leaves for another host than its
//! own; no wait is without end.

pub mod credentials;
pub mod download;
pub mod lookup;
pub mod partial;
pub mod reach;
pub mod registry;
pub mod resolve;
pub mod way;

/// What an error says, with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
