//! The secrets of this target's workloads: sealed on disk, open in memory while one is started.
//!
//! ```text
//! DATA/secrets/NAME.VERSION   what the coordinator sealed to this target, as a record
//! ```
//! *Guarantees:* what is on disk opens with this target's key alone, and only under its own name,
//! version, target and environment; what does not open is removed and asked for again. So a target goes
//! on with its secrets without the coordinator, also after a reboot.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_certs::seal::{Owner, SealError, SealingKey, SealingPublicKey};
use holdfast_protocol::codec;
use holdfast_protocol::frame::{self, Decoder, FRAME_MAX_BYTES};
use holdfast_protocol::name::SecretName;
use holdfast_protocol::secret::{Sealed, SecretRef, VALUE_MAX_BYTES};
use holdfast_protocol::stream::{AgentOpens, SecretReply};
use zeroize::Zeroizing;

use crate::cache::record::{self, RecordError};
use crate::transport::{self, StreamError};

/// Time for the coordinator's answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Time for the coordinator's answer to whether there is a newer value of one that is here.
pub const NEWER_LIMIT: Duration = Duration::from_secs(5);
/// Most bytes that a seal adds to a value, with its lengths.
const SEAL_BYTES: usize = 256;

/// The sealed secrets of one target.
#[derive(Debug, Clone)]
pub struct Secrets {
    directory: PathBuf,
    key: Arc<SealingKey>,
    owner: Owner,
    /// Held while one is written: all numbers of a secret are written through one name.
    writing: Arc<Mutex<()>>,
}

/// Why a secret is not here.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The coordinator has none for this target.
    #[error("the coordinator does not give it to this target")]
    Unavailable,
    /// Nothing came for a while.
    #[error("no answer came in time")]
    Silence,
    /// The connection broke off.
    #[error("the connection broke off")]
    Stream(#[from] StreamError),
    /// What came was not sealed for this target.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why a secret that should be here cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none, or what there was did not open and is gone.
    #[error("secret {0} is not here")]
    Missing(SecretRef),
    /// It cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why there is no value to tell anybody.
#[derive(Debug, thiserror::Error)]
pub enum NewestError {
    /// Nothing is kept of it, and nobody could be asked.
    #[error("secret {0} is not here, and the coordinator is away")]
    Away(SecretRef),
    /// Nothing is kept of it, and none came.
    #[error("secret {0} is not here")]
    Ask(SecretRef, #[source] AskError),
    /// What is kept cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Secrets {
    /// The secrets in `directory`, made where it is not there, for `owner`, who has `key`.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(directory: &Path, key: SealingKey, owner: Owner) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            key: Arc::new(key),
            owner,
            writing: Arc::default(),
        })
    }

    /// What the coordinator seals to.
    #[must_use]
    pub fn public(&self) -> SealingPublicKey {
        *self.key.public()
    }

    /// The secrets that are here and open.
    #[must_use]
    pub fn present(&self) -> BTreeSet<SecretRef> {
        let names = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        names
            .filter_map(|entry| reference(&entry.file_name().to_string_lossy()))
            .filter(|secret| self.value(secret).is_ok())
            .collect()
    }

    /// Removes what nothing needs: all but `keep`.
    pub fn collect(&self, keep: &BTreeSet<SecretRef>) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !reference(&name).is_some_and(|secret| keep.contains(&secret)) {
                // One that stays is removed the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A value, in the clear. What does not open is removed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn value(&self, secret: &SecretRef) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let path = self.path(secret);
        let missing = || OpenError::Missing(secret.clone());
        let opened = match record::read(&path) {
            Ok(Some(bytes)) => codec::decode::<Sealed>(&bytes, VALUE_MAX_BYTES + SEAL_BYTES)
                .ok()
                .and_then(|sealed| self.key.open(&self.owner, secret, &sealed).ok()),
            Ok(None) => return Err(missing()),
            Err(RecordError::Damaged { .. }) => None,
            Err(error @ RecordError::Io { .. }) => return Err(error.into()),
        };
        opened.ok_or_else(|| {
            tracing::warn!(%secret, "a sealed secret does not open here; it is asked for again");
            // One that cannot be removed is replaced when it comes again.
            let _ = fs::remove_file(&path);
            missing()
        })
    }

    /// Asks the coordinator for a secret, and keeps it sealed.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(
        &self,
        connection: &quinn::Connection,
        secret: &SecretRef,
    ) -> Result<(), AskError> {
        let asking = tokio::time::timeout(ANSWER_LIMIT, exchange(connection, secret));
        match asking.await.map_err(|_| AskError::Silence)?? {
            SecretReply::Sealed(sealed) => self.keep(secret, &sealed),
            SecretReply::Unavailable => Err(AskError::Unavailable),
        }
    }

    /// The newest value of a secret, in the clear: what the coordinator has now where it can be asked,
    /// else what it had when it was asked last.
    ///
    /// # Errors
    /// [`NewestError`].
    pub async fn newest(
        &self,
        coordinator: Option<&quinn::Connection>,
        secret: &SecretRef,
    ) -> Result<Zeroizing<Vec<u8>>, NewestError> {
        let asked = match coordinator {
            Some(connection) => Some(self.ask_soon(connection, secret).await),
            None => None,
        };
        match (self.value(secret), asked) {
            (Ok(value), asked) => {
                if let Some(Err(error)) = asked {
                    let why = crate::chain(&error);
                    tracing::warn!(%secret, why, "an earlier value is used");
                }
                Ok(value)
            }
            (Err(OpenError::Record(error)), _) => Err(error.into()),
            (Err(OpenError::Missing(secret)), Some(Err(error))) => {
                Err(NewestError::Ask(secret, error))
            }
            (Err(OpenError::Missing(secret)), Some(Ok(())) | None) => {
                Err(NewestError::Away(secret))
            }
        }
    }

    async fn ask_soon(
        &self,
        connection: &quinn::Connection,
        secret: &SecretRef,
    ) -> Result<(), AskError> {
        let asking = tokio::time::timeout(NEWER_LIMIT, self.ask(connection, secret));
        asking.await.unwrap_or(Err(AskError::Silence))
    }

    /// Keeps what came, if it opens here and is not here yet.
    pub(crate) fn keep(&self, secret: &SecretRef, sealed: &Sealed) -> Result<(), AskError> {
        let came = self.key.open(&self.owner, secret, sealed)?;
        if secret.is_newest() && self.value(secret).is_ok_and(|here| here == came) {
            return Ok(());
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(record::replace(&self.path(secret), &codec::encode(sealed))?)
    }

    fn path(&self, secret: &SecretRef) -> PathBuf {
        self.directory
            .join(format!("{}.{}", secret.name, secret.version))
    }
}

