//! One file at a time: write it whole or not at all, read it only if its mode is right.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::KeystoreError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Its owner: 0600.
    Owner,
    /// Everyone: 0644.
    Everyone,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Makes `path` and what leads to it, durably and for the owner alone; what exists stays as it is.
pub(super) fn make_directory(path: &Path) -> Result<(), KeystoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    if parent != path {
        make_directory(parent)?;
    }
    let made = DirBuilder::new()
        .mode(0o700)
        .create(path)
        .and_then(|()| sync(parent));
    made.map_err(|source| KeystoreError::Directory {
        path: path.to_owned(),
        source,
    })
}

/// Replaces `path` by `content`: temporary file beside it, fsync, rename, fsync of the directory.
pub(super) fn replace(path: &Path, content: &str, access: Access) -> Result<(), KeystoreError> {
    let failed = |source| KeystoreError::Write {
        path: path.to_owned(),
        source,
    };
    let temporary = write_temporary(path, content, access).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    sync(parent_of(path)).map_err(failed)
}

/// The new content, durable, under a name that nothing reads. There is one such name for each file,
/// so what an interrupted attempt left is taken away by the next.
fn write_temporary(path: &Path, content: &str, access: Access) -> io::Result<PathBuf> {
    let temporary = temporary_beside(path);
    remove(&temporary)?;
    let mut file = create_closed(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.set_permissions(Permissions::from_mode(access.mode()))?;
    file.sync_all()?;
    Ok(temporary)
}

/// A new file that only its owner can open, from the first instant and whatever the process's umask
/// is; it is opened to others when it is complete.
fn create_closed(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The content of a public file; nothing where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, KeystoreError> {
    let failed = |source| KeystoreError::Read {
        path: path.to_owned(),
        source,
    };
    match File::open(path) {
        Ok(file) => read_text(file).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The content of a private file, wiped when dropped; nothing where there is none.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, KeystoreError> {
    let failed = |source| KeystoreError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // The mode is that of the very file that is open, not of whatever has the name by then.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeystoreError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    read_text(file)
        .map(|text| Some(Zeroizing::new(text)))
        .map_err(failed)
}

/// Takes a file away for good; it may be gone already.
pub(super) fn delete(path: &Path) -> Result<(), KeystoreError> {
    let failed = |source| KeystoreError::Write {
        path: path.to_owned(),
        source,
    };
    remove(path).map_err(failed)?;
    sync(parent_of(path)).map_err(failed)
}

/// Names of the files in a directory; none where there is no such directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, KeystoreError> {
    let failed = |source| KeystoreError::Directory {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The directory that `path` is in; of a bare name, the one that the process is in.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the names in a directory durable.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_text(file: File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is longer than 64 KiB",
        ));
    }
    Ok(text)
}

/// Largest key or certificate file, in bytes; ours have about two thousand.
const FILE_MAX_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        replace(&path, "old", Access::Owner).unwrap();
        // All that `replace` does before the rename; the process ends here.
        write_temporary(&path, "new and longer", Access::Owner).unwrap();
        assert_eq!(*read_private(&path).unwrap().unwrap(), "old");
        replace(&path, "newer", Access::Owner).unwrap();
        assert_eq!(*read_private(&path).unwrap().unwrap(), "newer");
        assert_eq!(names(dir.path()).unwrap(), ["identity.pem"]);
    }

    #[test]
    fn a_torn_temporary_file_is_never_read_and_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        fs::write(temporary_beside(&path), "-----BEGIN CERTIF").unwrap();
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, "whole", Access::Everyone).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("whole"));
        assert_eq!(names(dir.path()).unwrap(), ["roots.pem"]);
    }

    #[test]
    fn a_private_file_is_closed_from_its_creation_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let empty = dir.path().join("empty");
        create_closed(&empty).unwrap();
        assert_eq!(mode(&empty), 0o600);
        // Never through a name that is there already, such as a link to somewhere else.
        assert!(create_closed(&empty).is_err());
        let temporary = write_temporary(&path, "secret", Access::Owner).unwrap();
        assert_eq!(mode(&temporary), 0o600);
        replace(&path, "secret", Access::Owner).unwrap();
        assert_eq!(mode(&path), 0o600);
        replace(&path, "public", Access::Everyone).unwrap();
        assert_eq!(mode(&path), 0o644);
        make_directory(&dir.path().join("a/b")).unwrap();
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    }

    #[test]
    fn a_private_file_that_others_can_read_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        replace(&path, "secret", Access::Owner).unwrap();
        for bits in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            let error = read_private(&path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(*read_private(&path).unwrap().unwrap(), "secret");
    }

    #[test]
    fn a_path_may_be_a_bare_name_and_its_directory_may_exist() {
        assert_eq!(parent_of(Path::new("data")), Path::new("."));
        assert_eq!(parent_of(Path::new("data/ca")), Path::new("data"));
        assert_eq!(parent_of(Path::new("/")), Path::new("/"));
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        make_directory(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o755);
        let file = dir.path().join("file");
        replace(&file, "", Access::Everyone).unwrap();
        assert!(matches!(
            make_directory(&file.join("below")),
            Err(KeystoreError::Directory { .. })
        ));
    }

    #[test]
    fn a_huge_file_is_refused_and_not_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let file = File::create(&path).unwrap();
        file.set_len(FILE_MAX_BYTES + 1).unwrap();
        assert!(matches!(read(&path), Err(KeystoreError::Read { .. })));
        file.set_len(FILE_MAX_BYTES).unwrap();
        assert!(read(&path).unwrap().is_some());
    }
}
