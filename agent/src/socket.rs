//! The local socket: `status`, `logs`, `hold`, `unhold` and `leave` for programs of the same user on this machine.
//!
//! One request a connection, one JSON object a line. Only the agent's own user can connect (0600).

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_adapters::run::LogRequest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::Hold;
use holdfast_protocol::stream::LOG_TAIL_MAX_LINES;
use holdfast_protocol::time::Timestamp;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::event::{Ask, Event, Leave};
use crate::hold::Wish;
use crate::logs::Logs;
use crate::snapshot::Snapshot;

/// Connections served at once; the next ones wait.
pub const CONNECTIONS_MAX: usize = 16;
/// Largest request, in bytes.
pub const REQUEST_MAX_BYTES: u64 = 64 * 1024;
/// Time that a caller has to say what it wants.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Time that answers under way have when the agent stops.
const FINISH_LIMIT: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// How this target stands.
    Status,
    /// The output of a workload.
    Logs {
        /// Whose.
        service: ServiceName,
        /// At most this many lines from the past.
        tail: u32,
        /// Only lines after this.
        since: Option<Timestamp>,
        /// Go on with new lines.
        follow: bool,
    },
    /// Leave this target alone for a while.
    Hold {
        /// How long, in milliseconds.
        for_ms: u64,
        /// Why.
        reason: String,
    },
    /// End that.
    Unhold,
    /// Leave for good.
    Leave {
        /// Remove the workloads, too.
        remove_workloads: bool,
    },
}

/// What is answered; for logs, one for each line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Reply {
    /// How this target stands.
    Status(Box<Snapshot>),
    /// One line of output.
    Line {
        /// When it was seen, if known.
        at: Option<Timestamp>,
        /// The text.
        text: String,
    },
    /// The hold that there is now, or was until now.
    Held {
        /// None where there was none.
        hold: Option<Hold>,
    },
    /// It is done; what could not be.
    Left {
        /// For people.
        warning: Option<String>,
    },
    /// It could not be done.
    Error {
        /// Why.
        message: String,
    },
}

/// Why the running agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("the agent is not running: nobody listens on {path}")]
    NotRunning {
        /// The socket.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent broke off the conversation")]
    Broken(#[source] io::Error),
    /// The answer is not one.
    #[error("the agent's answer cannot be read")]
    Answer(#[source] serde_json::Error),
}

/// Everything that the socket can show.
#[derive(Debug, Clone)]
pub struct Served {
    /// The newest picture.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// The output of workloads.
    pub logs: Logs,
    /// The driver.
    pub events: mpsc::Sender<Event>,
}

/// Listens on `path`, whose directory is made if needed; what an earlier agent left there is removed.
///
/// # Errors
/// What the system said, also where something else than a socket is there.
pub fn listen(path: &Path) -> io::Result<Listening> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something else than a socket is there")),
        Err(_) => {}
    }
    // From its first instant on, nobody else can connect.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    Ok(Listening {
        listener: bound?,
        path: path.to_owned(),
    })
}

/// A socket; its file goes with it.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // The next agent removes one that stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers until `stop`, and lets the answers that are under way be finished.
pub async fn serve(listening: Listening, served: Served, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listening.listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(answer(stream, served.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the local socket");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listening);
    let all = async { while connections.join_next().await.is_some() {} };
    // Those who follow logs would never end by themselves.
    let _ = tokio::time::timeout(FINISH_LIMIT, all).await;
}

async fn answer(stream: UnixStream, served: Served) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_MAX_BYTES));
    let asked = tokio::time::timeout(REQUEST_LIMIT, reader.read_line(&mut line)).await;
    let outcome = match (asked, serde_json::from_str(&line)) {
        (Ok(Ok(_)), Ok(Request::Status)) => {
            let snapshot = served.snapshot.borrow().as_ref().clone();
            say(&mut write, &Reply::Status(Box::new(snapshot))).await
        }
        (
            Ok(Ok(_)),
            Ok(Request::Logs {
                service,
                tail,
                since,
                follow,
            }),
        ) => {
            let tail = tail.min(LOG_TAIL_MAX_LINES) as usize;
            let request = LogRequest {
                since,
                tail,
                follow,
            };
            answer_logs(&mut write, reader, &served.logs, &service, request).await
        }
        (Ok(Ok(_)), Ok(Request::Hold { for_ms, reason })) => {
            answer_hold(&mut write, &served, for_ms, &reason).await
        }
        (Ok(Ok(_)), Ok(Request::Unhold)) => {
            ask_driver(&mut write, &served, |done| Ask::Unhold { done }).await
        }
        (Ok(Ok(_)), Ok(Request::Leave { remove_workloads })) => {
            answer_leave(&mut write, &served, remove_workloads).await
        }
        (Ok(Ok(_)), Err(error)) => {
            say(
                &mut write,
                &Reply::Error {
                    message: format!("not a request: {error}"),
                },
            )
            .await
        }
        (Ok(Err(_)) | Err(_), _) => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a local caller went away");
    }
}

