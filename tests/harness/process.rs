//! The kernel's table of processes: which workloads run, since when, and what is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use holdfast_protocol::digest::Digest;
use rustix::process::{Pid, Signal};

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since the machine's boot (field 22 of proc_pid_stat(5)).
    pub start: u64,
}

impl Process {
    /// The live process of that number. A zombie is not alive.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after) = text.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start })
    }

    /// Whether this very process still runs.
    #[must_use]
    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Kills it without warning; it may be gone already.
    pub fn kill9(&self) {
        if self.lives() {
            let pid = Pid::from_raw(self.pid).expect("a process number is not 0");
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// The value of a variable that it was started with.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        environment.split(|byte| *byte == 0).find_map(|variable| {
            let variable = String::from_utf8_lossy(variable);
            let value = variable.strip_prefix(name)?.strip_prefix('=')?;
            Some(value.to_owned())
        })
    }

    /// Its command line, words apart by spaces.
    #[must_use]
    pub fn command_line(&self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .trim_end()
            .to_owned()
    }
}

/// The processes of a service that an agent with this data directory started, by the mark that they
/// carry in their environment; children of a workload carry it, too.
#[must_use]
pub fn workload(agent_data: &Path, service: &str) -> BTreeSet<Process> {
    let mark = format!("{}/{service}/", mark_of(agent_data));
    marked(|value| value.starts_with(&mark))
}

/// Every process that an agent with this data directory started as (part of) a workload: by its mark,
/// or, since a program may overwrite its own environment (nginx does), by running or being called with
/// something below the agent's workloads.
#[must_use]
pub fn workloads(agent_data: &Path) -> BTreeSet<Process> {
    let mark = format!("{}/", mark_of(agent_data));
    let mut found = marked(|value| value.starts_with(&mark));
    found.extend(concerned_with(&agent_data.join("workloads")));
    found
}

/// Every process that has to do with a folder: it runs in it, or names it in its command line or in
/// its environment.
#[must_use]
pub fn concerned_with(folder: &Path) -> BTreeSet<Process> {
    let name = folder.as_os_str().as_bytes();
    let names = |file: String| {
        fs::read(file).is_ok_and(|text| text.windows(name.len()).any(|part| part == name))
    };
    all()
        .filter(|process| {
            let pid = process.pid;
            let place = fs::read_link(format!("/proc/{pid}/cwd"));
            place.is_ok_and(|place| place.starts_with(folder))
                || names(format!("/proc/{pid}/cmdline"))
                || names(format!("/proc/{pid}/environ"))
        })
        .collect()
}

fn marked(fits: impl Fn(&str) -> bool) -> BTreeSet<Process> {
    all()
        .filter(|process| process.variable(MARKER).is_some_and(|value| fits(&value)))
        .collect()
}

/// All live processes but this one.
fn all() -> impl Iterator<Item = Process> {
    let own = i32::try_from(std::process::id()).expect("a process number");
    let names = fs::read_dir("/proc").unwrap();
    names
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(move |pid| *pid != own)
        .filter_map(Process::of)
}

/// What the mark of every workload of an agent begins with: a hash of where it keeps them.
fn mark_of(agent_data: &Path) -> String {
    let home = agent_data.join("workloads");
    let home = home.canonicalize().unwrap_or(home);
    let hash = Digest::of(home.as_os_str().as_bytes()).hex();
    hash.chars().take(32).collect()
}

/// The variable that carries the mark.
const MARKER: &str = "HOLDFAST_WORKLOAD";
