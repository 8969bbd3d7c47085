//! Which coordinator, which token, which certificate vouches: decided once, from the command line,
//! the environment and the configuration file, in this order.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::args::Global;
use crate::error::{Exit, Failure};

/// What the environment says beside the flags' own variables.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `HOLDFAST_TOKEN`: the token itself.
    pub token: Option<String>,
    /// `HOLDFAST_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
    /// The configuration file, if this user has a home.
    pub config: Option<PathBuf>,
}

impl Surroundings {
    /// Reads the environment; nothing else does.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment beside clap"
    )]
    pub fn read() -> Self {
        let present = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            token: present("HOLDFAST_TOKEN"),
            token_file: present("HOLDFAST_TOKEN_FILE").map(PathBuf::from),
            config: etcetera::choose_base_strategy()
                .ok()
                .map(|base| base.config_dir().join("holdfast").join("config.toml")),
        }
    }
}

/// Everything needed to speak to one coordinator.
#[derive(Clone)]
pub struct Connection {
    /// The API.
    pub server: Url,
    /// The bearer token.
    pub token: Option<String>,
    /// Certificate (PEM) that alone vouches for the coordinator; the system's own ones otherwise.
    pub ca: Option<String>,
}

/// The token stays out of every message.
impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server.as_str())
            .finish_non_exhaustive()
    }
}

/// The configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The context that is meant when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Coordinators by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One coordinator that was logged in to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The API.
    pub server: String,
    /// The bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The certificate that vouches, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// The connection that flags, environment and configuration file agree on.
///
/// # Errors
/// No coordinator is named, or a file that is named cannot be read.
pub fn connection(global: &Global, surroundings: &Surroundings) -> Result<Connection, Failure> {
    // A context that is not asked for and not needed is not even read: a damaged file must not stand
    // in the way of a command that names everything itself.
    let context = match (&global.context, &global.server) {
        (None, Some(_)) => None,
        (Some(_), _) | (None, None) => context(global.context.as_deref(), surroundings)?,
    };
    let server = global
        .server
        .clone()
        .or_else(|| context.as_ref().map(|context| context.server.clone()))
        .ok_or_else(|| {
            Failure::usage("no coordinator is named").help(
                "give --server URL or HOLDFAST_SERVER, or remember one with `holdfast login URL`",
            )
        })?;
    Ok(Connection {
        server: address(&server)?,
        token: token(global, surroundings)?.or_else(|| context.as_ref()?.token.clone()),
        ca: match &global.ca {
            Some(file) => Some(read(file, "the certificate")?),
            None => context.and_then(|context| context.ca),
        },
    })
}

/// The token of flags and environment, without the configuration file's.
///
/// # Errors
/// The file that is named cannot be read or is empty.
pub fn token(global: &Global, surroundings: &Surroundings) -> Result<Option<String>, Failure> {
    if let Some(file) = &global.token_file {
        return token_of(file).map(Some);
    }
    if let Some(token) = &surroundings.token {
        return Ok(Some(token.trim().to_owned()));
    }
    surroundings.token_file.as_deref().map(token_of).transpose()
}

/// An API address: `https`, or plain `http` on this machine alone, where no token can leak.
///
/// # Errors
/// It is neither.
pub fn address(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!(
            "{text:?} is not the address of a coordinator: {why}"
        ))
        .help("it looks like https://coordinator.example:7443")
    };
    let url: Url = text.parse().map_err(|_| wrong("it is not a URL"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err(wrong("a token would travel in the clear")),
        _ => Err(wrong("it does not begin with https://")),
    }
}

/// The configuration file's content; empty where there is none.
///
/// # Errors
/// It cannot be read or is not what `login` writes.
pub fn config(path: &Path) -> Result<Config, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => {
            return Err(Failure::usage(format!(
                "cannot read {}: {error}",
                path.display()
            )));
        }
    };
    toml::from_str(&text).map_err(|error| {
        Failure::usage(format!(
            "{} is damaged: {}",
            path.display(),
            error.message()
        ))
        .help("mend it, or remove it and log in again")
    })
}

/// Writes the configuration file, readable by its owner alone, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn save(path: &Path, config: &Config) -> Result<(), Failure> {
    let text = toml::to_string_pretty(config).expect("texts become TOML");
    let failed = |error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let draft = path.with_extension(format!("toml.{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&draft);
        failed(error)
    })
}

/// A small text file.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {what} {}: {error}", file.display())))
}

fn token_of(file: &Path) -> Result<String, Failure> {
    let token = read(file, "the token file")?.trim().to_owned();
    if token.is_empty() {
        return Err(Failure::new(
            Exit::NotAllowed,
            format!("the token file {} is empty", file.display()),
        ));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!("{} holds no token", file.display()))
            .help("it holds a token and nothing else, as the coordinator's admin.token does"));
    }
    Ok(token)
}

