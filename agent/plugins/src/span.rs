//! Spans of time in templates, as people write them: `90s`, `10m`.

use std::time::Duration;

use holdfast_protocol::time::parse_span;

use crate::Wrong;

/// What is wrong with a span at `path`, if there is one.
#[must_use]
pub fn problem(path: &str, text: Option<&str>) -> Option<Wrong> {
    let why = parse_span(text?).err()?;
    Some(Wrong::at(path, &why))
}

/// A span that has no problem, or `otherwise`.
#[must_use]
pub fn read(text: Option<&str>, otherwise: Duration) -> Duration {
    text.and_then(|text| parse_span(text).ok())
        .unwrap_or(otherwise)
}
