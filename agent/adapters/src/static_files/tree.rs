//! A directory tree in one digest, without reading contents: enough to see that somebody changed
//! something, cheap enough to look each half minute.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use holdfast_protocol::digest::{Digest, Hasher};

/// Digest of names, kinds, sizes, modes, times of change of files, and targets of links.
pub(crate) fn digest(root: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    add(root, "", &mut hasher)?;
    Ok(hasher.finish())
}

fn add(directory: &Path, path: &str, hasher: &mut Hasher) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let path = format!("{path}/{}", name.to_string_lossy());
        let found = entry.metadata()?;
        let line = if found.is_dir() {
            format!("{path}\0d{:o}\n", found.mode())
        } else if found.is_symlink() {
            format!("{path}\0l{}\n", fs::read_link(entry.path())?.display())
        } else {
            let time = (found.mtime(), found.mtime_nsec());
            format!(
                "{path}\0f{:o} {} {}.{}\n",
                found.mode(),
                found.len(),
                time.0,
                time.1
            )
        };
        hasher.update(line.as_bytes());
        if found.is_dir() {
            add(&entry.path(), &path, hasher)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_edit_changes_the_digest_and_looking_does_not() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/x"), "1").unwrap();
        let first = digest(root).unwrap();
        assert_eq!(digest(root).unwrap(), first);
        fs::write(root.join("a/y"), "").unwrap();
        let second = digest(root).unwrap();
        assert_ne!(second, first);
        fs::rename(root.join("a/y"), root.join("y")).unwrap();
        assert_ne!(digest(root).unwrap(), second);
    }
}
