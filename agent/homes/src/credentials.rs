//! Credentials of registries and web servers, from a file that its program's user alone can read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_protocol::image::DEFAULT_REGISTRY;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Largest file of credentials, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The key under which `docker login` keeps the default registry.
const DEFAULT_KEY: &str = "index.docker.io";

/// What one host is to be told. Never shown, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user, unless the token stands for one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Zeroizing<String>>,
    /// A token that a registry gave in place of a password.
    pub identity_token: Option<Zeroizing<String>>,
    /// A token that is shown as it is, in place of all else.
    pub bearer: Option<Zeroizing<String>>,
}

/// Why there are no credentials to be had. Shows nothing of what stands in the file.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read, or by too many.
    #[error("cannot read credentials in {path}: {why}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// The file is not what it should be.
    #[error("credentials in {path} are unusable: {why}")]
    Unusable {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

/// Why the value of a secret tells nobody anything. Shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is none of the forms.
    #[error("it is neither USER:PASSWORD nor Bearer TOKEN nor what `docker login` writes")]
    Unreadable,
    /// It is no JSON, or another.
    #[error("it is not what `docker login` writes: line {0}, column {1}")]
    Json(usize, usize),
    /// What it holds for the host cannot be used.
    #[error("{0}")]
    Entry(String),
    /// Nothing says whom it may be told.
    #[error(
        "nothing says which host it is for: write {{secret: NAME, host: HOST}} in the manifest, or set \
         what `docker login` writes, which names its hosts"
    )]
    Unbound,
}

/// Nothing of it belongs into a log.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// `config.json` of the Docker command line, as far as it matters here.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// `USER:PASSWORD` in Base64.
    #[serde(default, deserialize_with = "wiped")]
    auth: Zeroizing<String>,
    #[serde(default)]
    username: String,
    #[serde(default, deserialize_with = "wiped")]
    password: Zeroizing<String>,
    #[serde(default, rename = "identitytoken", deserialize_with = "wiped")]
    identity_token: Zeroizing<String>,
}

fn wiped<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

/// What the value of a secret tells `host`: nothing where it says that it is for others. `bound` is the
/// one host that somebody else said it is for.
///
/// ```text
/// USER:PASSWORD        Bearer TOKEN        {"auths": {HOST: {"auth": …}}}, as `docker login` writes it
/// ```
/// # Errors
/// What is wrong with it, without any of it.
pub fn of_value(
    value: &[u8],
    host: &str,
    bound: Option<&str>,
) -> Result<Option<Credentials>, ValueError> {
    if bound.is_some_and(|bound| !bound.eq_ignore_ascii_case(host)) {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| ValueError::Unreadable)?;
    let text = text.trim();
    if text.starts_with('{') {
        let config: Config = serde_json::from_str(text)
            .map_err(|error| ValueError::Json(error.line(), error.column()))?;
        let entry = config.auths.into_iter().find(|(key, _)| names(key, host));
        let entry = entry.map(|(_, entry)| credentials(entry, host));
        return entry.transpose().map_err(ValueError::Entry);
    }
    let plain = plain(text).ok_or(ValueError::Unreadable)?;
    if bound.is_none() {
        return Err(ValueError::Unbound);
    }
    Ok(Some(plain))
}

fn plain(text: &str) -> Option<Credentials> {
    if text.contains(char::is_control) {
        return None;
    }
    let nothing = Credentials {
        username: None,
        password: None,
        identity_token: None,
        bearer: None,
    };
    let kept = |text: &str| Some(Zeroizing::new(text.to_owned()));
    if let Some(token) = text.strip_prefix("Bearer ") {
        let bearer = kept(token.trim()).filter(|token| !token.is_empty());
        return bearer
            .is_some()
            .then_some(Credentials { bearer, ..nothing });
    }
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| Credentials {
        username: Some(user.to_owned()),
        password: kept(password),
        ..nothing
    })
}

/// What `host`, with its port where it has one, is to be told; nothing where the file does not name it.
///
/// # Errors
/// [`CredentialsError`].
pub fn of(path: &Path, host: &str) -> Result<Option<Credentials>, CredentialsError> {
    let text = Zeroizing::new(read(path, FILE_MAX)?);
    let broken = |why: String| CredentialsError::Unusable {
        path: path.display().to_string(),
        why,
    };
    // The reader's own message would show what stands there.
    let place = |e: serde_json::Error| broken(format!("line {} is no valid JSON", e.line()));
    let config: Config = serde_json::from_str(&text).map_err(place)?;
    let entry = config.auths.into_iter().find(|(key, _)| names(key, host));
    entry
        .map(|(_, entry)| credentials(entry, host).map_err(broken))
        .transpose()
}

