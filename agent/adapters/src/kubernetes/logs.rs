//! Output of a set: of every container of its pods, in the order of time where it is past, and as it
//! comes where it is followed. Each line begins with its pod's name.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::time::Timestamp;
use kube::core::request::Request;
use kube::core::subresource::LogParams;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::adapter::Inner;
use super::cluster::{ANSWER_MAX, Cluster, unbuilt};
use super::kind::Kind;
use super::pod::{self, CONTAINERS_MAX, Container};
use crate::failure::Failure;
use crate::run::LogRequest;

/// Readers of output at a time.
pub(super) const READERS_MAX: usize = 16;
/// Lines that may wait for a reader.
const LINES_MAX: usize = 256;
/// Longest line, in bytes; what is longer is cut.
const LINE_MAX: usize = 16 * 1024;
/// Most output of one container that is read of its past, in bytes.
const PAST_MAX_BYTES: i64 = 4 << 20;
/// Most output of all containers of a set that is kept of their past, in bytes.
const PAST_TOTAL_MAX_BYTES: usize = 8 << 20;
/// What a line takes besides its text, in bytes.
const LINE_COST_BYTES: usize = 96;
/// Longest pause between two looks for new pods of a set that is followed.
const PODS_LOOK: Duration = Duration::from_secs(2);

/// A line with its time as the cluster writes it, which is finer than that of a [`LogLine`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Timed {
    /// `2026-11-21T15:04:05.000000000`: such texts sort as their times do.
    time: String,
    line: String,
}

/// Which container, and which of its runs.
type Run = (String, String, u64);

/// One reader.
struct Reader {
    inner: Arc<Inner>,
    cluster: Cluster,
    service: ServiceName,
    lines: mpsc::Sender<LogLine>,
    /// The time of the last line of each run that was passed on.
    passed: BTreeMap<Run, String>,
}

/// Starts to read.
pub(super) async fn read(
    inner: Arc<Inner>,
    service: ServiceName,
    request: LogRequest,
    permit: OwnedSemaphorePermit,
) -> Result<mpsc::Receiver<LogLine>, Failure> {
    let cluster = inner.cluster().await?;
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let mut reader = Reader {
        inner,
        cluster,
        service,
        lines,
        passed: BTreeMap::new(),
    };
    let containers = reader.containers().await?;
    let past = reader.past(&containers, request).await?;
    tokio::spawn(async move {
        let _permit = permit;
        let closed = reader.lines.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = reader.run(past, request) => {}
        }
    });
    Ok(receiver)
}

impl Reader {
    async fn containers(&self) -> Result<Vec<Container>, Failure> {
        let set = self.inner.read_record(&self.cluster, &self.service).await?;
        let service = &self.service;
        let gone = || Failure::Permanent(format!("there is no workload {service} here"));
        let set = set.ok_or_else(gone)?;
        let found = pod::containers(&self.cluster, &set).await?;
        found.ok_or_else(|| {
            Failure::Permanent(format!(
                "{service} has no output: nothing of its set has pods"
            ))
        })
    }

    /// What was said until now, the newest lines of all containers together.
    async fn past(
        &mut self,
        containers: &[Container],
        request: LogRequest,
    ) -> Result<Vec<Timed>, Failure> {
        let mut all = Vec::new();
        for container in containers.iter().filter(|container| container.begun) {
            let said = past_of(&self.cluster, container, request).await?;
            if let Some(last) = said.last() {
                self.passed.insert(run(container), last.time.clone());
            }
            all.extend(said);
            newest(&mut all, request.tail);
        }
        Ok(all)
    }

    async fn run(&mut self, past: Vec<Timed>, request: LogRequest) {
        for line in past {
            if self.lines.send(line.into_line()).await.is_err() {
                return;
            }
        }
        if request.follow {
            self.follow(request.since).await;
        }
    }

    /// Follows every container of the set, also those that come.
    async fn follow(&mut self, since: Option<Timestamp>) {
        let mut stirred = self.inner.watch.stirred();
        let mut streams: JoinSet<(Run, Option<String>)> = JoinSet::new();
        let mut followed: Vec<Run> = Vec::new();
        loop {
            // One that cannot be asked now is asked again.
            let containers = self.containers().await.unwrap_or_default();
            for container in containers.into_iter().filter(|c| c.begun) {
                let run = run(&container);
                if followed.contains(&run) || streams.len() >= CONTAINERS_MAX {
                    continue;
                }
                followed.push(run.clone());
                let after = self.passed.get(&run).cloned().or(since.map(time_of));
                let (cluster, lines) = (self.cluster.clone(), self.lines.clone());
                streams.spawn(async move {
                    let last = follow_one(&cluster, &container, after, &lines).await;
                    (run, last)
                });
            }
            tokio::select! {
                Some(Ok((run, last))) = streams.join_next() => {
                    // It ended, or its connection did: where it still runs it is followed on.
                    followed.retain(|other| *other != run);
                    if let Some(last) = last {
                        self.passed.insert(run, last);
                    }
                    tokio::time::sleep(PODS_LOOK).await;
                }
                _ = stirred.changed() => {}
                () = tokio::time::sleep(PODS_LOOK) => {}
            }
        }
    }
}

