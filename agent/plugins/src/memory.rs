//! What a plugin remembers of a workload: one JSON value in a file of the workload's directory,
//! readable by its user alone, replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// What is remembered under `name`; nothing where nothing is, or nothing that is understood.
#[must_use]
pub fn recall<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(directory.join(name)).ok()?).ok()
}

/// Remembers `value` under `name`, also after a power cut.
///
/// # Errors
/// [`Failure::Retryable`] where it cannot be written: the disk is full.
pub fn remember<T: Serialize>(directory: &Path, name: &str, value: &T) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other);
    let written = bytes.and_then(|bytes| replace(&directory.join(name), &bytes));
    written.map_err(|error| Failure::Retryable(format!("cannot write {name}: {error}")))
}

/// Replaces a file, readable by its owner alone, whole or not at all. One writer a path.
///
/// # Errors
/// As the system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Removes a file or a whole directory; of nothing, it is done.
///
/// # Errors
/// As the system's.
pub fn forget(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_recalled_and_garbage_is_nothing() {
        let room = tempfile::tempdir().unwrap();
        assert_eq!(recall::<u32>(room.path(), "x"), None);
        remember(room.path(), "x", &1_u32).unwrap();
        remember(room.path(), "x", &2_u32).unwrap();
        assert_eq!(recall::<u32>(room.path(), "x"), Some(2));
        fs::write(room.path().join("x"), "{").unwrap();
        assert_eq!(recall::<u32>(room.path(), "x"), None);
        forget(&room.path().join("x")).unwrap();
        forget(&room.path().join("x")).unwrap();
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
    }
}
