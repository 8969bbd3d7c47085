//! Expressions (being written).
/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression;