/// Leaves the newest lines, in their order: at most so many, and no more than fit into memory.
fn newest(all: &mut Vec<Timed>, tail: usize) {
    all.sort();
    let mut bytes = 0;
    let kept = all.iter().rev().take(tail).take_while(|timed| {
        bytes += timed.line.len() + timed.time.len() + LINE_COST_BYTES;
        bytes <= PAST_TOTAL_MAX_BYTES
    });
    let surplus = all.len() - kept.count();
    all.drain(..surplus);
}

/// The next line, as text whatever its bytes are, and no longer than lines may be: the rest of a longer one
/// is passed over. A program that never ends its line fills nobody's memory.
async fn next_line(output: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let (mut line, mut any) = (Vec::new(), false);
    loop {
        let piece = output.fill_buf().await?;
        if piece.is_empty() {
            return Ok(any.then(|| String::from_utf8_lossy(&line).into_owned()));
        }
        any = true;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(piece.len());
        let room = (2 * LINE_MAX).saturating_sub(line.len());
        line.extend_from_slice(piece.get(..length.min(room)).unwrap_or_default());
        output.consume_unpin(end.map_or(length, |end| end + 1));
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

impl Timed {
    /// `TIME TEXT`, as the cluster writes it.
    fn parse(text: &str, container: &Container) -> Option<Self> {
        let (time, said) = text.split_once(' ').unwrap_or((text, ""));
        let time = time.strip_suffix('Z')?;
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        let whose = match container.several {
            true => format!("{}/{}", container.pod, container.container),
            false => container.pod.clone(),
        };
        Some(Self {
            time: format!("{seconds}.{fraction:0<9}"),
            line: cut(format!("{whose}: {}", said.trim_end_matches('\r'))),
        })
    }

    fn into_line(self) -> LogLine {
        LogLine {
            at: format!("{}Z", self.time).parse().ok(),
            text: self.line,
        }
    }
}

async fn past_of(
    cluster: &Cluster,
    container: &Container,
    request: LogRequest,
) -> Result<Vec<Timed>, Failure> {
    let attempt = format!("read the output of {}", container.pod);
    let params = LogParams {
        tail_lines: i64::try_from(request.tail).ok(),
        limit_bytes: Some(PAST_MAX_BYTES),
        ..params(container, request.since.map(time_of).as_deref())
    };
    let path = Kind::pod().path(Some(&container.namespace));
    let asked = Request::new(path).logs(&container.pod, &params);
    let asked = asked.map_err(unbuilt(&attempt))?;
    let client = cluster.client();
    let call = async {
        let output = client.request_stream(asked).await?;
        Ok(lines_of(output).await)
    };
    let lines = match tokio::time::timeout(ANSWER_MAX, call).await {
        Ok(Ok(lines)) => lines,
        // A pod that goes, or has only come, has nothing to say.
        Ok(Err(error)) => {
            let error = cluster.failed(&attempt, error);
            return match error.is_forbidden() {
                true => Err(error.into()),
                false => Ok(Vec::new()),
            };
        }
        Err(_) => return Err(Failure::Retryable(format!("cannot {attempt} in time"))),
    };
    let after = request.since.map(time_of).unwrap_or_default();
    let parse = |line: &str| Timed::parse(line, container).filter(|timed| timed.time > after);
    Ok(lines.iter().filter_map(|line| parse(line)).collect())
}

/// All lines until the end, and no more than were asked for, whatever comes.
async fn lines_of(output: impl AsyncBufRead) -> Vec<String> {
    let most = usize::try_from(PAST_MAX_BYTES).unwrap_or(usize::MAX);
    let (mut output, mut lines, mut bytes) = (std::pin::pin!(output), Vec::new(), 0);
    // One that breaks off has said what it said.
    while let Ok(Some(line)) = next_line(&mut output).await {
        bytes += line.len() + 1;
        lines.push(line);
        if bytes > most {
            break;
        }
    }
    lines
}

/// Passes on what one run of a container says from now on. Gives the time of its last line.
async fn follow_one(
    cluster: &Cluster,
    container: &Container,
    after: Option<String>,
    lines: &mpsc::Sender<LogLine>,
) -> Option<String> {
    let mut last = after;
    let params = LogParams {
        follow: true,
        ..params(container, last.as_deref())
    };
    let path = Kind::pod().path(Some(&container.namespace));
    let request = Request::new(path).logs(&container.pod, &params).ok()?;
    let output = cluster.client().request_stream(request).await.ok()?;
    let mut output = std::pin::pin!(output);
    while let Ok(Some(text)) = next_line(&mut output).await {
        let Some(timed) = Timed::parse(&text, container) else {
            continue;
        };
        if last.as_ref().is_some_and(|last| timed.time <= *last) {
            continue;
        }
        last = Some(timed.time.clone());
        if lines.send(timed.into_line()).await.is_err() {
            break;
        }
    }
    last
}

fn params(container: &Container, after: Option<&str>) -> LogParams {
    let since = after.and_then(|time| format!("{time}Z").parse().ok());
    LogParams {
        container: Some(container.container.clone()),
        timestamps: true,
        since_time: since,
        ..LogParams::default()
    }
}

fn run(container: &Container) -> Run {
    (
        container.uid.clone(),
        container.container.clone(),
        container.restarts,
    )
}

/// A time as a [`Timed`] has it, at the end of its millisecond.
fn time_of(at: Timestamp) -> String {
    let text = at.to_string();
    let text = text.trim_end_matches('Z');
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{fraction:0<3}999999")
}

fn cut(mut text: String) -> String {
    if text.len() > LINE_MAX {
        text.truncate(text.floor_char_boundary(LINE_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(several: bool) -> Container {
        Container {
            namespace: "shop".to_owned(),
            pod: "web-1".to_owned(),
            uid: "7".to_owned(),
            container: "web".to_owned(),
            restarts: 0,
            begun: true,
            several,
        }
    }

    #[test]
    fn lines_sort_by_their_times_however_many_digits_these_have() {
        let parse = |text: &str| Timed::parse(text, &container(false)).unwrap();
        let mut lines = [
            parse("2026-01-02T03:04:05.12Z second"),
            parse("2026-01-02T03:04:05.1Z first"),
            parse("2026-01-02T03:04:05.120000001Z third"),
        ];
        lines.sort();
        let texts: Vec<_> = lines.iter().map(|line| line.line.as_str()).collect();
        assert_eq!(texts, ["web-1: first", "web-1: second", "web-1: third"]);
        let line = lines[0].clone().into_line();
        assert_eq!(line.at, "2026-01-02T03:04:05.100Z".parse().ok());
    }

    #[test]
    fn a_line_says_whose_it_is() {
        let said = |several| {
            let timed = Timed::parse("2026-01-02T03:04:05Z hello", &container(several));
            timed.unwrap().line
        };
        assert_eq!(
            (said(false), said(true)),
            ("web-1: hello".to_owned(), "web-1/web: hello".to_owned())
        );
        assert_eq!(Timed::parse("no time", &container(false)), None);
    }

    #[tokio::test]
    async fn a_line_without_an_end_and_bytes_that_are_no_text_stop_nobody() {
        let mut said = vec![b'x'; 10 * LINE_MAX];
        said.extend_from_slice(b"\ncaf\xe9\nlast");
        let mut output = said.as_slice();
        let mut lengths = Vec::new();
        while let Some(line) = next_line(&mut output).await.unwrap() {
            lengths.push((line.len(), line.ends_with('\u{fffd}')));
        }
        assert_eq!(lengths, [(2 * LINE_MAX, false), (6, true), (4, false)]);
    }

    #[test]
    fn what_is_kept_of_the_past_is_the_newest_and_bounded() {
        let line = |second: u32| Timed {
            time: format!("2026-01-02T03:04:{second:05}"),
            line: "x".repeat(LINE_MAX),
        };
        let mut all: Vec<Timed> = (0..2_000).rev().map(line).collect();
        newest(&mut all, 1_000);
        let bytes: usize = all.iter().map(|timed| timed.line.len()).sum();
        assert!(bytes <= PAST_TOTAL_MAX_BYTES && all.len() > 400, "{bytes}");
        assert_eq!(all.last(), Some(&line(1_999)));
        newest(&mut all, 2);
        assert_eq!(all, [line(1_998), line(1_999)]);
    }

    #[test]
    fn only_what_came_after_a_time_is_after_it() {
        let at: Timestamp = "2026-01-02T03:04:05.120Z".parse().unwrap();
        let parse = |text: &str| Timed::parse(text, &container(false)).unwrap().time;
        assert!(parse("2026-01-02T03:04:05.120000001Z x") <= time_of(at));
        assert!(parse("2026-01-02T03:04:05.121Z x") > time_of(at));
    }
}
