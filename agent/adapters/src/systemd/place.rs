//! Where a workload's files lie, and what the adapter wrote down of it. All of it can be made again
//! from the units themselves and the next converge.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::run::Exit;
use crate::secret::memory::Laid;

/// One workload's directory.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) root: PathBuf,
}

/// What was made for a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The body that it was, or is being, converged to.
    pub(super) body: Digest,
    /// When that was done; nothing while it is under way.
    pub(super) settled: Option<Timestamp>,
    /// Each unit's name and whole text.
    pub(super) units: BTreeMap<String, String>,
    /// Each file's path in the workload's directory.
    pub(super) files: BTreeMap<String, Digest>,
    /// What was laid down of secrets.
    #[serde(default)]
    pub(super) secrets: Laid,
    /// Artifacts that it runs from.
    pub(super) needs: BTreeSet<String>,
    /// Artifacts that the body before ran from: a run of it may not have ended.
    pub(super) earlier: BTreeSet<String>,
    /// When its newest attempt was about to begin, where it is a job and one was.
    #[serde(default)]
    pub(super) begun: Option<Begun>,
}

/// The moment before an attempt of a job: what ran earlier was not this attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The host's boot.
    pub(super) boot: String,
    /// Microseconds since that.
    pub(super) micros: u64,
}

/// How an attempt of a job ended, for when systemd knows it no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) begun: Begun,
    pub(super) exit: Exit,
    pub(super) at: Timestamp,
}

impl Place {
    pub(super) fn new(services: &Path, service: &ServiceName) -> Self {
        Self {
            root: services.join(service.as_str()),
        }
    }

    /// The workload's own directory: what it finds there is laid down by the agent.
    pub(super) fn directory(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(super) fn record(&self) -> Option<Record> {
        durable::read_json(&self.path())
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        durable::replace_json(&self.path(), record)
    }

    pub(super) fn ended(&self, begun: &Begun) -> Option<Ended> {
        let ended: Ended = durable::read_json(&self.root.join("ended.json"))?;
        (ended.begun == *begun).then_some(ended)
    }

    pub(super) fn write_ended(&self, ended: &Ended) -> io::Result<()> {
        durable::replace_json(&self.root.join("ended.json"), ended)
    }

    fn path(&self) -> PathBuf {
        self.root.join("record.json")
    }
}