type Write = tokio::net::unix::OwnedWriteHalf;

async fn answer_logs(
    write: &mut Write,
    mut reader: impl tokio::io::AsyncRead + Unpin,
    logs: &Logs,
    service: &ServiceName,
    request: LogRequest,
) -> io::Result<()> {
    let mut lines = match logs.open(service, request).await {
        Ok(lines) => lines,
        Err(message) => return say(write, &Reply::Error { message }).await,
    };
    let mut nothing = [0u8; 1];
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                say(write, &Reply::Line { at: line.at, text: line.text }).await?;
            }
            // The caller says nothing more; the end of its side is its goodbye.
            _ = reader.read(&mut nothing) => return Ok(()),
        }
    }
}

async fn answer_hold(
    write: &mut Write,
    served: &Served,
    for_ms: u64,
    reason: &str,
) -> io::Result<()> {
    match Wish::new(Duration::from_millis(for_ms), reason) {
        Ok(wish) => ask_driver(write, served, |done| Ask::Hold { wish, done }).await,
        Err(message) => say(write, &Reply::Error { message }).await,
    }
}

async fn ask_driver(
    write: &mut Write,
    served: &Served,
    ask: impl FnOnce(oneshot::Sender<Result<Option<Hold>, String>>) -> Ask,
) -> io::Result<()> {
    let (done, told) = oneshot::channel();
    // A driver that has ended tells nobody: `told` ends with it.
    let _ = served.events.send(Event::Hold(ask(done))).await;
    let reply = match told.await {
        Ok(Ok(hold)) => Reply::Held { hold },
        Ok(Err(message)) => Reply::Error { message },
        Err(_) => Reply::Error {
            message: "the agent is stopping".to_owned(),
        },
    };
    say(write, &reply).await
}

async fn answer_leave(
    write: &mut Write,
    served: &Served,
    remove_workloads: bool,
) -> io::Result<()> {
    let (done, told) = oneshot::channel();
    let leave = Event::Leave(Leave {
        remove_workloads,
        done,
    });
    if served.events.send(leave).await.is_err() {
        return say(
            write,
            &Reply::Error {
                message: "the agent is stopping".to_owned(),
            },
        )
        .await;
    }
    let reply = match told.await {
        Ok(warning) => Reply::Left { warning },
        Err(_) => Reply::Error {
            message: "the agent stopped before it had left".to_owned(),
        },
    };
    say(write, &reply).await
}

async fn say(write: &mut Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// The answers to one request, as they come.
#[derive(Debug)]
pub struct Answers {
    reader: BufReader<tokio::net::unix::OwnedReadHalf>,
    // Its end would be a goodbye.
    _write: Write,
}

/// Asks the running agent.
///
/// # Errors
/// [`AskError`].
pub async fn ask(path: &Path, request: &Request) -> Result<Answers, AskError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| AskError::NotRunning {
            path: path.display().to_string(),
            source,
        })?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(request).map_err(AskError::Answer)?;
    line.push(b'\n');
    write.write_all(&line).await.map_err(AskError::Broken)?;
    Ok(Answers {
        reader: BufReader::new(read),
        _write: write,
    })
}

impl Answers {
    /// The next answer; nothing at the end.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn next(&mut self) -> Result<Option<Reply>, AskError> {
        let mut line = String::new();
        let count = self
            .reader
            .read_line(&mut line)
            .await
            .map_err(AskError::Broken)?;
        if count == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line)
            .map(Some)
            .map_err(AskError::Answer)
    }
}
