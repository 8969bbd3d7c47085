//! One Debian host: a file tree of its own that survives reboots, booted by systemd-nspawn into a
//! network of its own that has nothing but loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::skip::skip;
use crate::tree;
use crate::wait::until;

/// What the programs inside find: no variable of the machine that runs the test.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The directory of the built programs, or nothing where this test cannot run; then it is counted
/// as skipped, and fails where nothing may be skipped.
pub(crate) fn programs_and_rights(test: &str) -> Option<PathBuf> {
    if is_skipped(test) {
        return None;
    }
    let built = std::env::var_os("HOLDFAST_BIN_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            // target/debug/deps/systemd-HASH
            let test = std::env::current_exe().unwrap();
            test.ancestors().nth(2).unwrap().to_owned()
        });
    let built = built.canonicalize().unwrap();
    assert!(
        built.join("holdfast-agent").is_file(),
        "`make build` makes the programs first"
    );
    Some(built)
}

/// Whether this test cannot run here. Then it is counted as skipped, and fails where nothing may be.
pub(crate) fn is_skipped(test: &str) -> bool {
    let Some(missing) = missing() else {
        return false;
    };
    skip(test, &missing);
    true
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can boot a container".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let needed = ["systemd-nspawn", "mmdebstrap", "ip", "nsenter", "mount"];
    let absent = needed.into_iter().find(|name| !is_there(name));
    absent.map(|name| format!("{name} is not installed"))
}

/// The ELF number of a processor that this machine does not have.
pub(crate) fn foreign_machine() -> u16 {
    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    if cfg!(target_arch = "x86_64") {
        AARCH64
    } else {
        X86_64
    }
}

/// A network with loopback alone, shared by a host and the coordinator that it joins.
pub(crate) struct Network {
    name: String,
}

impl Network {
    pub(crate) fn lay(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        succeed(Command::new("ip").args(["netns", "add", &name]));
        let network = Self { name };
        succeed(network.inside("ip").args(["link", "set", "lo", "up"]));
        network
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that runs in this network and otherwise on the machine itself.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Not `ip netns exec`, which mounts another /sys.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path()))
            .arg("--")
            .arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

/// A process of the host, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    number: u32,
    /// Since the boot of the machine, in clock ticks.
    started: u64,
}

impl Process {
    /// The host's systemd.
    pub(crate) fn first(host: &Host) -> Self {
        host.process(1).expect("it runs")
    }

    /// The effective user's number.
    pub(crate) fn user(&self, host: &Host) -> String {
        self.status(host, "Uid")
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    }

    /// One line of the kernel's status of the process.
    pub(crate) fn status(&self, host: &Host, key: &str) -> String {
        let text = host.run(&["cat", &format!("/proc/{}/status", self.number)]);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}:")));
        line.unwrap_or_else(|| panic!("no {key} in {text}"))
            .trim()
            .to_owned()
    }
}

pub(crate) struct Host {
    directory: TempDir,
    network: String,
    programs: PathBuf,
    running: Option<Running>,
}

