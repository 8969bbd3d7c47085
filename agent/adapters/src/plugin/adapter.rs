//! The adapter of every runtime `plugin/NAME`.
//!
//! *Guarantees*: nothing is asked of a plugin that changes something before its own word on the
//! template, its artifacts and its directory are there; what it was asked for is written down before
//! it is asked. A plugin that cannot answer makes its own workloads not ready, and those of no other.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::workload::{self as body, Placeholder};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::call::{Caller, Known, Told, request, understood};
use super::message::{
    Artifact, Done, INTERVAL_SECONDS, Operation, Request, Said, Sighting, State, Verdict, Workload,
    Wrong,
};
use super::record::{Place, Record};
use super::secret::{given, masked};
use super::{Settings, logs, spec, watch};
use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::readers::Readers;
use crate::run::{Adapter, Exit, Live, LogRequest, Observed, Wanted};
use crate::turns::{Say, Turns};
use crate::unpacked::Store;

/// Looks at workloads at a time.
const LOOKS_MAX: usize = 8;
/// Time that looking at everything may take; what has not answered by then is not ready.
const LOOK_LIMIT: Duration = Duration::from_secs(16);

/// Executables that others wrote.
pub(crate) struct Plugins {
    inner: Arc<Inner>,
    turns: Turns,
    readers: Readers,
}

/// What operations share.
pub(super) struct Inner {
    services: PathBuf,
    store: Store,
    pub(super) caller: Caller,
    /// What was seen of those that are looked at seldom, and when.
    seen: Mutex<BTreeMap<ServiceName, (Duration, Observed)>>,
    /// Told when a workload was converged to.
    pub(super) stirred: Notify,
}

impl Plugins {
    pub(crate) fn open(root: &Path, id: &str, settings: Settings) -> io::Result<Self> {
        durable::make_directory(root, 0o711)?;
        let services = root.join("services");
        durable::make_directory(&services, 0o711)?;
        let inner = Inner {
            services,
            store: Store::open(root.join("artifacts"))?,
            caller: Caller::new(settings, id.to_owned()),
            seen: Mutex::new(BTreeMap::new()),
            stirred: Notify::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            turns: Turns::open(root.join("turns"))?,
            readers: Readers::new(logs::READERS_MAX),
        })
    }
}

impl Adapter for Plugins {
    fn runtime(&self) -> &'static str {
        "plugin"
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observed>, Failure>> {
        Box::pin(self.inner.observe())
    }

    fn converge<'a>(
        &'a self,
        wanted: &'a Wanted,
        progress: &'a mpsc::Sender<String>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let inner = Arc::clone(&self.inner);
        let operation = move |wanted: &Wanted, say: &Say<'_>, token: &CancellationToken| {
            unless(token, inner.converge(wanted, say, &|| token.is_cancelled()))
        };
        Box::pin(self.turns.converge(wanted, progress, cancel, operation))
    }

    fn remove<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<(), Failure>> {
        let inner = Arc::clone(&self.inner);
        let operation = move |service: &ServiceName, token: &CancellationToken| {
            unless(token, inner.remove(service))
        };
        Box::pin(self.turns.remove(service, operation))
    }

    fn changes(&self) -> mpsc::Receiver<ServiceName> {
        watch::follow(&self.inner)
    }

    fn fill(&self, workload: &body::Workload, text: &str) -> Result<String, String> {
        self.inner.fill(workload, text)
    }

    fn logs<'a>(
        &'a self,
        service: &'a ServiceName,
        wanted: LogRequest,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>> {
        Box::pin(async move {
            let permit = self.readers.admit()?;
            logs::read(Arc::clone(&self.inner), service.clone(), wanted, permit).await
        })
    }
}

/// Runs an operation on this thread until it ends or is no longer wanted.
fn unless(
    token: &CancellationToken,
    operation: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("cannot speak to a plugin"))?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = token.cancelled() => Err(Failure::Cancelled),
            outcome = operation => outcome,
        }
    })
}

