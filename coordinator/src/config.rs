//! Arguments, environment and file, made into one configuration: flags win over the environment,
//! which wins over the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use holdfast_homes::reach::Allowed;
use holdfast_homes::way::{PATIENCE, Rules};
use holdfast_protocol::time::parse_span;

/// Where the configuration file is unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/holdfast/coordinator.toml";
/// Where everything is kept unless told otherwise.
pub const DEFAULT_DATA: &str = "/var/lib/holdfast-coordinator";

/// The centre of a Holdfast installation.
#[derive(Debug, Parser)]
#[command(name = "holdfast-coordinator", version, about, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve agents and the API. An empty data directory becomes a new installation.
    #[command(after_help = "Examples:\n  \
        holdfast-coordinator serve\n  \
        holdfast-coordinator serve --data ./data --listen 127.0.0.1:0 --api 127.0.0.1:0")]
    Serve(ServeArguments),
    /// Write a consistent copy of everything into one new file. May run beside a coordinator.
    #[command(after_help = "Example:\n  holdfast-coordinator backup /srv/backup/2026-11-21.tar")]
    Backup {
        /// The file to make.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Put the content of a backup into a new data directory, and check it.
    #[command(after_help = "Example:\n  holdfast-coordinator restore 2026-11-21.tar --data ./data")]
    Restore {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Bring the database's schema to a version; `serve` does so by itself.
    Migrate {
        /// The version; the newest otherwise.
        #[arg(long, env = "HOLDFAST_TO")]
        to: Option<i64>,
        #[command(flatten)]
        place: Place,
    },
    /// Become a program of a check; only the coordinator itself calls this.
    #[command(hide = true)]
    Confine,
    /// Verify the database, the history's hash chain and the certificate authorities.
    Check(Place),
}

/// Where the data is.
#[derive(Debug, Args)]
pub struct Place {
    /// The data directory [default: /var/lib/holdfast-coordinator]
    #[arg(long, env = "HOLDFAST_DATA")]
    pub data: Option<PathBuf>,
    /// The configuration file [default: /etc/holdfast/coordinator.toml]
    #[arg(long, env = "HOLDFAST_CONFIG")]
    pub config: Option<PathBuf>,
}

/// How to serve.
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    pub place: Place,
    /// UDP address for agents; port 0 takes a free one [default: 0.0.0.0:7443]
    #[arg(long, env = "HOLDFAST_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// TCP address for the API; port 0 takes a free one [default: 127.0.0.1:7443]
    #[arg(long, env = "HOLDFAST_API")]
    pub api: Option<SocketAddr>,
    /// A host name or address by which others reach this coordinator; goes into its certificate. May
    /// be repeated.
    #[arg(long = "host", env = "HOLDFAST_HOST", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// The database. Only the embedded one is supported by this version.
    #[arg(long, env = "HOLDFAST_STORE")]
    pub store: Option<String>,
}

/// The file, with the same names as the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    api: Option<SocketAddr>,
    #[serde(default)]
    host: Vec<String>,
    store: Option<String>,
    #[serde(default)]
    checks: Checks,
    #[serde(default)]
    notifiers: Notifiers,
    #[serde(default)]
    artifacts: Artifacts,
}

/// The table `[artifacts]`: how long uploads stay, and where files that stay elsewhere are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Artifacts {
    /// How many of the newest releases of each service keep their uploads, besides those that are
    /// deployed or wanted.
    pub keep: usize,
    /// How long an upload stays in any case.
    pub grace: Span,
    /// How often is looked.
    pub every: Span,
    /// Most bytes that are kept of files fetched for targets.
    pub relay: Bytes,
    /// The file with credentials of registries and web servers, as `docker login` writes it.
    pub credentials: Option<PathBuf>,
    /// A PEM file with authorities that are believed beside the machine's own.
    pub certificates: Option<PathBuf>,
    /// Hosts, `HOST` or `HOST:PORT`, that are asked by plain `http`.
    pub insecure: Vec<String>,
    /// Hosts and networks that would be refused for their address.
    pub allow: Vec<Allowed>,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            keep: 20,
            grace: Span(Duration::from_secs(24 * 60 * 60)),
            every: Span(Duration::from_secs(60 * 60)),
            relay: Bytes(10 << 30),
            credentials: None,
            certificates: None,
            insecure: Vec::new(),
            allow: Vec::new(),
        }
    }
}

impl Artifacts {
    /// Where files are fetched from.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            insecure: self.insecure.clone(),
            allow: self.allow.clone(),
            credentials: self.credentials.clone(),
            certificates: self.certificates.clone(),
            file: "coordinator.toml",
            patience: PATIENCE,
        }
    }
}

