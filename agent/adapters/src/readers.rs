//! How many may read output at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

/// The readers of one adapter's output.
pub(crate) struct Readers {
    most: usize,
    free: Arc<Semaphore>,
}

impl Readers {
    /// At most so many at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
        }
    }

    /// One more, for as long as the permit is held; retryable where there is no room.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let free = Arc::clone(&self.free).try_acquire_owned();
        free.map_err(|_| {
            let most = self.most;
            Failure::Retryable(format!("{most} readers of output are served already"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_too_many_is_told_so_and_admitted_once_another_one_left() {
        let readers = Readers::new(1);
        let one = readers.admit().unwrap();
        let refused = readers.admit().unwrap_err();
        assert!(refused.is_retryable());
        assert!(refused.to_string().contains("1 readers"), "{refused}");
        drop(one);
        assert!(readers.admit().is_ok());
    }
}
