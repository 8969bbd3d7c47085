//! The launcher: a process of the agent's own program that becomes the workload.
//!
//! *Expected flow*: the agent starts its own executable, writes an order to the launcher's
//! standard input and reads words from its standard output. The launcher leads a session of its
//! own, takes the lock of the workload's records, makes sure that the workload does not run already,
//! writes down its own process number and start time, and then executes the program in its place.
//! For a job it stays instead, as the parent of the program, and writes down how that ended: a job that
//! ended while no agent was there must not be run again. It does nothing else, and whoever stops the
//! workload stops both.
//!
//! *Guarantees*: the record exists before the workload does, and names the process that the workload
//! will be. So whoever is killed, and whenever, a workload is neither lost nor started twice, and
//! nothing stands between the workload and its parent afterwards, but for a job. Environment and files never appear
//! in an argument.
//!
//! *Assumptions*: descriptors are opened close-on-exec, so that the lock and the pipe end exactly
//! when the program begins.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command};

use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::process::record::{Ended, Place, Record};
use crate::process::table::Identity;
use crate::run::Exit;

/// Largest order in bytes.
pub(crate) const ORDER_MAX_BYTES: u64 = 4 << 20;

/// What a launcher is asked to become.
///
/// An agent whose file was replaced by an upgrade, and which was not started again yet, launches through
/// its successor: fields are only ever added, and with a default.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Directory of the workload's records.
    pub(crate) records: PathBuf,
    /// The agent's process number: without it, nobody waits for this start any more.
    pub(crate) agent: u32,
    pub(crate) body: Digest,
    pub(crate) command: Vec<String>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) log: PathBuf,
    pub(crate) identity: Option<User>,
    pub(crate) memory: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) nice: Option<i32>,
    /// Whether the launcher stays and writes down how the program ended.
    #[serde(default)]
    pub(crate) keeps_end: bool,
    /// What the agent saw before it decided; none from an agent that does not say it.
    #[serde(default)]
    pub(crate) seen: Option<Seen>,
}

/// What was recorded of a workload when its agent decided to start it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The newest process, if there was one.
    pub(crate) process: Option<Identity>,
}

impl Order {
    /// Whether a job was begun since its agent looked, by the launcher of one that was killed: that one
    /// is the attempt that was asked for, also where it is over.
    fn is_overtaken_by(&self, record: &Record) -> bool {
        let another = |seen: &Seen| seen.process.as_ref() != Some(&record.process);
        self.keeps_end && record.body == self.body && self.seen.as_ref().is_some_and(another)
    }
}

/// The user that a workload runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) home: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The environment stays out of every log.
impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Order");
        shown
            .field("records", &self.records)
            .field("body", &self.body);
        shown.finish_non_exhaustive()
    }
}

/// What a launcher answers, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Word {
    /// It has written itself down and is about to execute the program. The end of the pipe after
    /// this, without another word, is the start.
    Recorded(Record),
    /// The workload runs already, or is a job that was begun meanwhile.
    Runs(Record),
    /// It cannot be started.
    Refused {
        /// Whether trying again may help.
        retryable: bool,
        /// Why.
        message: String,
    },
}

/// Why a launcher did not become the workload; the agent has been told the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LaunchError(String);

struct Refusal {
    retryable: bool,
    message: String,
}

/// Becomes a workload: the whole of the hidden subcommand `launch`. Takes no arguments; the order
/// comes on standard input. To be called before any thread is started.
///
/// # Errors
/// Returns only when it could not, or must not, start the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Result<Infallible, LaunchError> {
    if arguments.into_iter().next().is_some() {
        return Err(LaunchError("launch takes no arguments".to_owned()));
    }
    let answers = answers().map_err(|e| LaunchError(format!("cannot keep the pipe: {e}")))?;
    let mut answers = Some(answers);
    let word = match become_workload(&mut answers) {
        Ok(running) => Word::Runs(running),
        Err(Refusal { retryable, message }) => Word::Refused { retryable, message },
    };
    let said = format!("{word:?}");
    // The agent may be gone; then nobody needs the answer.
    let _ = say(answers.as_mut(), &word);
    Err(LaunchError(said))
}

/// Standard output, kept where the program will not inherit it.
fn answers() -> io::Result<File> {
    let kept: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    Ok(File::from(kept))
}

fn say(answers: Option<&mut File>, word: &Word) -> io::Result<()> {
    let Some(answers) = answers else {
        return Ok(());
    };
    let mut line = serde_json::to_vec(word).map_err(io::Error::other)?;
    line.push(b'\n');
    answers.write_all(&line)
}

/// Gives the record of the workload where it runs already, or was begun since its agent looked.
fn become_workload(answers: &mut Option<File>) -> Result<Record, Refusal> {
    let order = read_order()?;
    let place = Place {
        root: order.records.clone(),
    };
    rustix::process::setsid().map_err(refused("lead a session"))?;
    let lock = place
        .lock()
        .map_err(refused("lock the workload's records"))?;
    if std::os::unix::process::parent_id() != order.agent {
        return Err(Refusal {
            retryable: true,
            message: "the agent has ended".to_owned(),
        });
    }
    let recorded = place
        .record_if_readable()
        .map_err(refused("read the workload's record"))?;
    let stands = |record: &Record| record.process.lives() || order.is_overtaken_by(record);
    if let Some(record) = recorded.filter(stands) {
        return Ok(record);
    }
    let started_at = clock::now();
    prepare(&order)?;
    let record = own_record(order.body, started_at)?;
    place
        .write_record(&record)
        .map_err(refused("write the workload's record"))?;
    // From here on a failure takes the record back: it names nothing that will ever run.
    let begun = begin(&order, &place, &record, answers.as_mut());
    let refusal = match begun {
        Err(refusal) => refusal,
        Ok(None) => execute(&order),
        Ok(Some(note)) => {
            match command(&order).and_then(|mut it| it.spawn().map_err(failed_to(&order))) {
                Err(refusal) => refusal,
                Ok(child) => {
                    // Both ends tell the agent that the program has begun.
                    drop((answers.take(), lock));
                    keep(child, record, note)
                }
            }
        }
    };
    let _ = place.remove_record();
    Err(refusal)
}

