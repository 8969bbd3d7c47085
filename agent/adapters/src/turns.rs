//! One operation a service at a time, on a thread where it may block.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_protocol::name::ServiceName;
use tokio::sync::Mutex as Turn;
use tokio_util::sync::CancellationToken;

use crate::durable::{self, failed};
use crate::failure::Failure;

/// The turns of one adapter's services.
///
/// An operation whose future was dropped finds its end on its thread; the next one of that service
/// waits for it, also when it comes from another opening of the same adapter.
pub(crate) struct Turns {
    /// Directory of one lock file a service.
    root: PathBuf,
    turns: Mutex<BTreeMap<ServiceName, Arc<Turn<()>>>>,
}

impl Turns {
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        durable::make_directory(&root, 0o700)?;
        Ok(Self {
            root,
            turns: Mutex::new(BTreeMap::new()),
        })
    }

    /// Runs one operation on a service. It is told whether it is still wanted: not when `cancel`
    /// says so, and not when this future was dropped.
    pub(crate) async fn take<T: Send + 'static>(
        &self,
        service: &ServiceName,
        cancel: &CancellationToken,
        operation: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn(service).lock_owned().await;
        let path = self.root.join(service.as_str());
        let token = cancel.child_token();
        let _abandoned = token.clone().drop_guard();
        blocking(move || {
            let _turn = turn;
            let _lock = lock(&path)?;
            operation(&|| token.is_cancelled())
        })
        .await
    }

    fn turn(&self, service: &ServiceName) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(service.clone()).or_default())
    }
}

/// Runs something that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let cut_off = |e| Failure::Retryable(format!("the operation was cut off: {e}"));
    tokio::task::spawn_blocking(operation)
        .await
        .map_err(cut_off)?
}

fn lock(path: &Path) -> Result<std::fs::File, Failure> {
    durable::lock(path).map_err(failed(format!("cannot lock {}", path.display())))
}
