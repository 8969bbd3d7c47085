//! The commands of `holdfast-agent`: what each prints, and how each ends.

mod adapter;
mod hold;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LOG_TAIL_MAX_LINES;
use holdfast_protocol::terminal::clean;
use holdfast_protocol::time::{Timestamp, parse_span};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{self, Config, ConfigError, Flags, JoinFlags, LinkFlags};
use crate::event::Leave;
use crate::join::JoinError;
use crate::run::{self, Home, RunError, is_impostor};
use crate::snapshot::Snapshot;
use crate::socket::{self, AskError, Reply, Request};

use hold::HoldFlags;

/// The operation failed.
pub const EXIT_FAILED: u8 = 1;
/// There is no such thing.
pub const EXIT_NOT_FOUND: u8 = 3;
/// Not allowed, or not believed.
pub const EXIT_REFUSED: u8 = 4;
/// The coordinator cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 5;
/// The command line or the configuration is wrong.
pub const EXIT_USAGE: u8 = 64;

/// Keeps this machine as its coordinator wants it, also while disconnected.
#[derive(Debug, Parser)]
#[command(name = "holdfast-agent", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join an environment with a token, and keep the certificate
    #[command(
        after_help = "Example:\n  holdfast-agent join --coordinator deploy.example.com:7443 --token hf1.…"
    )]
    Join(JoinFlags),
    /// Run; joins first where this target has not joined and a token is given
    #[command(
        after_help = "Example:\n  holdfast-agent run\n  holdfast-agent run --coordinator deploy.example.com:7443 --token-file /etc/holdfast/token"
    )]
    Run {
        #[command(flatten)]
        join: Box<JoinFlags>,
        #[command(flatten)]
        link: LinkFlags,
    },
    /// Show how this target stands; also while disconnected
    #[command(after_help = "Example:\n  holdfast-agent status -o json")]
    Status {
        /// table or json
        #[arg(short, long, default_value = "table", env = "HOLDFAST_OUTPUT")]
        output: Output,
    },
    /// Print the output of a workload
    #[command(after_help = "Example:\n  holdfast-agent logs web -f --since 10m")]
    Logs {
        /// The service
        service: String,
        /// Go on with new lines
        #[arg(short, long, env = "HOLDFAST_FOLLOW")]
        follow: bool,
        /// At most this many lines from the past
        #[arg(
            long,
            default_value_t = 200,
            value_name = "LINES",
            env = "HOLDFAST_TAIL"
        )]
        tail: u32,
        /// Only lines younger than this, such as 10m
        #[arg(long, value_name = "DURATION", env = "HOLDFAST_SINCE")]
        since: Option<String>,
    },
    /// Ask to be left alone for a while: what runs is kept, and no new release is taken
    #[command(
        after_help = "Example:\n  holdfast-agent hold --for 2h --reason \"inventory\"\n  holdfast-agent hold --for 30m --reason \"a customer is here\""
    )]
    Hold(HoldFlags),
    /// End that at once: what has waited begins
    #[command(after_help = "Example:\n  holdfast-agent unhold")]
    Unhold,
    /// Leave for good: the coordinator forgets this target, and it forgets everything
    #[command(after_help = "Example:\n  holdfast-agent leave --remove-workloads")]
    Leave {
        /// Remove the workloads, too; else they go on with nobody to look after them
        #[arg(long, env = "HOLDFAST_REMOVE_WORKLOADS")]
        remove_workloads: bool,
    },
    /// The runtimes that this agent can bring about
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// Become a workload; only the agent itself calls this
    #[command(hide = true)]
    Launch,
    /// Become a check; only the agent itself calls this
    #[command(hide = true)]
    Confine,
}

