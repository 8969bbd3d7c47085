//! Runtime `process`: a program under supervision, on hosts without anything else.

pub mod spec;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
pub(crate) mod files;
#[cfg(feature = "run")]
pub mod launch;
#[cfg(feature = "run")]
mod logs;
#[cfg(feature = "run")]
mod record;
#[cfg(feature = "run")]
mod sight;
#[cfg(feature = "run")]
mod start;
#[cfg(feature = "run")]
mod stop;
#[cfg(feature = "run")]
mod supervisor;
#[cfg(feature = "run")]
pub(crate) mod table;
#[cfg(feature = "run")]
pub(crate) mod user;
