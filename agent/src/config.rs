//! Flags, environment and `agent.toml` become one [`Config`], by one pure function.

mod artifacts;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use holdfast_adapters::run::Settings;
use holdfast_adapters::static_files::destination::Destination;
use holdfast_adapters::{container, kubernetes, plugin, static_files};
use holdfast_protocol::name::{LabelKey, LabelValue, TargetName};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::time::parse_span;
use serde::Deserialize;

pub use self::artifacts::Artifacts;
use crate::checks::Allowed;
use crate::transport::Liveness;

/// The data directory of an agent that runs as root.
pub const DATA_OF_ROOT: &str = "/var/lib/holdfast-agent";
/// The socket of an agent that runs as root with that directory.
pub const SOCKET_OF_ROOT: &str = "/run/holdfast-agent/agent.sock";
/// The configuration file, if none is named.
pub const FILE: &str = "/etc/holdfast/agent.toml";
/// Silence after which something is sent on an idle connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Silence after which a connection is given up.
pub const IDLE: Duration = Duration::from_secs(30);
/// The longest pause between two attempts to connect.
pub const RECONNECT_MAX: Duration = Duration::from_secs(60);

/// Flags that every command has. Each is an environment variable and a key of `agent.toml`, too.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Where the agent keeps what it must know [default: /var/lib/holdfast-agent as root, else
    /// below $XDG_STATE_HOME]
    #[arg(long, global = true, env = "HOLDFAST_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration file [default: /etc/holdfast/agent.toml]
    #[arg(long, global = true, env = "HOLDFAST_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The socket of the running agent [default: /run/holdfast-agent/agent.sock as root, else in
    /// the data directory]
    #[arg(long, global = true, env = "HOLDFAST_SOCKET", value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// A directory on a tmpfs for files of secrets [default: /run/holdfast-secrets as root, else
    /// below /run/user or /dev/shm]
    #[arg(
        long,
        global = true,
        env = "HOLDFAST_SECRETS_DIRECTORY",
        value_name = "DIR"
    )]
    pub secrets_directory: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or filters like holdfast_agent=debug
    #[arg(long, global = true, env = "HOLDFAST_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged: text or json
    #[arg(
        long,
        global = true,
        env = "HOLDFAST_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    pub log_format: Option<LogFormat>,
    #[arg(long, global = true, hide = true, env = "XDG_STATE_HOME")]
    xdg_state_home: Option<PathBuf>,
    #[arg(long, global = true, hide = true, env = "HOME")]
    home: Option<PathBuf>,
}

/// Flags of `join` and `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct JoinFlags {
    /// The coordinator; several, separated by commas, are tried in turn
    #[arg(
        long,
        env = "HOLDFAST_COORDINATOR",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub coordinator: Vec<String>,
    /// The join token that `holdfast token create` printed
    #[arg(
        long,
        env = "HOLDFAST_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// A file that holds the join token
    #[arg(long, env = "HOLDFAST_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The target's name [default: its host name]
    #[arg(long, env = "HOLDFAST_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// A label of the target; may be repeated
    #[arg(
        long,
        env = "HOLDFAST_LABEL",
        value_name = "KEY=VALUE",
        value_delimiter = ','
    )]
    pub label: Vec<String>,
    /// Take over the name of a target that exists
    #[arg(long, env = "HOLDFAST_REPLACE")]
    pub replace: bool,
}

