//! A program that a plugin runs: its output is read while it runs and bounded, it ends within a
//! time, and what it started in its process group ends with it.
//!
//! *Guarantees*: environment and input never appear in an argument, a line or a failure.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::Failure;
use crate::call::now;

/// Most of standard output that is read, in bytes.
const OUTPUT_MAX_BYTES: usize = 16 << 20;
/// Longest line that is passed on, in bytes; a longer one is cut in pieces.
const LINE_MAX_BYTES: u64 = 64 << 10;
/// Last lines of standard error that are kept for a failure.
const LAST_LINES: usize = 20;
/// Pieces of output that may wait.
const PIECES_MAX: usize = 64;
/// How long output is waited for after the program's end: what it left behind may hold it open.
const DRAIN: Duration = Duration::from_millis(500);
/// Time that one has to end by itself once it is asked to.
const GRACE: Duration = Duration::from_secs(30);
/// Time between two looks whether it has ended, while it says nothing.
const LOOK: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Clone, Default)]
pub struct Child {
    /// The program, a path or a name on the `PATH`, and its arguments.
    pub command: Vec<String>,
    /// Variables besides those of the plugin itself.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; the plugin's own where there is none.
    pub directory: Option<PathBuf>,
    /// What it reads.
    pub input: Vec<u8>,
    /// Whether each line of its standard output is passed on, too.
    pub tells: bool,
    /// Whether it is asked to end, by SIGINT, before its time is over: it would leave a mess.
    pub is_asked: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub output: Vec<u8>,
    /// The last lines of its standard error.
    pub last: Vec<String>,
}

impl Ran {
    /// Whether it ended with 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// What it printed, as text, without white space around it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).trim().to_owned()
    }

    /// How it ended and its last words, for people.
    #[must_use]
    pub fn why(&self) -> String {
        let ended = match self.code {
            Some(code) => format!("ended with exit code {code}"),
            None => "was ended by a signal".to_owned(),
        };
        if self.last.is_empty() {
            return ended;
        }
        format!("{ended}: {}", self.last.join(" | "))
    }
}

/// Shows no value of the environment, and no input.
impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("command", &self.command)
            .field("environment", &self.environment.keys())
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Child {
    /// A program with its arguments.
    #[must_use]
    pub fn of<I: IntoIterator<Item = S>, S: Into<String>>(command: I) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The program's own name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        let program = self.command.first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or(program)
    }

    /// Runs it for at most `limit`; each line of standard error, and of standard output where
    /// [`Child::tells`], is given to `keep` as it comes.
    ///
    /// # Errors
    /// [`Failure::Permanent`] where there is no such program, [`Failure::Retryable`] where it was
    /// not started otherwise, did not end in time or printed too much.
    pub fn run(&self, limit: Duration, keep: &dyn Fn(&str)) -> Result<Ran, Failure> {
        let begun = now();
        let end = begun + limit;
        let mut ask_at = self.is_asked.then(|| end - GRACE.min(limit / 2));
        let mut child = self.start()?;
        let group = Group(Pid::from_child(&child));
        let (pieces, told) = sync_channel(PIECES_MAX);
        self.attend(&mut child, &pieces);
        drop(pieces);
        let mut heard = Heard::default();
        let name = self.name();
        let late = || {
            let seconds = limit.as_secs_f32();
            Failure::Retryable(format!(
                "{name} did not end within {seconds:.0} s and was killed"
            ))
        };
        let status = loop {
            // Everything is said, or the program has ended and somebody else holds its output open.
            match told.recv_timeout(LOOK) {
                Ok(piece) => heard.take(piece, keep)?,
                Err(RecvTimeoutError::Disconnected) => {
                    break wait(&mut child, end).ok_or_else(late)?;
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Ok(Some(status)) = child.try_wait() {
                        heard.drain(&told, keep)?;
                        break status;
                    }
                }
            }
            if ask_at.take_if(|at| now() >= *at).is_some() {
                // One that has just ended needs not be asked.
                let _ = kill_process(group.0, Signal::INT);
            }
            if now() >= end {
                return Err(late());
            }
        };
        drop(group);
        Ok(heard.ran(status))
    }

    fn start(&self) -> Result<std::process::Child, Failure> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| Failure::Permanent("the command is empty".to_owned()))?;
        if let Some(directory) = self.directory.as_ref().filter(|path| !path.is_dir()) {
            let directory = directory.display();
            let why = format!("{program} cannot be started in {directory}: it is no directory");
            return Err(Failure::Retryable(why));
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.spawn().map_err(|error| {
            let why = format!("{program} cannot be started: {error}");
            match error.kind() {
                io::ErrorKind::NotFound if !program.contains('/') => Failure::Permanent(format!(
                    "{program} is not installed: it is nowhere on the PATH of this plugin, which its \
                     `environment` in agent.toml may set"
                )),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                    Failure::Permanent(why)
                }
                _ => Failure::Retryable(why),
            }
        })
    }

    /// Feeds it, and reads what it says.
    fn attend(&self, child: &mut std::process::Child, pieces: &SyncSender<Piece>) {
        if let Some(mut input) = child.stdin.take() {
            let bytes = self.input.clone();
            // One that does not read its input is no failure of ours.
            thread::spawn(move || drop(input.write_all(&bytes)));
        }
        if let Some(output) = child.stdout.take() {
            let (pieces, tells) = (pieces.clone(), self.tells);
            thread::spawn(move || read_output(output, tells, &pieces));
        }
        if let Some(errors) = child.stderr.take() {
            let pieces = pieces.clone();
            thread::spawn(move || read_lines(errors, &pieces, Piece::Error));
        }
    }
}

