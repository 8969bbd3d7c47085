//! The adapter of runtime `process`: what the trait asks, in terms of records, launchers, signals.
//!
//! All of it is file and process work, so each operation runs whole on a blocking thread, one a
//! service at a time, and looks often at whether it is still wanted.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::future::BoxFuture;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::workload::{Placeholder, Workload};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::fields;
use crate::process::record::{Need, Place, Placed, Record};
use crate::process::spec::{self, Stop, Template};
use crate::process::start::{self, Plan, Started};
use crate::process::stop::{self, Family};
use crate::process::supervisor::Supervisor;
use crate::process::{files, logs};
use crate::readers::Readers;
use crate::run::{Adapter, Exit, LogRequest, Observed, Wanted};
use crate::secret::memory::Memory;
use crate::turns::{Say, Turns};
use crate::unpacked::Store;

/// Programs under supervision.
pub(crate) struct Process {
    inner: Arc<Inner>,
    changes: Changes,
    turns: Turns,
    readers: Readers,
}

pub(super) struct Inner {
    pub(super) services: PathBuf,
    /// The id of this agent's directory, in the mark of every process.
    pub(super) home: String,
    memory: Memory,
    store: Store,
    launcher: Vec<OsString>,
    pub(super) supervisor: Supervisor,
    /// When all processes were last looked through, in seconds since the machine started; 0 is never.
    pub(super) last_scan: AtomicU64,
}

/// How often a start is tried again when another launcher was faster.
const STARTS_MAX: usize = 3;
impl Process {
    /// Opens the adapter over `root`, which belongs to it alone, for the agent directory with the id
    /// `home`. `launcher` is an absolute program with the arguments that lead to
    /// [`crate::process::launch::main`].
    pub(crate) fn open(
        root: &Path,
        home: &str,
        memory: Memory,
        launcher: Vec<OsString>,
    ) -> std::io::Result<Self> {
        let services = root.join("services");
        durable::make_directory(&services, 0o711)?;
        for name in durable::names(&services)?
            .iter()
            .filter(|name| name.starts_with('.'))
        {
            durable::remove_all(&services.join(name))?;
        }
        let (supervisor, changes) = Supervisor::start()?;
        let store = Store::open(root.join("unpacked"))?;
        let inner = Inner {
            services,
            home: home.to_owned(),
            memory,
            store,
            launcher,
            supervisor,
            last_scan: AtomicU64::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
            changes: Changes::new(changes),
            turns: Turns::open(root.join("turns"))?,
            readers: Readers::new(logs::READERS_MAX),
        })
    }
}

impl Adapter for Process {
    fn runtime(&self) -> &'static str {
        "process"
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observed>, Failure>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(self.turns.look(move || inner.observe()))
    }

    fn converge<'a>(
        &'a self,
        wanted: &'a Wanted,
        progress: &'a mpsc::Sender<String>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let inner = Arc::clone(&self.inner);
        let operation = move |wanted: &Wanted, say: &Say<'_>, token: &CancellationToken| {
            inner.converge(wanted, say, &|| token.is_cancelled())
        };
        Box::pin(self.turns.converge(wanted, progress, cancel, operation))
    }

    fn remove<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<(), Failure>> {
        let inner = Arc::clone(&self.inner);
        let operation = move |service: &ServiceName, token: &CancellationToken| {
            inner.remove(service, &|| token.is_cancelled())
        };
        Box::pin(self.turns.remove(service, operation))
    }

    fn changes(&self) -> mpsc::Receiver<ServiceName> {
        self.changes.take()
    }

    fn fill(&self, workload: &Workload, text: &str) -> Result<String, String> {
        let own = self.inner.place(&workload.service).directory();
        let store = &self.inner.store;
        Placeholder::fill(text, &|p| start::resolve(p, workload, store, &own))
    }

    fn logs<'a>(
        &'a self,
        service: &'a ServiceName,
        request: LogRequest,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>> {
        let place = self.inner.place(service);
        Box::pin(async move {
            if !place.root.is_dir() {
                return Err(Failure::Permanent(format!(
                    "there is no workload {service} here"
                )));
            }
            let permit = self.readers.admit()?;
            logs::read(&place, request, permit).map_err(failed("cannot read the output"))
        })
    }
}