impl Inner {
    async fn converge(
        &self,
        wanted: &Wanted,
        say: &Say<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        let name = plugin_of(&wanted.workload)?;
        if wanted.workload.job.is_some() {
            return Err(Failure::Permanent(format!(
                "plugin {name} runs no jobs: give `kind: job` a runtime such as process or container"
            )));
        }
        let known = self.caller.known(name).await?;
        let place = self.place(service);
        let workload = self.workload(wanted)?;
        refuse(
            &known,
            known
                .schema
                .check(&workload.template)
                .into_iter()
                .map(|problem| Wrong {
                    path: problem.path,
                    message: problem.message,
                }),
        )?;
        // Until the record names them: a workload beside this one may be done, and sweep.
        let held = self.store.hold(&wanted.workload.artifacts);
        self.lay(wanted, cancelled)?;
        self.caller.end_leftovers(service.as_str());
        self.leave_the_plugin_before(service, name).await?;
        place
            .make_state(self.caller.user(name)?.as_ref())
            .map_err(failed(format!("cannot make the directory of {service}")))?;
        let asked = self.request(Operation::Validate, &place, &workload);
        let verdict: Verdict = self.caller.ask(&known.plugin, &asked, &mut |_| {}).await?;
        refuse(&known, verdict.problems)?;
        let keys = held.keys().to_vec();
        self.change(&known, wanted, (&place, workload, keys), say)
            .await?;
        drop(held);
        self.sweep();
        self.stirred.notify_waiters();
        Ok(())
    }

    /// The one step that changes something, written down before and after.
    async fn change(
        &self,
        known: &Known,
        wanted: &Wanted,
        (place, workload, keys): (&Place, Workload, Vec<String>),
        say: &Say<'_>,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        let before = place.record();
        let same = before
            .as_ref()
            .filter(|record| record.whole && record.body == Some(wanted.body));
        let since = same.map_or_else(clock::now, |record| record.since);
        let keys_before = match (&before, same) {
            (Some(record), Some(_)) => record.artifacts[1].clone(),
            (Some(record), None) => record.artifacts[0].clone(),
            (None, _) => Vec::new(),
        };
        let mut record = Record {
            plugin: known.plugin.name.clone(),
            body: before.as_ref().and_then(|record| record.body),
            since,
            whole: false,
            workload: workload.clone(),
            artifacts: [keys, keys_before],
            interval_seconds: known.interval_seconds(),
        };
        let noted = || failed(format!("cannot note what {service} is"));
        if same.is_none() {
            place.write(&record).map_err(noted())?;
        }
        let asked = Request {
            secrets: given(&wanted.secrets),
            ..self.request(Operation::Converge, place, &workload)
        };
        self.forget(service);
        let mut progress = |said| {
            if let Said::Progress { message } = said {
                say(wanted.secrets.masked(message));
            }
        };
        let told = self.caller.call(&known.plugin, &asked, &mut progress).await;
        self.forget(service);
        let told = masked(told, &wanted.secrets);
        done(&known.plugin.name, &workload.id, told, place)?;
        record.body = Some(wanted.body);
        record.whole = true;
        place.write(&record).map_err(noted())
    }

