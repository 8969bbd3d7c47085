//! Artifacts on this target: one file each, named by its SHA-256, fetched from its own home or over
//! the agent's connection, resumed where an earlier fetch broke off, and removed when nothing needs it.
//!
//! ```text
//! DATA/artifacts/HEX         whole and verified      DATA/artifacts/HEX.part   on its way
//! ```
//! *Guarantees:* a file without ending has been hashed to its name before it got that name; a fetch
//! takes no more than was announced, and no more than the disk has.
//!
//! An artifact with a home is fetched there first. What this target cannot reach, the coordinator
//! brings: with as many bytes as are here already, and over the connection that there is anyway.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_homes::credentials::{self, Credentials, ValueError};
use holdfast_homes::download::{self, DownloadError};
use holdfast_homes::partial::{AppendError, PART, Partial, digest_of_name, hash};
use holdfast_homes::way::{Homes, WayError};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::home::Home;
use holdfast_protocol::secret::SecretRef;
use holdfast_protocol::stream::{AgentOpens, ArtifactReply};

use crate::plan::{Fetch, Told};
use crate::secrets::{NewestError, Secrets};
use crate::transport::StreamError;

/// Silence after which a fetch from the coordinator is given up, to be resumed later.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
const PIECE_BYTES: usize = 64 * 1024;

/// The content store.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// Where artifacts come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The way to homes; none where this target is to fetch through the coordinator alone.
    pub homes: Option<Arc<Homes>>,
    /// The coordinator, where there is a connection.
    pub coordinator: Option<quinn::Connection>,
    /// What homes are told.
    pub secrets: Secrets,
    /// The same connection, where the coordinator knows of secrets.
    pub newer: Option<quinn::Connection>,
}