impl Inner {
    pub(super) fn place(&self, service: &ServiceName) -> Place {
        Place::new(&self.services, service)
    }

    fn converge(
        &self,
        wanted: &Wanted,
        say: &dyn Fn(String),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        let template = fields::arrived(&wanted.workload, spec::parse)?;
        let place = self.place(service);
        durable::make_directory(&place.root, 0o711)
            .map_err(failed(format!("cannot make the directory of {service}")))?;
        // All that can be refused is refused before anything that runs is touched.
        let here = (self.home.as_str(), &self.memory);
        let plan = start::plan(wanted, &template, &place, &self.store, here)?;
        let found = self.running(service, &place, &self.scan())?;
        if found.is_none() && has_succeeded(wanted, &place) {
            return Ok(());
        }
        if found
            .as_ref()
            .is_some_and(|record| record.body == wanted.body)
        {
            return self.repair(wanted, &template, &place, &plan, say);
        }
        self.memory.lay(&plan.secrets)?;
        self.lay_artifacts(wanted, &place, found.as_ref(), say, cancelled)?;
        self.stop(service, &place, found.as_ref(), say, cancelled)?;
        if cancelled() {
            return Err(Failure::Cancelled);
        }
        self.lay_files(wanted, &template, &place, &plan)?;
        say(format!("starting version {}", wanted.workload.version));
        self.start(wanted, &place, &plan, cancelled)?;
        place
            .write_needs(&place.needs().settled())
            .map_err(failed("cannot note what is no longer needed"))?;
        self.store.sweep(|| self.needed());
        self.memory.sweep(service, Some(&plan.secrets))
    }

    /// It runs: only its files may differ.
    fn repair(
        &self,
        wanted: &Wanted,
        template: &Template,
        place: &Place,
        plan: &Plan,
        say: &dyn Fn(String),
    ) -> Result<(), Failure> {
        let expected = placed(wanted, template, plan);
        let before = place.placed();
        let directory = place.directory();
        let drifted = files::drift(&directory, &expected.files).is_some()
            || plan.laid.drift(&directory).is_some();
        if before.as_ref() != Some(&expected) || drifted {
            self.memory.lay(&plan.secrets)?;
            for path in self.lay_files(wanted, template, place, plan)? {
                say(format!("restored file {path}"));
            }
        }
        Ok(())
    }

    fn lay_artifacts(
        &self,
        wanted: &Wanted,
        place: &Place,
        running: Option<&Record>,
        say: &dyn Fn(String),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let keys = wanted.workload.artifacts.iter().map(Store::key).collect();
        let need = Need {
            body: wanted.body,
            artifacts: keys,
        };
        let needs = place.needs().with(need, running.map(|record| record.body));
        place
            .write_needs(&needs)
            .map_err(failed("cannot note the artifacts it needs"))?;
        for artifact in &wanted.workload.artifacts {
            let blob = wanted.artifacts.get(&artifact.name).ok_or_else(|| {
                Failure::Retryable(format!("artifact {} is not here yet", artifact.name))
            })?;
            if self.store.lay(artifact, blob, cancelled)? {
                say(format!(
                    "laid down artifact {} ({})",
                    artifact.name, artifact.file
                ));
            }
        }
        Ok(())
    }

    fn stop(
        &self,
        service: &ServiceName,
        place: &Place,
        running: Option<&Record>,
        say: &dyn Fn(String),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let how = place
            .placed()
            .map_or_else(Stop::default, |placed| placed.stop());
        if running.is_some() {
            say("stopping what runs".to_owned());
        }
        let record = running.cloned().or_else(|| place.record());
        let ended = record.as_ref().and_then(|r| place.ended(&r.process));
        let family = Family {
            home: &self.home,
            service,
            record: record.as_ref(),
            session_over: ended.is_some_and(|ended| ended.session_over),
        };
        stop::stop(family, how, cancelled)
    }

