//! One checksummed file, replaced as a whole: write to a temporary, fsync, rename, fsync of the
//! directory. A reader sees the old content or the new one, or knows that it sees neither.
//!
//! ```text
//! magic 8 | format version u16 | payload length u64 | SHA-256 of all else 32 | payload
//! ```
//! Numbers are big-endian. Whatever is cut off, added or flipped is found by the digest, which covers
//! the fields before it too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use holdfast_protocol::digest::Hasher;

/// The first bytes of every record.
pub const MAGIC: &[u8; 8] = b"HOLDFAST";
/// The format that this build writes, and the only one it reads.
pub const FORMAT: u16 = 1;
/// Largest payload, in bytes.
pub const PAYLOAD_MAX_BYTES: u64 = 16 * 1024 * 1024;
const HEAD_BYTES: usize = 8 + 2 + 8;
const DIGEST_BYTES: usize = 32;

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no.
    #[error("could not {what} {path}")]
    Io {
        /// The attempt: `read`, `replace`, `remove`.
        what: &'static str,
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The bytes of a record with this payload.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + DIGEST_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    let digest = digest(&bytes, payload);
    bytes.extend_from_slice(&digest);
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a record.
///
/// # Errors
/// What is wrong with the bytes.
pub fn unframe(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or("it is cut off")?;
    let (sum, payload) = rest.split_at_checked(DIGEST_BYTES).ok_or("it is cut off")?;
    if head[..8] != *MAGIC {
        return Err("it does not begin as a record");
    }
    if digest(head, payload) != sum {
        return Err("its checksum is wrong");
    }
    if head[8..10] != FORMAT.to_be_bytes() {
        return Err("it has a format that this release does not know");
    }
    Ok(payload)
}

/// Reads a record; nothing where there is no such file.
///
/// # Errors
/// [`RecordError`] where it cannot be read or is damaged.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, RecordError> {
    let io = |source| RecordError::Io {
        what: "read",
        path: path.display().to_string(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(PAYLOAD_MAX_BYTES + 1024)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let payload = unframe(&bytes).map_err(|problem| RecordError::Damaged {
        path: path.display().to_string(),
        problem,
    })?;
    Ok(Some(payload.to_vec()))
}

/// Replaces a record; on any error the one before it is still there.
///
/// # Errors
/// [`RecordError::Io`].
pub fn replace(path: &Path, payload: &[u8]) -> Result<(), RecordError> {
    replace_raw(path, &frame(payload))
}

/// Replaces a file by bytes that carry their own proof, such as one named by its digest.
///
/// # Errors
/// [`RecordError::Io`].
pub fn replace_raw(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let temporary = path.with_extension("new");
    write_and_rename(path, &temporary, bytes).map_err(|source| {
        // Half a file on a full disk is of no use to anyone.
        let _ = fs::remove_file(&temporary);
        RecordError::Io {
            what: "replace",
            path: path.display().to_string(),
            source,
        }
    })
}

/// Removes a record for good; one that is not there is no error.
///
/// # Errors
/// [`RecordError::Io`].
pub fn remove(path: &Path) -> Result<(), RecordError> {
    let removed = match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|source| RecordError::Io {
        what: "remove",
        path: path.display().to_string(),
        source,
    })
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// What the file system said.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn write_and_rename(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn digest(head: &[u8], payload: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut hasher = Hasher::default();
    hasher.update(head);
    hasher.update(payload);
    *hasher.finish().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_any_flip_and_any_addition_is_found() {
        let whole = frame(b"what is wanted");
        assert_eq!(unframe(&whole), Ok(&b"what is wanted"[..]));
        for length in 0..whole.len() {
            assert!(unframe(&whole[..length]).is_err(), "cut to {length}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bad = whole.clone();
                bad[at] ^= 1 << bit;
                assert!(unframe(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(unframe(&[whole, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_record_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("current");
        assert!(read(&path).unwrap().is_none());
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
