//! What the agent remembers of its containers: files that can be lost and made again.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use serde::{Deserialize, Serialize};

use super::shape::Shape;
use crate::durable::{self, failed};
use crate::failure::Failure;

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it was converged to; none before its first time.
    pub(super) current: Option<Current>,
    /// What this body and the one before it need, newest first.
    pub(super) needs: Vec<Need>,
}

/// The container that a service was left with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Current {
    pub(super) body: Digest,
    /// The engine's id.
    pub(super) container: String,
    /// As it was left.
    pub(super) shape: Shape,
    /// Whether it is a job.
    #[serde(default)]
    pub(super) job: bool,
}

/// What one body needs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    pub(super) body: Digest,
    /// Its image, by reference.
    pub(super) image: String,
    /// Whether the image was not here before, so that it may be removed again.
    pub(super) pulled: bool,
    /// Keys of unpacked artifacts.
    pub(super) artifacts: Vec<String>,
}

/// How many bodies of a service keep what they need: the running one and the one before.
const KEPT: usize = 2;

/// The directory of all records.
pub(super) struct Records {
    root: PathBuf,
}

impl Records {
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        durable::make_directory(&root, 0o700)?;
        Ok(Self { root })
    }

    pub(super) fn services(&self) -> Result<BTreeSet<ServiceName>, Failure> {
        let names = durable::names(&self.root).map_err(failed("cannot list what was made"))?;
        let parse = |name: &String| ServiceName::parse(name.strip_suffix(".json")?).ok();
        Ok(names.iter().filter_map(parse).collect())
    }

    pub(super) fn read(&self, service: &ServiceName) -> Option<Record> {
        durable::read_json(&self.path(service))
    }

    pub(super) fn write(&self, service: &ServiceName, record: &Record) -> Result<(), Failure> {
        durable::replace_json(&self.path(service), record)
            .map_err(failed(format!("cannot note what was made for {service}")))
    }

    pub(super) fn forget(&self, service: &ServiceName) -> Result<(), Failure> {
        durable::remove_all(&self.path(service)).map_err(failed(format!("cannot forget {service}")))
    }

    /// What every service needs.
    pub(super) fn needs(&self) -> Result<Vec<Need>, Failure> {
        let services = self.services()?;
        let records = services.iter().filter_map(|service| self.read(service));
        Ok(records.flat_map(|record| record.needs).collect())
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.root.join(format!("{service}.json"))
    }
}

impl Record {
    pub(super) const fn empty() -> Self {
        Self {
            current: None,
            needs: Vec::new(),
        }
    }

    /// Notes what a body needs before it is brought; what others need stays until it runs.
    #[must_use]
    pub(super) fn with(mut self, need: Need) -> Self {
        self.needs.retain(|known| known.body != need.body);
        self.needs.insert(0, need);
        self
    }

    /// A body runs: it and the one before it stay. Gives what nobody needs for this service's sake.
    #[must_use]
    pub(super) fn settled(mut self, current: Current) -> (Self, Vec<Need>) {
        let before = self
            .current
            .as_ref()
            .map(|c| c.body)
            .filter(|b| *b != current.body);
        let rank = |need: &Need| match need.body {
            body if body == current.body => 0,
            body if Some(body) == before => 1,
            _ => 2,
        };
        self.needs.sort_by_key(rank);
        let left = self.needs.split_off(KEPT.min(self.needs.len()));
        self.current = Some(current);
        (self, left)
    }
}
