//! Code on the target as a zip archive: the same files give the same bytes, and so the same SHA-256.

use std::fs;
use std::io::{self, Cursor, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::Digest;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Largest archive that Lambda takes without a bucket, in bytes.
const ARCHIVE_MAX_BYTES: usize = 50 << 20;
/// Most bytes of the files that go into an archive; Lambda's own limit for what it unpacks.
const FILES_MAX_BYTES: u64 = 250 << 20;
/// Most files in an archive.
const FILES_MAX: usize = 50_000;

/// A packed archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The archive.
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 of it.
    pub(crate) digest: Digest,
}

/// Why code was not packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written as an archive.
    #[error("cannot pack {path}")]
    Pack {
        /// What was packed.
        path: PathBuf,
        /// Why.
        source: zip::result::ZipError,
    },
    /// A name is not text.
    #[error("{0:?} is no name that an archive can hold")]
    Name(PathBuf),
    /// There is too much of it.
    #[error("{path} holds more than {what}; make it smaller, or an image")]
    Large {
        /// What was packed.
        path: PathBuf,
        /// Which bound.
        what: String,
    },
}

/// Packs a directory, or one file under its own name. A file that is a zip archive stays as it is.
///
/// # Errors
/// [`PackError`]
pub(crate) fn pack(path: &Path) -> Result<Packed, PackError> {
    let read = |source| PackError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = if fs::metadata(path).map_err(read)?.is_dir() {
        archive(path, &files_below(path)?)?
    } else if begins_as_zip(path).map_err(read)? {
        fs::read(path).map_err(read)?
    } else {
        let parent = path.parent().unwrap_or(path);
        archive(parent, &[path.to_owned()])?
    };
    if bytes.len() > ARCHIVE_MAX_BYTES {
        return Err(large(
            path,
            format!("{} MiB when packed", ARCHIVE_MAX_BYTES >> 20),
        ));
    }
    let digest = Digest::of(&bytes);
    Ok(Packed { bytes, digest })
}

fn begins_as_zip(path: &Path) -> io::Result<bool> {
    let mut first = Vec::new();
    fs::File::open(path)?.take(4).read_to_end(&mut first)?;
    Ok(first == b"PK\x03\x04")
}

/// All files and links below a directory, in the order of their names.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, PackError> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let read = |source| PackError::Read {
            path: directory.clone(),
            source,
        };
        for entry in fs::read_dir(&directory).map_err(read)? {
            let entry = entry.map_err(read)?;
            if entry.file_type().map_err(read)?.is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
        if found.len() > FILES_MAX {
            return Err(large(root, format!("{FILES_MAX} files")));
        }
    }
    found.sort();
    Ok(found)
}

fn archive(root: &Path, files: &[PathBuf]) -> Result<Vec<u8>, PackError> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut total = 0;
    for file in files {
        total += add(&mut writer, root, file)?;
        if total > FILES_MAX_BYTES {
            return Err(large(
                root,
                format!("{} MiB of files", FILES_MAX_BYTES >> 20),
            ));
        }
    }
    let pack = |source| PackError::Pack {
        path: root.to_owned(),
        source,
    };
    writer.finish().map(Cursor::into_inner).map_err(pack)
}

/// Adds one file, without time and owner; its length.
fn add(
    writer: &mut ZipWriter<Cursor<Vec<u8>>>,
    root: &Path,
    file: &Path,
) -> Result<u64, PackError> {
    let read = |source| PackError::Read {
        path: file.to_owned(),
        source,
    };
    let pack = |source| PackError::Pack {
        path: file.to_owned(),
        source,
    };
    let below = file.strip_prefix(root).ok().and_then(Path::to_str);
    let name = below.ok_or_else(|| PackError::Name(file.to_owned()))?;
    let metadata = fs::symlink_metadata(file).map_err(read)?;
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default());
    if metadata.is_symlink() {
        let target = fs::read_link(file).map_err(read)?;
        let target = target
            .to_str()
            .ok_or_else(|| PackError::Name(target.clone()))?;
        writer.add_symlink(name, target, options).map_err(pack)?;
        return Ok(0);
    }
    // Everybody may read it: Lambda runs functions as a user of its own.
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let options = options.unix_permissions(if executable { 0o755 } else { 0o644 });
    writer.start_file(name, options).map_err(pack)?;
    let bytes = fs::read(file).map_err(read)?;
    writer.write_all(&bytes).map_err(read)?;
    Ok(metadata.len())
}

fn large(path: &Path, what: String) -> PackError {
    PackError::Large {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_archive_whenever_they_were_written() {
        let made = |order: [&str; 2]| {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("lib")).unwrap();
            for name in order {
                fs::write(root.path().join(name), name).unwrap();
            }
            pack(root.path()).unwrap()
        };
        let first = made(["app.py", "lib/a.py"]);
        assert_eq!(first, made(["lib/a.py", "app.py"]));
        let mut archive = zip::ZipArchive::new(Cursor::new(first.bytes)).unwrap();
        assert_eq!(archive.len(), 2);
        let mut text = String::new();
        archive
            .by_name("lib/a.py")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "lib/a.py");
    }

    #[test]
    fn one_file_is_packed_under_its_name_and_an_archive_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("app.py");
        fs::write(&file, "x").unwrap();
        let packed = pack(&file).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(packed.bytes.clone())).unwrap();
        assert_eq!(
            (archive.len(), archive.by_name("app.py").is_ok()),
            (1, true)
        );
        let whole = root.path().join("whole");
        fs::write(&whole, &packed.bytes).unwrap();
        assert_eq!(pack(&whole).unwrap(), packed);
        let missing = pack(Path::new("/nonexistent/app")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nonexistent/app");
    }
}
