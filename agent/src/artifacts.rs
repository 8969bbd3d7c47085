//! Artifacts on this target: one file each, named by its SHA-256, fetched over the agent's own
//! connection, resumed where an earlier fetch broke off, and removed when nothing needs it.
//!
//! ```text
//! DATA/artifacts/HEX         whole and verified      DATA/artifacts/HEX.part   on its way
//! ```
//! *Guarantees:* a file without ending has been hashed to its name before it got that name; a fetch
//! takes no more than was announced, and no more than the disk has.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::digest::{Digest, Hasher};
use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::stream::{AgentOpens, ArtifactReply};

use crate::cache::record::sync_directory;
use crate::transport::StreamError;

/// Silence after which a fetch is given up, to be resumed later.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Space that a fetch leaves free, in bytes, so that the cache and the logs can still be written.
pub const SPACE_LEFT_BYTES: u64 = 64 * 1024;
const PIECE_BYTES: usize = 64 * 1024;

/// The content store.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// Why an artifact is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The coordinator has none for this target.
    #[error("the coordinator does not give it to this target")]
    Unavailable,
    /// It is of another length than the workload says.
    #[error("it has {actual} bytes and not {expected}, as the workload says")]
    Size {
        /// Announced.
        actual: u64,
        /// As in the workload's body.
        expected: u64,
    },
    /// The disk is too full.
    #[error("{needed} more bytes are needed and {free} are free")]
    NoSpace {
        /// Still to be written.
        needed: u64,
        /// Free, for this program.
        free: u64,
    },
    /// What came does not hash to its name.
    #[error("what came is not what was asked for: its digest is {0}")]
    Digest(Digest),
    /// Nothing came for a while.
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silence,
    /// The connection broke off; what has come is kept.
    #[error("the connection broke off")]
    Stream(#[from] StreamError),
    /// The file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Which.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
}

impl Store {
    /// The store in `directory`, made where it is not there.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Where an artifact lies, or will.
    #[must_use]
    pub fn path(&self, artifact: Digest) -> PathBuf {
        self.directory.join(artifact.hex())
    }

    /// The artifacts that are here.
    #[must_use]
    pub fn present(&self) -> BTreeSet<Digest> {
        let names = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        names
            .filter_map(|entry| digest_of_name(&entry.file_name().to_string_lossy()))
            .collect()
    }

    /// Removes what nothing needs: all but `keep`, whole or on its way.
    pub fn collect(&self, keep: &BTreeSet<Digest>) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = digest_of_name(name.trim_end_matches(".part"));
            if !digest.is_some_and(|digest| keep.contains(&digest)) {
                // One that stays is removed the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Hashes an artifact that is here; one that is not what its name says is removed.
    ///
    /// # Errors
    /// What the file system said, or that it was damaged.
    pub fn verify(&self, artifact: Digest) -> io::Result<()> {
        let path = self.path(artifact);
        let (digest, _) = hash(&mut File::open(&path)?)?;
        if digest.finish() == artifact {
            return Ok(());
        }
        fs::remove_file(&path)?;
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the stored artifact is damaged",
        ))
    }

    /// Fetches an artifact of `size` bytes.
    ///
    /// # Errors
    /// [`FetchError`]; what has come is kept unless it is wrong.
    pub async fn fetch(
        &self,
        connection: &quinn::Connection,
        artifact: Digest,
        size: u64,
    ) -> Result<(), FetchError> {
        let part = self.directory.join(format!("{}.part", artifact.hex()));
        let failed = |source| FetchError::Write {
            path: part.display().to_string(),
            source,
        };
        let opened = part.clone();
        let mut partial = blocking(move || Partial::open(&opened, size))
            .await
            .map_err(failed)?;
        let needed = (size - partial.length).saturating_add(SPACE_LEFT_BYTES);
        let free = free_bytes(&self.directory).map_err(failed)?;
        if needed > free {
            return Err(FetchError::NoSpace { needed, free });
        }
        if partial.length < size {
            self.receive(connection, artifact, size, &mut partial)
                .await
                .map_err(|error| match error {
                    Received::Fetch(error) => error,
                    Received::Write(source) => failed(source),
                })?;
        }
        let (path, directory) = (self.path(artifact), self.directory.clone());
        let finished = part.clone();
        blocking(move || partial.finish(artifact, &finished, &path, &directory))
            .await
            .map_err(failed)?
            .map_err(FetchError::Digest)
    }

    async fn receive(
        &self,
        connection: &quinn::Connection,
        artifact: Digest,
        size: u64,
        partial: &mut Partial,
    ) -> Result<(), Received> {
        let (mut send, mut receive) = connection.open_bi().await.map_err(StreamError::from)?;
        let header = AgentOpens::Artifact {
            digest: artifact,
            offset: partial.length,
        };
        let header = frame::encode(&header).map_err(StreamError::from)?;
        send.write_all(&header).await.map_err(StreamError::from)?;
        send.finish().map_err(StreamError::from)?;
        let mut decoder = ReplyReader::default();
        let (reply, rest) = tokio::time::timeout(SILENCE_MAX, decoder.read(&mut receive))
            .await
            .map_err(|_| FetchError::Silence)??;
        match reply {
            ArtifactReply::Unavailable => return Err(FetchError::Unavailable.into()),
            ArtifactReply::Content { size: actual } if actual != size => {
                return Err(FetchError::Size {
                    actual,
                    expected: size,
                }
                .into());
            }
            ArtifactReply::Content { .. } => {}
        }
        partial.append(&rest, size)?;
        while partial.length < size {
            let chunk = tokio::time::timeout(SILENCE_MAX, receive.read_chunk(PIECE_BYTES, true));
            let chunk = chunk.await.map_err(|_| FetchError::Silence)?;
            match chunk.map_err(StreamError::from)? {
                Some(chunk) => partial.append(&chunk.bytes, size)?,
                None => return Err(StreamError::Ended.into()),
            }
        }
        Ok(())
    }
}

