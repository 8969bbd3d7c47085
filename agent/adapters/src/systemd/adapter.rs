//! The adapter of runtime `systemd`: what the trait asks, in terms of units and jobs.
//!
//! Each operation runs whole on a thread of its own, one a service at a time, and looks often at
//! whether it is still wanted. Where there is no workload of this runtime, nothing is asked of
//! systemd, and there is no connection to it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::workload::{Placeholder, Workload};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::durable;
use crate::failure::Failure;
use crate::readers::Readers;
use crate::run::{Adapter, LogRequest, Observed, Wanted};
use crate::secret::memory::Memory;
use crate::systemd::bus::Bus;
use crate::systemd::place::Place;
use crate::systemd::{journal, plan, sight};
use crate::turns::{Say, Turns};
use crate::unpacked::Store;

/// Units of systemd.
pub(crate) struct Systemd {
    inner: Arc<Inner>,
    changes: Changes,
    turns: Turns,
    readers: Readers,
}

pub(super) struct Inner {
    pub(super) services: PathBuf,
    /// The agent's directory of adapters, in the mark of every unit.
    pub(super) home: String,
    pub(super) memory: Memory,
    pub(super) store: Store,
    pub(super) bus: Bus,
}

impl Systemd {
    /// Opens the adapter over `root`, which belongs to it alone, for the agent whose directory of
    /// adapters is `home`.
    pub(crate) fn open(root: &Path, home: &Path, memory: Memory) -> io::Result<Self> {
        let services = root.join("services");
        durable::make_directory(&services, 0o711)?;
        let home = fs::canonicalize(home)?;
        let plain = |home: &str| !home.contains(char::is_control);
        let home = home.to_str().filter(|home| plain(home)).ok_or_else(|| {
            io::Error::other("its path has characters that cannot stand in a unit")
        })?;
        let (bus, changes) = Bus::new(services.clone());
        let inner = Inner {
            services,
            home: home.to_owned(),
            memory,
            store: Store::open(root.join("unpacked"))?,
            bus,
        };
        Ok(Self {
            inner: Arc::new(inner),
            changes: Changes::new(changes),
            turns: Turns::open(root.join("turns"))?,
            readers: Readers::new(journal::READERS_MAX),
        })
    }
}

impl Adapter for Systemd {
    fn runtime(&self) -> &'static str {
        "systemd"
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
        Placeholder::fill(text, &|p| plan::resolve(p, workload, store, &own))
    }

    fn logs<'a>(
        &'a self,
        service: &'a ServiceName,
        request: LogRequest,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>> {
        Box::pin(async move {
            if !self.inner.place(service).root.is_dir() {
                return Err(Failure::Permanent(format!(
                    "there is no workload {service} here"
                )));
            }
            let permit = self.readers.admit()?;
            journal::read(service, request, permit)
        })
    }
}

impl Inner {
    pub(super) fn place(&self, service: &ServiceName) -> Place {
        Place::new(&self.services, service)
    }

    fn observe(&self) -> Result<Vec<Observed>, Failure> {
        let known = sight::known(&self.services, &self.home)?;
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let line = self.bus.line()?;
        let listing = sight::listing(&line)?;
        let look = |service: ServiceName| {
            let place = self.place(&service);
            sight::observe(service, &place, &listing, &line)
        };
        known.into_iter().map(look).collect()
    }

    /// Keys of all unpacked artifacts that are still needed; nothing where that is not certain.
    pub(super) fn needed(&self) -> Option<BTreeSet<String>> {
        let mut keys = BTreeSet::new();
        for service in sight::known(&self.services, &self.home).ok()? {
            let record = self.place(&service).record()?;
            keys.extend(record.needs.into_iter().chain(record.earlier));
        }
        Some(keys)
    }
}