/// Why an artifact is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It could not be brought here; what was wrong is not where it came from.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// What its home is to be told is not here.
    #[error(transparent)]
    Secret(#[from] NewestError),
    /// What its home is to be told is nothing that one can be told.
    #[error("secret {secret} cannot be told to {host}: {source}")]
    Value {
        /// Whose value.
        secret: SecretRef,
        /// Who would be told.
        host: String,
        /// Why not, without the value.
        source: ValueError,
    },
    /// This target cannot reach its home.
    #[error("from {home}: {why}")]
    Home {
        /// Which.
        home: String,
        /// Why.
        why: String,
    },
    /// Nor could the coordinator bring it.
    #[error("{home}; through the coordinator: {relay}")]
    Both {
        /// Why this target could not fetch it itself.
        home: Box<Self>,
        /// Why the coordinator could not.
        relay: Box<Self>,
    },
    /// There is nobody to ask.
    #[error("the coordinator is away")]
    Nobody,
    /// The way to homes cannot be taken.
    #[error(transparent)]
    Way(#[from] WayError),
    /// The coordinator has none for this target.
    #[error("the coordinator does not give it to this target")]
    Unavailable,
    /// The coordinator cannot bring it.
    #[error("{0}")]
    Away(String),
    /// Nothing came for a while.
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silence,
    /// The connection broke off; what has come is kept.
    #[error("the connection broke off")]
    Stream(#[from] StreamError),
}

impl FetchError {
    /// Whether the coordinator may succeed where a home gave this.
    const fn is_of_the_way(&self) -> bool {
        match self {
            Self::Download(error) => error.is_of_the_way(),
            Self::Way(_) | Self::Secret(_) => true,
            Self::Value { .. }
            | Self::Home { .. }
            | Self::Both { .. }
            | Self::Nobody
            | Self::Unavailable
            | Self::Away(_)
            | Self::Silence
            | Self::Stream(_) => false,
        }
    }
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
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                digest_of_name(&name).filter(|_| !name.ends_with(PART))
            })
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
            let digest = digest_of_name(&name);
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

    /// Fetches an artifact: from its home, and where this target cannot reach that, or it has none,
    /// from the coordinator.
    ///
    /// # Errors
    /// [`FetchError`]; what has come is kept unless it is wrong.
    pub async fn fetch(&self, sources: &Sources, fetch: &Fetch) -> Result<(), FetchError> {
        let direct = match (&fetch.home, &sources.homes) {
            (Some(home), Some(homes)) => self.fetch_from_home(homes, home, (fetch, sources)).await,
            (None, _) | (Some(_), None) => return self.fetch_from(sources, fetch).await,
        };
        let Err(error) = direct else {
            return Ok(());
        };
        let relays = error.is_of_the_way() && sources.coordinator.is_some();
        let at_home = FetchError::Home {
            home: fetch.home.as_ref().map_or_else(String::new, Home::plain),
            why: crate::chain(&error),
        };
        if !relays {
            return Err(at_home);
        }
        let (artifact, why) = (fetch.artifact, crate::chain(&at_home));
        tracing::info!(%artifact, why, "fetching through the coordinator");
        let relayed = self.fetch_from(sources, fetch).await;
        relayed.map_err(|relay| FetchError::Both {
            home: Box::new(at_home),
            relay: Box::new(relay),
        })
    }

    async fn fetch_from_home(
        &self,
        homes: &Homes,
        home: &Home,
        (fetch, sources): (&Fetch, &Sources),
    ) -> Result<(), FetchError> {
        let way = homes.way()?;
        let login = match &fetch.told {
            Some(told) => login(sources, told, home).await?,
            None => None,
        };
        let from = (home, login.as_ref());
        let wanted = (fetch.artifact, fetch.size);
        Ok(download::bring(&way, from, &self.directory, wanted, &|_| {}).await?)
    }

    async fn fetch_from(&self, sources: &Sources, fetch: &Fetch) -> Result<(), FetchError> {
        let connection = sources.coordinator.as_ref().ok_or(FetchError::Nobody)?;
        let mut partial = download::begin(&self.directory, fetch.artifact, fetch.size).await?;
        if partial.missing() > 0 {
            self.receive(connection, &mut partial).await?;
        }
        Ok(download::finish(&self.directory, partial).await?)
    }

    async fn receive(
        &self,
        connection: &quinn::Connection,
        partial: &mut Partial,
    ) -> Result<(), FetchError> {
        let (mut send, mut receive) = connection.open_bi().await.map_err(StreamError::from)?;
        let header = AgentOpens::Artifact {
            digest: partial.artifact(),
            offset: partial.length(),
        };
        let header = frame::encode(&header).map_err(StreamError::from)?;
        send.write_all(&header).await.map_err(StreamError::from)?;
        send.finish().map_err(StreamError::from)?;
        let mut decoder = ReplyReader::default();
        let (reply, rest) = tokio::time::timeout(SILENCE_MAX, decoder.read(&mut receive))
            .await
            .map_err(|_| FetchError::Silence)??;
        match reply {
            ArtifactReply::Unavailable => return Err(FetchError::Unavailable),
            ArtifactReply::Away { message } => return Err(FetchError::Away(message)),
            ArtifactReply::Content { size } if size != partial.size() => {
                let (actual, expected) = (size, partial.size());
                return Err(DownloadError::Size { actual, expected }.into());
            }
            ArtifactReply::Content { .. } => {}
        }
        self.append(partial, &rest)?;
        while partial.missing() > 0 {
            let chunk = tokio::time::timeout(SILENCE_MAX, receive.read_chunk(PIECE_BYTES, true));
            let chunk = chunk.await.map_err(|_| FetchError::Silence)?;
            match chunk.map_err(StreamError::from)? {
                Some(chunk) => self.append(partial, &chunk.bytes)?,
                None => return Err(StreamError::Ended.into()),
            }
        }
        Ok(())
    }

    fn append(&self, partial: &mut Partial, bytes: &[u8]) -> Result<(), DownloadError> {
        let expected = partial.size();
        partial.append(bytes).map_err(|error| match error {
            AppendError::TooMany(_) => DownloadError::Size {
                actual: expected.saturating_add(1),
                expected,
            },
            AppendError::Write(source) => DownloadError::Write {
                path: self.directory.display().to_string(),
                source,
            },
        })
    }
}

/// What a home is told: opened here, and gone with the fetch.
async fn login(
    sources: &Sources,
    told: &Told,
    home: &Home,
) -> Result<Option<Credentials>, FetchError> {
    let newer = sources.newer.as_ref();
    let value = sources.secrets.newest(newer, &told.secret).await?;
    let read = credentials::of_value(&value, home.host(), told.host.as_deref());
    read.map_err(|source| FetchError::Value {
        secret: told.secret.clone(),
        host: home.host().to_owned(),
        source,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

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
