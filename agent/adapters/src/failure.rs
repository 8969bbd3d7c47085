//! Why an operation did not succeed, and whether trying again can help.

/// A typed failure of an adapter's operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// May succeed when tried again: the runtime is away, a port is taken, the disk is full.
    #[error("{0}")]
    Retryable(String),
    /// Cannot succeed until the workload itself changes: a bad specification, a missing program.
    #[error("{0}")]
    Permanent(String),
    /// It was cancelled half way; the next `observe` tells what there is.
    #[error("cancelled")]
    Cancelled,
}

impl Failure {
    /// Whether the same operation may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Retryable(_) | Self::Cancelled => true,
            Self::Permanent(_) => false,
        }
    }
}
