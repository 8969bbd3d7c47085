//! `holdfast`, the operator's command: modules in reading order.
//!
//! [`args`] says what can be typed; [`context`] decides which coordinator is meant; [`client`] speaks to
//! it; [`command`] has one module a command; [`output`] prints results and [`error`] failures.

pub mod args;
pub mod client;
pub mod clock;
pub mod command;
pub mod context;
pub mod error;
pub mod output;
