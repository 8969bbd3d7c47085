//! The output of workloads, for the coordinator's log streams and for the local socket.

use std::sync::Arc;

use holdfast_adapters::adapter_of;
use holdfast_adapters::run::{Adapter, LogRequest};
use holdfast_protocol::frame;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::{
    KeptRequest, LOG_LINE_MAX_BYTES, LOG_TAIL_MAX_LINES, LogFrame, LogLine,
};
use holdfast_protocol::time::Timestamp;
use quinn::SendStream;
use tokio::sync::{mpsc, watch};

use crate::driver::Adapters;
use crate::output::Outputs;
use crate::snapshot::Snapshot;
use crate::transport::StreamError;
use crate::veil::Veil;

/// Finds the adapter that has a workload's output.
#[derive(Clone)]
pub struct Logs {
    adapters: Adapters,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    outputs: Outputs,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

impl Logs {
    /// Reads logs by `adapters`; `snapshot` says which of them has a service, and `outputs` has what was
    /// written during deployments that are over.
    #[must_use]
    pub const fn new(
        adapters: Adapters,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        outputs: Outputs,
    ) -> Self {
        Self {
            adapters,
            snapshot,
            outputs,
        }
    }

    /// The output of a workload.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn open(
        &self,
        service: &ServiceName,
        request: LogRequest,
    ) -> Result<mpsc::Receiver<LogLine>, String> {
        let runtime = self.snapshot.borrow().runtime_of(service);
        let runtime = runtime.ok_or_else(|| format!("there is no workload {service} here"))?;
        let adapter = self.adapters.get(adapter_of(&runtime));
        let adapter =
            adapter.ok_or_else(|| format!("there is no adapter for runtime {runtime}"))?;
        let lines = adapter.logs(service, request).await;
        let lines = lines.map_err(|failure| failure.to_string())?;
        Ok(covered(lines, self.outputs.veil(service)))
    }

    /// What a workload wrote during one deployment.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn open_kept(&self, asked: KeptRequest) -> Result<mpsc::Receiver<LogLine>, String> {
        let service = &asked.service;
        let found = self
            .outputs
            .find(service, &asked.version, asked.configuration);
        let Some(kept) = found else {
            return Err(format!(
                "nothing is kept here of {service} {} with that configuration",
                asked.version
            ));
        };
        let runs = kept.until.is_none();
        let mut past = match self.adapter_of(service).filter(|_| runs) {
            Some(adapter) => {
                let adapter = adapter.as_ref();
                self.outputs.present(adapter, service, &kept).await
            }
            None => self.outputs.lines(service, &kept),
        };
        past.retain(|line| {
            asked
                .since
                .is_none_or(|since| line.at.is_none_or(|at| at > since))
        });
        let excess = past
            .len()
            .saturating_sub(asked.tail.min(LOG_TAIL_MAX_LINES) as usize);
        past.drain(..excess);
        let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
        let follows = asked.follow && runs;
        let since = past.last().and_then(|line| line.at).unwrap_or(kept.from);
        let live = match follows {
            true => Some(
                self.open(service, request(Some(since), LOG_TAIL_MAX_LINES, true))
                    .await?,
            ),
            false => None,
        };
        tokio::spawn(joined(past, live, sender));
        Ok(receiver)
    }

    fn adapter_of(&self, service: &ServiceName) -> Option<Arc<dyn Adapter>> {
        let runtime = self.snapshot.borrow().runtime_of(service)?;
        self.adapters.get(adapter_of(&runtime)).cloned()
    }
}

/// Lines on their way from what is kept to a reader.
const LINES_WAITING_MAX: usize = 256;

/// Lines without what is not to be seen of them.
fn covered(mut lines: mpsc::Receiver<LogLine>, veil: Veil) -> mpsc::Receiver<LogLine> {
    if veil.is_empty() {
        return lines;
    }
    let (reader, receiver) = mpsc::channel(LINES_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = reader.closed() => None,
            };
            let Some(line) = line else { return };
            if reader.send(veil.cover(line)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Hands on what is kept, then what comes. It ends with its reader.
async fn joined(
    past: Vec<LogLine>,
    live: Option<mpsc::Receiver<LogLine>>,
    reader: mpsc::Sender<LogLine>,
) {
    for line in past {
        if reader.send(line).await.is_err() {
            return;
        }
    }
    let Some(mut live) = live else { return };
    loop {
        let line = tokio::select! {
            line = live.recv() => line,
            () = reader.closed() => None,
        };
        let Some(line) = line else { return };
        if reader.send(line).await.is_err() {
            return;
        }
    }
}

/// What is asked of an adapter, within what may be asked.
pub(crate) fn request(since: Option<Timestamp>, tail: u32, follow: bool) -> LogRequest {
    let tail = tail.min(LOG_TAIL_MAX_LINES) as usize;
    LogRequest {
        since,
        tail,
        follow,
    }
}

/// Answers a stream that asks for output.
pub(crate) async fn serve(
    lines: Result<mpsc::Receiver<LogLine>, String>,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let mut lines = match lines {
        Ok(lines) => lines,
        Err(message) => {
            send.write_all(&frame::encode(&LogFrame::Unavailable { message })?)
                .await?;
            return Ok(send.finish()?);
        }
    };
    send.write_all(&frame::encode(&LogFrame::Begins)?).await?;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            // Nobody listens any more.
            _ = send.stopped() => return Ok(()),
        };
        let Some(line) = line else {
            return Ok(send.finish()?);
        };
        send.write_all(&frame::encode(&LogFrame::Line(cut(line)))?)
            .await?;
    }
}

/// Cuts a line that is too long to travel.
fn cut(mut line: LogLine) -> LogLine {
    let end = line.text.floor_char_boundary(LOG_LINE_MAX_BYTES);
    line.text.truncate(end);
    line
}
