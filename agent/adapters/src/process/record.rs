//! What is kept of each workload, beside the workload's own directory and out of its reach.
//!
//! `record.json` says which process it is; only the launcher and an adoption write it, both under
//! the lock. `ended.json` says how that process ended. `placed.json` says what was laid down in its
//! directory before it was started. `needs.json` says which unpacked artifacts must stay, and is
//! written before they are unpacked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::process::spec::{Stop, StopSignal};
use crate::process::table::Identity;
use crate::run::Exit;
use crate::secret::memory::Laid;

/// The directory of one workload's records, with the workload's own directory in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) root: PathBuf,
}

/// Which process a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) process: Identity,
    pub(crate) body: Digest,
    pub(crate) started_at: Timestamp,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    pub(crate) process: Identity,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) at: Timestamp,
    /// Nothing was left of its session: what is found in one of that number later is somebody else.
    #[serde(default)]
    pub(crate) session_over: bool,
}

/// What was laid down for a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Placed {
    pub(crate) body: Digest,
    /// Rendered files: relative path to the digest of the content.
    pub(crate) files: BTreeMap<String, Digest>,
    pub(crate) signal: String,
    pub(crate) grace_ms: u64,
    /// What was laid down of secrets.
    #[serde(default)]
    pub(crate) secrets: Laid,
}

/// What the bodies of one workload need, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Needs(pub(crate) Vec<Need>);

/// The unpacked artifacts of one body, by their keys in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Need {
    pub(crate) body: Digest,
    pub(crate) artifacts: Vec<String>,
}

/// The lock on a workload's records; released when dropped, and when its holder becomes the
/// workload, since no descriptor outlives an exec.
pub(crate) struct Lock {
    _file: File,
}

impl Place {
    pub(crate) fn new(services: &Path, service: &ServiceName) -> Self {
        Self {
            root: services.join(service.as_str()),
        }
    }

    /// The workload's own directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(crate) fn record(&self) -> Option<Record> {
        durable::read_json(&self.record_path())
    }

    /// The same, for whoever would start a second process by mistake: a record that may be there and
    /// cannot be read is an error.
    pub(crate) fn record_if_readable(&self) -> io::Result<Option<Record>> {
        match fs::read(self.record_path()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        durable::replace_json(&self.record_path(), record)
    }

    pub(crate) fn remove_record(&self) -> io::Result<()> {
        durable::remove_all(&self.record_path())
    }

    pub(crate) fn ended(&self, process: &Identity) -> Option<Ended> {
        let ended: Ended = durable::read_json(&self.root.join("ended.json"))?;
        (ended.process == *process).then_some(ended)
    }

    pub(crate) fn write_ended(&self, ended: &Ended) -> io::Result<()> {
        durable::replace_json(&self.root.join("ended.json"), ended)
    }

    /// The end of a job, as the launcher that stayed with it noted it.
    pub(crate) fn kept(&self, process: &Identity) -> Option<Ended> {
        let ended: Ended = durable::read_json(&self.root.join("kept.json"))?;
        (ended.process == *process).then_some(ended)
    }

    /// Opens the note of a job's end, empty.
    pub(crate) fn create_kept(&self) -> io::Result<File> {
        File::create(self.root.join("kept.json"))
    }

    pub(crate) fn placed(&self) -> Option<Placed> {
        durable::read_json(&self.root.join("placed.json"))
    }

    pub(crate) fn write_placed(&self, placed: &Placed) -> io::Result<()> {
        durable::replace_json(&self.root.join("placed.json"), placed)
    }

    pub(crate) fn needs(&self) -> Needs {
        durable::read_json(&self.root.join("needs.json")).unwrap_or_default()
    }

    pub(crate) fn write_needs(&self, needs: &Needs) -> io::Result<()> {
        durable::replace_json(&self.root.join("needs.json"), needs)
    }

    /// Takes the lock; waits for whoever holds it, which is never longer than a start takes.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        let file = durable::lock(&self.root.join("lock"))?;
        // The records may have been removed while this waited: the lock of a removed file locks
        // nothing.
        if rustix::fs::fstat(&file)?.st_nlink == 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the workload was removed",
            ));
        }
        Ok(Lock { _file: file })
    }

    fn record_path(&self) -> PathBuf {
        self.root.join("record.json")
    }
}

impl Ended {
    pub(crate) const fn new(process: Identity, exit: Exit, at: Timestamp) -> Self {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        Self {
            process,
            code,
            signal,
            at,
            session_over: false,
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match (self.code, self.signal) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }
    }
}

impl Placed {
    pub(crate) fn stop(&self) -> Stop {
        let base = Stop::default();
        Stop {
            signal: StopSignal::parse(&self.signal).unwrap_or(base.signal),
            grace: Duration::from_millis(self.grace_ms),
        }
    }
}

impl Needs {
    /// With a new body in front; what runs and what ran before it stay.
    pub(crate) fn with(mut self, need: Need, running: Option<Digest>) -> Self {
        self.0.retain(|known| known.body != need.body);
        let keep = |(i, known): (usize, &Need)| i == 0 || Some(known.body) == running;
        let mut kept: Vec<Need> = self
            .0
            .iter()
            .enumerate()
            .filter(|known| keep(*known))
            .map(|(_, n)| n.clone())
            .collect();
        kept.insert(0, need);
        Self(kept)
    }

    /// Once the newest runs: it and the one before it.
    pub(crate) fn settled(mut self) -> Self {
        self.0.truncate(2);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(text: &str) -> Need {
        Need {
            body: Digest::of(text.as_bytes()),
            artifacts: vec![text.to_owned()],
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_one_that_is_missing() {
        let home = tempfile::tempdir().unwrap();
        let place = Place {
            root: home.path().to_owned(),
        };
        assert_eq!(place.record_if_readable().unwrap(), None);
        fs::create_dir(place.record_path()).unwrap();
        assert!(place.record_if_readable().is_err());
    }

    #[test]
    fn what_runs_and_what_ran_before_stay_unpacked() {
        let needs = Needs::default().with(need("a"), None).settled();
        let needs = needs.with(need("b"), Some(need("a").body)).settled();
        assert_eq!(needs.0, [need("b"), need("a")]);
        // A failed update to c leaves b running; then d is tried.
        let needs = needs.with(need("c"), Some(need("b").body));
        let needs = needs.with(need("d"), Some(need("b").body));
        assert_eq!(needs.0, [need("d"), need("c"), need("b")]);
        let back = needs.with(need("b"), Some(need("b").body)).settled();
        assert_eq!(back.0, [need("b"), need("d")]);
    }
}
