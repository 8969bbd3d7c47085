//! One started program: a direct child, its output in files, killed and waited for at the end.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal};

use crate::wait::{PATIENCE, wait_for};

/// Where a built program lies: in `HOLDFAST_BIN_DIR`, else beside the test's own executable.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let folder = std::env::var_os("HOLDFAST_BIN_DIR").map_or_else(
        || {
            // target/debug/deps/system-HASH
            let test = std::env::current_exe().expect("a process has an executable");
            test.ancestors().nth(2).expect("below target").to_owned()
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `make build` first, or name a directory with HOLDFAST_BIN_DIR",
        path.display()
    );
    path.canonicalize().expect("it is there")
}

/// A command that inherits no `HOLDFAST_…` variable of whoever runs the test.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"HOLDFAST_") {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// One program that a test starts, kills and starts again with the same arguments. All methods take
/// `&self`, so that another thread of the test can kill it.
#[derive(Debug)]
pub struct Program {
    label: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    /// Standard output of the newest start.
    output: PathBuf,
    /// Standard error of all starts.
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Program {
    /// Nothing is started yet. Its output goes to `folder/LABEL.out`, its errors to `folder/LABEL.log`.
    pub fn new<A: Into<OsString>>(
        label: &str,
        path: PathBuf,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
        folder: &Path,
    ) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            label: label.to_owned(),
            path,
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: environment.iter().map(owned).collect(),
            output: folder.join(format!("{label}.out")),
            log: folder.join(format!("{label}.log")),
            child: Mutex::new(None),
        }
    }

    /// Starts it; it must not run.
    pub fn start(&self) {
        let mut child = self.child();
        assert!(child.is_none(), "{} runs already", self.label);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let started = command(&self.path)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdout(File::create(&self.output).unwrap())
            .stderr(log.unwrap())
            .spawn();
        *child = Some(started.unwrap_or_else(|error| panic!("{}: {error}", self.path.display())));
    }

    /// Kills it without warning, as a power cut would, and waits until it is gone. Nothing where it
    /// does not run.
    pub fn kill9(&self) {
        if let Some(mut child) = self.child().take() {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub fn terminate(&self) -> ExitStatus {
        let mut child = self.child().take().expect("it runs");
        let pid = Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        let ended = || {
            child
                .try_wait()
                .unwrap()
                .ok_or_else(|| "it runs".to_owned())
        };
        wait_for(&format!("{} ends", self.label), PATIENCE, ended)
    }

    /// Memory that it holds, in KiB, by the kernel's word. It must run.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let pid = self.pid().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// Kills it, and starts it again with the same arguments.
    pub fn restart(&self) {
        self.kill9();
        self.start();
    }

    /// Waits until it ends by itself.
    pub fn wait(&self) -> ExitStatus {
        let status = wait_for(&format!("{} ends", self.label), PATIENCE, || {
            self.ended().ok_or_else(|| "it runs".to_owned())
        });
        self.child().take();
        status
    }

    /// How it ended, if it was started and has ended by itself.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().as_mut()?.try_wait().unwrap()
    }

    /// Its process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut child = self.child();
        let child = child.as_mut()?;
        child.try_wait().unwrap().is_none().then(|| child.id())
    }

    /// What it wrote to standard output since it was started last.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// What it ever wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, for a failure.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        format!("--- {} ---\n{}\n", self.label, lines[from..].join("\n"))
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that failed while it held the lock still has to clear away.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Lines of a log that are shown when a test fails.
const LAST_LINES: usize = 60;
