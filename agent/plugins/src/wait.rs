//! Waiting for what one operation does with an asynchronous client.

use crate::Failure;

/// Runs what one operation does, on this thread alone, to its end.
///
/// # Errors
/// Its own, or that nothing can be waited for here.
pub fn wait_for<T>(operation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::Retryable(format!("cannot wait for answers: {error}")))?;
    runtime.block_on(operation)
}
