//! Runs one action: time limit, cancelling, progress. What it is for was decided by `plan`.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, LogRequest, Wanted};
use holdfast_adapters::secret::{self, Secret};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::secret::SecretRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::artifacts::{Sources, Store};
use crate::clock;
use crate::desired::Intent;
use crate::diff::Sight;
use crate::event::Event;
use crate::output::Outputs;
use crate::plan::Fetch;
use crate::secrets::Secrets;
use crate::veil::Veil;

/// Time one converge may take.
pub const CONVERGE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Time one removal may take.
pub const REMOVE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Time one look may take.
pub const OBSERVE_LIMIT: Duration = Duration::from_secs(20);
/// Time to read the end of a job's output.
pub const OUTPUT_LIMIT: Duration = Duration::from_secs(10);
/// Lines of a job's output that explain how it failed.
const LAST_LINES: usize = 5;
/// Time a cancelled converge has to put things down.
pub const CANCEL_GRACE: Duration = Duration::from_secs(30);
/// Words of progress that may wait.
const PROGRESS_MAX: usize = 8;

/// What a converge has at hand of this target.
pub(crate) struct Hand {
    /// Artifacts.
    pub(crate) store: Store,
    /// Secrets, sealed.
    pub(crate) secrets: Secrets,
    /// Who has newer ones, where somebody can be asked.
    pub(crate) newer: Option<quinn::Connection>,
    /// What workloads wrote.
    pub(crate) outputs: Outputs,
}

/// Brings one service to a body; the end is told as [`Event::Converged`].
pub(crate) async fn converge(
    adapter: Arc<dyn Adapter>,
    hand: Hand,
    intent: Arc<Intent>,
    mends: bool,
    cancel: CancellationToken,
    told: mpsc::Sender<Event>,
) {
    let service = intent.workload.service.clone();
    let body = intent.body;
    hand.outputs.keep(adapter.as_ref(), &service).await;
    hand.outputs.begin(&intent, clock::wall());
    let work = converge_now(adapter.as_ref(), &hand, &intent, mends, &cancel, &told);
    let outcome = unwound(work).await;
    // The driver is gone when this fails, and with it everyone who would want to know.
    let _ = told
        .send(Event::Converged {
            service,
            body,
            mends,
            outcome,
        })
        .await;
}

async fn converge_now(
    adapter: &dyn Adapter,
    hand: &Hand,
    intent: &Intent,
    mends: bool,
    cancel: &CancellationToken,
    told: &mpsc::Sender<Event>,
) -> Result<(), Failure> {
    if !mends {
        verify_artifacts(&hand.store, intent).await?;
    }
    let artifacts = intent.workload.artifacts.iter();
    let wanted = Wanted {
        body: intent.body,
        workload: intent.workload.clone(),
        artifacts: artifacts
            .map(|a| (a.name.clone(), hand.store.path(a.digest)))
            .collect::<BTreeMap<_, _>>(),
        secrets: opened(&hand.secrets, intent)?,
        logins: logins(hand, intent).await,
    };
    let (progress, mut words) = mpsc::channel(PROGRESS_MAX);
    let work = limited(adapter.converge(&wanted, &progress, cancel), cancel);
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            Some(text) = words.recv() => {
                let service = intent.workload.service.clone();
                // Progress is worth nothing late.
                let _ = told.try_send(Event::Progress { service, text });
            }
        }
    }
}

/// Cancels what takes too long, and gives up what does not heed that.
async fn limited(
    work: impl Future<Output = Result<(), Failure>>,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    tokio::pin!(work);
    let late = tokio::select! {
        outcome = &mut work => return outcome,
        () = cancel.cancelled() => false,
        () = tokio::time::sleep(CONVERGE_LIMIT) => true,
    };
    cancel.cancel();
    let outcome = tokio::time::timeout(CANCEL_GRACE, work).await;
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Cancelled)) | Err(_) if late => {
            let minutes = CONVERGE_LIMIT.as_secs() / 60;
            Err(Failure::Retryable(format!(
                "it took longer than {minutes} minutes"
            )))
        }
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::Cancelled),
    }
}

