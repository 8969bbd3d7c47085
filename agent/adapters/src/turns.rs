//! One operation a service at a time, on a thread of its own where it may block.
//!
//! Not on the runtime's blocking threads: an agent keeps few of those, and an operation may wait out
//! a grace period of minutes while others must go on.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_protocol::name::ServiceName;
use tokio::sync::{Mutex as Turn, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::run::Wanted;

/// Most operations of one adapter at a time.
const OPERATIONS_MAX: usize = 16;
/// Stack of an operation's thread, in bytes.
const STACK_BYTES: usize = 1 << 20;

/// The turns of one adapter's services.
///
/// An operation whose future was dropped finds its end on its thread; the next one of that service
/// waits for it, also when it comes from another opening of the same adapter.
pub(crate) struct Turns {
    /// Directory of one lock file a service.
    root: PathBuf,
    turns: Mutex<BTreeMap<ServiceName, Arc<Turn<()>>>>,
    operations: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

/// Tells people how an operation goes on.
pub(crate) type Say<'a> = dyn Fn(String) + Sync + 'a;

impl Turns {
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        durable::make_directory(&root, 0o700)?;
        Ok(Self {
            root,
            turns: Mutex::new(BTreeMap::new()),
            operations: Arc::new(Semaphore::new(OPERATIONS_MAX)),
            looks: Arc::new(Semaphore::new(1)),
        })
    }

    /// Makes one workload so when it is its turn. The operation's token ends when `cancel` does, and
    /// when this future was dropped.
    pub(crate) async fn converge(
        &self,
        wanted: &Wanted,
        progress: &mpsc::Sender<String>,
        cancel: &CancellationToken,
        operation: impl FnOnce(&Wanted, &Say<'_>, &CancellationToken) -> Result<(), Failure>
        + Send
        + 'static,
    ) -> Result<(), Failure> {
        let (wanted, progress) = (wanted.clone(), progress.clone());
        let service = wanted.workload.service.clone();
        let whole = move |token: &CancellationToken| {
            // Progress that nobody takes in time is not worth waiting for.
            let say = |text: String| drop(progress.try_send(text));
            operation(&wanted, &say, token)
        };
        self.take(&service, cancel, whole).await
    }

    /// Removes one service when it is its turn. The operation's token ends when this future was
    /// dropped.
    pub(crate) async fn remove(
        &self,
        service: &ServiceName,
        operation: impl FnOnce(&ServiceName, &CancellationToken) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let owned = service.clone();
        let whole = move |token: &CancellationToken| operation(&owned, token);
        self.take(service, &CancellationToken::new(), whole).await
    }

    async fn take<T: Send + 'static>(
        &self,
        service: &ServiceName,
        cancel: &CancellationToken,
        operation: impl FnOnce(&CancellationToken) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn(service).lock_owned().await;
        let permit = Arc::clone(&self.operations).acquire_owned().await;
        let path = self.root.join(service.as_str());
        let token = cancel.child_token();
        let _abandoned = token.clone().drop_guard();
        blocking(move || {
            let (_turn, _permit) = (turn, permit);
            let _lock = lock(&path)?;
            operation(&token)
        })
        .await
    }

    /// Looks at everything. One whose future was dropped, because a disk does not answer, is waited
    /// for by the next one: each would cost a thread that may never end.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = Arc::clone(&self.looks).acquire_owned().await;
        blocking(move || {
            let _permit = permit;
            look()
        })
        .await
    }

    fn turn(&self, service: &ServiceName) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(service.clone()).or_default())
    }
}

#[cfg(any(feature = "container", feature = "kubernetes"))]
impl Turns {
    /// [`Self::converge`] with an operation that awaits what the caller's runtime drives, such as the
    /// sockets of a client that all services share.
    pub(crate) async fn converge_awaiting(
        &self,
        wanted: &Wanted,
        progress: &mpsc::Sender<String>,
        cancel: &CancellationToken,
        operation: impl AsyncFnOnce(&Wanted, &Say<'_>, &CancellationToken) -> Result<(), Failure>
        + Send
        + 'static,
    ) -> Result<(), Failure> {
        let runtime = tokio::runtime::Handle::current();
        let whole = move |wanted: &Wanted, say: &Say<'_>, token: &CancellationToken| {
            runtime.block_on(operation(wanted, say, token))
        };
        self.converge(wanted, progress, cancel, whole).await
    }

    /// [`Self::remove`] in the same way.
    pub(crate) async fn remove_awaiting(
        &self,
        service: &ServiceName,
        operation: impl AsyncFnOnce(&ServiceName, &CancellationToken) -> Result<(), Failure>
        + Send
        + 'static,
    ) -> Result<(), Failure> {
        let runtime = tokio::runtime::Handle::current();
        let whole = move |service: &ServiceName, token: &CancellationToken| {
            runtime.block_on(operation(service, token))
        };
        self.remove(service, whole).await
    }
}

/// Runs something that may block, on a thread of its own.
async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, result) = oneshot::channel();
    // Whoever waited may be gone; what was done is then observed.
    thread(move || drop(done.send(operation())))
        .map_err(failed("cannot start a thread for the operation"))?;
    let cut_off = |_| Failure::Retryable("the operation was cut off".to_owned());
    result.await.map_err(cut_off)?
}

/// Starts a thread that nobody waits for.
pub(crate) fn thread(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name("adapter".to_owned());
    builder.stack_size(STACK_BYTES).spawn(run).map(drop)
}

fn lock(path: &Path) -> Result<std::fs::File, Failure> {
    durable::lock(path).map_err(failed(format!("cannot lock {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_look_that_hangs_is_waited_for_and_not_joined_by_others() {
        let home = tempfile::tempdir().unwrap();
        let turns = Turns::open(home.path().join("turns")).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let short = Duration::from_millis(50);
        let hangs = turns.look(move || Ok(held.recv().is_err()));
        assert!(tokio::time::timeout(short, hangs).await.is_err());
        let waits = turns.look(|| Ok(true));
        assert!(tokio::time::timeout(short, waits).await.is_err());
        drop(release);
        assert!(turns.look(|| Ok(true)).await.unwrap());
    }
}
