//! The pure heart of Holdfast: manifests in, decisions out.
//!
//! ```text
//!  files ─► manifest ─► compile ─► Compiled revision ─┐
//!                                                     ▼
//!                  Track, Inputs (observed), now ─► step ─► Track', effects, waits, wake_at
//!                                                     │
//!                     points placed on one target ─► assign ─► workload bodies
//! ```
//!
//! Seven consequences hold, and each is a property in `tests/properties.rs`:
//!
//! 1. **Restartable at any point.** State is what the store holds; effects are idempotent.
//! 2. **Isolated.** A step reads its own track, and of others only stable release and phase.
//! 3. **Never worse.** No target is given a release that failed on that track, unless a person says so.
//! 4. **No early start.** No effect changes a target while a pre-deploy wait stands.
//! 5. **Terminates.** With inputs that stop changing, every track comes to rest and emits nothing.
//! 6. **Explained.** A track that is not at rest and emits no effect has at least one wait.
//! 7. **Deterministic.** Same arguments, same result, byte for byte.
//!
//! *Absent here:* tokio, clocks, random numbers, files, sockets, logging.
#![deny(
    missing_docs,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

pub mod assign;
mod batch;
pub mod calendar;
pub mod check;
pub mod compile;
pub mod compiled;
pub mod diagnostic;
pub mod effect;
pub mod expression;
mod gates;
pub mod input;
pub mod manifest;
mod order;
pub mod request;
mod rollback;
pub mod steer;
pub mod step;
pub mod track;
mod verify;
mod wait;
pub mod wake;
pub mod wanted;
mod waves;
pub mod whatif;
pub mod why;
