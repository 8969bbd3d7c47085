//! The centre of Holdfast: compiles what is declared, decides the next safe step, remembers every
//! deployment.
//!
//! In reading order: [`serve`] builds the parts; [`driver`] is the one loop, fed by [`event`]; it
//! changes the [`world`], steps the engine, and commits to the [`store`]; [`perform`] does what it asks
//! for outside; [`link`] speaks to targets, [`api`] to people and their programs; [`history`] is the record that cannot be altered.

pub mod access;
pub mod advice;
pub mod api;
pub mod cleaner;
pub mod clock;
pub mod config;
pub mod driver;
pub mod event;
pub mod facts;
pub mod history;
pub mod link;
pub mod maintenance;
pub mod metrics;
pub mod perform;
pub mod relay;
pub mod serve;
pub mod store;
pub mod world;

/// An error with everything that caused it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