/// Ends a process group when it is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody left in it is what is hoped for.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// What a program said.
enum Piece {
    Output(Vec<u8>),
    Line(String),
    Error(String),
}

/// All that a program said.
#[derive(Default)]
struct Heard {
    output: Vec<u8>,
    last: std::collections::VecDeque<String>,
}

impl Heard {
    fn take(&mut self, piece: Piece, keep: &dyn Fn(&str)) -> Result<(), Failure> {
        match piece {
            Piece::Output(bytes) => self.output.extend(bytes),
            Piece::Line(line) => {
                keep(line.trim_end());
                self.output.extend(line.as_bytes());
            }
            Piece::Error(line) => self.note(line.trim_end(), keep),
        }
        if self.output.len() > OUTPUT_MAX_BYTES {
            let why = format!("it printed more than {OUTPUT_MAX_BYTES} bytes");
            return Err(Failure::Retryable(why));
        }
        Ok(())
    }

    fn note(&mut self, line: &str, keep: &dyn Fn(&str)) {
        if line.is_empty() {
            return;
        }
        keep(line);
        self.last.push_back(line.to_owned());
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
        }
    }

    /// Takes what is still on its way, for a moment.
    fn drain(&mut self, told: &Receiver<Piece>, keep: &dyn Fn(&str)) -> Result<(), Failure> {
        let end = now() + DRAIN;
        while let Ok(piece) = told.recv_timeout(end.saturating_duration_since(now())) {
            self.take(piece, keep)?;
        }
        Ok(())
    }

    fn ran(self, status: ExitStatus) -> Ran {
        Ran {
            code: status.code(),
            output: self.output,
            last: self.last.into(),
        }
    }
}

fn wait(child: &mut std::process::Child, end: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if now() < end => thread::sleep(LOOK),
            Ok(None) => return None,
            // Nobody else waits for it, so this does not happen; it has then ended, somehow.
            Err(_) => return Some(ExitStatus::from_raw(1 << 8)),
        }
    }
}

