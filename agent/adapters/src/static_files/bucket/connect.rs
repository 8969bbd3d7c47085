//! Object storage behind an address, with the credentials that this target has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use tokio::sync::Semaphore;

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::static_files::Settings;
use crate::static_files::bucket::cloud;
use crate::static_files::destination::{Destination, Scheme};

/// Largest file of credentials, in bytes.
const CREDENTIALS_MAX_BYTES: u64 = 1 << 20;
/// Bytes of files that are in memory at a time, in units of [`UNIT_BYTES`].
const IN_FLIGHT_UNITS: usize = 384;
/// What bytes in flight are counted in.
pub(super) const UNIT_BYTES: usize = 64 << 10;

/// A place in object storage, ready to be asked.
pub(super) struct Place {
    pub(super) destination: Destination,
    pub(super) store: Arc<dyn ObjectStore>,
    /// What all keys begin with there.
    prefix: String,
    /// Keeps the bytes in memory within a bound.
    pub(super) in_flight: Semaphore,
}

impl Place {
    /// The key of something below the prefix.
    pub(super) fn key(&self, below: &str) -> Result<Key, Failure> {
        let text = match self.prefix.as_str() {
            "" => below.to_owned(),
            prefix => format!("{prefix}/{below}"),
        };
        Key::parse(&text).map_err(|error| {
            Failure::Permanent(format!("{below:?} cannot be an object's name: {error}"))
        })
    }

    /// The prefix itself, for listings; none for a whole bucket.
    pub(super) fn root(&self) -> Result<Option<Key>, Failure> {
        match self.prefix.as_str() {
            "" => Ok(None),
            prefix => Key::parse(prefix).map(Some).map_err(|error| {
                Failure::Permanent(format!("{prefix:?} cannot be a prefix: {error}"))
            }),
        }
    }

    /// What a key is called below the prefix.
    pub(super) fn below<'k>(&self, key: &'k Key) -> Option<&'k str> {
        match self.prefix.as_str() {
            "" => Some(key.as_ref()),
            prefix => key.as_ref().strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    /// Whether it keeps what web clients are to be told.
    pub(super) fn has_headers(&self) -> bool {
        self.destination.scheme != Scheme::File
    }

    /// Takes the directory away once nothing is in it.
    pub(super) fn leave(&self) {
        if self.destination.scheme == Scheme::File {
            // One that is not empty is somebody else's by now.
            let _ = std::fs::remove_dir(directory(&self.destination));
        }
    }
}

/// Refuses what the agent's configuration does not allow.
pub(super) fn allowed(settings: &Settings, destination: &Destination) -> Result<(), Failure> {
    let allowed = &settings.destinations;
    if allowed.is_empty() || allowed.iter().any(|place| destination.is_within(place)) {
        return Ok(());
    }
    Err(Failure::Permanent(format!(
        "{destination} is not among the destinations that agent.toml allows ([object-store] destinations)"
    )))
}

/// Makes a client; asks nobody yet. Made for each operation, so that changed credentials count at once.
pub(super) fn connect(settings: &Settings, destination: &Destination) -> Result<Place, Failure> {
    let options = options(settings, destination)?;
    let store = match destination.scheme {
        Scheme::S3 | Scheme::Gs | Scheme::Az => cloud::store(destination, options)?,
        Scheme::File => folder(destination)?,
    };
    let prefix = match destination.scheme {
        Scheme::File => String::new(),
        Scheme::S3 | Scheme::Gs | Scheme::Az => destination.prefix.clone(),
    };
    Ok(Place {
        destination: destination.clone(),
        store,
        prefix,
        in_flight: Semaphore::new(IN_FLIGHT_UNITS),
    })
}

/// Options of a kind of storage, by name.
pub(super) type Options = BTreeMap<String, String>;

fn folder(destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
    let path = directory(destination);
    durable::make_directory(&path, 0o755)
        .map_err(failed(format!("cannot make {}", path.display())))?;
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| {
        Failure::Retryable(format!("{destination} cannot be used: {}", say(&error)))
    })?;
    Ok(Arc::new(
        store.with_automatic_cleanup(true).with_fsync(true),
    ))
}

fn directory(destination: &Destination) -> PathBuf {
    Path::new("/").join(&destination.prefix)
}

