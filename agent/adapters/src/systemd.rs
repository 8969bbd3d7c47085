//! Runtime `systemd`: a unit of its own for each workload, started and kept by systemd itself.

mod calendar;
pub mod extra;
pub mod spec;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
mod bus;
#[cfg(feature = "run")]
mod change;
#[cfg(feature = "run")]
mod converge;
#[cfg(feature = "run")]
mod foreign;
#[cfg(feature = "run")]
mod install;
#[cfg(feature = "run")]
mod job;
#[cfg(feature = "run")]
mod journal;
#[cfg(feature = "run")]
mod mark;
#[cfg(feature = "run")]
mod place;
#[cfg(feature = "run")]
mod plan;
#[cfg(feature = "run")]
mod quote;
#[cfg(feature = "run")]
mod remove;
#[cfg(feature = "run")]
mod sight;
#[cfg(feature = "run")]
mod signal;
#[cfg(feature = "run")]
mod unit;
#[cfg(feature = "run")]
mod verify;
