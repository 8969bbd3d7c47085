//! Output of a service, from the engine: of one container after the other where it is followed.

use std::sync::Arc;
use std::time::Duration;

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
use super::watch::pause;
use crate::failure::Failure;
use crate::run::LogRequest;

/// Readers of output at a time.
pub(super) const READERS_MAX: usize = 16;
/// Lines that may wait for a reader.
const LINES_MAX: usize = 256;
/// Longest line, in bytes; the engine cuts longer ones into several.
const LINE_MAX: usize = 16 * 1024;

/// How long a container that was replaced may still say what it said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One reader.
struct Reader {
    inner: Arc<Inner>,
    service: ServiceName,
    lines: mpsc::Sender<LogLine>,
    /// What was asked for: lines that are newer.
    since: Option<Timestamp>,
    passed: Passed,
}

/// How far one container's lines were passed on. Podman (4.3) gives their times in whole seconds, so
/// a time alone does not tell the lines that were passed on from those of the same second to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Passed {
    /// The time of the newest line.
    last: Option<Timestamp>,
    /// How many lines had that time.
    with_last: usize,
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
        since: request.since,
        passed: Passed::default(),
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
        let begin = options(request.follow, &tail, self.since);
        if !request.follow {
            let never = std::future::pending();
            return self.pass_on(engine, &first.id, begin, never).await;
        }
        let (mut id, mut from) = (first.id, begin);
        let mut vain = 0;
        loop {
            let before = self.passed;
            let (inner, service) = (self.inner.clone(), self.service.clone());
            let replaced = replaced(&inner, &service, &id, &mut stirred);
            self.pass_on(engine, &id, from, replaced).await;
            vain = if self.passed == before { vain + 1 } else { 0 };
            let next = next(&self.inner, &self.service, &id, vain, &mut stirred).await;
            if next != id {
                self.passed = Passed::default();
                id = next;
            }
            from = options(true, "all", self.passed.last.or(self.since));
        }
    }

    /// Passes on one container's lines: to the end of what there is, until it ends, or until it is
    /// replaced and says nothing more.
    ///
    /// Podman (4.3) may keep the output of a container open that is removed while it is followed.
    async fn pass_on(
        &mut self,
        engine: &Engine,
        id: &str,
        options: LogsOptions,
        replaced: impl Future<Output = ()>,
    ) {
        let mut replaced = std::pin::pin!(replaced);
        let mut ending = false;
        // The engine is asked to the second, and answers with that whole second.
        let mut sieve = Sieve {
            since: self.since,
            passed: self.passed,
        };
        let mut output = engine.api.logs(id, Some(options));
        loop {
            let piece = tokio::select! {
                piece = output.next() => piece,
                () = &mut replaced, if !ending => {
                    ending = true;
                    continue;
                }
                () = tokio::time::sleep(LAST_WORDS), if ending => return,
            };
            let Some(Ok(piece)) = piece else { return };
            let line = line(&piece);
            if !sieve.lets_through(line.at) {
                continue;
            }
            self.passed.note(line.at);
            if self.lines.send(line).await.is_err() {
                return;
            }
        }
    }
}

impl Passed {
    fn note(&mut self, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        if self.last == Some(at) {
            self.with_last += 1;
        } else {
            self.last = Some(at);
            self.with_last = 1;
        }
    }
}

/// Keeps back what comes again when a container is read once more.
struct Sieve {
    since: Option<Timestamp>,
    /// What was passed on before, less what has come again.
    passed: Passed,
}

impl Sieve {
    fn lets_through(&mut self, at: Option<Timestamp>) -> bool {
        if at.is_none() {
            return true;
        }
        if at < self.passed.last || at <= self.since {
            return false;
        }
        let again = at == self.passed.last && self.passed.with_last > 0;
        if again {
            self.passed.with_last -= 1;
        }
        !again
    }
}

/// Returns once another container than `id` runs in its place.
async fn replaced(
    inner: &Inner,
    service: &ServiceName,
    id: &str,
    stirred: &mut tokio::sync::watch::Receiver<u64>,
) {
    let mut failures = 0;
    loop {
        match newest(inner, service).await {
            Ok(Some(next)) if next.id != id && next.is_running() => return,
            Ok(_) => failures = 0,
            Err(_) => failures += 1,
        }
        stir(stirred, failures).await;
    }
}

/// The container to read after `id` has ended: another one, or the same one started again. `vain` is
/// how often in a row reading gave nothing: the same container is asked ever more seldom.
async fn next(
    inner: &Inner,
    service: &ServiceName,
    id: &str,
    vain: u32,
    stirred: &mut tokio::sync::watch::Receiver<u64>,
) -> String {
    let mut failures = 0;
    loop {
        match newest(inner, service).await {
            Ok(Some(next)) if next.id != id => return next.id,
            Ok(Some(next)) if next.is_running() => {
                stir(stirred, vain.max(1)).await;
                return next.id;
            }
            Ok(_) => failures = 0,
            Err(_) => failures += 1,
        }
        stir(stirred, failures).await;
    }
}

/// Waits until something happened to a container; after failures also until it is time to look again.
async fn stir(stirred: &mut tokio::sync::watch::Receiver<u64>, failures: u32) {
    let pause = match failures {
        0 => Duration::MAX,
        _ => pause(failures),
    };
    // Where the watch has ended, so has the agent.
    if let Ok(Err(_)) = tokio::time::timeout(pause, stirred.changed()).await {
        std::future::pending::<()>().await;
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
        text.truncate(text.floor_char_boundary(LINE_MAX - '…'.len_utf8()));
        text.push('…');
    }
    LogLine { at, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_of(seconds: &[u64], since: Option<u64>, before: Passed) -> (Vec<u64>, Passed) {
        let at = |seconds| Timestamp::from_millis(seconds * 1000);
        let mut sieve = Sieve {
            since: since.map(at),
            passed: before,
        };
        let (mut through, mut passed) = (Vec::new(), before);
        for second in seconds {
            if sieve.lets_through(Some(at(*second))) {
                passed.note(Some(at(*second)));
                through.push(*second);
            }
        }
        (through, passed)
    }

    #[test]
    fn lines_of_one_second_come_once_when_a_container_is_read_again() {
        let (_, first) = passed_of(&[1, 2, 2], None, Passed::default());
        assert_eq!(passed_of(&[1, 2, 2, 2, 3], None, first).0, [2, 3]);
    }

    #[test]
    fn lines_of_the_second_in_which_a_container_was_replaced_are_passed_on() {
        let (through, _) = passed_of(&[2, 2], None, Passed::default());
        assert_eq!(through, [2, 2]);
    }

    #[test]
    fn only_lines_after_the_time_that_was_asked_for_come() {
        assert_eq!(passed_of(&[1, 2, 3], Some(2), Passed::default()).0, [3]);
    }
}
