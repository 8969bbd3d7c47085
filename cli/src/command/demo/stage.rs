//! What the demo needs standing: a folder of its own, the programs, the ports, and the way to clear all
//! of it away.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::eventually;
use super::program::{Program, find, output_of, sweep, unconfigured};
use super::visitor::Visitor;
use crate::client::Client;
use crate::context::{Connection, address, read};
use crate::error::Failure;

/// The three targets: name, environment.
pub(super) const TARGETS: [(&str, &str); 3] = [
    ("staging-1", "staging"),
    ("production-1", "production"),
    ("production-2", "production"),
];

/// Everything that stands.
pub(super) struct Stage {
    folder: TempDir,
    programs: Programs,
    /// Somebody who looks at the sites.
    pub(super) visitor: Visitor,
    /// The port of each target's site, in the order of [`TARGETS`].
    pub(super) ports: [u16; 3],
    coordinator: Option<Program>,
    addresses: Option<Addresses>,
    agents: Vec<Program>,
}

struct Programs {
    coordinator: PathBuf,
    agent: PathBuf,
    server: PathBuf,
}

/// Where a coordinator listens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    agents: String,
    api: String,
}

impl Stage {
    /// A fresh folder, three free ports, and the programs found.
    pub(super) fn new(programs: Option<&Path>) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("holdfast-demo-")
            .tempdir()
            .map_err(|error| Failure::failed(format!("cannot make a folder: {error}")))?;
        let beside = std::env::current_exe()
            .ok()
            .and_then(|path| path.parent().map(Path::to_owned))
            .unwrap_or_default();
        let programs = programs.map_or(beside, Path::to_owned);
        Ok(Self {
            folder,
            programs: Programs {
                coordinator: find(&programs, "holdfast-coordinator")?,
                agent: find(&programs, "holdfast-agent")?,
                server: find(&programs, "holdfast-example-server")?,
            },
            visitor: Visitor::new()?,
            ports: free_ports()?,
            coordinator: None,
            addresses: None,
            agents: Vec::new(),
        })
    }

    /// The demo's folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the sites are.
    pub(super) fn sites(&self) -> PathBuf {
        self.folder().join("sites")
    }

    /// The example's server program.
    pub(super) fn server(&self) -> &Path {
        &self.programs.server
    }

    /// Starts the coordinator and waits until it is ready: the first time on free ports and an empty
    /// folder, later on the same ones.
    pub(super) async fn start_coordinator(&mut self) -> Result<(), Failure> {
        let data = self.data();
        let (agents, api) = match &self.addresses {
            Some(known) => (
                known.agents.clone(),
                known.api.trim_start_matches("https://").to_owned(),
            ),
            None => ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
        };
        let data = data.display().to_string();
        let arguments = ["serve", "--data", &data, "--listen", &agents, "--api", &api];
        let program = Program::start(
            &self.programs.coordinator,
            COORDINATOR,
            &arguments,
            self.folder(),
        )?;
        let program = self.coordinator.insert(program);
        let output = output_of(self.folder.path(), COORDINATOR);
        let ready = eventually("the coordinator is ready", READY_TIMEOUT, async || {
            if program.has_ended() {
                return Err(Failure::failed("the coordinator ended before it was ready"));
            }
            let text = std::fs::read_to_string(&output).unwrap_or_default();
            Ok(text.lines().find_map(Addresses::parse))
        })
        .await?;
        self.addresses = Some(ready);
        Ok(())
    }

    /// Kills the coordinator without warning.
    pub(super) async fn kill_coordinator(&mut self) {
        if let Some(mut coordinator) = self.coordinator.take() {
            coordinator.kill().await;
        }
    }

    /// The coordinator's process number.
    pub(super) fn coordinator_pid(&self) -> Option<u32> {
        self.coordinator.as_ref()?.pid()
    }

    /// The API, as an operator on this machine uses it.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let addresses = self.addresses.as_ref().ok_or_else(not_started)?;
        let token = read(&self.data().join("admin.token"), "the token")?;
        Client::new(Connection {
            server: address(&addresses.api)?,
            token: Some(token.trim().to_owned()),
            ca: Some(read(&self.data().join("ca.pem"), "the certificate")?),
        })
    }

    /// Starts the agent of a target, which joins with `token`.
    pub(super) fn start_agent(&mut self, name: &str, token: &str) -> Result<(), Failure> {
        let addresses = self.addresses.as_ref().ok_or_else(not_started)?;
        let data = self.agent_data(name).display().to_string();
        let arguments = [
            "run",
            "--coordinator",
            &addresses.agents,
            "--token",
            token,
            "--name",
            name,
            "--data",
            &data,
            // A person waits here: a dead connection is noticed within seconds, not within a minute.
            "--keep-alive",
            "500ms",
            "--idle-timeout",
            "2s",
            "--reconnect-max",
            "500ms",
        ];
        let agent = Program::start(&self.programs.agent, name, &arguments, self.folder())?;
        self.agents.push(agent);
        Ok(())
    }

    /// How to go on using what stands.
    pub(super) fn farewell(&self) -> String {
        let api = self
            .addresses
            .as_ref()
            .map_or("", |known| known.api.as_str());
        let data = self.data();
        let mut text = String::from("\nEverything goes on running. To try commands on it:\n\n");
        let _ = writeln!(text, "  export HOLDFAST_SERVER={api}");
        let _ = writeln!(
            text,
            "  export HOLDFAST_TOKEN_FILE={}/admin.token",
            data.display()
        );
        let _ = writeln!(text, "  export HOLDFAST_CA={}/ca.pem", data.display());
        text.push_str("  holdfast status\n  holdfast where site\n\nThe sites:\n\n");
        for ((name, _), port) in TARGETS.iter().zip(self.ports) {
            let _ = writeln!(text, "  {name:14}http://127.0.0.1:{port}/");
        }
        text.push_str("\nTo end it:\n\n");
        for (name, _) in TARGETS {
            let _ = writeln!(
                text,
                "  {} leave --remove-workloads --data {}",
                self.programs.agent.display(),
                self.agent_data(name).display()
            );
        }
        if let Some(pid) = self.coordinator_pid() {
            let _ = writeln!(
                text,
                "  kill {pid}      # the coordinator; an agent that leaves ends"
            );
        }
        let _ = writeln!(text, "  rm -r {}", self.folder().display());
        text
    }

    /// Leaves everything as it is.
    pub(super) fn leave_running(self) {
        let _ = self.folder.keep();
    }

    /// What the programs wrote last, for somebody who looks for the cause of a failure.
    pub(super) fn last_words(&self) -> String {
        let names = TARGETS.iter().map(|(name, _)| *name);
        self.coordinator
            .iter()
            .map(|program| (COORDINATOR, program))
            .chain(names.zip(&self.agents))
            .map(|(name, program)| (name, program.last_words()))
            .filter(|(_, words)| !words.is_empty())
            .fold(String::new(), |mut text, (name, words)| {
                let _ = write!(text, "last lines of {name}:\n{words}");
                text
            })
    }

    /// Ends everything and removes the folder.
    pub(super) async fn clear(mut self) {
        let leaving = TARGETS
            .iter()
            .take(self.agents.len())
            .map(|(name, _)| self.leave(name));
        futures_util::future::join_all(leaving).await;
        let agents = self.agents.iter_mut().map(Program::end);
        futures_util::future::join_all(agents).await;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.end().await;
        }
        sweep(self.folder()).await;
    }

    /// Lets a target go, with all that runs on it.
    async fn leave(&self, name: &str) {
        let mut command = Command::new(&self.programs.agent);
        command
            .args(["leave", "--remove-workloads", "--data"])
            .arg(self.agent_data(name))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true);
        // Where this fails, the sweep that follows ends the workloads.
        let left = unconfigured(&mut command).status();
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, left).await;
    }

    fn data(&self) -> PathBuf {
        self.folder().join(COORDINATOR)
    }

    fn agent_data(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }
}

