//! Removes uploads that no release needs any more, again and again.
//!
//! *Guarantees:* the database forgets a file before it is removed, so a crash in between leaves a file
//! too many and never one too few; what was uploaded a while ago at most is left alone, since its
//! release may still come.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_homes::partial::{PART, digest_of_name};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::Artifacts;
use crate::driver::Handle;
use crate::event::Event;

/// The task that removes.
#[derive(Debug)]
pub struct Cleaner {
    driver: Handle,
    directory: PathBuf,
    policy: Artifacts,
}

impl Cleaner {
    /// For the uploads in `directory`.
    #[must_use]
    pub const fn new(driver: Handle, directory: PathBuf, policy: Artifacts) -> Self {
        Self {
            driver,
            directory,
            policy,
        }
    }

    /// Removes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.policy.every.0) => {}
            }
            self.clean().await;
        }
    }

    async fn clean(&self) {
        let (directory, grace) = (self.directory.clone(), self.policy.grace.0);
        let looked = tokio::task::spawn_blocking(move || old(&directory, grace, clock::now()));
        let old = looked.await.unwrap_or_default();
        if old.is_empty() {
            return;
        }
        let keep = self.policy.keep;
        let asked = self
            .driver
            .request(|reply| Event::ForgetArtifacts { old, keep, reply });
        // While the coordinator stops, nothing is removed.
        let Ok(unneeded) = asked.await else {
            return;
        };
        for digest in &unneeded {
            let path = self.directory.join(digest.hex());
            if let Err(error) = tokio::fs::remove_file(&path).await {
                let path = path.display();
                tracing::warn!(%error, %path, "an upload that nothing needs was not removed");
            }
        }
        if !unneeded.is_empty() {
            drop(self.driver.bring(Event::ArtifactsRemoved(unneeded)).await);
        }
    }
}

/// The files that have lain there for longer than `grace`.
fn old(directory: &Path, grace: Duration, now: Timestamp) -> BTreeSet<Digest> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let old = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let digest = digest_of_name(&name).filter(|_| !name.ends_with(PART))?;
        let modified = entry.metadata().ok()?.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        let age = Duration::from_millis(now.as_millis()).checked_sub(since)?;
        (age >= grace).then_some(digest)
    });
    old.collect()
}