/// The last that needs the agent's own rights, and the first that does without. Gives where the end of a
/// job is noted.
fn begin(
    order: &Order,
    place: &Place,
    record: &Record,
    answers: Option<&mut File>,
) -> Result<Option<File>, Refusal> {
    let note = order.keeps_end.then(|| place.create_kept()).transpose();
    let note = note.map_err(refused("make the note of its end"))?;
    say(answers, &Word::Recorded(record.clone())).map_err(refused("answer"))?;
    drop_privileges(order)?;
    Ok(note)
}

/// Waits for the end of a job, notes it, and ends in the same way.
#[expect(
    clippy::disallowed_methods,
    reason = "this process is a workload by now, and ends as one"
)]
fn keep(mut child: Child, record: Record, mut note: File) -> ! {
    let exit = match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        Err(_) => Exit::Unknown,
    };
    let ended = Ended::new(record.process, exit, clock::now());
    // Without the note the end is known to whoever waits for this process, and to nobody else.
    let _ = serde_json::to_writer(&mut note, &ended);
    let _ = note.sync_data();
    std::process::exit(match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
        Exit::Unknown => 1,
    })
}

fn read_order() -> Result<Order, Refusal> {
    let mut bytes = Vec::new();
    io::stdin()
        .take(ORDER_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(refused("read the order"))?;
    serde_json::from_slice(&bytes).map_err(|error| Refusal {
        retryable: true,
        message: format!("the order is not complete: {error}"),
    })
}

fn own_record(body: Digest, started_at: Timestamp) -> Result<Record, Refusal> {
    let own = rustix::process::getpid().as_raw_pid();
    let process = Identity::of(own).ok_or_else(|| Refusal {
        retryable: true,
        message: "cannot read /proc, by which workloads are known".to_owned(),
    })?;
    Ok(Record {
        process,
        body,
        started_at,
    })
}

/// All that needs the agent's own rights: output, limits, group.
fn prepare(order: &Order) -> Result<(), Refusal> {
    let log = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&order.log)
        .map_err(refused("open the log"))?;
    let nothing = File::open("/dev/null").map_err(refused("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&nothing).map_err(refused("redirect input"))?;
    rustix::stdio::dup2_stdout(&log).map_err(refused("redirect output"))?;
    rustix::stdio::dup2_stderr(&log).map_err(refused("redirect output"))?;
    keep_descriptors().map_err(refused("keep its descriptors"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if let Some(nice) = order.nice {
        rustix::process::nice(nice).map_err(refused("lower its priority"))?;
    }
    limit(Resource::Data, order.memory, "limit its memory")?;
    limit(Resource::Nofile, order.open_files, "limit its open files")
}

/// Marks every descriptor beyond the first three close-on-exec, also those that somebody left open
/// for the agent.
#[expect(
    unsafe_code,
    reason = "a descriptor that is only listed has no owner to borrow it from"
)]
fn keep_descriptors() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: it is listed, so it is open; this process has one thread, which does nothing
            // else meanwhile, so it stays open; the listing's own descriptor is open until the end.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

fn limit(resource: Resource, value: Option<u64>, attempt: &str) -> Result<(), Refusal> {
    let Some(value) = value else { return Ok(()) };
    let both = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    rustix::process::setrlimit(resource, both).map_err(refused(attempt))
}

/// This process has one thread, so that the rights of the thread are those of the process.
fn drop_privileges(order: &Order) -> Result<(), Refusal> {
    if let Some(user) = &order.identity {
        let groups: Vec<_> = user
            .groups
            .iter()
            .map(|g| rustix::fs::Gid::from_raw(*g))
            .collect();
        let attempt = format!("become user {}", user.name);
        rustix::thread::set_thread_groups(&groups).map_err(refused(&attempt))?;
        rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(user.gid))
            .map_err(refused(&attempt))?;
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(user.uid))
            .map_err(refused(&attempt))?;
    }
    let enter = format!("enter {}", order.directory.display());
    rustix::process::chdir(&order.directory).map_err(refused(&enter))
}

/// Returns only when the program cannot be executed.
fn execute(order: &Order) -> Refusal {
    match command(order) {
        Ok(mut command) => failed_to(order)(command.exec()),
        Err(refusal) => refusal,
    }
}

fn command(order: &Order) -> Result<Command, Refusal> {
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(Refusal {
            retryable: false,
            message: "the command is empty".to_owned(),
        });
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&order.environment);
    Ok(command)
}

fn failed_to(order: &Order) -> impl FnOnce(io::Error) -> Refusal {
    let program = order.command.first().cloned().unwrap_or_default();
    let attempt = format!("execute {program:?} in {}", order.directory.display());
    move |error| refused(&attempt)(error)
}

fn refused<E: Into<io::Error>>(attempt: &str) -> impl FnOnce(E) -> Refusal {
    move |error| {
        let error: io::Error = error.into();
        Refusal {
            retryable: is_retryable(&error),
            message: format!("cannot {attempt}: {error}"),
        }
    }
}

/// Whether the same start may succeed later without anybody changing the workload.
fn is_retryable(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::ArgumentListTooLong
    ) && error.raw_os_error() != Some(rustix::io::Errno::NOEXEC.raw_os_error())
}