#[derive(Debug, Subcommand)]
enum AdapterCommand {
    /// List them, and the plugins of this target
    List,
    /// Run the conformance suite against a plugin of this target
    #[command(after_help = "Example:\n  holdfast-agent adapter test hello")]
    Test {
        /// The plugin, as in `runtime: plugin/NAME`
        name: String,
        /// What the suite is to know of it [default: NAME.test.json beside the plugin]
        #[arg(long, value_name = "FILE", env = "HOLDFAST_TRIAL")]
        trial: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// A failed command: what it says and its exit code.
#[derive(Debug)]
pub struct Failed {
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The exit code.
    pub code: u8,
}

/// Runs one command to its end.
///
/// # Errors
/// [`Failed`].
pub async fn command(arguments: Arguments) -> Result<(), Failed> {
    let Arguments { flags, command } = arguments;
    let none = (JoinFlags::default(), LinkFlags::default());
    match command {
        Command::Join(join) => join_now(configured(&flags, &join, &none.1)?).await,
        Command::Run { join, link } => run_until_stopped(configured(&flags, &join, &link)?).await,
        Command::Status { output } => {
            status(&configured(&flags, &none.0, &none.1)?.socket, output).await
        }
        Command::Logs {
            service,
            follow,
            tail,
            since,
        } => {
            let socket = configured(&flags, &none.0, &none.1)?.socket;
            logs(
                &socket,
                logs_request(&service, follow, tail, since.as_deref())?,
            )
            .await
        }
        Command::Hold(hold) => {
            // What is wrong with the words needs no agent to be told.
            let wish = hold::request(&hold)?;
            hold::hold(&configured(&flags, &none.0, &none.1)?.socket, &wish).await
        }
        Command::Unhold => hold::unhold(&configured(&flags, &none.0, &none.1)?.socket).await,
        Command::Leave { remove_workloads } => {
            leave(configured(&flags, &none.0, &none.1)?, remove_workloads).await
        }
        Command::Adapter(command) => {
            adapter::run(command, configured(&flags, &none.0, &none.1)?).await
        }
        // `main` has taken this way already, before any thread was started.
        Command::Launch | Command::Confine => {
            Err(failed("only the agent itself calls this", None, EXIT_USAGE))
        }
    }
}

/// The configuration, and what is logged from now on.
fn configured(flags: &Flags, join: &JoinFlags, link: &LinkFlags) -> Result<Config, Failed> {
    let file = config::read_file(flags.config.as_deref())?;
    let root = rustix::process::geteuid().is_root();
    let config = config::config(flags, join, link, file, root)?;
    start_logging(&config)?;
    Ok(config)
}

fn start_logging(config: &Config) -> Result<(), Failed> {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter: Targets = config.log.parse().map_err(|error| {
        failed(
            format!("{:?} is not a log filter: {error}", config.log),
            Some("write a level, or TARGET=LEVEL, with commas between"),
            EXIT_USAGE,
        )
    })?;
    // The client of container engines would log whole requests, and with them what a workload's
    // environment holds.
    let filter = filter.with_target("bollard", LevelFilter::INFO);
    let filtered = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match config.log_format {
        config::LogFormat::Text => filtered.with(lines.with_ansi(false)).init(),
        config::LogFormat::Json => filtered.with(lines.json()).init(),
    }
    Ok(())
}

async fn join_now(config: Config) -> Result<(), Failed> {
    let home = Home::take(&config.data)?;
    let (identity, fresh) = run::join_once(&home, &config).await?;
    let who = &identity.certificate.identity;
    let already = if fresh { "" } else { "already " };
    print(&format!(
        "{already}joined {} as {}\n",
        who.environment, who.target
    ))
}

async fn run_until_stopped(config: Config) -> Result<(), Failed> {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(no_signals)?,
        signal(SignalKind::interrupt()).map_err(no_signals)?,
    );
    let waiting = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
    });
    let ended = run::run(config, None, stop).await;
    waiting.abort();
    ended?;
    Ok(())
}

async fn status(path: &Path, output: Output) -> Result<(), Failed> {
    let mut answers = socket::ask(path, &Request::Status).await?;
    match answers.next().await? {
        Some(Reply::Status(snapshot)) => match output {
            Output::Table => print(&clean(&table(&snapshot))),
            Output::Json => {
                let json = serde_json::to_string(&snapshot).map_err(AskError::Answer)?;
                print(&(json + "\n"))
            }
        },
        other => Err(unexpected(other)),
    }
}

fn logs_request(
    service: &str,
    follow: bool,
    tail: u32,
    since: Option<&str>,
) -> Result<Request, Failed> {
    let usage = |message: String| failed(message, None, EXIT_USAGE);
    let service = ServiceName::parse(service).map_err(|error| usage(error.to_string()))?;
    let span = since.map(parse_span).transpose().map_err(usage)?;
    let now = clock::wall();
    let since = span.map(|span| {
        let span = holdfast_protocol::time::millis(span);
        Timestamp::from_millis(now.as_millis().saturating_sub(span))
    });
    Ok(Request::Logs {
        service,
        tail: tail.min(LOG_TAIL_MAX_LINES),
        since,
        follow,
    })
}

async fn logs(path: &Path, request: Request) -> Result<(), Failed> {
    let mut answers = socket::ask(path, &request).await?;
    loop {
        match answers.next().await? {
            Some(Reply::Line { text, .. }) => print(&(clean(&text) + "\n"))?,
            None => return Ok(()),
            Some(Reply::Error { message }) => {
                return Err(failed(message, None, EXIT_NOT_FOUND));
            }
            other @ Some(Reply::Status(_) | Reply::Held { .. } | Reply::Left { .. }) => {
                return Err(unexpected(other));
            }
        }
    }
}

async fn leave(config: Config, remove_workloads: bool) -> Result<(), Failed> {
    let asked = socket::ask(&config.socket, &Request::Leave { remove_workloads }).await;
    let warning = match asked {
        Ok(mut answers) => match answers.next().await? {
            Some(Reply::Left { warning }) => warning,
            other => return Err(unexpected(other)),
        },
        // Nobody runs: run for as long as it takes to leave.
        Err(AskError::NotRunning { .. }) => {
            let (done, mut told) = oneshot::channel();
            let leave = Leave {
                remove_workloads,
                done,
            };
            run::run(config, Some(leave), CancellationToken::new()).await?;
            told.try_recv().ok().flatten()
        }
        Err(error @ (AskError::Broken(_) | AskError::Answer(_))) => return Err(error.into()),
    };
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    print("left\n")
}