/// A span of time: `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_span(&text).map(Self)
    }
}

/// A number of bytes: `10GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(pub u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let unit = units
            .into_iter()
            .find_map(|(name, bits)| Some((text.strip_suffix(name)?, bits)));
        let (number, bits) = unit.unwrap_or((&text, 0));
        let bytes = number.trim().parse::<u64>().ok();
        let bytes = bytes.and_then(|bytes| bytes.checked_mul(1 << bits));
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no number of bytes; write 500MiB or 10GiB"))
    }
}

/// The table `[checks]`: what checks may do on this machine. For the file alone to say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// Whether programs run on this coordinator.
    pub programs: bool,
    /// Whom they run as: `nobody` for a coordinator of the superuser. Others have to name their own
    /// user, who can read their keys.
    pub user: Option<String>,
    /// Where they begin; each in a temporary directory of its own otherwise.
    pub directory: Option<PathBuf>,
}

/// The table `[notifiers]`: where messages may go, and where their secrets are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notifiers {
    /// The directory of the files that notifiers name; `notifiers` in the data directory otherwise.
    pub directory: Option<PathBuf>,
    /// Hosts and networks that are not public, and that messages may go to, also over plain HTTP.
    pub allow: Vec<Allowed>,
}

/// Everything that `serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// UDP address for agents.
    pub listen: SocketAddr,
    /// TCP address for the API.
    pub api: SocketAddr,
    /// Names and addresses for the certificate, besides `localhost`.
    pub hosts: Vec<String>,
    /// What checks may do on this machine.
    pub checks: Checks,
    /// Where messages may go.
    pub notifiers: Notifiers,
    /// Where artifacts come from, and how long they stay.
    pub artifacts: Artifacts,
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {problem}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the place.
        problem: String,
    },
    /// A database that this version cannot use.
    #[error("--store {0}: only the embedded database (sqlite) is supported by this version")]
    Store(String),
}

/// Reads the configuration file. One that nobody named may be missing.
///
/// # Errors
/// [`ConfigError`] when it cannot be read or holds an unknown key.
pub fn read_file(named: Option<&PathBuf>) -> Result<File, ConfigError> {
    let path = named.cloned().unwrap_or_else(|| DEFAULT_FILE.into());
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path,
            problem: error.to_string(),
        }),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Ok(File::default())
        }
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// The data directory that is meant.
#[must_use]
pub fn data(place: &Place, file: &File) -> PathBuf {
    place
        .data
        .clone()
        .or_else(|| file.data.clone())
        .unwrap_or_else(|| DEFAULT_DATA.into())
}

/// The configuration of `serve`.
///
/// # Errors
/// [`ConfigError::Store`].
pub fn serve(arguments: &ServeArguments, file: &File) -> Result<Config, ConfigError> {
    let store = arguments.store.clone().or_else(|| file.store.clone());
    if let Some(other) = store.filter(|store| store != "sqlite") {
        return Err(ConfigError::Store(other));
    }
    let any = SocketAddr::from(([0, 0, 0, 0], 7443));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 7443));
    let hosts = if arguments.hosts.is_empty() {
        file.host.clone()
    } else {
        arguments.hosts.clone()
    };
    Ok(Config {
        data: data(&arguments.place, file),
        listen: arguments.listen.or(file.listen).unwrap_or(any),
        api: arguments.api.or(file.api).unwrap_or(loopback),
        hosts,
        checks: file.checks.clone(),
        notifiers: file.notifiers.clone(),
        artifacts: file.artifacts.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(listen: Option<&str>) -> ServeArguments {
        ServeArguments {
            place: Place {
                data: None,
                config: None,
            },
            listen: listen.map(|text| text.parse().unwrap()),
            api: None,
            hosts: Vec::new(),
            store: None,
        }
    }

    #[test]
    fn flags_win_over_the_file_which_wins_over_defaults() {
        let file: File = toml::from_str("listen = '10.0.0.1:1'\nhost = ['a.example']").unwrap();
        let config = serve(&arguments(None), &file).unwrap();
        assert_eq!(config.listen.to_string(), "10.0.0.1:1");
        assert_eq!(config.hosts, ["a.example"]);
        assert_eq!(config.api.to_string(), "127.0.0.1:7443");
        let config = serve(&arguments(Some("127.0.0.1:2")), &file).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:2");
    }

    #[test]
    fn an_unknown_key_and_an_unknown_database_are_refused() {
        assert!(toml::from_str::<File>("lisen = '1.2.3.4:5'").is_err());
        let mut arguments = arguments(None);
        arguments.store = Some("postgres://db".to_owned());
        assert!(serve(&arguments, &File::default()).is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
