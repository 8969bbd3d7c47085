//! Real container engines, each in a directory of its own, ended with the test that started it.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;

use crate::disk::Disk;
use crate::skip::skip;
use mount::unmount;

#[path = "../../../../tests/harness/mount.rs"]
mod mount;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

/// A running engine.
pub(crate) struct Engine {
    pub(crate) kind: Kind,
    root: tempfile::TempDir,
    /// The network namespace that it runs in; the tests' own where it has none.
    namespace: Option<Namespace>,
    /// What its images and containers lie on; that of its directory where it has none.
    disk: Option<Disk>,
    child: Option<Child>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// A network namespace with loopback alone, gone with the test.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Self {
        let name = format!("hf-{}", std::process::id());
        for command in [
            vec!["netns", "add", &name],
            vec!["-n", &name, "link", "set", "lo", "up"],
        ] {
            assert!(Command::new("ip").args(command).status().unwrap().success());
        }
        Self(name)
    }

    /// The beginning of a command that runs inside. Not `ip netns exec`, which mounts /sys anew.
    pub(crate) fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.0)]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// What engines need; `tests/setup.sh` installs it.
const PROGRAMS: [&str; 4] = ["dockerd", "podman", "runc", "docker-registry"];

/// Whether engines can run here; says why not, and counts it.
pub(crate) fn available(test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&str| {
        let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        places.any(|place| place.join(name).exists())
    };
    let missing: Vec<_> = PROGRAMS.iter().filter(|name| !found(name)).collect();
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if root && missing.is_empty() {
        return true;
    }
    let why = format!("container engines need root and {missing:?}");
    skip(test, &why);
    false
}

impl Engine {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_in(kind, None)
    }

    /// In a network namespace of its own an engine may have bridges, and publish ports there.
    pub(crate) fn start_in(kind: Kind, namespace: Option<Namespace>) -> Self {
        let mut engine = Self::new(kind, namespace);
        engine.go_on();
        engine
    }

    /// One whose images and containers have no more room than `size`. None where a machine does not
    /// allow that.
    pub(crate) fn start_small(kind: Kind, size: &str) -> Option<Self> {
        let mut engine = Self::new(kind, None);
        engine.disk = Some(Disk::mount(&engine.path().join("data"), size)?);
        engine.go_on();
        Some(engine)
    }

    /// The disk of an engine that has a small one.
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    fn new(kind: Kind, namespace: Option<Namespace>) -> Self {
        // Sockets have short paths; the usual directory of temporary files may be deep.
        let root = tempfile::Builder::new()
            .prefix("hf-")
            .tempdir_in("/tmp")
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            kind,
            root,
            namespace,
            disk: None,
            child: None,
            runtime: Some(runtime),
        }
    }

    /// Starts the engine again over what it left.
    pub(crate) fn go_on(&mut self) {
        let log = self.root.path().join("log");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut command = match self.kind {
            Kind::Docker => self.dockerd(),
            Kind::Podman => self.podman(),
        };
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !self.answers() {
            let log = fs::read_to_string(self.root.path().join("log")).unwrap();
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{:?}: {log}",
                self.kind
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn dockerd(&self) -> Command {
        let path = |name: &str| self.root.path().join(name).display().to_string();
        // Also where this program itself is killed, the engine does not outlive it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]);
        match &self.namespace {
            Some(namespace) => command.args(namespace.enter()).arg("dockerd"),
            None => command.args(["dockerd", "--bridge=none"]),
        };
        command.arg("--iptables=false");
        command.args([
            "--host".to_owned(),
            format!("unix://{}", self.socket().display()),
        ]);
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.args([flag.to_owned(), path(name)]);
        }
        command
    }

    fn podman(&self) -> Command {
        let path = |name: &str| self.root.path().join(name);
        let containers = "[containers]\ndefault_ulimits=[\"nofile=20000:20000\",\"nproc=4096:4096\"]\n\
             [engine]\ncgroup_manager=\"cgroupfs\"\nruntime=\"runc\"\nevents_logger=\"file\"\n";
        fs::write(path("containers.conf"), containers).unwrap();
        let registries = "[[registry]]\nlocation=\"127.0.0.1\"\ninsecure=true\n";
        fs::write(path("registries.conf"), registries).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "podman"]);
        command
            .arg("--root")
            .arg(path("data"))
            .arg("--runroot")
            .arg(path("run"));
        command.arg("--tmpdir").arg(path("tmp"));
        command.args(["system", "service", "--time=0"]);
        command.arg(format!("unix://{}", self.socket().display()));
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", path("registries.conf"));
        command
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.path().join("api.sock")
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    fn answers(&self) -> bool {
        let Ok(api) = connect(&self.socket()) else {
            return false;
        };
        self.wait(async { tokio::time::timeout(Duration::from_secs(2), api.ping()).await })
            .is_ok_and(|pong| pong.is_ok())
    }

    /// Asks the engine itself, not by way of the adapter; also from within a runtime.
    pub(crate) fn ask<T: Send, F>(&self, ask: impl FnOnce(Docker) -> F + Send) -> T
    where
        F: Future<Output = T> + Send,
    {
        let api = connect(&self.socket()).unwrap();
        self.wait(async {
            let api = api.negotiate_version().await.unwrap();
            ask(api).await
        })
    }

    fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join()).unwrap()
    }

    /// Ends the engine as a shutdown does: its containers end with it.
    pub(crate) fn stop(&mut self) {
        self.end("TERM");
    }

    /// Ends the engine as a crash does: what its containers run goes on.
    pub(crate) fn crash(&mut self) {
        self.end("KILL");
    }

    fn end(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        kill(i32::try_from(child.id()).unwrap(), signal);
        child.wait().unwrap();
        self.end_containerd();
    }

    /// The daemon below the engine ends with it. Until somebody has waited for it, its number still
    /// looks alive, and the next engine would wait for it to answer.
    fn end_containerd(&self) {
        let place = self.path().join("exec/containerd/containerd.pid");
        let pid = fs::read_to_string(&place).ok();
        let Some(pid) = pid.and_then(|text| text.trim().parse::<i32>().ok()) else {
            return;
        };
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains(&self.path().display().to_string()) {
            kill(pid, "TERM");
            let begun = Instant::now();
            while lives(pid) {
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "containerd goes on"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        fs::remove_file(place).unwrap();
    }

    fn remove_everything(&self) {
        let options = bollard::query_parameters::ListContainersOptionsBuilder::default();
        let options = options.all(true).build();
        let list = |api: Docker| async move {
            let all = api.list_containers(Some(options)).await.unwrap_or_default();
            for container in all {
                let force = bollard::query_parameters::RemoveContainerOptionsBuilder::default();
                let force = force.force(true).v(true).build();
                let _ = api
                    .remove_container(&container.id.unwrap(), Some(force))
                    .await;
            }
        };
        self.ask(list);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() && self.answers() {
            self.remove_everything();
        }
        self.stop();
        drop(self.disk.take());
        unmount(self.path());
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn kill(pid: i32, signal: &str) {
    let command = ["-s", signal, "--", &pid.to_string()];
    let status = Command::new("/bin/kill")
        .args(command)
        .stderr(Stdio::null())
        .status();
    status.unwrap();
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

fn connect(socket: &Path) -> Result<Docker, bollard::errors::Error> {
    let path = socket.display().to_string();
    Docker::connect_with_unix(&path, 60, bollard::API_DEFAULT_VERSION)
}
