//! A file on its way to a content store: hashed as it grows, gone on with where it ended, and given
//! its name only if it is what the name says.
//!
//! ```text
//! STORE/HEX         whole and verified      STORE/HEX.part   on its way
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::{Digest, Hasher};

/// What a file's name ends in while it is on its way.
pub const PART: &str = ".part";
/// Bytes read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A file on its way.
#[derive(Debug)]
pub struct Partial {
    store: PathBuf,
    artifact: Digest,
    size: u64,
    file: File,
    hasher: Hasher,
    length: u64,
}

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There are more than the whole has.
    #[error("more came than the {0} bytes that were announced")]
    TooMany(u64),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl Partial {
    /// The file of `size` bytes in `store`, with what an earlier attempt left. Reads all of that.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(store: &Path, artifact: Digest, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(path_of(store, artifact))?;
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let (hasher, length) = hash(&mut file)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self {
            store: store.to_owned(),
            artifact,
            size,
            file,
            hasher,
            length,
        })
    }

    /// Bytes that are here.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the whole.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are not here yet.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.size - self.length
    }

    /// What it will be.
    #[must_use]
    pub const fn artifact(&self) -> Digest {
        self.artifact
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`AppendError`]; what was here stays.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        if bytes.len() as u64 > self.missing() {
            return Err(AppendError::TooMany(self.size));
        }
        if let Err(error) = self.file.write_all(bytes) {
            // Half a piece would be in the file and not in the hash.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error.into());
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew: what came cannot be gone on with.
    ///
    /// # Errors
    /// What the file system said.
    pub fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::default();
        self.length = 0;
        Ok(())
    }

    /// Gives the file its name, if that is what it is; a wrong one is removed, and its own digest is
    /// the inner error.
    ///
    /// # Errors
    /// What the file system said.
    pub fn finish(self) -> io::Result<Result<(), Digest>> {
        let part = path_of(&self.store, self.artifact);
        let digest = self.hasher.finish();
        if digest != self.artifact {
            fs::remove_file(part)?;
            return Ok(Err(digest));
        }
        self.file.sync_all()?;
        fs::rename(part, self.store.join(self.artifact.hex()))?;
        File::open(&self.store)?.sync_all()?;
        Ok(Ok(()))
    }
}

/// Where an artifact of `store` lies while it is on its way.
#[must_use]
pub fn path_of(store: &Path, artifact: Digest) -> PathBuf {
    store.join(format!("{}{PART}", artifact.hex()))
}

/// The digest that a file's name in a store stands for, whole or on its way.
#[must_use]
pub fn digest_of_name(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_suffix(PART).unwrap_or(name))
        .parse()
        .ok()
}

/// Reads a file to its end: what it hashes to, and its length in bytes.
///
/// # Errors
/// What the file system said.
pub fn hash(file: &mut File) -> io::Result<(Hasher, u64)> {
    let mut hasher = Hasher::default();
    let mut length = 0;
    let mut piece = vec![0u8; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((hasher, length));
        }
        hasher.update(piece.get(..count).unwrap_or_default());
        length += count as u64;
    }
}

/// Space that this program may still use on the file system of `path`, in bytes.
///
/// # Errors
/// What the file system said.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_file_goes_on_where_it_ended_and_only_the_right_content_gets_the_name() {
        let store = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"hello world");
        let mut partial = Partial::open(store.path(), digest, 11).unwrap();
        assert!(partial.append(b"hello").is_ok());
        drop(partial);
        let mut partial = Partial::open(store.path(), digest, 11).unwrap();
        assert_eq!(partial.length(), 5);
        assert!(partial.append(b" world and more").is_err());
        assert!(partial.append(b" world").is_ok());
        assert_eq!(partial.finish().unwrap(), Ok(()));
        let whole = store.path().join(digest.hex());
        assert_eq!(fs::read(whole).unwrap(), b"hello world");

        let other = Digest::of(b"right");
        let mut partial = Partial::open(store.path(), other, 5).unwrap();
        assert!(partial.append(b"wrong").is_ok());
        assert_eq!(partial.finish().unwrap(), Err(Digest::of(b"wrong")));
        assert!(!path_of(store.path(), other).exists());
    }

    #[test]
    fn one_that_begins_anew_forgets_what_came() {
        let store = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"abc");
        let mut partial = Partial::open(store.path(), digest, 3).unwrap();
        partial.append(b"xy").unwrap();
        partial.restart().unwrap();
        partial.append(b"abc").unwrap();
        assert_eq!(partial.finish().unwrap(), Ok(()));
    }
}
