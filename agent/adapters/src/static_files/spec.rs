//! The template of runtime `static`.

use crate::{Context, Problem};

/// Everything wrong with a template.
#[must_use]
pub fn validate(_template: &serde_json::Value, _context: &Context<'_>) -> Vec<Problem> {
    Vec::new()
}
