//! One run of one program, from the order to the last byte of its output.
//!
//! *Guarantees*: it ends within its time, whatever the program does, and the whole group of processes
//! that it started ends with it, also when the caller drops the run. What leaves the session of a check
//! ends with it, too, where the caller may make control groups; elsewhere it outlives this, with the
//! rights of its user.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::group::Group;
use crate::launch::{Limits, ORDER_MAX_BYTES, Order};
use crate::output::Kept;
use crate::scratch::Scratch;
use crate::user::User;

pub mod converse;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Longest reason of a launcher, in bytes.
const WORD_MAX_BYTES: u64 = 4 * 1024;
/// Time for the last output to be read once the program has ended.
const DRAIN: Duration = Duration::from_millis(200);
/// Time between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Processor time beyond its whole time, in seconds: a second line of defence.
const CPU_EXTRA_SECONDS: u64 = 2;

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Its environment besides `PATH`, `HOME`, `TMPDIR` and `LANG`, over which it wins.
    pub environment: BTreeMap<String, String>,
    /// Where it begins; its own temporary directory where there is none.
    pub directory: Option<PathBuf>,
    /// Whom it becomes; the caller's own user where there is none.
    pub user: Option<User>,
    /// Time it may take.
    pub timeout: Duration,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// What it wrote to standard output and standard error, bounded and plain.
    pub output: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Its time was over.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}

/// Runs a program. `launcher` is the command that calls [`crate::launch::main`].
pub async fn run(launcher: &[OsString], program: Program) -> Outcome {
    let mut kept = Kept::default();
    let timeout = program.timeout;
    let ended = match Running::start(launcher, program, None, Limits::default()) {
        Ok((mut running, order)) => {
            // It does nothing before it has its order, so nobody is outside. What a plugin starts for
            // good may stay: only checks are held together.
            running.group = running.child.id().and_then(Group::around);
            let finished = tokio::time::timeout(timeout, running.follow(&order, &mut kept)).await;
            let status = running.end(&mut kept).await;
            match finished {
                Ok(Err(why)) => Ended::NotStarted(why),
                Ok(Ok(())) => judged(status),
                Err(_) => Ended::TimedOut,
            }
        }
        Err(why) => Ended::NotStarted(why),
    };
    Outcome {
        ended,
        output: kept.text(),
    }
}

fn judged(status: io::Result<ExitStatus>) -> Ended {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, Some(signal)) => Ended::Signal(signal),
            (None, None) => Ended::NotStarted("it ended in a way that cannot be read".to_owned()),
        },
        Err(error) => Ended::NotStarted(format!("it cannot be said how it ended: {error}")),
    }
}

/// A launcher, and then the program.
struct Running {
    child: Child,
    process: Option<Pid>,
    words: ChildStdout,
    output: ChildStderr,
    /// What holds those who leave the session of a check.
    group: Option<Group>,
    /// Removed after the program has ended.
    _scratch: Scratch,
}

impl Running {
    fn start(
        launcher: &[OsString],
        program: Program,
        input: Option<String>,
        limits: Limits,
    ) -> Result<(Self, Vec<u8>), String> {
        let scratch = Scratch::make(program.user.as_ref())
            .map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let order = serde_json::to_vec(&order(program, &scratch, input, limits))
            .map_err(|error| format!("the order cannot be written: {error}"))?;
        if order.len() >= ORDER_MAX_BYTES {
            return Err("command, environment and input are too large".to_owned());
        }
        let (first, rest) = launcher.split_first().ok_or("there is no launcher")?;
        let mut child = Command::new(first)
            .args(rest)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the launcher: {error}"))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let (Some(words), Some(output)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the launcher has no pipes".to_owned());
        };
        let running = Self {
            group: None,
            child,
            process: id.and_then(Pid::from_raw),
            words,
            output,
            _scratch: scratch,
        };
        Ok((running, order))
    }

    /// Follows it until it has ended; tells why it did not begin.
    async fn follow(&mut self, order: &[u8], kept: &mut Kept) -> Result<(), String> {
        if let Some(mut input) = self.child.stdin.take() {
            // A launcher that ended before it read all says so itself.
            drop(input.write_all(order).await);
        }
        let mut why = Vec::new();
        let reading = (&mut self.words).take(WORD_MAX_BYTES);
        let mut reading = std::pin::pin!(reading);
        if reading.read_to_end(&mut why).await.is_err() || !why.is_empty() {
            return Err(crate::output::plain(&why));
        }
        let ended = exit(self.process);
        let mut ended = std::pin::pin!(ended);
        let mut buffer = vec![0; READ_BYTES];
        let mut open = true;
        loop {
            tokio::select! {
                () = &mut ended => return Ok(()),
                read = self.output.read(&mut buffer), if open => match read {
                    Ok(length) if length > 0 => kept.push(buffer.get(..length).unwrap_or_default()),
                    Ok(_) | Err(_) => open = false,
                },
            }
        }
    }

    /// Ends whatever is left of it, and reads what it still had to say.
    async fn end(mut self, kept: &mut Kept) -> io::Result<ExitStatus> {
        self.kill();
        let mut buffer = vec![0; READ_BYTES];
        let rest = async {
            while let Ok(length) = self.output.read(&mut buffer).await {
                if length == 0 {
                    return;
                }
                kept.push(buffer.get(..length).unwrap_or_default());
            }
        };
        // Whoever left the session may hold the pipe for ever.
        drop(tokio::time::timeout(DRAIN, rest).await);
        let status = self.child.wait().await;
        self.process = None;
        status
    }

    /// The process is not reaped before, so its number is still its own.
    fn kill(&mut self) {
        if let Some(process) = self.process {
            // It may have ended, and it may not lead a group yet.
            let _ = rustix::process::kill_process_group(process, Signal::KILL);
            drop(self.child.start_kill());
        }
        if let Some(group) = &self.group {
            group.kill();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a process has ended, without reaping it: its number, and that of its group, stay its
/// own until everything in the group is killed.
async fn exit(process: Option<Pid>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        looks.tick().await;
        let seen = process.map(|id| rustix::process::waitid(WaitId::Pid(id), options));
        if !matches!(seen, Some(Ok(None) | Err(Errno::INTR))) {
            return;
        }
    }
}

fn order(program: Program, scratch: &Scratch, input: Option<String>, limits: Limits) -> Order {
    let own = scratch.path().to_string_lossy().into_owned();
    let mut environment: BTreeMap<String, String> = [
        ("PATH", PATH),
        ("HOME", &own),
        ("TMPDIR", &own),
        ("LANG", "C.UTF-8"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    environment.extend(program.environment);
    Order {
        parent: std::process::id(),
        command: program.command,
        environment,
        directory: program
            .directory
            .unwrap_or_else(|| scratch.path().to_owned()),
        become_user: program.user.map(|user| (user.uid, user.gid)),
        cpu_seconds: program.timeout.as_secs().saturating_add(CPU_EXTRA_SECONDS),
        input,
        limits,
    }
}