/// What the agent's configuration and its file of credentials say of a bucket.
fn options(settings: &Settings, destination: &Destination) -> Result<Options, Failure> {
    let scheme = destination.scheme.as_str();
    let mut options = settings.options.get(scheme).cloned().unwrap_or_default();
    if let Some(path) = settings
        .credentials
        .as_deref()
        .filter(|_| destination.scheme != Scheme::File)
    {
        options.extend(credentials(path, destination)?);
    }
    Ok(options)
}

/// The file's entry for a bucket, or for all buckets of its kind.
fn credentials(path: &Path, destination: &Destination) -> Result<Options, Failure> {
    let text = holdfast_homes::credentials::read(path, CREDENTIALS_MAX_BYTES)
        .map_err(|error| Failure::Retryable(error.to_string()))?;
    let mut all: BTreeMap<String, Options> = serde_json::from_str(&text).map_err(|error| {
        // The reader's own message would show what stands there.
        let (path, line) = (path.display(), error.line());
        let form = r#"{"s3://BUCKET": {"access_key_id": "…", "secret_access_key": "…"}}"#;
        Failure::Retryable(format!(
            "credentials in {path}: line {line} is not as in {form}"
        ))
    })?;
    let general = format!("{}://", destination.scheme.as_str());
    let own = all.remove(&destination.home());
    Ok(own.or_else(|| all.remove(&general)).unwrap_or_default())
}

/// Whether `key` is an option of a kind of storage that may stand in `agent.toml`.
///
/// # Errors
/// Why not, for people.
pub fn check_option(scheme: &str, key: &str) -> Result<(), String> {
    cloud::check_known(scheme, key)?;
    let secret = ["secret", "token", "_key", "password", "sas"];
    if secret.iter().any(|part| key.contains(part)) && !key.ends_with("_file") {
        return Err(format!(
            "{key} is a secret: it belongs into the file that `credentials` names"
        ));
    }
    Ok(())
}

/// A failure of storage, which may pass.
pub(super) fn unable(
    attempt: impl std::fmt::Display,
) -> impl FnOnce(object_store::Error) -> Failure {
    move |error| Failure::Retryable(format!("{attempt}: {}", say(&error)))
}

/// An error in words, without what follows a question mark: addresses may hold signatures there.
pub(super) fn say(error: &object_store::Error) -> String {
    let mut said = String::new();
    for word in error.to_string().split_whitespace() {
        if !said.is_empty() {
            said.push(' ');
        }
        match word.split_once('?') {
            Some((address, _)) if address.contains("://") => said.push_str(address),
            Some(_) | None => said.push_str(word),
        }
        if said.len() > SAID_MAX_BYTES {
            said.push_str(" …");
            break;
        }
    }
    said
}

/// Longest error of storage that is repeated, in bytes.
const SAID_MAX_BYTES: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_that_are_no_secrets_stand_in_the_configuration() {
        assert_eq!(check_option("s3", "endpoint"), Ok(()));
        assert_eq!(check_option("s3", "region"), Ok(()));
        assert_eq!(check_option("az", "account_name"), Ok(()));
        for (scheme, key) in [
            ("s3", "secret_access_key"),
            ("s3", "aws_session_token"),
            ("az", "account_key"),
            ("gs", "service_account_key"),
        ] {
            let why = check_option(scheme, key).unwrap_err();
            assert!(why.contains("credentials"), "{why}");
        }
        assert!(check_option("s3", "colour").is_err());
        assert!(check_option("ftp", "endpoint").is_err());
    }

    #[test]
    fn a_signature_in_an_address_is_not_repeated() {
        let error = object_store::Error::Generic {
            store: "Azure",
            source: "PUT https://a.example/c/k?sig=hunter2&se=1 failed: why?".into(),
        };
        let said = say(&error);
        assert!(
            !said.contains("hunter2") && said.ends_with("why?"),
            "{said}"
        );
    }

    #[test]
    fn credentials_of_the_bucket_come_before_those_of_all_and_are_never_shown() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(file.path(), mode).unwrap();
        };
        write(r#"{"s3://": {"region": "x"}, "s3://web": {"region": "y"}}"#);
        let of = |text| credentials(file.path(), &Destination::parse(text).unwrap());
        assert_eq!(of("s3://web/a").unwrap()["region"], "y");
        assert_eq!(of("s3://other/a").unwrap()["region"], "x");
        assert!(of("gs://other/a").unwrap().is_empty());
        write(r#"{"s3://": "hunter2"}"#);
        let why = of("s3://web/a").unwrap_err().to_string();
        assert!(!why.contains("hunter2") && why.contains("line 1"), "{why}");
    }
}
