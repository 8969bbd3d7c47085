//! Files that survive a power cut: replaced by a temporary one in the same directory, synced,
//! renamed, and the directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Replaces `path` by `bytes` with permission bits `mode`, whole or not at all. One writer a path.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = parent.join(format!(".{name}.new"));
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_directory(parent)
}

/// Replaces `path` by `value` as JSON, readable by its owner alone.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    bytes.push(b'\n');
    replace(path, &bytes, 0o600)
}

/// Reads what [`replace_json`] wrote; nothing where it is missing or cannot be understood, since
/// every such file can be made again from the runtime itself.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Makes a directory and those above it, with permission bits `mode` where it is new.
pub(crate) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
}

/// Makes renames within a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a directory and all below it, or a file; nothing to remove is no error.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory that are plain text; none where it does not exist.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(path) {
        Ok(entries) => {
            let named = |entry: io::Result<fs::DirEntry>| {
                entry
                    .map(|entry| entry.file_name().into_string().ok())
                    .transpose()
            };
            entries.filter_map(named).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A lock on a file of its own, released when dropped. Waits for whoever holds it; the kernel
/// releases it when its holder dies.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
    Ok(file)
}

/// A failure of this machine's files that may pass: a full disk, a missing permission mended.
pub(crate) fn failed(attempt: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Retryable(format!("{attempt}: {error}"))
}