    /// A service that another plugin made is removed by that one first.
    async fn leave_the_plugin_before(
        &self,
        service: &ServiceName,
        name: &str,
    ) -> Result<(), Failure> {
        match self.place(service).record() {
            Some(record) if record.plugin != name => self.remove(service).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn remove(&self, service: &ServiceName) -> Result<(), Failure> {
        let place = self.place(service);
        self.caller.end_leftovers(service.as_str());
        if let Some(record) = place.record() {
            let known = self.caller.known(&record.plugin).await?;
            let asked = self.request(Operation::Remove, &place, &record.workload);
            let told = self.caller.call(&known.plugin, &asked, &mut |_| {}).await;
            done(&record.plugin, &record.workload.id, told, &place)?;
        }
        place
            .remove()
            .map_err(failed(format!("cannot remove the directory of {service}")))?;
        self.forget(service);
        self.sweep();
        Ok(())
    }

    async fn observe(&self) -> Result<Vec<Observed>, Failure> {
        let records = self.records()?;
        let looks = records.into_iter().map(|(service, record)| async move {
            if let Some(seen) = self.recently(&service, record.interval_seconds) {
                return seen;
            }
            let look = tokio::time::timeout(LOOK_LIMIT, self.look(&service, &record)).await;
            let late = || Err(Failure::Retryable("it was not its turn in time".to_owned()));
            let seen = observed(&service, &record, look.unwrap_or_else(|_| late()));
            self.remember(&seen);
            seen
        });
        let all = futures_util::stream::iter(looks).buffered(LOOKS_MAX);
        Ok(all.collect().await)
    }

    async fn look(&self, service: &ServiceName, record: &Record) -> Result<Sighting, Failure> {
        let known = self.caller.known(&record.plugin).await?;
        let asked = self.request(Operation::Observe, &self.place(service), &record.workload);
        let seen: Sighting = self.caller.ask(&known.plugin, &asked, &mut |_| {}).await?;
        same_workload(&record.plugin, &record.workload.id, &seen.workload)?;
        Ok(seen)
    }

    /// Every workload that is remembered.
    pub(super) fn records(&self) -> Result<Vec<(ServiceName, Record)>, Failure> {
        let names = durable::names(&self.services).map_err(failed("cannot list the workloads"))?;
        let read = |name: &String| {
            let service = ServiceName::parse(name).ok()?;
            let record = self.place(&service).record()?;
            Some((service, record))
        };
        Ok(names.iter().filter_map(read).collect())
    }

    pub(super) fn place(&self, service: &ServiceName) -> Place {
        Place::new(&self.services, service)
    }

    pub(super) fn request(
        &self,
        operation: Operation,
        place: &Place,
        workload: &Workload,
    ) -> Request {
        Request {
            state_directory: Some(place.state()),
            ..request(operation, Some(workload.clone()))
        }
    }

    /// A workload as its plugin sees it.
    fn workload(&self, wanted: &Wanted) -> Result<Workload, Failure> {
        let refused = |why: String| Failure::Permanent(format!("the template is refused: {why}"));
        let workload = &wanted.workload;
        let template: Value =
            serde_json::from_str(&workload.template).map_err(|e| refused(e.to_string()))?;
        let template = self
            .filled(workload, template)
            .map_err(|name| refused(format!("it names {name}, which is not there")))?;
        let target = &self.caller.settings.target;
        let artifact = |artifact: &body::Artifact| {
            let seen = Artifact {
                path: self.store.path(artifact),
                digest: artifact.digest,
            };
            (artifact.name.to_string(), seen)
        };
        Ok(Workload {
            id: format!("{}/{target}/{}", workload.environment, workload.service),
            environment: workload.environment.to_string(),
            target: target.clone(),
            service: workload.service.to_string(),
            version: workload.version.to_string(),
            body: wanted.body,
            template,
            artifacts: workload.artifacts.iter().map(artifact).collect(),
        })
    }

    /// The value with all placeholders in its texts filled.
    fn filled(&self, workload: &body::Workload, value: Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.fill(workload, &text)?),
            Value::Array(items) => {
                let items = items.into_iter().map(|item| self.filled(workload, item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(map) => {
                let fields = map.into_iter().map(|(key, value)| {
                    let value = self.filled(workload, value)?;
                    Ok((key, value))
                });
                Value::Object(fields.collect::<Result<_, String>>()?)
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
        })
    }

    fn fill(&self, workload: &body::Workload, text: &str) -> Result<String, String> {
        let path = |path: PathBuf| path.to_str().map(str::to_owned);
        Placeholder::fill(text, &|placeholder| match placeholder {
            Placeholder::WorkloadDir => path(self.place(&workload.service).state()),
            Placeholder::ArtifactPath(name) => {
                let mut artifacts = workload.artifacts.iter();
                let artifact = artifacts.find(|artifact| artifact.name == *name)?;
                path(self.store.path(artifact))
            }
        })
    }

    /// Lays the artifacts down.
    fn lay(&self, wanted: &Wanted, cancelled: &dyn Fn() -> bool) -> Result<(), Failure> {
        for artifact in &wanted.workload.artifacts {
            let name = &artifact.name;
            let missing = || Failure::Retryable(format!("artifact {name} is not here yet"));
            let blob = wanted.artifacts.get(name).ok_or_else(missing)?;
            self.store.lay(artifact, blob, cancelled)?;
        }
        Ok(())
    }

    /// Removes artifacts that no workload needs any more.
    fn sweep(&self) {
        self.store.sweep(|| {
            let records = self.records().ok()?;
            Some(
                records
                    .into_iter()
                    .flat_map(|(_, record)| record.artifacts)
                    .flatten()
                    .collect(),
            )
        });
    }

    /// What was seen of a service whose plugin asks to be looked at more seldom than the driver looks.
    fn recently(&self, service: &ServiceName, interval_seconds: u32) -> Option<Observed> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, observed) = seen
            .get(service)
            .filter(|_| interval_seconds > INTERVAL_SECONDS)?;
        let age = clock::monotonic().saturating_sub(*at);
        (age < Duration::from_secs(interval_seconds.into())).then(|| observed.clone())
    }

    fn remember(&self, observed: &Observed) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(
            observed.service.clone(),
            (clock::monotonic(), observed.clone()),
        );
    }