fn context(name: Option<&str>, surroundings: &Surroundings) -> Result<Option<Context>, Failure> {
    let Some(path) = &surroundings.config else {
        return Ok(None);
    };
    let mut config = config(path)?;
    let Some(name) = name.map(str::to_owned).or(config.current) else {
        return Ok(None);
    };
    match config.contexts.remove(&name) {
        Some(context) => Ok(Some(context)),
        None => {
            let known: Vec<String> = config.contexts.into_keys().collect();
            Err(
                Failure::usage(format!("{} has no context {name:?}", path.display())).help(
                    if known.is_empty() {
                        format!("make it with `holdfast login URL --name {name}`")
                    } else {
                        format!("known are {}", known.join(", "))
                    },
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Cli};

    fn global(line: &str) -> Global {
        let Cli { global, .. } = args::parse(line.split_whitespace()).unwrap();
        global
    }

    /// A configuration file with two contexts, the first of them current.
    fn configured(folder: &Path) -> Surroundings {
        let context = |server: &str| Context {
            server: server.to_owned(),
            token: Some(format!("token of {server}")),
            ca: Some(format!("ca of {server}")),
        };
        let path = folder.join("deep").join("config.toml");
        let config = Config {
            current: Some("one".to_owned()),
            contexts: [
                ("one".to_owned(), context("https://one:7443")),
                ("two".to_owned(), context("https://two:7443")),
            ]
            .into(),
        };
        save(&path, &config).unwrap();
        Surroundings {
            config: Some(path),
            ..Surroundings::default()
        }
    }

    #[test]
    fn without_flags_the_current_context_counts() {
        let folder = tempfile::tempdir().unwrap();
        let connection =
            connection(&global("holdfast status"), &configured(folder.path())).unwrap();
        assert_eq!(connection.server.as_str(), "https://one:7443/");
        assert_eq!(
            connection.token.as_deref(),
            Some("token of https://one:7443")
        );
        assert_eq!(connection.ca.as_deref(), Some("ca of https://one:7443"));
    }

    #[test]
    fn a_named_context_goes_before_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = configured(folder.path());
        let named = global("holdfast status --context two");
        let connection = connection(&named, &surroundings).unwrap();
        assert_eq!(connection.server.as_str(), "https://two:7443/");
        let missing = global("holdfast status --context three");
        let failure = super::connection(&missing, &surroundings).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.help.as_deref(), Some("known are one, two"));
    }

    #[test]
    fn a_server_that_is_named_never_gets_another_servers_token() {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = configured(folder.path());
        let named = global("holdfast status --server https://three:7443");
        let connection = connection(&named, &surroundings).unwrap();
        assert_eq!(connection.server.as_str(), "https://three:7443/");
        assert_eq!((connection.token, connection.ca), (None, None));
    }

    #[test]
    fn a_token_file_goes_before_the_environment_and_both_before_the_context() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        let mut surroundings = configured(folder.path());
        surroundings.token = Some("from-environment".to_owned());
        let plain = global("holdfast status");
        let token = |global: &Global, surroundings: &Surroundings| {
            connection(global, surroundings).unwrap().token.unwrap()
        };
        assert_eq!(token(&plain, &surroundings), "from-environment");
        let named = global(&format!("holdfast status --token-file {}", file.display()));
        assert_eq!(token(&named, &surroundings), "from-file");
        surroundings.token = None;
        surroundings.token_file = Some(file);
        assert_eq!(token(&plain, &surroundings), "from-file");
    }

    #[test]
    fn without_any_coordinator_the_help_says_how_to_name_one() {
        let failure = connection(&global("holdfast status"), &Surroundings::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.help.unwrap().contains("holdfast login"));
    }

    #[test]
    fn a_token_travels_in_the_clear_on_this_machine_only() {
        assert!(address("https://coordinator.example:7443").is_ok());
        assert!(address("http://127.0.0.1:8080").is_ok());
        for text in [
            "http://coordinator.example",
            "ftp://x",
            "coordinator:7443",
            "",
        ] {
            assert_eq!(address(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_file_that_holds_something_else_than_a_token_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.yaml");
        std::fs::write(&file, "kind: Service\nspec: {}\n").unwrap();
        let named = global(&format!("holdfast status --token-file {}", file.display()));
        let failure = token(&named, &Surroundings::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("web.yaml holds no token"));
    }

    #[test]
    fn the_configuration_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = configured(folder.path()).config.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(config(&path).unwrap().contexts.len(), 2);
        std::fs::write(&path, "nonsense = [").unwrap();
        assert_eq!(config(&path).unwrap_err().exit, Exit::Usage);
    }
}
