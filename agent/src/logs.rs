//! The output of workloads, for the coordinator's log streams and for the local socket.

use std::sync::Arc;

use holdfast_adapters::adapter_of;
use holdfast_adapters::run::LogRequest;
use holdfast_protocol::frame;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::{LOG_LINE_MAX_BYTES, LOG_TAIL_MAX_LINES, LogFrame, LogLine};
use holdfast_protocol::time::Timestamp;
use quinn::SendStream;
use tokio::sync::{mpsc, watch};

use crate::driver::Adapters;
use crate::snapshot::Snapshot;
use crate::transport::StreamError;

/// Finds the adapter that has a workload's output.
#[derive(Clone)]
pub struct Logs {
    adapters: Adapters,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

impl Logs {
    /// Reads logs by `adapters`; `snapshot` says which of them has a service.
    #[must_use]
    pub const fn new(adapters: Adapters, snapshot: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { adapters, snapshot }
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
        adapter
            .logs(service, request)
            .await
            .map_err(|failure| failure.to_string())
    }
}

/// Answers a stream that asks for the output of a workload: service, earliest time, lines of the past,
/// and whether to go on.
pub(crate) async fn serve(
    logs: &Logs,
    (service, since, tail, follow): (ServiceName, Option<Timestamp>, u32, bool),
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let tail = tail.min(LOG_TAIL_MAX_LINES) as usize;
    let mut lines = match logs
        .open(
            &service,
            LogRequest {
                since,
                tail,
                follow,
            },
        )
        .await
    {
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
    if line.text.len() > LOG_LINE_MAX_BYTES {
        let end = (0..=LOG_LINE_MAX_BYTES)
            .rev()
            .find(|&i| line.text.is_char_boundary(i));
        line.text.truncate(end.unwrap_or(0));
    }
    line
}