fn read_output(output: impl Read, tells: bool, pieces: &SyncSender<Piece>) {
    if tells {
        return read_lines(output, pieces, Piece::Line);
    }
    let mut output = BufReader::new(output);
    while let Ok(bytes) = output.fill_buf() {
        let read = bytes.len();
        if read == 0 || pieces.send(Piece::Output(bytes.to_vec())).is_err() {
            return;
        }
        output.consume(read);
    }
}

fn read_lines(from: impl Read, pieces: &SyncSender<Piece>, piece: fn(String) -> Piece) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        let read = from
            .by_ref()
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line);
        let over = !read.is_ok_and(|read| read > 0);
        let text = String::from_utf8_lossy(&line).into_owned();
        if over || pieces.send(piece(text)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Child {
        Child::of(["sh", "-c", script])
    }

    #[test]
    fn output_and_errors_are_told_apart() {
        let told = std::cell::RefCell::new(Vec::new());
        let keep = |line: &str| told.borrow_mut().push(line.to_owned());
        let mut child = shell("cat; echo $WORD; echo one >&2; echo two >&2; exit 3");
        child.input = b"in ".to_vec();
        child
            .environment
            .insert("WORD".to_owned(), "out".to_owned());
        let ran = child.run(LONG, &keep).unwrap();
        assert_eq!((ran.code, ran.text().as_str()), (Some(3), "in out"));
        assert_eq!(ran.why(), "ended with exit code 3: one | two");
        assert_eq!(told.into_inner(), ["one", "two"]);
        assert!(!format!("{child:?}").contains("\"out\""));
    }

    #[test]
    fn one_that_does_not_end_is_killed_with_its_children() {
        let begun = now();
        let child = shell("sleep 86431 & sleep 86431; echo never");
        let failure = child.run(Duration::from_millis(300), &|_| {}).unwrap_err();
        assert!(
            failure.to_string().contains("did not end within"),
            "{failure}"
        );
        assert!(failure.is_retryable() && begun.elapsed() < Duration::from_secs(30));
        let end = now() + LONG;
        while sleeps("86431") {
            assert!(now() < end, "its children live on");
            thread::sleep(LOOK);
        }
    }

    fn sleeps(seconds: &str) -> bool {
        let wanted = format!("sleep\0{seconds}\0");
        let processes = std::fs::read_dir("/proc").unwrap();
        processes.flatten().any(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            line == wanted.as_bytes()
        })
    }

    #[test]
    fn a_child_that_holds_the_output_open_is_not_waited_for() {
        let begun = now();
        let ran = shell("sleep 86432 & echo done").run(LONG, &|_| {}).unwrap();
        assert_eq!(ran.text(), "done");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_flood_ends_it() {
        let failure = shell("cat /dev/zero").run(LONG, &|_| {}).unwrap_err();
        assert!(failure.to_string().contains("more than"), "{failure}");
    }

    #[test]
    fn a_missing_program_is_named_and_not_tried_again() {
        let failure = Child::of(["/nowhere/x"]).run(LONG, &|_| {}).unwrap_err();
        assert!(failure.to_string().contains("/nowhere/x"), "{failure}");
        assert!(!failure.is_retryable());
        let failure = Child::of(["holdfast-ghost"])
            .run(LONG, &|_| {})
            .unwrap_err();
        assert!(failure.to_string().contains("not installed"), "{failure}");
        let elsewhere = Child {
            directory: Some("/nowhere".into()),
            ..shell("true")
        };
        let failure = elsewhere.run(LONG, &|_| {}).unwrap_err();
        assert!(failure.to_string().contains("in /nowhere"), "{failure}");
    }

    #[test]
    fn one_that_would_leave_a_mess_is_asked_to_end_first() {
        let child = Child {
            is_asked: true,
            ..shell("trap 'echo saved; exit 3' INT; while :; do sleep 0.1; done")
        };
        let ran = child.run(Duration::from_secs(10), &|_| {}).unwrap();
        assert_eq!((ran.code, ran.text().as_str()), (Some(3), "saved"));
    }
}
