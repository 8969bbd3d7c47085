//! Runtime `static`: an archive unpacked and switched to by one symbolic link.

pub mod spec;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
mod owner;
#[cfg(feature = "run")]
mod switch;
#[cfg(feature = "run")]
mod tree;
#[cfg(feature = "run")]
mod watch;
