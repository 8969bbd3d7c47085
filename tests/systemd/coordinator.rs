//! A coordinator outside of the hosts, in the same network, and its operator.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::host::Network;

pub(crate) struct Coordinator {
    directory: TempDir,
    process: Child,
    /// Where it listens for agents.
    agents: String,
    /// The address of its API, without the scheme.
    api: String,
    operator: Vec<std::ffi::OsString>,
}

impl Coordinator {
    pub(crate) fn start(network: &Network, programs: &Path) -> Self {
        let directory = TempDir::with_prefix("holdfast-coordinator-").unwrap();
        let anywhere = "127.0.0.1:0";
        let (process, agents, api) = serve(network, programs, directory.path(), anywhere, anywhere);
        // The same words again and again: `nsenter --net=… -- holdfast --server … `.
        let data = directory.path();
        let mut command = network.inside(programs.join("holdfast"));
        command.arg("--server").arg(format!("https://{api}"));
        command.arg("--token-file").arg(data.join("admin.token"));
        command.arg("--ca").arg(data.join("ca.pem"));
        let program = std::iter::once(command.get_program());
        let operator = program.chain(command.get_args()).map(Into::into).collect();
        Self {
            directory,
            process,
            agents,
            api,
            operator,
        }
    }

    pub(crate) fn agents(&self) -> &str {
        &self.agents
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// On the same data and the same ports.
    pub(crate) fn start_again(&mut self, network: &Network, programs: &Path) {
        let (process, ..) = serve(
            network,
            programs,
            self.directory.path(),
            &self.agents,
            &self.api,
        );
        self.process = process;
    }

    pub(crate) fn apply(&self, manifests: &str) {
        let path: PathBuf = self.directory.path().join("manifests.yaml");
        fs::write(&path, manifests).unwrap();
        self.operator(&["apply", "-f", path.to_str().unwrap()]);
    }

    /// Runs `holdfast` with these arguments; gives its standard output.
    pub(crate) fn operator(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.operator[0])
            .args(&self.operator[1..])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "holdfast {arguments:?}: {complained}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts `holdfast` with arguments that it does not end by itself of.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Followed {
        let path = self.directory.path().join("followed");
        let child = Command::new(&self.operator[0])
            .args(&self.operator[1..])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&path).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Followed { child, path }
    }
}

/// What an operator follows, until this goes.
pub(crate) struct Followed {
    child: Child,
    path: PathBuf,
}

impl Followed {
    /// All that came so far.
    pub(crate) fn heard(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the program; gives it with the addresses that it names when it is ready.
fn serve(
    network: &Network,
    programs: &Path,
    data: &Path,
    agents: &str,
    api: &str,
) -> (Child, String, String) {
    let log = fs::File::create(data.join("coordinator.stderr")).unwrap();
    let mut process = network
        .inside(programs.join("holdfast-coordinator"))
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(["--listen", agents, "--api", api])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = process.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut line).unwrap();
    let value = |key: &str| {
        let found = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key));
        found.map(str::to_owned).unwrap_or_else(|| {
            panic!(
                "{line:?}: {}",
                fs::read_to_string(data.join("coordinator.stderr")).unwrap()
            )
        })
    };
    let (agents, api) = (value("agents="), value("api=https://"));
    (process, agents, api.trim_end_matches('/').to_owned())
}
