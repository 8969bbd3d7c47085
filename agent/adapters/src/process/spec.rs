//! The template of runtime `process`.

use crate::restart::Restart;
use crate::{Context, Problem};

/// Everything wrong with a template.
#[must_use]
pub fn validate(_template: &serde_json::Value, _context: &Context<'_>) -> Vec<Problem> {
    Vec::new()
}

/// Its restart rule.
#[must_use]
pub fn restart(_template: &serde_json::Value) -> Restart {
    Restart::default()
}
