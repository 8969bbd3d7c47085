//! A program on a target, run by its agent over the connection that it holds.

use std::time::Duration;

use holdfast_engine::request::Program;
use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::stream::{CheckReply, CheckRequest, CoordinatorOpens};

use super::check::{Said, no_answer};
use super::program::{after, by_code, by_signal};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Time beyond the program's own for the answer to travel.
const TRAVEL: Duration = Duration::from_secs(1);

/// A connected target whose agent runs checks.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name, for people.
    pub target: TargetName,
    /// Its connection.
    pub connection: quinn::Connection,
}

/// Has a program run there, and judges it.
pub async fn run(place: &Place, program: Program) -> Said {
    let timeout = program.timeout;
    let request = CoordinatorOpens::Check(CheckRequest {
        command: program.command,
        environment: program.environment.into_iter().collect(),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    });
    let asking = ask(&place.connection, &request);
    let reply = tokio::time::timeout(timeout + TRAVEL, asking).await;
    let target = &place.target;
    let said = match reply {
        Ok(Ok(CheckReply::Ended { code, output })) => by_code(code, output),
        Ok(Ok(CheckReply::Killed { signal, output })) => by_signal(signal, &output),
        Ok(Ok(CheckReply::TimedOut { output })) => after(&no_answer(timeout), &output),
        Ok(Ok(CheckReply::Unavailable { message }) | Err(message)) => Said::unknown(message),
        Err(_) => Said::unknown(no_answer(timeout)),
    };
    Said {
        output: format!("{target}: {}", said.output),
        ..said
    }
}

async fn ask(
    connection: &quinn::Connection,
    request: &CoordinatorOpens,
) -> Result<CheckReply, String> {
    let opened = connection.open_bi().await;
    let (mut send, mut receive) = opened.map_err(|error| error.to_string())?;
    let header = frame::encode(request).map_err(|error| error.to_string())?;
    send.write_all(&header)
        .await
        .map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let reply = decoder.next_message().map_err(|error| error.to_string())?;
        if let Some(reply) = reply {
            // The answer is here; nothing more is sent either way.
            drop(send.finish());
            return Ok(reply);
        }
        match receive.read(&mut buffer).await {
            Ok(Some(length)) => decoder.feed(buffer.get(..length).unwrap_or_default()),
            Ok(None) => return Err("the target ended the stream without an answer".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
