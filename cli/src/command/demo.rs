//! `demo`: follows with the example that it deploys.

use super::Outcome;
use crate::args::access::Demo;
use crate::error::Failure;
use crate::output::Screen;

/// Runs the demo.
///
/// # Errors
/// It is not part of this build yet.
pub async fn run(_args: &Demo, _screen: &mut Screen) -> Outcome {
    Err(Failure::failed("the demo is not part of this build yet"))
}
