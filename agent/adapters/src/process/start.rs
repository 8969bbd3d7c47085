//! From a wanted workload to a running launcher.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use holdfast_protocol::workload::{Form, Placeholder, Workload};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::failure::Failure;
use crate::process::launch::{ORDER_MAX_BYTES, Order, Seen, User, Word};
use crate::process::record::{Place, Record};
use crate::process::spec::{MARKER, Template};
use crate::process::{table, user};
use crate::run::Wanted;
use crate::secret::memory::{Files, Laid, Memory, Owner};
use crate::unpacked::Store;

/// How long a launcher may take to become the workload.
const START_MAX: Duration = Duration::from_secs(20);
/// Longest answer of a launcher in bytes.
const ANSWER_MAX_BYTES: u64 = 64 << 10;
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a workload that may use less than one processor gives way by, where nothing better can be
/// had: half of the range of nice(1).
const NICE: i32 = 10;

/// All that is needed to start one workload.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) order: Order,
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) secrets: Files,
    pub(crate) laid: Laid,
    pub(crate) user: Option<User>,
}

/// How a start went.
#[derive(Debug)]
pub(crate) enum Started {
    Now(Record),
    /// Something else had started it before.
    Already(Record),
}

/// Fills a template's placeholders and finds its user.
pub(crate) fn plan(
    wanted: &Wanted,
    template: &Template,
    place: &Place,
    store: &Store,
    (home, memory): (&str, &Memory),
) -> Result<Plan, Failure> {
    let own = place.directory();
    let resolve = |placeholder: &Placeholder| resolve(placeholder, &wanted.workload, store, &own);
    let fill = |text: &str| {
        Placeholder::fill(text, &resolve)
            .map_err(|inner| Failure::Permanent(format!("the template refers to {inner:?}")))
    };
    let fill_table = |table: &BTreeMap<String, String>| -> Result<BTreeMap<_, _>, Failure> {
        table
            .iter()
            .map(|(key, value)| Ok((key.clone(), fill(value)?)))
            .collect()
    };
    let user = match &template.user {
        Some(name) => user::find(name)?,
        None => None,
    };
    let default = default_directory(&wanted.workload, store).unwrap_or_else(|| own.clone());
    let directory = match &template.working_directory {
        Some(text) => default.join(fill(text)?),
        None => default,
    };
    let mut environment = base_environment(user.as_ref(), &own);
    environment.extend(fill_table(&template.environment)?);
    for (variable, secret) in &template.secret_environment {
        let value = wanted.secrets.text(secret)?;
        environment.insert(variable.clone(), value.to_owned());
    }
    let mark = table::mark(home, &wanted.workload.service, &wanted.body);
    environment.insert(MARKER.to_owned(), mark);
    let order = Order {
        records: place.root.clone(),
        agent: std::process::id(),
        body: wanted.body,
        command: template
            .command
            .iter()
            .map(|text| fill(text))
            .collect::<Result<_, _>>()?,
        directory,
        environment,
        log: crate::process::logs::current(place),
        identity: user.clone(),
        memory: template.limits.memory,
        open_files: template.limits.open_files,
        nice: template
            .limits
            .cpu
            .filter(|share| *share < 1.0)
            .map(|_| NICE),
        keeps_end: wanted.workload.job.is_some(),
        seen: Some(Seen {
            process: place.record().map(|record| record.process),
        }),
    };
    let (secrets, laid) = secret_files(wanted, template, user.as_ref(), memory)?;
    Ok(Plan {
        order,
        files: fill_table(&template.files)?,
        secrets,
        laid,
        user,
    })
}

/// The files that secrets stand for, and the links in its own directory that lead to them.
fn secret_files(
    wanted: &Wanted,
    template: &Template,
    user: Option<&User>,
    memory: &Memory,
) -> Result<(Files, Laid), Failure> {
    let owner = user.map(|user| Owner {
        uid: user.uid,
        gid: user.gid,
    });
    let mut laid = Laid::default();
    if template.secret_files.is_empty() {
        return Ok((Files::default(), laid));
    }
    let service = &wanted.workload.service;
    let mut files = memory.files(service, &wanted.secrets, owner)?;
    for (path, secret) in &template.secret_files {
        let target = files.add(secret, &wanted.secrets)?;
        laid.links.insert(path.clone(), target);
    }
    laid.files = files.paths();
    Ok((files, laid))
}