impl Addresses {
    /// Reads `ready agents=ADDR api=URL`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        (words.next()? == "ready").then_some(())?;
        let agents = words.next()?.strip_prefix("agents=")?.to_owned();
        let api = words.next()?.strip_prefix("api=")?.to_owned();
        Some(Self { agents, api })
    }
}

fn not_started() -> Failure {
    Failure::failed("the coordinator was not started yet")
}

/// Three ports that nobody uses now.
fn free_ports() -> Result<[u16; 3], Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("no port is free: {error}"));
    let mut listeners = Vec::new();
    let mut ports = [0; 3];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        *port = listener.local_addr().map_err(failed)?.port();
        // Held until all three are known, so that they differ.
        listeners.push(listener);
    }
    Ok(ports)
}

/// The coordinator's name in the demo's folder.
const COORDINATOR: &str = "coordinator";
/// Time for the coordinator to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a target to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read_and_nothing_else_is_taken_for_it() {
        assert_eq!(
            Addresses::parse("ready agents=127.0.0.1:4433 api=https://127.0.0.1:8443"),
            Some(Addresses {
                agents: "127.0.0.1:4433".to_owned(),
                api: "https://127.0.0.1:8443".to_owned(),
            })
        );
        for line in [
            "",
            "ready",
            "starting agents=x api=y",
            "ready api=x agents=y",
        ] {
            assert_eq!(Addresses::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Stage::new(Some(folder.path())).err().unwrap();
        assert!(failure.message.contains("holdfast-coordinator"));
        assert!(failure.help.unwrap().contains("cargo build"));
    }
}
