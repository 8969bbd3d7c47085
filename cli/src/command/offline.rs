//! `validate`, `schema`, `completion`: what needs no coordinator.

use super::{Outcome, manifest};
use crate::args;
use crate::args::access::Completion;
use crate::args::inputs::Validate;
use crate::error::{Exit, Failure};
use crate::output::Screen;

/// `completion SHELL`.
///
/// # Errors
/// Standard output cannot be written.
pub fn completion(args: &Completion, screen: &mut Screen) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "holdfast", &mut script);
    screen.write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
/// `schema`.
///
/// # Errors
/// This build does not link the engine yet.
pub fn schema(_screen: &mut Screen) -> Outcome {
    Err(Failure::failed("this build does not link the engine yet"))
}

/// `validate -f PATH…`.
///
/// # Errors
/// A file cannot be read; this build does not link the engine yet.
pub async fn validate(args: &Validate, _screen: &mut Screen) -> Outcome {
    manifest::gather(&args.file)?;
    Err(Failure::failed("this build does not link the engine yet"))
}
