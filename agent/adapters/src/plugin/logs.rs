//! Output of a workload, by its plugin's word: one call a reader, ended with it.

use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::adapter::Inner;
use super::call::{Known, Leftovers};
use super::judge::Splitter;
use super::message::{Lines, Operation, Request, Said};
use crate::failure::Failure;
use crate::run::LogRequest;

/// Readers of output at a time.
pub(super) const READERS_MAX: usize = 8;
/// Lines that may wait for a reader.
const LINES_MAX: usize = 256;

pub(super) async fn read(
    inner: Arc<Inner>,
    service: ServiceName,
    wanted: LogRequest,
    permit: OwnedSemaphorePermit,
) -> Result<mpsc::Receiver<LogLine>, Failure> {
    let place = inner.place(&service);
    let none = || Failure::Permanent(format!("there is no workload {service} here"));
    let record = place.record().ok_or_else(none)?;
    let known = inner.caller.known(&record.plugin).await?;
    if !known.description.logs {
        let why = format!("plugin {} has no output to show", record.plugin);
        return Err(Failure::Permanent(why));
    }
    let request = Request {
        logs: Some(Lines {
            since: wanted.since,
            tail: wanted.tail,
            follow: wanted.follow,
        }),
        ..inner.request(Operation::Logs, &place, &record.workload)
    };
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    tokio::spawn(async move {
        let _permit = permit;
        let closed = lines.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = pass_on(&inner, &known, &request, lines) => {}
        }
    });
    Ok(receiver)
}

async fn pass_on(inner: &Inner, known: &Known, request: &Request, lines: mpsc::Sender<LogLine>) {
    let mark = inner.caller.mark(request);
    let begun = inner.caller.begin(&known.plugin, request, &mark).await;
    let _leftovers = Leftovers(mark);
    let Ok(mut conversation) = begun else { return };
    let follows = request.logs.as_ref().is_some_and(|logs| logs.follow);
    let mut splitter = Splitter::following(follows);
    let listening = async {
        while let Some(bytes) = conversation.read().await {
            let Ok(said) = splitter.take(&bytes) else {
                tracing::warn!(
                    plugin = known.plugin.name,
                    "its output is not of the protocol"
                );
                return;
            };
            for said in said {
                if let Said::Line { at, text } = said
                    && lines.send(LogLine { at, text }).await.is_err()
                {
                    return;
                }
            }
        }
    };
    let limit = Duration::from_secs(request.deadline_seconds);
    drop(tokio::time::timeout(limit, listening).await);
}
