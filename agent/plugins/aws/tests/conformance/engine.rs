//! A Docker Engine and a registry for the tasks of ECS, ended with the test that started them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip::skip;
use mount::unmount;

#[path = "../../../../../tests/harness/mount.rs"]
mod mount;

/// A running engine with a registry that has one image.
pub(crate) struct Engine {
    root: tempfile::TempDir,
    docker: PathBuf,
    children: Vec<Child>,
    /// `127.0.0.1:PORT/busybox@sha256:…`
    pub(crate) image: String,
}

/// Time that one of the two has to begin or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether both can run here; says why not, and counts it.
pub(crate) fn available(test: &str) -> bool {
    let places = ["/usr/bin", "/usr/sbin", "/bin"].map(Path::new);
    let there = |name: &&str| places.iter().any(|place| place.join(name).exists());
    let needed = ["dockerd", "docker", "runc", "docker-registry", "busybox"];
    let missing: Vec<_> = needed.iter().filter(|name| !there(name)).collect();
    let own = fs::metadata("/proc/self").unwrap();
    if missing.is_empty() && std::os::unix::fs::MetadataExt::uid(&own) == 0 {
        return true;
    }
    skip(test, &format!("a Docker Engine needs root and {missing:?}"));
    false
}

impl Engine {
    pub(crate) fn start() -> Self {
        // Sockets have short paths; the usual directory of temporary files may be deep.
        let root = tempfile::Builder::new()
            .prefix("hf-ecs-")
            .tempdir_in("/tmp")
            .unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let store = root.path().join("registry");
        let settings = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            store.display()
        );
        let place = root.path().join("registry.yml");
        fs::write(&place, settings).unwrap();
        let registry = begin(
            root.path(),
            &["docker-registry", "serve", place.to_str().unwrap()],
        );
        let path = |name: &str| root.path().join(name).display().to_string();
        let socket = format!("unix://{}", path("d.sock"));
        let (data, exec, pid) = (path("data"), path("exec"), path("pid"));
        let engine = begin(
            root.path(),
            &[
                "dockerd",
                "--bridge=none",
                "--iptables=false",
                "--host",
                &socket,
                "--data-root",
                &data,
                "--exec-root",
                &exec,
                "--pidfile",
                &pid,
            ],
        );
        let mut engine = Self {
            docker: PathBuf::from("/usr/bin/docker"),
            children: vec![engine, registry],
            image: String::new(),
            root,
        };
        let up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        engine.until("the registry answers", up);
        engine.until("the engine answers", || {
            engine.docker(&["version"]).is_some()
        });
        engine.push(&format!("127.0.0.1:{port}/busybox"));
        engine
    }

    /// An image of busybox alone, in the registry.
    fn push(&mut self, name: &str) {
        let tar = self.root.path().join("root.tar");
        let mut made = Command::new("tar");
        made.arg("-cf")
            .arg(&tar)
            .args(["-C", "/", "--dereference", "bin/busybox"]);
        assert!(made.status().unwrap().success());
        let tag = format!("{name}:1");
        self.docker(&["import", tar.to_str().unwrap(), &tag])
            .expect("an image");
        self.docker(&["push", "--quiet", &tag]).expect("a push");
        let digests = self.docker(&["inspect", "--format", "{{index .RepoDigests 0}}", &tag]);
        digests
            .expect("a digest")
            .trim()
            .clone_into(&mut self.image);
    }

    pub(crate) fn socket(&self) -> String {
        format!("unix://{}", self.root.path().join("d.sock").display())
    }

    /// What a command of the engine prints; nothing where it fails.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Option<String> {
        let mut ran = Command::new(&self.docker);
        ran.arg("--host").arg(self.socket()).args(arguments);
        let ran = ran
            .env("HOME", self.root.path())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        ran.status
            .success()
            .then(|| String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            let log = fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < LIMIT, "{what}: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Also where this program itself is killed, what it started does not outlive it.
fn begin(root: &Path, command: &[&str]) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(root.join("log"))
        .unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Engine {
    fn drop(&mut self) {
        let left = self.docker(&["ps", "--all", "--quiet"]).unwrap_or_default();
        for container in left.lines() {
            self.docker(&["rm", "--force", container]);
        }
        for child in &mut self.children {
            let own = child.id().to_string();
            let _ = Command::new("kill")
                .args(["-s", "TERM", "--", &own])
                .status();
            let begun = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if begun.elapsed() > LIMIT {
                    child.kill().unwrap();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        unmount(self.root.path());
    }
}
