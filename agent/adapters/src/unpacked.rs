//! Artifacts laid down for workloads, by content: each once, whole or not at all, never changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_protocol::digest::{Digest, Hasher};
use holdfast_protocol::workload::{Artifact, Form};

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::unpack;

/// The directory of unpacked artifacts.
pub(crate) struct Store {
    root: PathBuf,
    /// Locked while something is laid down or removed, so that the two do not meet.
    turn: PathBuf,
    /// Keys that are in use and may stand in no record yet, one for each [`Held`].
    held: Arc<Mutex<Vec<String>>>,
}

/// Artifacts that stay for as long as this is kept, whatever the records say of them.
pub(crate) struct Held {
    keys: Vec<String>,
    all: Arc<Mutex<Vec<String>>>,
}

impl Held {
    /// The keys of them.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(at) = all.iter().position(|held| held == key) {
                all.swap_remove(at);
            }
        }
    }
}

impl Store {
    /// Opens the store and removes what an interrupted unpacking left.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        durable::make_directory(&root, 0o755)?;
        let turn = root.with_extension("lock");
        let _turn = durable::lock(&turn)?;
        for name in durable::names(&root)?
            .iter()
            .filter(|name| name.starts_with('.'))
        {
            durable::remove_all(&root.join(name))?;
        }
        Ok(Self {
            root,
            turn,
            held: Arc::default(),
        })
    }

    /// Keeps [`Self::sweep`] away from artifacts that are about to be laid down and to be used before a
    /// record names them.
    pub(crate) fn hold(&self, artifacts: &[Artifact]) -> Held {
        let keys: Vec<String> = artifacts.iter().map(Self::key).collect();
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(keys.iter().cloned());
        Held {
            keys,
            all: Arc::clone(&self.held),
        }
    }

    /// The name under which an artifact lies in the store.
    pub(crate) fn key(artifact: &Artifact) -> String {
        let what = match artifact.form {
            Form::File => format!("{} {:?} {}", artifact.digest, artifact.form, artifact.file),
            Form::Tar | Form::TarGz | Form::TarZst | Form::Zip => {
                format!("{} {:?}", artifact.digest, artifact.form)
            }
        };
        Digest::of(what.as_bytes()).hex()
    }

    /// Where an artifact lies once [`Store::lay`] has laid it down: its directory, or its file.
    pub(crate) fn path(&self, artifact: &Artifact) -> PathBuf {
        let directory = self.root.join(Self::key(artifact));
        match artifact.form {
            Form::File => directory.join(&artifact.file),
            Form::Tar | Form::TarGz | Form::TarZst | Form::Zip => directory,
        }
    }

    /// Lays an artifact down, unless it already lies there. Gives whether it had to.
    pub(crate) fn lay(
        &self,
        artifact: &Artifact,
        blob: &Path,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<bool, Failure> {
        let _turn = durable::lock(&self.turn).map_err(failed("cannot lock the artifacts"))?;
        let place = self.root.join(Self::key(artifact));
        if place.is_dir() {
            return Ok(false);
        }
        let fresh = self.root.join(format!(".{}", Self::key(artifact)));
        lay_fresh(artifact, blob, &fresh, cancelled).inspect_err(|_| {
            let _ = durable::remove_all(&fresh);
        })?;
        fs::rename(&fresh, &place)
            .and_then(|()| durable::sync_directory(&self.root))
            .map_err(failed(format!(
                "cannot lay down artifact {}",
                artifact.name
            )))?;
        Ok(true)
    }

    /// Removes everything but what is [held](Self::hold) and the artifacts that `needed` names. It is
    /// asked while nothing can be laid down, and gives nothing when it does not know.
    pub(crate) fn sweep(&self, needed: impl FnOnce() -> Option<BTreeSet<String>>) {
        let Ok(_turn) = durable::lock(&self.turn) else {
            return;
        };
        // Before the records: who lets go has written one.
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.clone();
        let Some(needed) = needed() else { return };
        for name in durable::names(&self.root).unwrap_or_default() {
            if !name.starts_with('.') && !needed.contains(&name) && !held.contains(&name) {
                // Renamed first, so that a half removed one is never taken for a whole one.
                let gone = self.root.join(format!(".gone-{name}"));
                let removed = fs::rename(self.root.join(&name), &gone)
                    .and_then(|()| durable::remove_all(&gone));
                if let Err(error) = removed {
                    tracing::warn!(%name, %error, "an unused artifact could not be removed");
                }
            }
        }
    }
}