/// The container's runtime; when it ends, the kernel ends the container with it.
struct Running {
    nspawn: Child,
    /// The container's process 1, as this machine numbers it, once it is there.
    leader: Option<Pid>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where the test has ended it already.
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

impl Host {
    pub(crate) fn boot(network: &Network, programs: &Path) -> Self {
        let cache = programs.parent().unwrap().join("systemd-test");
        let tree = tree::debian(&cache);
        let directory = TempDir::with_prefix("holdfast-host-").unwrap();
        for part in ["upper", "work", "root"] {
            fs::create_dir(directory.path().join(part)).unwrap();
        }
        let layers = format!(
            "lowerdir={},upperdir={upper}/upper,workdir={upper}/work",
            tree.display(),
            upper = directory.path().display()
        );
        let root = directory.path().join("root");
        succeed(
            Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &layers])
                .arg(&root),
        );
        let mut host = Self {
            directory,
            network: network.path(),
            programs: programs.to_owned(),
            running: None,
        };
        host.start();
        host
    }

    /// A file of the host, as this machine sees it.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.directory
            .path()
            .join("root")
            .join(inside.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, inside: &str, content: &[u8]) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Boots, and returns when systemd says that everything which starts at boot has started.
    pub(crate) fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        // Tests of other packages use this file as well.
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let deploy = above
            .map(|folder| folder.join("deploy"))
            .find(|d| d.is_dir());
        let deploy = deploy.expect("it is at the root of the checkout");
        let console = fs::File::create(self.directory.path().join("console.log")).unwrap();
        let name = self.directory.path().file_name().unwrap().to_string_lossy();
        let nspawn = Command::new("systemd-nspawn")
            .args([
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                "--link-journal=no",
            ])
            .arg(format!(
                "--machine={}",
                name.to_lowercase().replace('.', "")
            ))
            .arg(format!("--network-namespace-path={}", self.network))
            .arg(format!(
                "--bind-ro={}:/srv/programs",
                self.programs.display()
            ))
            .arg(format!("--bind-ro={}:/srv/deploy", deploy.display()))
            .arg("--directory")
            .arg(self.path("/"))
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let parent = nspawn.id();
        let running = self.running.insert(Running {
            nspawn,
            leader: None,
        });
        running.leader = Some(until("the container has a first process", || {
            first_of(parent)
        }));
        until("systemd has booted", || {
            let state = self.output(&["systemctl", "is-system-running"]);
            // `degraded` is Debian's own business: some unit that a container cannot have.
            matches!(state.0.trim(), "running" | "degraded")
        });
    }

    /// An orderly shutdown.
    pub(crate) fn shut_down(&mut self) {
        self.run(&["systemctl", "--no-block", "poweroff"]);
        self.wait_for_end();
    }

    /// Everything on the host ends in this moment.
    pub(crate) fn cut_power(&mut self) {
        rustix::process::kill_process(self.leader(), Signal::KILL).unwrap();
        self.wait_for_end();
    }

    fn leader(&self) -> Pid {
        let running = self.running.as_ref().expect("it runs");
        running.leader.expect("it has a first process")
    }

    fn wait_for_end(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.nspawn.wait().unwrap();
    }

    /// What a command on the host says, on both streams; it must succeed.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        match self.try_run(command) {
            Ok(said) => said,
            Err(said) => panic!("{command:?} failed: {said}\n{}", self.journal()),
        }
    }

    /// What a command on the host says, on both streams, and whether it succeeded.
    pub(crate) fn try_run(&self, command: &[&str]) -> Result<String, String> {
        let (said, complained, success) = self.output(command);
        let both = format!("{said}{complained}");
        if success { Ok(both) } else { Err(both) }
    }

    fn output(&self, command: &[&str]) -> (String, String, bool) {
        let leader = self.leader();
        let output = Command::new("nsenter")
            .args([
                "--all",
                "--root",
                "--wd",
                "--target",
                &leader.as_raw_nonzero().to_string(),
                "--",
            ])
            .args(command)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            text(&output.stdout),
            text(&output.stderr),
            output.status.success(),
        )
    }

    fn journal(&self) -> String {
        self.output(&["journalctl", "--no-pager", "--lines=60", "--output=cat"])
            .0
    }

    /// The unit's main process.
    pub(crate) fn main_process(&self, unit: &str) -> Process {
        let number = self.run(&["systemctl", "show", "--property=MainPID", "--value", unit]);
        let number = number.trim().parse().unwrap();
        self.process(number)
            .unwrap_or(Process { number, started: 0 })
    }

    /// Every process that runs exactly this command.
    pub(crate) fn workload(&self, command: &[&str]) -> Vec<Process> {
        let wanted: String = command.iter().flat_map(|word| [word, "\\0"]).collect();
        // One shell for all processes: it only uses what Debian's smallest system has.
        let script = format!(
            "for p in /proc/[0-9]*; do \
               if printf '{wanted}' | cmp -s - $p/cmdline 2>/dev/null; then echo ${{p#/proc/}}; fi; \
             done"
        );
        let found = self.run(&["sh", "-c", &script]);
        found
            .lines()
            .filter_map(|number| self.process(number.parse().unwrap()))
            .collect()
    }

    fn process(&self, number: u32) -> Option<Process> {
        let stat = self
            .try_run(&["cat", &format!("/proc/{number}/stat")])
            .ok()?;
        // The name in parentheses may hold anything; the start time is the 20th field after it.
        let started = stat
            .rsplit(')')
            .next()?
            .split_whitespace()
            .nth(19)?
            .parse()
            .ok()?;
        Some(Process { number, started })
    }

    pub(crate) fn kill(&self, process: &Process) {
        self.run(&["sh", "-c", &format!("kill -9 {}", process.number)]);
    }

    /// How much `systemd-analyze security` finds left open, from 0 to 10.
    pub(crate) fn exposure(&self, unit: &str) -> f32 {
        let table = self.run(&["systemd-analyze", "security", "--no-pager", unit]);
        let line = table.lines().last().unwrap();
        let number = line.rsplit(": ").next().unwrap().split(' ').next().unwrap();
        number
            .parse()
            .unwrap_or_else(|_| panic!("no exposure in {line:?}"))
    }

    /// What the agent says of itself, where it answers.
    pub(crate) fn agent_status(&self) -> Option<Value> {
        let (said, _, success) = self.output(&["holdfast-agent", "status", "-o", "json"]);
        success.then(|| serde_json::from_str(&said).expect("status is JSON"))
    }

    pub(crate) fn agent_is_connected(&self) -> bool {
        self.agent_status()
            .is_some_and(|status| status["connected"] == true)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.leader.is_some())
        {
            if std::thread::panicking() {
                println!("--- the host's journal\n{}", self.journal());
            }
            // Quicker than to end its runtime, and enough.
            let _ = rustix::process::kill_process(self.leader(), Signal::KILL);
        }
        self.running = None;
        let _ = Command::new("umount").arg(self.path("/")).status();
    }
}

/// The child of a process that is the first process of a namespace of its own.
fn first_of(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let first = children.split_whitespace().find(|child| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    })?;
    Pid::from_raw(first.parse().ok()?)
}

fn succeed(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