/// Reads a file of secrets, which nobody but its owner may read.
///
/// # Errors
/// [`CredentialsError::Unreadable`].
pub fn read(path: &Path, max_bytes: u64) -> Result<String, CredentialsError> {
    let failed = |why: String| CredentialsError::Unreadable {
        path: path.display().to_string(),
        why,
    };
    let mut file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mode = file
        .metadata()
        .map_err(|error| failed(error.to_string()))?
        .mode();
    if mode & 0o077 != 0 {
        return Err(failed(format!(
            "others may read it (mode {:04o}); make it its owner's alone: chmod 600",
            mode & 0o7777
        )));
    }
    let mut text = String::new();
    let read = file.by_ref().take(max_bytes).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

/// Keys are hosts, or addresses from older versions.
fn names(key: &str, registry: &str) -> bool {
    let bare = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    host == registry || (host == DEFAULT_KEY && registry == DEFAULT_REGISTRY)
}

fn credentials(entry: Entry, registry: &str) -> Result<Credentials, String> {
    let (username, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        let pair = STANDARD.decode(entry.auth.trim()).map(Zeroizing::new);
        let pair = pair.as_deref().map(|bytes| std::str::from_utf8(bytes));
        let pair = pair.ok().and_then(Result::ok);
        let pair = pair.and_then(|pair| {
            let (user, password) = pair.split_once(':')?;
            Some((user.to_owned(), Zeroizing::new(password.to_owned())))
        });
        pair.ok_or_else(|| format!("auth of {registry} is not USER:PASSWORD in Base64"))?
    };
    if username.is_empty() && entry.identity_token.is_empty() {
        return Err(format!(
            "{registry} has no auth; credential helpers are not asked, log in without one"
        ));
    }
    let filled = |text: Zeroizing<String>| Some(text).filter(|text| !text.is_empty());
    Ok(Credentials {
        username: Some(username).filter(|name| !name.is_empty()),
        password: filled(password),
        identity_token: filled(entry.identity_token),
        bearer: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn shown(text: &Option<Zeroizing<String>>) -> Option<&str> {
        text.as_deref().map(String::as_str)
    }

    fn written(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_registry_is_found_as_docker_login_writes_it() {
        let text = r#"{"auths": {"r.example:5000": {"auth": "YWRhOnB3OndpdGg6Y29sb25z"},
            "https://index.docker.io/v1/": {"username": "u", "password": "p"}}, "credsStore": ""}"#;
        let file = written(text, 0o600);
        let found = of(file.path(), "r.example:5000").unwrap().unwrap();
        assert_eq!(found.username.as_deref(), Some("ada"));
        assert_eq!(shown(&found.password), Some("pw:with:colons"));
        assert!(of(file.path(), "docker.io").unwrap().is_some());
        assert!(of(file.path(), "r.example").unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let file = written("{}", 0o640);
        let why = of(file.path(), "r").unwrap_err().to_string();
        assert!(why.contains("chmod 600"), "{why}");
    }

    #[test]
    fn a_secret_is_told_to_the_host_it_is_for_and_to_no_other() {
        let host = Some("r.example:5000");
        let told = |value: &str, to: &str, bound| of_value(value.as_bytes(), to, bound);
        let pair = told("ada:pw:with:colons\n", "r.example:5000", host)
            .unwrap()
            .unwrap();
        assert_eq!(pair.username.as_deref(), Some("ada"));
        assert_eq!(shown(&pair.password), Some("pw:with:colons"));
        let token = told("Bearer abc", "R.example:5000", host).unwrap().unwrap();
        assert_eq!(shown(&token.bearer), Some("abc"));
        assert_eq!(told("ada:pw", "r.example", host), Ok(None));
        assert_eq!(told("ada:pw", "r.example", None), Err(ValueError::Unbound));
        let json = r#"{"auths": {"r.example:5000": {"auth": "YWRhOnB3"}}}"#;
        for bound in [None, host] {
            let found = told(json, "r.example:5000", bound).unwrap().unwrap();
            assert_eq!(shown(&found.password), Some("pw"));
        }
        assert_eq!(told(json, "evil.example", None), Ok(None));
    }

    #[test]
    fn a_secret_of_no_form_is_refused_without_being_shown() {
        for value in [
            "hunter2",
            "Bearer ",
            ":hunter2",
            "{\"auths\": \"hunter2\"}",
            "{hunter2",
            "a:b\nhunter2",
            r#"{"auths": {"r": {"auth": "hunter2%"}}}"#,
        ] {
            let why = of_value(value.as_bytes(), "r", Some("r")).unwrap_err();
            let why = format!("{why} {why:?}");
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!(of_value(b"\xff", "r", Some("r")).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_without_showing_the_secret() {
        for text in [
            r#"{"auths": {"r": {"auth": "hunter2%"}}}"#,
            r#"{"auths": {"r": "hunter2"}}"#,
            r#"{"auths": {"r": {}}}"#,
        ] {
            let why = of(written(text, 0o600).path(), "r")
                .unwrap_err()
                .to_string();
            assert!(
                why.contains("unusable") && !why.contains("hunter2"),
                "{why}"
            );
        }
    }
}