    fn forget(&self, service: &ServiceName) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(service);
    }
}

fn plugin_of(workload: &body::Workload) -> Result<&str, Failure> {
    let other = || Err(format!("{:?} is not a plugin", workload.runtime));
    spec::name(&workload.runtime)
        .unwrap_or_else(other)
        .map_err(Failure::Permanent)
}

/// Nothing where nothing is wrong.
fn refuse(known: &Known, problems: impl IntoIterator<Item = Wrong>) -> Result<(), Failure> {
    let problems: Vec<crate::Problem> = problems
        .into_iter()
        .map(|Wrong { path, message }| crate::Problem { path, message })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let (name, said) = (&known.plugin.name, crate::list(&problems));
    let said = holdfast_confine::output::plain(said.as_bytes());
    Err(Failure::Permanent(format!(
        "the template is refused by plugin {name}: {said}"
    )))
}

/// Whether a change was made, and to the workload it was asked of.
fn done(name: &str, id: &str, told: Told, place: &Place) -> Result<(), Failure> {
    place.keep_log(&told.log);
    let done: Done = understood(name, told.result?)?;
    same_workload(name, id, &done.workload)
}

pub(super) fn same_workload(name: &str, asked: &str, answered: &str) -> Result<(), Failure> {
    if asked == answered {
        return Ok(());
    }
    Err(Failure::Retryable(format!(
        "plugin {name} was asked about {asked} and answered about {answered:?}"
    )))
}

/// What is told of a workload. One whose plugin cannot say is not ready, and nothing is done to it.
fn observed(service: &ServiceName, record: &Record, seen: Result<Sighting, Failure>) -> Observed {
    // A change to another body that did not come to its end left something that is neither of both.
    let left = record.body.filter(|_| record.whole);
    let body = seen.as_ref().map_or(left, |seen| seen.body.or(left));
    let live = match seen {
        Ok(seen) => live(record, seen),
        Err(failure) => Live::Unready {
            since: record.since,
            pid: None,
            why: format!("it is not known how it is: {failure}"),
            failing: false,
        },
    };
    Observed {
        service: service.clone(),
        body,
        live,
    }
}

fn live(record: &Record, seen: Sighting) -> Live {
    if !record.whole && seen.body.is_none() {
        let what = "a converge did not come to its end".to_owned();
        return Live::Altered { what };
    }
    let since = seen.since.unwrap_or(record.since);
    let said = |nothing: &str| {
        let said =
            holdfast_confine::output::plain(seen.message.as_deref().unwrap_or_default().as_bytes());
        if said.is_empty() {
            nothing.to_owned()
        } else {
            said
        }
    };
    let unready = |failing| Live::Unready {
        since,
        pid: None,
        why: said("its plugin does not say why"),
        failing,
    };
    match seen.state {
        State::Running => Live::Running { since, pid: None },
        State::Starting => unready(false),
        State::Failing => unready(true),
        State::Ended => Live::Ended {
            exit: seen.exit_code.map_or(Exit::Unknown, Exit::Code),
            at: since,
        },
        State::Altered => Live::Altered {
            what: said("its plugin does not say what"),
        },
        State::Absent => Live::Altered {
            what: said("it is no longer there"),
        },
    }
}