/// Starts a launcher and waits until it has become the workload. Blocks, at most [`START_MAX`].
pub(crate) fn start(launcher: &[OsString], order: &Order) -> Result<Started, Failure> {
    // Variables that secrets stand for are in it.
    let order = zeroize::Zeroizing::new(
        serde_json::to_vec(order)
            .map_err(|e| Failure::Permanent(format!("a path of this target is not text: {e}")))?,
    );
    if order.len() as u64 >= ORDER_MAX_BYTES {
        return Err(Failure::Permanent(
            "command and environment are too large".to_owned(),
        ));
    }
    let mut child = spawn(launcher)?;
    let answer = converse(&mut child, &order);
    if let Some(Word::Recorded(record)) = &answer.last
        && answer.ended
    {
        // The workload now; whoever watches it reaps it.
        return Ok(Started::Now(record.clone()));
    }
    // Whatever it is, it is no workload.
    let _ = child.kill();
    let status = child.wait();
    match answer.last {
        Some(Word::Runs(record)) => Ok(Started::Already(record)),
        Some(Word::Refused {
            retryable: false,
            message,
        }) => Err(Failure::Permanent(message)),
        Some(Word::Refused {
            retryable: true,
            message,
        }) => Err(Failure::Retryable(message)),
        Some(Word::Recorded(_)) | None if !answer.ended => Err(Failure::Retryable(
            "the launcher did not start the program in time".to_owned(),
        )),
        Some(Word::Recorded(_)) | None => {
            let how = status.map_or_else(|e| e.to_string(), |status| status.to_string());
            Err(Failure::Retryable(format!(
                "the launcher ended without an answer: {how}"
            )))
        }
    }
}

struct Answer {
    last: Option<Word>,
    /// Whether the pipe was closed, and not the time over.
    ended: bool,
}

fn spawn(launcher: &[OsString]) -> Result<Child, Failure> {
    let (program, arguments) = launcher
        .split_first()
        .ok_or_else(|| Failure::Permanent("the agent has no launcher".to_owned()))?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| Failure::Retryable(format!("cannot start the launcher {program:?}: {e}")))
}

fn converse(child: &mut Child, order: &[u8]) -> Answer {
    if let Some(mut input) = child.stdin.take() {
        // A launcher that ended before it read all answers for itself.
        let _ = input.write_all(order);
    }
    let (text, ended) = child
        .stdout
        .take()
        .map_or((Vec::new(), true), |mut out| read_all(&mut out));
    let words = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    Answer {
        last: words
            .filter_map(|line| serde_json::from_slice(line).ok())
            .next_back(),
        ended,
    }
}

fn read_all(pipe: &mut ChildStdout) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let slice = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    let mut slices = START_MAX.as_millis() / 100;
    while slices > 0 && (text.len() as u64) < ANSWER_MAX_BYTES {
        let ready = rustix::event::poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&slice));
        if ready == Ok(0) {
            slices -= 1;
            continue;
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return (text, true),
            Ok(read) => text.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return (text, false),
        }
    }
    (text, false)
}

/// What a placeholder stands for in a workload of this adapter.
pub(crate) fn resolve(
    placeholder: &Placeholder,
    workload: &Workload,
    store: &Store,
    own: &Path,
) -> Option<String> {
    let path = match placeholder {
        Placeholder::WorkloadDir => own.to_owned(),
        Placeholder::ArtifactPath(name) => store.path(
            workload
                .artifacts
                .iter()
                .find(|artifact| artifact.name == *name)?,
        ),
    };
    path.into_os_string().into_string().ok()
}

/// The directory of the only unpacked artifact, if there is exactly one.
fn default_directory(workload: &Workload, store: &Store) -> Option<PathBuf> {
    let mut unpacked = workload
        .artifacts
        .iter()
        .filter(|artifact| artifact.form != Form::File);
    let only = unpacked.next()?;
    unpacked.next().is_none().then(|| store.path(only))
}

fn base_environment(user: Option<&User>, own: &Path) -> BTreeMap<String, String> {
    let home = user.map_or_else(
        || own.to_string_lossy().into_owned(),
        |user| user.home.clone(),
    );
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), home),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    if let Some(user) = user {
        environment.insert("USER".to_owned(), user.name.clone());
        environment.insert("LOGNAME".to_owned(), user.name.clone());
    }
    environment
}