/// A file on disk may have changed since it was fetched; nothing is unpacked unseen.
async fn verify_artifacts(store: &Store, intent: &Intent) -> Result<(), Failure> {
    for artifact in &intent.workload.artifacts {
        let (store, digest) = (store.clone(), artifact.digest);
        let verified = tokio::task::spawn_blocking(move || store.verify(digest)).await;
        let problem = match verified {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        return Err(Failure::Retryable(format!(
            "artifact {}: {problem}",
            artifact.name
        )));
    }
    Ok(())
}

/// The values that a body names, in the clear until the converge ends.
fn opened(secrets: &Secrets, intent: &Intent) -> Result<secret::Secrets, Failure> {
    let one = |reference: &SecretRef| match secrets.value(reference) {
        Ok(value) => Ok((reference.clone(), Secret::new(value))),
        Err(error) => Err(Failure::Retryable(crate::chain(&error))),
    };
    intent.secrets.iter().map(one).collect()
}

/// What registries of images are told now. One that is not here is missed only where an image has to be
/// pulled, and the adapter says so then: what is here is started without it.
async fn logins(hand: &Hand, intent: &Intent) -> secret::Secrets {
    let mut here = Vec::with_capacity(intent.logins.len());
    for login in &intent.logins {
        match hand.secrets.newest(hand.newer.as_ref(), login).await {
            Ok(value) => here.push((login.clone(), Secret::new(value))),
            Err(error) => tracing::warn!(%login, why = crate::chain(&error), "not at hand"),
        }
    }
    here.into_iter().collect()
}

/// Removes one service; the end is told as [`Event::Removed`].
pub(crate) async fn remove(
    adapter: Arc<dyn Adapter>,
    outputs: Outputs,
    (service, runtime): (ServiceName, String),
    told: mpsc::Sender<Event>,
) {
    let work = async {
        outputs.keep(adapter.as_ref(), &service).await;
        outputs.end(&service, clock::wall());
        let removed = tokio::time::timeout(REMOVE_LIMIT, adapter.remove(&service)).await;
        removed.unwrap_or_else(|_| Err(Failure::Retryable("removing took too long".to_owned())))
    };
    let outcome = unwound(work).await;
    let _ = told
        .send(Event::Removed {
            service,
            runtime,
            outcome,
        })
        .await;
}

/// Puts into words how an attempt of a job ended, and stops it where it still runs; told as
/// [`Event::Concluded`].
pub(crate) async fn conclude(
    adapter: Arc<dyn Adapter>,
    outputs: Outputs,
    (service, body): (ServiceName, Digest),
    (why, stop): (String, bool),
    told: mpsc::Sender<Event>,
) {
    let work = async {
        outputs.keep(adapter.as_ref(), &service).await;
        let veil = outputs.veil(&service);
        let words = last_words(adapter.as_ref(), &service, &veil);
        let output = tokio::time::timeout(OUTPUT_LIMIT, words);
        let output = output.await.unwrap_or_default();
        if stop {
            let removed = tokio::time::timeout(REMOVE_LIMIT, adapter.remove(&service)).await;
            let late = || Failure::Retryable("stopping took too long".to_owned());
            removed.unwrap_or_else(|_| Err(late()))?;
        }
        Ok(if output.is_empty() {
            why
        } else {
            format!("{why}: {output}")
        })
    };
    let outcome = unwound(work).await;
    let runtime = adapter.runtime().to_owned();
    let _ = told
        .send(Event::Concluded {
            service,
            body,
            runtime,
            outcome,
        })
        .await;
}

/// The last lines of a workload's output, in one; empty where there are none or they cannot be read.
async fn last_words(adapter: &dyn Adapter, service: &ServiceName, veil: &Veil) -> String {
    let request = LogRequest {
        since: None,
        tail: LAST_LINES,
        follow: false,
    };
    let Ok(mut lines) = adapter.logs(service, request).await else {
        return String::new();
    };
    let mut words = Vec::with_capacity(LAST_LINES);
    while let Some(line) = lines.recv().await {
        words.push(veil.cover(line).text.trim().to_owned());
    }
    words.join(" | ")
}

/// Fetches one artifact; the end is told as [`Event::Fetched`].
pub(crate) async fn fetch(store: Store, sources: Sources, fetch: Fetch, told: mpsc::Sender<Event>) {
    let artifact = fetch.artifact;
    let fetched = store.fetch(&sources, &fetch).await;
    let outcome = fetched.map_err(|error| crate::chain(&error));
    let _ = told.send(Event::Fetched { artifact, outcome }).await;
}

/// Asks for one secret; the end is told as [`Event::Asked`].
pub(crate) async fn ask(
    secrets: Secrets,
    connection: quinn::Connection,
    secret: SecretRef,
    told: mpsc::Sender<Event>,
) {
    let asked = secrets.ask(&connection, &secret).await;
    let outcome = asked.map_err(|error| crate::chain(&error));
    let _ = told.send(Event::Asked { secret, outcome }).await;
}

/// Looks at everything that an adapter owns; told as [`Event::Seen`].
pub(crate) async fn observe(adapter: Arc<dyn Adapter>, told: mpsc::Sender<Event>) {
    let work = async {
        let seen = tokio::time::timeout(OBSERVE_LIMIT, adapter.observe()).await;
        seen.unwrap_or_else(|_| Err(Failure::Retryable("looking took too long".to_owned())))
    };
    let sight = match unwound(work).await {
        Ok(seen) => Sight::Known(seen.into_iter().map(|o| (o.service.clone(), o)).collect()),
        Err(failure) => Sight::Unknown(failure.to_string()),
    };
    let runtime = adapter.runtime().to_owned();
    let _ = told.send(Event::Seen { runtime, sight }).await;
}

/// A panic in an adapter ends that one action and nothing else.
async fn unwound<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Failure::Retryable("the adapter panicked".to_owned())))
}
