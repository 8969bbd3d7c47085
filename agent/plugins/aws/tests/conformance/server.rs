//! A server of AWS's API on this machine, ended with the test that started it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cache::cached;
use crate::skip::skip;

/// A running server.
pub(crate) struct Server {
    root: tempfile::TempDir,
    port: u16,
    child: Child,
}

/// Time that the server has to begin or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Where `tests/setup.sh` has put it; says that it is missing, and counts it.
pub(crate) fn program(test: &str) -> Option<PathBuf> {
    let program = cached("venv/bin/ministack");
    if program.exists() {
        return Some(program);
    }
    skip(
        test,
        "the server of AWS's API is missing; tests/setup.sh test brings it",
    );
    None
}

impl Server {
    pub(crate) fn start(program: &Path, environment: &[(&str, String)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = fs::File::create(root.path().join("log")).unwrap();
        // Also where this program itself is killed, the server does not outlive it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("TMPDIR", root.path())
            .env("HOME", root.path())
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .current_dir(root.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { root, port, child };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < LIMIT,
                "{}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let own = self.child.id().to_string();
        let _ = Command::new("kill")
            .args(["-s", "TERM", "--", &own])
            .status();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > LIMIT {
                self.child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
