//! Everything of Holdfast that crosses a process boundary, and nothing else.
//!
//! The vocabulary, in reading order: a **target** ([`name::TargetName`]) belongs to one
//! **environment**; a **service** in a **release** ([`name::Version`]) becomes a **workload**
//! ([`workload::Workload`]) on a target; all workloads of a target make its signed, numbered
//! **assignment** ([`assignment::Assignment`]); what runs is **observed**
//! ([`observed::WorkloadStatus`]) and reported ([`message::ToCoordinator`]).
//!
//! Two kinds of text travel: binary messages between agent and coordinator ([`message`], [`frame`],
//! [`session`], [`join`], [`stream`]) and JSON bodies between the command line and the HTTP API
//! ([`api`]).
//!
//! *Absent here:* sockets, clocks, files, cryptography, logging. Bytes and time are arguments.
#![deny(
    missing_docs,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod api;
pub mod assignment;
pub mod codec;
pub mod digest;
pub mod frame;
pub mod home;
pub mod image;
pub mod join;
pub mod login;
pub mod message;
pub mod name;
pub mod observed;
pub mod secret;
pub mod session;
pub mod stream;
pub mod terminal;
pub mod time;
pub mod version;
pub mod workload;