/// What can go wrong while bytes arrive.
enum Received {
    Fetch(FetchError),
    Write(io::Error),
}

impl From<FetchError> for Received {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<StreamError> for Received {
    fn from(error: StreamError) -> Self {
        Self::Fetch(FetchError::Stream(error))
    }
}

impl From<io::Error> for Received {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Reads the one reply frame and gives back what came behind it: the first bytes of the content.
#[derive(Default)]
struct ReplyReader {
    head: Vec<u8>,
}

impl ReplyReader {
    async fn read(
        &mut self,
        stream: &mut quinn::RecvStream,
    ) -> Result<(ArtifactReply, Vec<u8>), StreamError> {
        loop {
            let Some(length) = self.head.first_chunk::<4>() else {
                self.more(stream).await?;
                continue;
            };
            let length = u32::from_be_bytes(*length) as usize;
            if length > FIRST_FRAME_MAX_BYTES || self.head.len() >= 4 + length {
                let rest = self
                    .head
                    .split_off(self.head.len().min(4 + length.min(FIRST_FRAME_MAX_BYTES)));
                let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
                decoder.feed(&self.head);
                let reply = decoder.next_message()?.ok_or(StreamError::Ended)?;
                return Ok((reply, rest));
            }
            self.more(stream).await?;
        }
    }

    async fn more(&mut self, stream: &mut quinn::RecvStream) -> Result<(), StreamError> {
        let chunk = stream
            .read_chunk(PIECE_BYTES, true)
            .await?
            .ok_or(StreamError::Ended)?;
        self.head.extend_from_slice(&chunk.bytes);
        Ok(())
    }
}

/// A file on its way, hashed as far as it has come.
struct Partial {
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Partial {
    fn open(path: &Path, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(path)?;
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let (hasher, length) = hash(&mut file)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self {
            file,
            hasher,
            length,
        })
    }

    fn append(&mut self, bytes: &[u8], size: u64) -> Result<(), Received> {
        if bytes.len() as u64 > size - self.length {
            let actual = self.length + bytes.len() as u64;
            return Err(FetchError::Size {
                actual,
                expected: size,
            }
            .into());
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name, if that is what it is; a wrong one is removed.
    fn finish(
        self,
        artifact: Digest,
        part: &Path,
        path: &Path,
        directory: &Path,
    ) -> io::Result<Result<(), Digest>> {
        let digest = self.hasher.finish();
        if digest != artifact {
            fs::remove_file(part)?;
            return Ok(Err(digest));
        }
        self.file.sync_all()?;
        fs::rename(part, path)?;
        sync_directory(directory)?;
        Ok(Ok(()))
    }
}

fn hash(file: &mut File) -> io::Result<(Hasher, u64)> {
    let mut hasher = Hasher::default();
    let mut length = 0;
    let mut piece = vec![0u8; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((hasher, length));
        }
        hasher.update(&piece[..count]);
        length += count as u64;
    }
}

/// Space that this program may still use on the file system of `path`, in bytes.
fn free_bytes(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

fn digest_of_name(name: &str) -> Option<Digest> {
    format!("sha256:{name}").parse().ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_file_goes_on_where_it_ended_and_only_the_right_content_gets_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let part = directory.path().join("x.part");
        let mut partial = Partial::open(&part, 11).unwrap();
        assert!(partial.append(b"hello", 11).is_ok());
        drop(partial);
        let mut partial = Partial::open(&part, 11).unwrap();
        assert_eq!(partial.length, 5);
        assert!(partial.append(b" world and more", 11).is_err());
        assert!(partial.append(b" world", 11).is_ok());
        let done = partial.finish(digest, &part, &store.path(digest), directory.path());
        assert_eq!(done.unwrap(), Ok(()));
        assert_eq!(store.present(), BTreeSet::from([digest]));
        assert!(store.verify(digest).is_ok());

        let mut partial = Partial::open(&part, 5).unwrap();
        assert!(partial.append(b"wrong", 5).is_ok());
        let done = partial.finish(digest, &part, &store.path(digest), directory.path());
        assert_eq!(done.unwrap(), Err(Digest::of(b"wrong")));
        assert!(!part.exists());
    }

    #[test]
    fn a_damaged_artifact_is_removed_and_what_nothing_needs_too() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        fs::write(store.path(one), b"oNe").unwrap();
        fs::write(store.path(two), b"two").unwrap();
        assert!(store.verify(one).is_err());
        assert_eq!(store.present(), BTreeSet::from([two]));
        store.collect(&BTreeSet::from([one]));
        assert_eq!(store.present(), BTreeSet::new());
    }
}
