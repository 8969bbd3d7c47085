//! Who is who: authorities, certificates, join tokens, verifiers, signatures.
//!
//! # The trust chain on one page
//!
//! ```text
//!                    Root (one an installation; P-256, path length 1)
//!                    name spiffe://DOMAIN           join tokens pin its SHA-256
//!           ┌──────────────────┼───────────────────────────┐
//!   coordinator's leaf   authority of staging       authority of production
//!   serverAuth           path length 0, limited     …/env/production
//!   one fixed name       to clientAuth                     │
//!           │            …/env/staging              targets of production
//!        agents and            │
//!        the API's       targets of staging: clientAuth, one URI name
//!        clients         spiffe://DOMAIN/env/staging/target/NAME
//! ```
//!
//! - **An agent trusts a coordinator** whose certificate comes from a root that it was given when it
//!   joined, has the coordinators' name, and is for servers. Environments' authorities are limited
//!   to clients, so neither they nor any target can pass for a coordinator
//!   ([`verify::server::CoordinatorVerifier`]).
//! - **A joining agent trusts** the root whose SHA-256 is in its [`token::Token`]; before that is
//!   established, it has sent nothing.
//! - **A coordinator trusts a target** whose certificate names one environment, and was signed by
//!   *that environment's* authority, which is the only anchor for this check. The root anchors no
//!   target: name constraints do not cover URI names, so the hierarchy alone would let staging's
//!   authority speak for production ([`verify::peer_identity`]).
//! - **A target believes an assignment** that its environment's Ed25519 key signed ([`sign::open`]).
//!   That key is apart from the certificates, so that it can be kept elsewhere.
//! - **A certificate is given** for a public key and for nothing else that a request says
//!   ([`csr::requested_key`], [`authority::EnvironmentAuthority::issue`]).
//! - **A certificate is taken back** in the [`registry::Registry`], which every check reads at that
//!   moment. TLS sessions are never resumed, because resumption skips the check ([`tls`]).
//! - **An expired certificate** opens nothing but its own renewal ([`verify::renewal`]).
//!
//! - **A secret is kept** encrypted under a key of the coordinator's alone ([`vault`]), and travels
//!   sealed to the one target that may open it ([`seal`]).
//!
//! Times are arguments; only [`clock::Clock`], which TLS asks, reads the clock. Files are touched by
//! [`keystore`] alone. Random numbers come from the system.
#![deny(
    missing_docs,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

pub mod armor;
pub mod authority;
pub mod certificate;
pub mod clock;
pub mod csr;
pub mod identity;
pub mod key;
pub mod keystore;
mod random;
pub mod registry;
pub mod reset;
pub mod rsa;
pub mod seal;
pub mod sign;
pub mod tls;
pub mod token;
pub mod vault;
pub mod verify;
pub mod webhook;

pub use random::RandomError;
