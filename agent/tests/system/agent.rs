//! The real program `holdfast-agent` in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::coordinator::Coordinator;

/// One agent's data directory and, while it runs, its process.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
    child: Option<Child>,
    log: PathBuf,
}

impl Agent {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        Self {
            directory,
            child: None,
            log,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command
            .args(arguments)
            .env_clear()
            .env("HOLDFAST_DATA", self.data())
            .env("HOLDFAST_CONFIG", self.config())
            .env("HOLDFAST_RECONNECT_MAX", "500ms")
            .env("HOLDFAST_LOG", "holdfast_agent=debug,info")
            .stdin(Stdio::null());
        command
    }

    /// An empty configuration file, so that none of this machine's is read.
    fn config(&self) -> PathBuf {
        let path = self.directory.path().join("agent.toml");
        if !path.exists() {
            std::fs::write(&path, "").unwrap();
        }
        path
    }

    /// Runs a command to its end.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn join(&self, coordinator: &Coordinator) {
        let output = self.join_with(coordinator, &coordinator.token());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn join_with(&self, coordinator: &Coordinator, token: &str) -> Output {
        let address = coordinator.address.to_string();
        self.call(&[
            "join",
            "--coordinator",
            &address,
            "--token",
            token,
            "--name",
            "one",
        ])
    }

    /// Starts the agent.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let child = self
            .command(&["run"])
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn child(&mut self) -> Child {
        self.child.take().expect("the agent runs")
    }

    /// Asks the agent to stop and waits for its end.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.child();
        let started = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        (status, started.elapsed())
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.child().wait().unwrap()
    }

    /// `status -o json`, if the agent answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.call(&["status", "-o", "json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until the status is such, for at most 20 seconds.
    pub(crate) async fn wait(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| holds(status)) {
                return status.clone();
            }
            assert!(
                Instant::now() < deadline,
                "not in time: {what}; {status:?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn wait_ready(&self, service: &str) -> Value {
        self.wait(&format!("{service} ready"), |status| {
            workload(status, service).is_some_and(|w| w["ready"] == true)
        })
        .await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Workloads outlive their agent; a test's must not outlive the test. Nobody is told.
        let _ = std::fs::remove_file(self.path("coordinators"));
        self.call(&["leave", "--remove-workloads"]);
        if std::thread::panicking() {
            eprintln!("--- log of the agent\n{}", self.log());
        }
    }
}

pub(crate) fn workload<'a>(status: &'a Value, service: &str) -> Option<&'a Value> {
    status["workloads"]
        .as_array()?
        .iter()
        .find(|w| w["service"] == service)
}
