//! The real program in a directory of its own, and a client of its API.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Two environments and one service without artifacts.
pub(crate) const MANIFESTS: &str = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
---
apiVersion: holdfast/v1
kind: Environment
metadata: {name: production, owner: platform}
spec: {after: [staging]}
---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  runtime: process
  template: {command: [/bin/sleep, \"100000\"]}
";

/// A coordinator that serves until it is dropped.
pub(crate) struct Program {
    child: Child,
    base: String,
    data: PathBuf,
    client: Client,
    token: String,
    _folder: Option<TempDir>,
}

/// The program, not yet started.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_holdfast-coordinator"))
}

/// The program that serves `data` on free ports.
pub(crate) fn serve(data: &Path) -> Command {
    let mut serve = command();
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .arg("--data")
        .arg(data);
    serve
}

impl Program {
    /// A new installation.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Self::start_in(&folder.path().join("data"));
        program._folder = Some(folder);
        program
    }

    /// One in a directory that outlives it.
    pub(crate) fn start_in(data: &Path) -> Self {
        Self::start_by(serve(data), data)
    }

    /// The same with a configuration file beside its data.
    pub(crate) fn start_configured(folder: &Path, config: &str) -> Self {
        let file = folder.join("coordinator.toml");
        std::fs::write(&file, config).unwrap();
        let data = folder.join("data");
        let mut command = serve(&data);
        command.arg("--config").arg(file);
        Self::start_by(command, &data)
    }

    fn start_by(mut command: Command, data: &Path) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let base = line.trim().split("api=").nth(1).unwrap().to_owned();
        let ca = std::fs::read(data.join("ca.pem")).unwrap();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap();
        Self {
            child,
            base,
            data: data.to_owned(),
            client,
            token: token.trim().to_owned(),
            _folder: None,
        }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Where its API is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A request without a token.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// What is there, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// Applies [`MANIFESTS`].
    pub(crate) async fn apply(&self) {
        let applied = self.post("/v1/apply", &manifests(MANIFESTS)).await;
        assert_eq!(applied.status(), StatusCode::OK);
    }

    /// Registers a release of `web`.
    pub(crate) async fn release(&self, version: &str) {
        let release = json!({ "version": version });
        let made = self.post("/v1/services/web/releases", &release).await;
        assert_eq!(made.status(), StatusCode::OK);
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// How it ended, and how long that took from now.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, begin.elapsed());
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1024
    }

    /// Names in the folder of artifacts.
    pub(crate) fn artifacts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data.join("artifacts")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The body of an apply.
pub(crate) fn manifests(content: &str) -> Value {
    json!({ "files": [{ "path": "all.yaml", "content": content }] })
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !is_so().await {
        assert!(
            begin.elapsed() < PATIENCE,
            "it never came to be that {what}"
        );
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