    fn lay_files(
        &self,
        wanted: &Wanted,
        template: &Template,
        place: &Place,
        plan: &Plan,
    ) -> Result<Vec<String>, Failure> {
        let directory = place.directory();
        let (before, links) = place
            .placed()
            .map(|placed| (placed.files, placed.secrets))
            .unwrap_or_default();
        let user = plan.user.as_ref();
        let changed = files::make_directory(&directory, user)
            .and_then(|()| files::lay(&directory, &plan.files, &before, user))
            .and_then(|changed| plan.laid.link(&directory, &links).map(|()| changed))
            .map_err(failed("cannot lay down its files"))?;
        place
            .write_placed(&placed(wanted, template, plan))
            .map_err(failed("cannot note what was laid down"))?;
        Ok(changed)
    }

    fn start(
        &self,
        wanted: &Wanted,
        place: &Place,
        plan: &Plan,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        let watch = |record: &Record| {
            self.supervisor
                .watch(service, place, &record.process)
                .map_err(failed("cannot watch the program"))
        };
        for _ in 0..STARTS_MAX {
            match start::start(&self.launcher, &plan.order)? {
                Started::Now(record) => return watch(&record),
                Started::Already(record) if record.body == wanted.body => return watch(&record),
                // A launcher of an agent that was killed came first, with an older body.
                Started::Already(record) => {
                    self.stop(service, place, Some(&record), &|_| (), cancelled)?;
                }
            }
        }
        Err(Failure::Retryable(
            "another agent keeps starting this workload".to_owned(),
        ))
    }

    fn remove(&self, service: &ServiceName, cancelled: &dyn Fn() -> bool) -> Result<(), Failure> {
        let place = self.place(service);
        let running = self.running(service, &place, &self.scan())?;
        self.stop(service, &place, running.as_ref(), &|_| (), cancelled)?;
        self.memory.sweep(service, None)?;
        if place.root.is_dir() {
            let gone = self.services.join(format!(".gone-{service}"));
            let attempt = || format!("cannot remove the files of {service}");
            let _lock = place.lock().map_err(failed(attempt()))?;
            if place.record().is_some_and(|record| record.process.lives()) {
                // The launcher of an agent that was killed had the lock until now.
                return Err(Failure::Retryable(format!("{service} was started again")));
            }
            durable::remove_all(&gone).map_err(failed(attempt()))?;
            std::fs::rename(&place.root, &gone).map_err(failed(attempt()))?;
            durable::sync_directory(&self.services).map_err(failed(attempt()))?;
            durable::remove_all(&gone).map_err(failed(attempt()))?;
        }
        self.store.sweep(|| self.needed());
        Ok(())
    }

    /// Keys of all unpacked artifacts that are still needed; nothing where that is not certain.
    fn needed(&self) -> Option<BTreeSet<String>> {
        let mut keys = BTreeSet::new();
        for service in self.known().ok()? {
            let place = self.place(&service);
            let needs = place.needs().0;
            let runs: Option<Digest> = place.record().map(|record| record.body);
            if runs.is_some_and(|body| !needs.iter().any(|need| need.body == body)) {
                return None;
            }
            keys.extend(needs.into_iter().flat_map(|need| need.artifacts));
        }
        Some(keys)
    }
}

/// Whether this is a job that has run to completion in this body: it is never run again.
fn has_succeeded(wanted: &Wanted, place: &Place) -> bool {
    let record = place.record().filter(|record| record.body == wanted.body);
    // Who stayed with it noted its end before he was gone; who watches may not have come to that yet.
    let ended = record.and_then(|record| {
        let noted = place.ended(&record.process);
        noted.or_else(|| place.kept(&record.process))
    });
    wanted.workload.job.is_some() && ended.is_some_and(|ended| ended.exit() == Exit::Code(0))
}

fn placed(wanted: &Wanted, template: &Template, plan: &Plan) -> Placed {
    Placed {
        body: wanted.body,
        files: files::digests(&plan.files),
        signal: template.stop.signal.name().to_owned(),
        grace_ms: holdfast_protocol::time::millis(template.stop.grace),
        secrets: plan.laid.clone(),
    }
}