async fn exchange(
    connection: &quinn::Connection,
    secret: &SecretRef,
) -> Result<SecretReply, StreamError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let header = frame::encode(&AgentOpens::Secret(secret.clone()))?;
    send.write_all(&header).await?;
    send.finish()?;
    let mut decoder = Decoder::new(FRAME_MAX_BYTES);
    transport::read_frame(&mut receive, &mut decoder).await
}

/// Names hold no dot, so what stands after the last one is the number.
fn reference(file: &str) -> Option<SecretRef> {
    let (name, version) = file.rsplit_once('.')?;
    Some(SecretRef {
        name: SecretName::parse(name).ok()?,
        version: version.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(target: &str) -> Owner {
        Owner {
            environment: "staging".parse().unwrap(),
            target: target.parse().unwrap(),
        }
    }

    fn secret(version: u64) -> SecretRef {
        SecretRef {
            name: "db-password".parse().unwrap(),
            version,
        }
    }

    fn secrets(directory: &Path, key: &SealingKey, target: &str) -> Secrets {
        let key = SealingKey::from_hex(&key.to_hex()).unwrap();
        Secrets::open(directory, key, owner(target)).unwrap()
    }

    #[test]
    fn what_is_kept_is_sealed_and_opens_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealingKey::generate().unwrap();
        let here = secrets(folder.path(), &key, "web-1");
        let value = b"a value that is found nowhere";
        let sealed = key
            .public()
            .seal(&owner("web-1"), &secret(1), value)
            .unwrap();
        here.keep(&secret(1), &sealed).unwrap();
        let again = secrets(folder.path(), &key, "web-1");
        assert_eq!(again.present(), [secret(1)].into());
        assert_eq!(*again.value(&secret(1)).unwrap(), value);
        let kept = fs::read(folder.path().join("db-password.1")).unwrap();
        assert!(!kept.windows(value.len()).any(|window| window == value));
        again.collect(&BTreeSet::new());
        assert!(again.present().is_empty());
    }

    #[test]
    fn what_was_sealed_for_another_is_not_kept_and_what_was_changed_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealingKey::generate().unwrap();
        let here = secrets(folder.path(), &key, "web-1");
        let seal = |target, version| key.public().seal(&owner(target), &secret(version), b"x");
        let stranger = seal("web-2", 1).unwrap();
        assert!(matches!(
            here.keep(&secret(1), &stranger),
            Err(AskError::Seal(_))
        ));
        let older = seal("web-1", 1).unwrap();
        assert!(matches!(
            here.keep(&secret(2), &older),
            Err(AskError::Seal(_))
        ));
        here.keep(&secret(1), &older).unwrap();
        // A valid record under another number, as after a restored disk or by a hand.
        let path = folder.path().join("db-password.1");
        fs::rename(&path, folder.path().join("db-password.2")).unwrap();
        assert!(matches!(here.value(&secret(2)), Err(OpenError::Missing(_))));
        assert!(!folder.path().join("db-password.2").exists());
        fs::write(&path, "torn").unwrap();
        assert!(here.present().is_empty());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_newest_value_is_kept_under_a_number_of_its_own_and_there_without_the_coordinator()
    {
        let folder = tempfile::tempdir().unwrap();
        let key = SealingKey::generate().unwrap();
        let here = secrets(folder.path(), &key, "web-1");
        let newest = SecretRef::newest("db-password".parse().unwrap());
        let nothing = here.newest(None, &newest).await.unwrap_err();
        assert!(matches!(nothing, NewestError::Away(_)), "{nothing}");
        let seal = |which: &SecretRef, value: &[u8]| {
            let sealed = key.public().seal(&owner("web-1"), which, value);
            sealed.unwrap()
        };
        here.keep(&secret(1), &seal(&secret(1), b"pinned")).unwrap();
        for value in [&b"old"[..], b"new"] {
            here.keep(&newest, &seal(&newest, value)).unwrap();
            assert_eq!(*here.newest(None, &newest).await.unwrap(), value);
        }
        assert_eq!(*here.value(&secret(1)).unwrap(), b"pinned");
        // The same value again, which is sealed to other bytes, costs no write.
        let path = folder.path().join("db-password.0");
        let before = fs::read(&path).unwrap();
        here.keep(&newest, &seal(&newest, b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        // A value of a number cannot be passed off as the newest one.
        let pinned = seal(&secret(1), b"pinned");
        assert!(matches!(
            here.keep(&newest, &pinned),
            Err(AskError::Seal(_))
        ));
    }
}
