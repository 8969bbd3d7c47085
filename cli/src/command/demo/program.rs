//! The programs that the demo starts: found, started apart from this terminal, ended.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::eventually;
use crate::error::Failure;

/// Finds a sibling program.
///
/// # Errors
/// It is not there.
pub(super) fn find(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(
        Failure::failed(format!("the demo needs the program {}", path.display()))
            .help("build everything with `cargo build`, or name its folder with --bin-dir DIR"),
    )
}

/// One running program; its standard error goes to a file.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program with its output in `folder/NAME.out` and its errors in `folder/NAME.log`. It is
    /// the head of a process group of its own, so that Ctrl-C in this terminal reaches only the demo.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(
        path: &Path,
        name: &str,
        arguments: &[&str],
        folder: &Path,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("cannot start {}: {error}", path.display()));
        let log = folder.join(format!("{name}.log"));
        let errors = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failed)?;
        let output = File::create(output_of(folder, name)).map_err(failed)?;
        let mut command = Command::new(path);
        command
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let child = unconfigured(&mut command).spawn().map_err(failed)?;
        Ok(Self { child, log })
    }

    /// Its process number, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it without warning, as a power cut would.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
    }

    /// Asks it to end; kills it when it does not.
    pub(super) async fn end(&mut self) {
        if let Some(pid) = self.pid().and_then(pid_of) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(END_TIMEOUT, self.child.wait())
            .await
            .is_err()
        {
            self.kill().await;
        }
    }

    /// The end of what it wrote to standard error.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(LAST_LINES);
        lines
            .into_iter()
            .skip(skipped)
            .fold(String::new(), |mut text, line| {
                text.push_str("  ");
                text.push_str(line);
                text.push('\n');
                text
            })
    }
}

/// A command without the variables that configure this terminal's `holdfast`.
pub(super) fn unconfigured(command: &mut Command) -> &mut Command {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"HOLDFAST_") {
            command.env_remove(variable);
        }
    }
    command
}

/// Where a program's standard output goes.
pub(super) fn output_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.out"))
}

/// A process number as the system takes it.
pub(super) fn pid_of(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// Kills every process whose command line names `folder`, which nobody else knows, and waits until
/// they are gone.
pub(super) async fn sweep(folder: &Path) {
    let _ = eventually(
        "all processes of the demo have ended",
        END_TIMEOUT,
        async || {
            let left = processes_of(folder);
            for pid in &left {
                if let Some(pid) = pid_of(*pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            Ok(left.is_empty().then_some(()))
        },
    )
    .await;
}

/// Whether this process is one of those whose command line names `folder`.
pub(super) fn belongs_to(pid: u32, folder: &Path) -> bool {
    let needle = folder.as_os_str().as_encoded_bytes();
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.windows(needle.len()).any(|part| part == needle))
}

fn processes_of(folder: &Path) -> Vec<u32> {
    let own = std::process::id();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own && belongs_to(*pid, folder))
        .collect()
}

/// Time for a program to end when asked to.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of a program's standard error that are shown when a step fails.
const LAST_LINES: usize = 10;
