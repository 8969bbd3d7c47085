//! What is remembered of one workload, so that its plugin can be asked about it, and where.

use std::io;
use std::path::{Path, PathBuf};

use holdfast_confine::User;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::Workload;
use crate::durable;

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) plugin: String,
    /// The body that it was last converged to.
    pub(super) body: Option<Digest>,
    /// Since when.
    pub(super) since: Timestamp,
    /// Whether the last converge came to its end.
    pub(super) whole: bool,
    /// What was last asked for, as the plugin sees it.
    pub(super) workload: Workload,
    /// Artifacts that it needs, and that it needed before, as they lie in the store.
    pub(super) artifacts: [Vec<String>; 2],
    /// Time between two looks, in seconds.
    pub(super) interval_seconds: u32,
}

/// The directory of one workload.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(services: &Path, service: &ServiceName) -> Self {
        Self(services.join(service.as_str()))
    }

    pub(super) fn record(&self) -> Option<Record> {
        durable::read_json(&self.0.join("record.json"))
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        durable::make_directory(&self.0, 0o711)?;
        durable::replace_json(&self.0.join("record.json"), record)
    }

    /// The plugin's own directory.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Makes the plugin's own directory, which nobody else may enter.
    pub(super) fn make_state(&self, user: Option<&User>) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        durable::make_directory(&self.0, 0o711)?;
        let state = self.state();
        durable::make_directory(&state, 0o700)?;
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700))?;
        let own = rustix::process::geteuid().as_raw();
        let (uid, gid) = user.map_or((own, None), |user| (user.uid, Some(user.gid)));
        if std::fs::symlink_metadata(&state)?.uid() != uid {
            std::os::unix::fs::lchown(&state, Some(uid), gid)?;
        }
        Ok(())
    }

    /// Keeps what the plugin last wrote to its log.
    pub(super) fn keep_log(&self, log: &str) {
        if let Err(error) = durable::replace(&self.0.join("plugin.log"), log.as_bytes(), 0o600) {
            tracing::warn!(%error, "the log of a plugin could not be kept");
        }
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        durable::remove_all(&self.0)
    }
}
