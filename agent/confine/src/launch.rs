//! The launcher: a process of the caller's own program that gives up everything it has, and becomes
//! the program that was asked for.
//!
//! *Expected flow*: the order comes on standard input, output goes to standard error, and standard
//! output says why the program could not be started; its end without a word is the start.
//! *Guarantees*: the program never runs with a right that the order does not name, and ends with the
//! process that asked for it. Its environment never appears in an argument.
//! *Assumptions*: descriptors are opened close-on-exec; the launcher is called before any thread is
//! started.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

/// Largest order in bytes.
pub(crate) const ORDER_MAX_BYTES: usize = 1 << 20;
/// Files that a program may have open.
const OPEN_FILES_MAX: u64 = 256;
/// Processes and threads that its user may have.
const PROCESSES_MAX: u64 = 512;
/// Memory that it may write to, in bytes.
const MEMORY_MAX_BYTES: u64 = 1 << 30;
/// Largest file that it may write, in bytes.
const FILE_MAX_BYTES: u64 = 64 << 20;
/// What the launcher's reason begins with; nothing that a program says in words does.
pub(crate) const REASON_MARK: u8 = 0;

/// What a launcher is asked to become. An agent whose file was replaced by an upgrade launches
/// through its successor: fields are only ever added, and with a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The caller's process number.
    pub(crate) parent: u32,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) directory: PathBuf,
    /// User and group to become; none to stay what the caller is.
    pub(crate) become_user: Option<(u32, u32)>,
    /// Processor time in seconds.
    pub(crate) cpu_seconds: u64,
    /// What it reads on standard input; with it, standard output is its own and not one with
    /// standard error.
    #[serde(default)]
    pub(crate) input: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// What a program may use beyond time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory that it may write to, in bytes.
    pub memory_bytes: u64,
    /// Largest file that it may write, in bytes.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_MAX_BYTES,
            file_bytes: FILE_MAX_BYTES,
        }
    }
}

/// Why a launcher did not become the program; its caller has been told the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LaunchError(String);

/// Becomes a program: the whole of the hidden subcommand. To be called before any thread is started.
///
/// # Errors
/// Returns only when the program could not be started.
pub fn main() -> Result<Infallible, LaunchError> {
    let kept: Result<OwnedFd, _> = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3);
    let mut answers = File::from(kept.map_err(|e| LaunchError(e.to_string()))?);
    let why = match become_program() {
        Ok(never) => match never {},
        Err(why) => why,
    };
    // The caller may be gone; then nobody needs the answer.
    let reason = [&[REASON_MARK], why.as_bytes()].concat();
    drop(answers.write_all(&reason));
    Err(LaunchError(why))
}

fn become_program() -> Result<Infallible, String> {
    let order = read_order()?;
    rustix::process::setsid().map_err(refused("lead a session"))?;
    redirect(order.input.as_deref()).map_err(refused("redirect its input and output"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, order.cpu_seconds)?;
    limit(Resource::Nofile, OPEN_FILES_MAX)?;
    limit(Resource::Nproc, PROCESSES_MAX)?;
    limit(Resource::Data, order.limits.memory_bytes)?;
    limit(Resource::Fsize, order.limits.file_bytes)?;
    if let Some((user, group)) = order.become_user {
        drop_privileges(user, group).map_err(refused("become an unprivileged user"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(refused("give up new rights"))?;
    end_with(order.parent)?;
    let directory = order.directory.display();
    rustix::process::chdir(&order.directory).map_err(refused(&format!("enter {directory}")))?;
    execute(&order)
}

fn read_order() -> Result<Order, String> {
    let mut bytes = Vec::new();
    io::stdin()
        .take(ORDER_MAX_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read the order: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the order is not complete: {error}"))
}

fn redirect(input: Option<&str>) -> io::Result<()> {
    let Some(input) = input else {
        let nothing = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        return Ok(());
    };
    // In memory: nobody has to write while nobody reads.
    let mut whole = File::from(rustix::fs::memfd_create(
        "input",
        rustix::fs::MemfdFlags::CLOEXEC,
    )?);
    whole.write_all(input.as_bytes())?;
    whole.rewind()?;
    rustix::stdio::dup2_stdin(&whole)?;
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, most: u64) -> Result<(), String> {
    let before = rustix::process::getrlimit(resource).maximum;
    let most = before.map_or(most, |before| before.min(most));
    let both = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    rustix::process::setrlimit(resource, both).map_err(refused("limit what it may use"))
}

/// This process has one thread, so that the rights of the thread are those of the process.
fn drop_privileges(user: u32, group: u32) -> io::Result<()> {
    let group = rustix::fs::Gid::from_raw(group);
    let user = rustix::fs::Uid::from_raw(user);
    rustix::thread::set_thread_groups(&[group])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Nobody waits for a program whose caller is gone. To be set after the user: a change of user
/// clears it.
fn end_with(parent: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(refused("end with its caller"))?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err("the caller has ended".to_owned())
    }
}

fn execute(order: &Order) -> Result<Infallible, String> {
    let Some((program, arguments)) = order.command.split_first() else {
        return Err("the command is empty".to_owned());
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&order.environment)
        .exec();
    Err(format!(
        "cannot execute {program:?} in {}: {error}",
        order.directory.display()
    ))
}

fn refused<E: std::fmt::Display>(attempt: &str) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {attempt}: {error}")
}