/// The status for people.
fn table(snapshot: &Snapshot) -> String {
    let link = match (&snapshot.last_error, snapshot.connected) {
        (_, true) => format!("connected since {}", snapshot.since),
        (Some(why), false) => format!("not connected since {}: {why}", snapshot.since),
        (None, false) => format!("not connected since {}", snapshot.since),
    };
    let generation = match (snapshot.epoch, snapshot.generation) {
        (Some(epoch), Some(number)) => format!("assignment {epoch}.{number}"),
        _ => "no assignment".to_owned(),
    };
    let mut text = format!(
        "{} in {}: {link}; {generation}\n",
        snapshot.name, snapshot.environment
    );
    if let Some(hold) = &snapshot.hold {
        text += &hold::line(hold);
    }
    for condition in &snapshot.conditions {
        text += &format!(
            "! {:?} since {}: {}\n",
            condition.kind, condition.since, condition.message
        );
    }
    let header = ["SERVICE", "RELEASE", "RUNTIME", "STATE", "SINCE", "MESSAGE"].map(str::to_owned);
    let rows = snapshot.workloads.iter().map(|line| {
        let release = line
            .release
            .as_ref()
            .map_or("-", |release| release.as_str());
        [
            line.service.to_string(),
            release.to_owned(),
            line.runtime.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{:?}", line.state),
            line.since.to_string(),
            line.message.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    if rows.len() > 1 {
        text += &aligned(&rows);
    }
    text
}

fn aligned(rows: &[[String; 6]]) -> String {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 6]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Prints a result; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Failed> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(failed(
            format!("could not print: {error}"),
            None,
            EXIT_FAILED,
        )),
    }
}

fn failed(message: impl Into<String>, help: Option<&str>, code: u8) -> Failed {
    Failed {
        message: message.into(),
        help: help.map(str::to_owned),
        code,
    }
}

fn unexpected(reply: Option<Reply>) -> Failed {
    let message = match reply {
        Some(Reply::Error { message }) => message,
        Some(Reply::Status(_) | Reply::Line { .. } | Reply::Held { .. } | Reply::Left { .. }) => {
            "the agent answered something else".to_owned()
        }
        None => "the agent stopped before it had answered".to_owned(),
    };
    failed(message, None, EXIT_FAILED)
}

fn no_signals(error: std::io::Error) -> Failed {
    failed(
        format!("signals cannot be received: {error}"),
        None,
        EXIT_FAILED,
    )
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        failed(error.problem, Some(&error.help), EXIT_USAGE)
    }
}

impl From<AskError> for Failed {
    fn from(error: AskError) -> Self {
        let help = match &error {
            AskError::NotRunning { .. } => {
                Some("start it with `holdfast-agent run`, or name its --data or --socket")
            }
            AskError::Broken(_) | AskError::Answer(_) => None,
        };
        failed(crate::chain(&error), help, EXIT_FAILED)
    }
}

impl From<RunError> for Failed {
    fn from(error: RunError) -> Self {
        let (help, code) = match &error {
            RunError::NotJoined => (
                Some("join first: holdfast-agent join --coordinator HOST:PORT --token TOKEN"),
                EXIT_FAILED,
            ),
            RunError::Locked(_) => (Some("stop it first, or name another --data"), EXIT_FAILED),
            RunError::Token(_) => (
                Some("ask for a token: holdfast token create -e ENVIRONMENT"),
                EXIT_USAGE,
            ),
            RunError::TokenFile { .. } => (Some("name another --token-file"), EXIT_USAGE),
            RunError::Name(_) => (Some("choose one with --name"), EXIT_USAGE),
            RunError::Join(error) => join_failed(error),
            RunError::Data { .. }
            | RunError::Identity(_)
            | RunError::Cache(_)
            | RunError::Adapters(_)
            | RunError::Executable(_) => (None, EXIT_FAILED),
        };
        failed(crate::chain(&error), help, code)
    }
}

fn join_failed(error: &JoinError) -> (Option<&'static str>, u8) {
    match error {
        JoinError::Refused(_) => (
            Some("tokens expire and are used up; ask for a new one: holdfast token create"),
            EXIT_REFUSED,
        ),
        JoinError::Answer(_) => (None, EXIT_REFUSED),
        JoinError::Dial(dial) if is_impostor(dial) => (
            Some("this is not the coordinator that the token was made by; nothing was told to it"),
            EXIT_REFUSED,
        ),
        JoinError::Dial(_) | JoinError::Stream(_) | JoinError::NoAnswer | JoinError::Busy(_) => (
            Some("check --coordinator and that UDP gets through"),
            EXIT_UNREACHABLE,
        ),
        JoinError::Keystore(_) | JoinError::Key(_) | JoinError::Tls(_) | JoinError::Exporter => {
            (None, EXIT_FAILED)
        }
    }
}