/// Flags of `run` alone, for tests and strange networks.
#[derive(Debug, Clone, Default, Args)]
pub struct LinkFlags {
    #[arg(
        long,
        hide = true,
        env = "HOLDFAST_RECONNECT_MAX",
        value_name = "DURATION"
    )]
    reconnect_max: Option<String>,
    #[arg(
        long,
        hide = true,
        env = "HOLDFAST_KEEP_ALIVE",
        value_name = "DURATION"
    )]
    keep_alive: Option<String>,
    #[arg(
        long,
        hide = true,
        env = "HOLDFAST_IDLE_TIMEOUT",
        value_name = "DURATION"
    )]
    idle_timeout: Option<String>,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `agent.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct File {
    data: Option<PathBuf>,
    socket: Option<PathBuf>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    coordinator: OneOrMore,
    token_file: Option<PathBuf>,
    name: Option<String>,
    label: BTreeMap<String, String>,
    replace: bool,
    reconnect_max: Option<String>,
    keep_alive: Option<String>,
    idle_timeout: Option<String>,
    checks: ChecksFile,
    container: ContainerFile,
    kubernetes: KubernetesFile,
    object_store: ObjectStoreFile,
    artifacts: artifacts::ArtifactsFile,
    secrets_directory: Option<PathBuf>,
    plugin_directory: Option<PathBuf>,
    plugins: BTreeMap<String, PluginFile>,
}

/// A table `[plugins.NAME]` of `agent.toml`: what one plugin may be. No manifest can say so.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct PluginFile {
    user: Option<String>,
    digest: Option<String>,
    environment: BTreeMap<String, String>,
}

/// The table `[container]` of `agent.toml`: which engine there is, and what it may be used for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ContainerFile {
    socket: Option<PathBuf>,
    credentials: Option<PathBuf>,
    mounts: Vec<PathBuf>,
    secrets_in_environment: bool,
}

/// The table `[object-store]` of `agent.toml`: how object storage is reached, and what may be written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ObjectStoreFile {
    credentials: Option<PathBuf>,
    destinations: Vec<String>,
    look: Option<String>,
    s3: BTreeMap<String, String>,
    gs: BTreeMap<String, String>,
    az: BTreeMap<String, String>,
}

/// The table `[kubernetes]` of `agent.toml`: which cluster there is, and where in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct KubernetesFile {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    namespace: Option<String>,
    namespaces: Vec<String>,
}

/// The table `[checks]` of `agent.toml`. What may run here is for the file alone to say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ChecksFile {
    programs: Option<bool>,
    user: Option<String>,
    directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

/// Everything that this program is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it keeps what it must know.
    pub data: PathBuf,
    /// Where `status`, `logs` and `leave` find it.
    pub socket: PathBuf,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// Coordinators, `HOST:PORT` each; empty where only the joined one is known.
    pub coordinators: Vec<String>,
    /// Where the join token is.
    pub token: TokenSource,
    /// The name it would like.
    pub name: Option<TargetName>,
    /// The labels it would like.
    pub labels: Labels,
    /// Whether to take over a name.
    pub replace: bool,
    /// How long silence lasts.
    pub liveness: Liveness,
    /// The longest pause between two attempts to connect.
    pub reconnect_max: Duration,
    /// Which checks may run here, and how.
    pub checks: Allowed,
    /// Where artifacts come from.
    pub artifacts: Artifacts,
    /// What its runtimes are told.
    pub runtimes: Settings,
}

/// Where the join token is.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// There is none.
    None,
    /// It was given.
    Given(String),
    /// It is in a file.
    File(PathBuf),
}

/// The token stays out of every log.
impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Given(_) => f.write_str("Given"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ConfigError {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub help: String,
}

/// Puts a configuration together: a flag (or its environment variable) before the file's key before
/// the default. `root` tells whether this process is the superuser's.
///
/// # Errors
/// [`ConfigError`] for the first value that cannot be used.
pub fn config(
    flags: &Flags,
    join: &JoinFlags,
    link: &LinkFlags,
    file: File,
    root: bool,
) -> Result<Config, ConfigError> {
    let data = flags.data.clone().or(file.data);
    let data = data.map_or_else(|| default_data(flags, root), Ok)?;
    // Workloads are started in directories of their own: a path from here would lead elsewhere.
    let data = std::path::absolute(&data).unwrap_or(data);
    let socket = flags.socket.clone().or(file.socket);
    let socket = socket.unwrap_or_else(|| default_socket(&data, root));
    let coordinators = if join.coordinator.is_empty() {
        match file.coordinator {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    } else {
        join.coordinator.clone()
    };
    for coordinator in &coordinators {
        check_coordinator(coordinator)?;
    }
    // In an operator's shell the variable may hold a token for the API: a file that is named wins then.
    let token_file = join.token_file.clone().or(file.token_file);
    let given = join.token.clone();
    let token = match (given, token_file) {
        (Some(token), Some(path)) if !token.starts_with("hf1.") => TokenSource::File(path),
        (Some(token), _) => TokenSource::Given(token),
        (None, Some(path)) => TokenSource::File(path),
        (None, None) => TokenSource::None,
    };
    let name = join.name.clone().or(file.name);
    let name = name.map(|name| TargetName::parse(&name)).transpose();
    let labels = labels(&file.label, &join.label)?;
    let span = |flag: &Option<String>, key: Option<String>, default| {
        let text = flag.clone().or(key);
        let span = text.map(|text| parse_span(&text)).transpose();
        span.map(|span| span.unwrap_or(default))
            .map_err(|e| refused(e, "write 250ms, 20s or 1m"))
    };
    let runtimes = Settings {
        container: container(file.container, &data)?,
        kubernetes: cluster(file.kubernetes)?,
        plugins: plugins(file.plugin_directory, file.plugins)?,
        object_store: object_store(file.object_store)?,
        owner: None,
        secrets: secrets::directory(flags.secrets_directory.clone().or(file.secrets_directory))?,
    };
    let credentials = runtimes.container.credentials.as_deref();
    Ok(Config {
        artifacts: artifacts::artifacts(file.artifacts, credentials)?,
        runtimes,
        data,
        socket,
        log: flags
            .log
            .clone()
            .or(file.log)
            .unwrap_or_else(|| "info".to_owned()),
        log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
        coordinators,
        token,
        name: name.map_err(|error| refused(error.to_string(), "choose another --name"))?,
        labels,
        replace: join.replace || file.replace,
        liveness: Liveness {
            keep_alive: span(&link.keep_alive, file.keep_alive, KEEP_ALIVE)?,
            idle: span(&link.idle_timeout, file.idle_timeout, IDLE)?,
        },
        reconnect_max: span(&link.reconnect_max, file.reconnect_max, RECONNECT_MAX)?,
        checks: Allowed {
            programs: file.checks.programs.unwrap_or(true),
            user: file.checks.user,
            directory: file.checks.directory,
        },
    })
}

/// Reads `agent.toml`; an empty one where none was named and the usual one is not there.
///
/// # Errors
/// [`ConfigError`] where it cannot be read or says something unknown.
pub fn read_file(named: Option<&Path>) -> Result<File, ConfigError> {
    let path = named.unwrap_or(Path::new(FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(File::default());
        }
        Err(error) => {
            let problem = format!("could not read {}: {error}", path.display());
            return Err(refused(problem, "name another file with --config"));
        }
    };
    toml::from_str(&text).map_err(|error| {
        let problem = format!("{}: {}", path.display(), error.to_string().trim_end());
        refused(
            problem,
            "see `holdfast-agent run --help` for what can be set",
        )
    })
}

/// The labels of the file, and over them those of the flags.
fn labels(file: &BTreeMap<String, String>, flags: &[String]) -> Result<Labels, ConfigError> {
    let mut labels = Labels::new();
    for (key, value) in file {
        labels.extend([label(key, value)?]);
    }
    for text in flags {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            refused(
                format!("{text:?} is not a label"),
                "write --label KEY=VALUE",
            )
        })?;
        labels.extend([label(key, value)?]);
    }
    Ok(labels)
}

/// Paths are whole ones: the agent may be started anywhere.
fn container(file: ContainerFile, data: &Path) -> Result<container::Settings, ConfigError> {
    let mut paths = file
        .socket
        .iter()
        .chain(&file.credentials)
        .chain(&file.mounts);
    if let Some(path) = paths.find(|path| !path.is_absolute()) {
        let problem = format!("[container]: {} is not an absolute path", path.display());
        return Err(refused(problem, "write the whole path, from /"));
    }
    Ok(container::Settings {
        socket: file.socket,
        credentials: file.credentials,
        mounts: file.mounts,
        secrets_in_environment: file.secrets_in_environment,
        guarded: vec![data.to_owned()],
    })
}

/// The target's name is known only later. Keys are written with dashes, as everywhere in the file.
fn object_store(file: ObjectStoreFile) -> Result<static_files::Settings, ConfigError> {
    let at = |problem: String| format!("[object-store]: {problem}");
    let mut options = BTreeMap::new();
    for (scheme, table) in [("s3", file.s3), ("gs", file.gs), ("az", file.az)] {
        let mut own = BTreeMap::new();
        for (key, value) in table {
            let key = key.replace('-', "_");
            static_files::check_option(scheme, &key).map_err(|problem| {
                refused(at(problem), "see docs/adapters.md for what can be set")
            })?;
            own.insert(key, value);
        }
        options.insert(scheme.to_owned(), own);
    }
    if let Some(path) = file
        .credentials
        .as_deref()
        .filter(|path| !path.is_absolute())
    {
        let problem = at(format!("{} is not an absolute path", path.display()));
        return Err(refused(problem, "write the whole path, from /"));
    }
    let destinations = file
        .destinations
        .iter()
        .map(|text| Destination::parse(text));
    let destinations = destinations.collect::<Result<_, _>>();
    let look = file.look.map(|text| parse_span(&text)).transpose();
    let look = look.map_err(|problem| refused(at(problem), "write 30s or 5m"))?;
    Ok(static_files::Settings {
        options,
        credentials: file.credentials,
        destinations: destinations
            .map_err(|problem| refused(at(problem), "write s3://BUCKET/PREFIX"))?,
        look: look.unwrap_or(static_files::LOOK_DEFAULT),
        ..static_files::Settings::default()
    })
}

/// A context is one of a kubeconfig.
fn cluster(file: KubernetesFile) -> Result<kubernetes::Settings, ConfigError> {
    if let Some(path) = file.kubeconfig.as_ref().filter(|path| !path.is_absolute()) {
        let problem = format!("[kubernetes]: {} is not an absolute path", path.display());
        return Err(refused(problem, "write the whole path, from /"));
    }
    if let (None, Some(context)) = (&file.kubeconfig, &file.context) {
        let problem = format!("[kubernetes]: context {context:?} is of no kubeconfig");
        return Err(refused(problem, "name the kubeconfig, too"));
    }
    Ok(kubernetes::Settings {
        kubeconfig: file.kubeconfig,
        context: file.context,
        namespace: file.namespace,
        namespaces: file.namespaces,
    })
}

/// The launcher and the target's name are known only later.
fn plugins(
    directory: Option<PathBuf>,
    files: BTreeMap<String, PluginFile>,
) -> Result<plugin::Settings, ConfigError> {
    let mut settings = plugin::Settings::default();
    if let Some(directory) = directory {
        if !directory.is_absolute() {
            let problem = format!("plugin-directory: {} is not absolute", directory.display());
            return Err(refused(problem, "write the whole path, from /"));
        }
        settings.directory = directory;
    }
    for (name, file) in files {
        let digest = file.digest.map(|text| text.parse()).transpose();
        let digest = digest.map_err(|error| {
            let problem = format!("[plugins.{name}]: the digest is refused: {error}");
            refused(
                problem,
                "write sha256: and 64 digits, as sha256sum prints them",
            )
        })?;
        let own = plugin::Own {
            user: file.user,
            digest,
            environment: file.environment,
        };
        settings.own.insert(name, own);
    }
    Ok(settings)
}

fn default_data(flags: &Flags, root: bool) -> Result<PathBuf, ConfigError> {
    if root {
        return Ok(PathBuf::from(DATA_OF_ROOT));
    }
    let state = flags
        .xdg_state_home
        .clone()
        .filter(|path| path.is_absolute());
    let state = state.or_else(|| flags.home.as_ref().map(|home| home.join(".local/state")));
    state
        .map(|state| state.join("holdfast-agent"))
        .ok_or_else(|| {
            refused(
                "there is no home directory to keep data in".to_owned(),
                "give --data DIR",
            )
        })
}

fn default_socket(data: &Path, root: bool) -> PathBuf {
    if root && data == Path::new(DATA_OF_ROOT) {
        PathBuf::from(SOCKET_OF_ROOT)
    } else {
        data.join("agent.sock")
    }
}

fn check_coordinator(text: &str) -> Result<(), ConfigError> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(port)) if port > 0 => Ok(()),
        Some(_) | None => Err(refused(
            format!("{text:?} is not a coordinator's address"),
            "write --coordinator HOST:PORT, such as deploy.example.com:7443",
        )),
    }
}

fn label(key: &str, value: &str) -> Result<(LabelKey, LabelValue), ConfigError> {
    let refused = |error: holdfast_protocol::name::NameError| {
        refused(error.to_string(), "write --label KEY=VALUE")
    };
    Ok((
        LabelKey::parse(key).map_err(refused)?,
        LabelValue::parse(value).map_err(refused)?,
    ))
}

fn refused(problem: String, help: &str) -> ConfigError {
    ConfigError {
        problem,
        help: help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(flags: &Flags, join: &JoinFlags, file: &str, root: bool) -> Result<Config, String> {
        let file = toml::from_str(file).map_err(|error| error.to_string())?;
        config(flags, join, &LinkFlags::default(), file, root).map_err(|e| e.problem)
    }

    #[test]
    fn root_and_others_have_their_own_defaults() {
        let root = made(&Flags::default(), &JoinFlags::default(), "", true).unwrap();
        assert_eq!(root.data, Path::new(DATA_OF_ROOT));
        assert_eq!(root.socket, Path::new(SOCKET_OF_ROOT));
        let home = Flags {
            home: Some("/home/ada".into()),
            ..Flags::default()
        };
        let ada = made(&home, &JoinFlags::default(), "", false).unwrap();
        assert_eq!(ada.data, Path::new("/home/ada/.local/state/holdfast-agent"));
        assert_eq!(ada.socket, ada.data.join("agent.sock"));
        assert!(made(&Flags::default(), &JoinFlags::default(), "", false).is_err());
    }

    #[test]
    fn another_data_directory_has_its_own_socket_also_for_root() {
        let flags = Flags {
            data: Some("/srv/agent".into()),
            ..Flags::default()
        };
        let config = made(&flags, &JoinFlags::default(), "", true).unwrap();
        assert_eq!(config.socket, Path::new("/srv/agent/agent.sock"));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file =
            "coordinator = \"a:1\"\nname = \"one\"\nkeep-alive = \"5s\"\n[label]\nrack = \"7\"";
        let join = JoinFlags {
            name: Some("two".to_owned()),
            label: vec!["role=web".to_owned()],
            ..JoinFlags::default()
        };
        let config = made(&Flags::default(), &join, file, true).unwrap();
        assert_eq!(config.coordinators, ["a:1"]);
        assert_eq!(config.name.unwrap().as_str(), "two");
        assert_eq!(config.labels.len(), 2);
        assert_eq!(config.liveness.keep_alive, Duration::from_secs(5));
    }

    #[test]
    fn object_storage_is_described_in_the_file_and_its_secrets_are_not() {
        let join = JoinFlags::default();
        let read = |file: &str| made(&Flags::default(), &join, file, true);
        let file = "[object-store]\ndestinations = [\"s3://team-web/sites\"]\nlook = \"1m\"\n\
                    [object-store.s3]\nendpoint = \"http://127.0.0.1:9000\"\nallow-http = \"true\"";
        let settings = read(file).unwrap().runtimes.object_store;
        assert_eq!(settings.look, Duration::from_secs(60));
        assert_eq!(settings.options["s3"]["allow_http"], "true");
        assert_eq!(settings.destinations.len(), 1);
        let why = read("[object-store.s3]\nsecret-access-key = \"hunter2\"").unwrap_err();
        assert!(
            why.contains("credentials") && !why.contains("hunter2"),
            "{why}"
        );
        for bad in [
            "[object-store]\ndestinations = [\"ftp://x\"]",
            "[object-store]\ncredentials = \"relative\"",
            "[object-store.s3]\ncolour = \"red\"",
        ] {
            let why = read(bad).unwrap_err();
            assert!(why.starts_with("[object-store]"), "{why}");
        }
    }

    #[test]
    fn the_container_engine_is_described_in_the_file() {
        let file = "[container]\nsocket = \"/run/podman/podman.sock\"\n\
                    credentials = \"/etc/holdfast/registries.json\"\nmounts = [\"/srv\"]";
        let join = JoinFlags::default();
        let config = made(&Flags::default(), &join, file, true).unwrap();
        let settings = config.runtimes.container;
        assert_eq!(settings.socket, Some("/run/podman/podman.sock".into()));
        assert_eq!(settings.mounts, [PathBuf::from("/srv")]);
        assert_eq!(settings.guarded, [PathBuf::from(DATA_OF_ROOT)]);
        let relative = "[container]\nmounts = [\"srv\"]";
        let refused = made(&Flags::default(), &join, relative, true).unwrap_err();
        assert!(refused.contains("srv is not an absolute path"), "{refused}");
        let unknown = "[container]\nprivileged = true";
        assert!(made(&Flags::default(), &join, unknown, true).is_err());
    }

    #[test]
    fn the_cluster_is_described_in_the_file() {
        let join = JoinFlags::default();
        let file = "[kubernetes]\nkubeconfig = \"/etc/holdfast/kubeconfig\"\ncontext = \"eu\"\n\
                    namespace = \"holdfast\"\nnamespaces = [\"shop\"]";
        let config = made(&Flags::default(), &join, file, true).unwrap();
        let settings = config.runtimes.kubernetes;
        assert_eq!(settings.kubeconfig, Some("/etc/holdfast/kubeconfig".into()));
        assert_eq!(settings.context.as_deref(), Some("eu"));
        assert_eq!(settings.namespace.as_deref(), Some("holdfast"));
        assert_eq!(settings.namespaces, ["shop"]);
        for (bad, part) in [
            (
                "[kubernetes]\nkubeconfig = \"config\"",
                "not an absolute path",
            ),
            ("[kubernetes]\ncontext = \"eu\"", "of no kubeconfig"),
            ("[kubernetes]\ntoken = \"x\"", "token"),
        ] {
            let refused = made(&Flags::default(), &join, bad, true).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn plugins_are_described_in_the_file_alone() {
        let file = "plugin-directory = \"/opt/plugins\"\n[plugins.dns]\nuser = \"root\"\n\
                    environment = {ZONE = \"example.org\"}";
        let join = JoinFlags::default();
        let settings = made(&Flags::default(), &join, file, true)
            .unwrap()
            .runtimes
            .plugins;
        assert_eq!(settings.directory, Path::new("/opt/plugins"));
        let dns = &settings.own["dns"];
        assert_eq!(dns.user.as_deref(), Some("root"));
        assert_eq!(dns.environment["ZONE"], "example.org");
        for (bad, part) in [
            ("plugin-directory = \"plugins\"", "not absolute"),
            ("[plugins.dns]\ndigest = \"x\"", "[plugins.dns]: the digest"),
            ("[plugins.dns]\nprivileged = true", "privileged"),
        ] {
            let refused = made(&Flags::default(), &join, bad, true).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |join: JoinFlags| made(&Flags::default(), &join, "", true).unwrap_err();
        let coordinator = |text: &str| JoinFlags {
            coordinator: vec![text.to_owned()],
            ..JoinFlags::default()
        };
        for bad in ["host", "host:", ":7443", "host:99999", "host:0"] {
            assert!(refused(coordinator(bad)).contains(bad));
        }
        let name = JoinFlags {
            name: Some("No".to_owned()),
            ..JoinFlags::default()
        };
        assert!(refused(name).contains("target name"));
        let label = JoinFlags {
            label: vec!["x".to_owned()],
            ..JoinFlags::default()
        };
        assert!(refused(label).contains("\"x\" is not a label"));
        assert!(made(&Flags::default(), &JoinFlags::default(), "colour = 1", true).is_err());
    }
}
