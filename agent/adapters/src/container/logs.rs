//! Output of a service, from the engine: of one container after the other where it is followed.

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use futures_util::StreamExt as _;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::adapter::Inner;
use super::engine::Engine;
use super::sight::Seen;
use crate::failure::Failure;
use crate::run::LogRequest;

/// Readers of output at a time.
pub(super) const READERS_MAX: usize = 16;
/// Lines that may wait for a reader.
const LINES_MAX: usize = 256;
/// Longest line, in bytes; the engine cuts longer ones into several.
const LINE_MAX: usize = 16 * 1024;

/// One reader.
struct Reader {
    inner: Arc<Inner>,
    service: ServiceName,
    lines: mpsc::Sender<LogLine>,
    /// The time of the newest line that was passed on.
    last: Option<Timestamp>,
}

/// Starts to read.
pub(super) async fn read(
    inner: Arc<Inner>,
    service: ServiceName,
    request: LogRequest,
    permit: OwnedSemaphorePermit,
) -> Result<mpsc::Receiver<LogLine>, Failure> {
    // From before the first look, so that no change after it is missed.
    let stirred = inner.watch.stirred();
    let engine = inner.engine().await?;
    let first = newest(&inner, &service).await?;
    let first =
        first.ok_or_else(|| Failure::Permanent(format!("there is no workload {service} here")))?;
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let mut reader = Reader {
        inner,
        service,
        lines,
        last: request.since,
    };
    tokio::spawn(async move {
        let _permit = permit;
        let closed = reader.lines.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = reader.run(&engine, first, request, stirred) => {}
        }
    });
    Ok(receiver)
}

async fn newest(inner: &Inner, service: &ServiceName) -> Result<Option<Seen>, Failure> {
    let mut containers = inner.containers(Some(service), true).await?;
    let own = containers.remove(service).unwrap_or_default();
    Ok(own
        .into_iter()
        .max_by_key(|seen| (seen.is_running(), seen.made)))
}

impl Reader {
    async fn run(
        &mut self,
        engine: &Engine,
        first: Seen,
        request: LogRequest,
        mut stirred: tokio::sync::watch::Receiver<u64>,
    ) {
        let tail = match request.tail {
            usize::MAX => "all".to_owned(),
            count => count.to_string(),
        };
        let begin = options(request.follow, &tail, self.last);
        self.pass_on(engine, &first.id, begin).await;
        while request.follow && stirred.changed().await.is_ok() {
            let Ok(Some(next)) = newest(&self.inner, &self.service).await else {
                continue;
            };
            // The same container has nothing new unless it was started again.
            if next.is_running() || next.id != first.id {
                let goes_on = options(true, "all", self.last);
                self.pass_on(engine, &next.id, goes_on).await;
            }
        }
    }

    /// Passes on one container's lines until it ends, or to the end of what there is.
    async fn pass_on(&mut self, engine: &Engine, id: &str, options: LogsOptions) {
        // Several lines may have one time: only what was passed on before is left out.
        let before = self.last;
        let mut output = engine.api.logs(id, Some(options));
        while let Some(Ok(piece)) = output.next().await {
            let line = line(&piece);
            // The engine is asked to the second, and answers with that whole second.
            if line.at.is_some() && line.at <= before {
                continue;
            }
            self.last = line.at.or(self.last);
            if self.lines.send(line).await.is_err() {
                return;
            }
        }
    }
}

fn options(follow: bool, tail: &str, since: Option<Timestamp>) -> LogsOptions {
    let seconds = since.map_or(0, |at| at.as_millis() / 1000);
    LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        .follow(follow)
        .tail(tail)
        .since(i32::try_from(seconds).unwrap_or(i32::MAX))
        .build()
}

/// `TIME TEXT`, as the engine writes it.
fn line(piece: &LogOutput) -> LogLine {
    let bytes = piece.as_ref();
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    let (at, text) = match text.split_once(' ') {
        Some((time, rest)) => match time.parse() {
            Ok(at) => (Some(at), rest),
            Err(_) => (None, text),
        },
        None => match text.parse() {
            Ok(at) => (Some(at), ""),
            Err(_) => (None, text),
        },
    };
    let mut text = text.to_owned();
    if text.len() > LINE_MAX {
        let end = (0..=LINE_MAX - '…'.len_utf8())
            .rev()
            .find(|i| text.is_char_boundary(*i));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    LogLine { at, text }
}
