//! How much of the coordinator those who use the API can take up at once.

use std::sync::Arc;

use holdfast_protocol::api::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Failed;
use crate::event::Refused;

/// Most event and log streams at once.
const STREAMS_MAX: usize = 128;
/// Most uploads at once: each has a file open and writes to the disk.
const UPLOADS_MAX: usize = 16;
/// Most sets of manifests that are compiled at once: each takes a processor, and memory many times its
/// length. Others wait for their turn.
const COMPILATIONS_MAX: usize = 2;

/// The places that there are.
#[derive(Debug, Clone)]
pub struct Limits {
    streams: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    compilations: Arc<Semaphore>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Default for Limits {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            streams: places(STREAMS_MAX),
            uploads: places(UPLOADS_MAX),
            compilations: places(COMPILATIONS_MAX),
        }
    }
}

impl Limits {
    /// A place for a stream.
    ///
    /// # Errors
    /// [`Failed`] when there are too many.
    pub fn stream(&self) -> Result<Place, Failed> {
        take(&self.streams, "streams are followed")
    }

    /// A place for an upload.
    ///
    /// # Errors
    /// [`Failed`] when there are too many.
    pub fn upload(&self) -> Result<Place, Failed> {
        take(&self.uploads, "uploads are under way")
    }

    /// A place for a compilation, once it is free.
    ///
    /// # Errors
    /// [`Failed`] while the coordinator stops.
    pub async fn compilation(&self) -> Result<Place, Failed> {
        let place = Arc::clone(&self.compilations).acquire_owned().await;
        place.map(Place).map_err(|_| busy("manifests are compiled"))
    }
}

fn take(places: &Arc<Semaphore>, what: &str) -> Result<Place, Failed> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map(Place).map_err(|_| busy(what))
}

fn busy(what: &str) -> Failed {
    let detail = format!("too many {what} at once");
    Failed(Refused::new(Code::Unavailable, detail).help("try again in a moment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_given_back() {
        let limits = Limits::default();
        let mut places: Vec<Place> = (0..UPLOADS_MAX).map(|_| limits.upload().unwrap()).collect();
        assert_eq!(limits.upload().unwrap_err().0.code, Code::Unavailable);
        places.pop();
        assert!(limits.upload().is_ok());
    }
}