/// Lays an artifact down as the new directory `fresh`, verified and synced.
pub(crate) fn lay_fresh(
    artifact: &Artifact,
    blob: &Path,
    fresh: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    lay_aside(artifact, blob, fresh, cancelled)?;
    sync_tree(fresh).map_err(failed(format!(
        "cannot lay down artifact {}",
        artifact.name
    )))
}

/// The same for what nobody reads after a power cut: verified, and not synced.
pub(crate) fn lay_aside(
    artifact: &Artifact,
    blob: &Path,
    fresh: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let attempt = || format!("cannot lay down artifact {}", artifact.name);
    durable::remove_all(fresh).map_err(failed(attempt()))?;
    fs::create_dir(fresh)
        .and_then(|()| fs::set_permissions(fresh, fs::Permissions::from_mode(0o755)))
        .map_err(failed(attempt()))?;
    match artifact.form {
        Form::File => {
            let path = fresh.join(&artifact.file);
            let mut file = File::create_new(&path).map_err(failed(attempt()))?;
            // What is judged is what lies there: the blob may change under whoever reads it twice.
            verify(artifact, blob, cancelled, &mut |read| {
                file.write_all(read).map_err(failed(attempt()))
            })?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .map_err(failed(attempt()))?;
        }
        Form::Tar | Form::TarGz | Form::TarZst | Form::Zip => {
            verify(artifact, blob, cancelled, &mut |_| Ok(()))?;
            unpack::unpack(blob, artifact.form, fresh, cancelled).map_err(|error| {
                match Failure::from(error) {
                    Failure::Permanent(why) => {
                        Failure::Permanent(format!("artifact {}: {why}", artifact.name))
                    }
                    Failure::Retryable(why) => {
                        Failure::Retryable(format!("artifact {}: {why}", artifact.name))
                    }
                    Failure::Cancelled => Failure::Cancelled,
                }
            })?;
        }
    }
    Ok(())
}

/// Refuses a blob that is not what the workload names, however it came here. `take` is given all of it.
fn verify(
    artifact: &Artifact,
    blob: &Path,
    cancelled: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unreadable = |error: io::Error| {
        Failure::Retryable(format!("cannot read artifact {}: {error}", artifact.name))
    };
    let mut file = File::open(blob).map_err(unreadable)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        if cancelled() {
            return Err(Failure::Cancelled);
        }
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                let read = buffer.get(..read).unwrap_or_default();
                hasher.update(read);
                take(read)?;
            }
        }
    }
    let found = hasher.finish();
    if found == artifact.digest {
        return Ok(());
    }
    // Retryable: another copy of it may be whole.
    Err(Failure::Retryable(format!(
        "artifact {} is damaged: its digest is {found}, expected {}",
        artifact.name, artifact.digest
    )))
}

/// Syncs every file and directory below `path`.
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    durable::sync_directory(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("artifacts")).unwrap();
        let blob = folder.path().join("blob");
        fs::write(&blob, "content").unwrap();
        let artifact = Artifact {
            name: "app".parse().unwrap(),
            digest: Digest::of(b"content"),
            form: Form::File,
            file: "app".to_owned(),
            size: 7,
            home: None,
        };
        let held = [
            store.hold(std::slice::from_ref(&artifact)),
            store.hold(std::slice::from_ref(&artifact)),
        ];
        store.lay(&artifact, &blob, &|| false).unwrap();
        for held in held {
            store.sweep(|| Some(BTreeSet::new()));
            assert!(store.path(&artifact).is_file());
            assert_eq!(held.keys(), [Store::key(&artifact)]);
        }
        store.sweep(|| Some(BTreeSet::new()));
        assert!(!store.path(&artifact).exists());
    }
}
