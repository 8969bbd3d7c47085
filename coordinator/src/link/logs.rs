//! Log streams: asked for by the API and for deployments that failed, answered by a target over its own
//! connection.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::stream::{CoordinatorOpens, LogFrame, LogLine};
use tokio::sync::mpsc;

/// Lines that wait for the reader before the target has to wait.
const LINES_WAITING_MAX: usize = 256;
/// Time for a target to answer at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a target to give the end of an output.
const LAST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most of the end of an output, in bytes.
const LAST_MAX_BYTES: usize = 16 * 1024;
/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Asks a target for the output of a workload. The lines end when the target has no more, or when the
/// receiver is dropped.
///
/// # Errors
/// Why there are none, for people.
pub async fn open(
    connection: &quinn::Connection,
    request: CoordinatorOpens,
) -> Result<mpsc::Receiver<LogLine>, String> {
    let opening = async {
        let (mut send, receive) = connection
            .open_bi()
            .await
            .map_err(|error| error.to_string())?;
        let header = frame::encode(&request).map_err(|error| error.to_string())?;
        send.write_all(&header)
            .await
            .map_err(|error| error.to_string())?;
        let mut lines = Lines {
            receive,
            decoder: Decoder::new(FIRST_FRAME_MAX_BYTES),
        };
        match lines.next_frame().await? {
            Some(LogFrame::Begins) => Ok((send, lines)),
            Some(LogFrame::Unavailable { message }) => Err(message),
            Some(LogFrame::Line(_)) | None => Err("the target's answer made no sense".to_owned()),
        }
    };
    let (mut send, mut lines) = tokio::time::timeout(ANSWER_TIMEOUT, opening)
        .await
        .map_err(|_| "the target did not answer in time".to_owned())??;
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    // The task ends with the stream or with its reader, whichever goes first.
    tokio::spawn(async move {
        while let Some(line) = lines.next_line(&sender).await {
            if sender.send(line).await.is_err() {
                break;
            }
        }
        drop(send.finish());
    });
    Ok(receiver)
}

/// The end of an output, of which a target is asked for the past alone: at most [`LAST_MAX_BYTES`].
///
/// # Errors
/// As [`open`], or that it took too long.
pub async fn last(
    connection: &quinn::Connection,
    request: CoordinatorOpens,
) -> Result<Vec<String>, String> {
    let reading = async {
        let mut lines = open(connection, request).await?;
        let (mut kept, mut bytes) = (VecDeque::new(), 0);
        while let Some(line) = lines.recv().await {
            bytes += line.text.len() + 1;
            kept.push_back(line.text);
            while bytes > LAST_MAX_BYTES
                && let Some(oldest) = kept.pop_front()
            {
                bytes -= oldest.len() + 1;
            }
        }
        Ok(kept.into())
    };
    let read = tokio::time::timeout(LAST_TIMEOUT, reading).await;
    read.unwrap_or_else(|_| Err("the target took too long".to_owned()))
}

struct Lines {
    receive: quinn::RecvStream,
    decoder: Decoder,
}

impl Lines {
    async fn next_line(&mut self, sender: &mpsc::Sender<LogLine>) -> Option<LogLine> {
        tokio::select! {
            () = sender.closed() => None,
            frame = self.next_frame() => match frame {
                Ok(Some(LogFrame::Line(line))) => Some(line),
                Ok(Some(LogFrame::Begins | LogFrame::Unavailable { .. }) | None) | Err(_) => None,
            },
        }
    }

    async fn next_frame(&mut self) -> Result<Option<LogFrame>, String> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(frame) = self
                .decoder
                .next_message()
                .map_err(|error| error.to_string())?
            {
                return Ok(Some(frame));
            }
            let read = self
                .receive
                .read(&mut buffer)
                .await
                .map_err(|error| error.to_string())?;
            let Some(length) = read else { return Ok(None) };
            self.decoder.feed(buffer.get(..length).unwrap_or_default());
        }
    }
}
