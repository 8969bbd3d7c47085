//! A workload's output, from the journal: by `journalctl`, which knows every format that the journal
//! ever had.
//!
//! The program lives as long as its reader does, and is read as fast as the lines are taken. Beside
//! what the workload itself wrote come systemd's own words of at least notice level about its unit:
//! how it failed to start, why it was killed.

use std::process::Stdio;

use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::{LOG_LINE_MAX_BYTES, LOG_TAIL_MAX_LINES, LogLine};
use holdfast_protocol::time::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::failure::Failure;
use crate::run::LogRequest;
use crate::systemd::unit;

/// Most readers at a time.
pub(super) const READERS_MAX: usize = 16;
/// Lines on their way to a reader.
const LINES_MAX: usize = 256;
/// Longest entry in bytes. One of the journal's longest lines, written as numbers, is shorter.
const ENTRY_MAX_BYTES: u64 = 512 << 10;
const PROGRAM: &str = "/usr/bin/journalctl";

/// Reads on a task of its own, which ends with its receiver.
pub(super) fn read(
    service: &ServiceName,
    request: LogRequest,
    permit: OwnedSemaphorePermit,
) -> Result<mpsc::Receiver<LogLine>, Failure> {
    let mut child = Command::new(PROGRAM)
        .args(arguments(service, request))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::Retryable(format!("cannot run {PROGRAM}: {error}")))?;
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    if let Some(output) = child.stdout.take() {
        tokio::spawn(async move {
            let _permit = permit;
            pass_on(output, request.since, &lines).await;
            end(child).await;
        });
    }
    Ok(receiver)
}

fn arguments(service: &ServiceName, request: LogRequest) -> Vec<String> {
    let main = unit::service_unit(service);
    let tail = request.tail.min(LOG_TAIL_MAX_LINES as usize);
    let mut arguments = vec![
        "--no-pager".to_owned(),
        "--quiet".to_owned(),
        "--all".to_owned(),
        "--output=json".to_owned(),
        "--output-fields=MESSAGE".to_owned(),
        format!("--lines={tail}"),
    ];
    if let Some(since) = request.since {
        let millis = since.as_millis();
        arguments.push(format!("--since=@{}.{:03}", millis / 1000, millis % 1000));
    }
    if request.follow {
        arguments.push("--follow".to_owned());
    }
    arguments.push(format!("_SYSTEMD_UNIT={main}"));
    // Or else: from systemd itself, about the unit, from emergency (0) to notice (5).
    arguments.extend(["+".to_owned(), "_PID=1".to_owned(), format!("UNIT={main}")]);
    arguments.extend((0..=5).map(|level| format!("PRIORITY={level}")));
    arguments
}

async fn pass_on(output: ChildStdout, since: Option<Timestamp>, lines: &mpsc::Sender<LogLine>) {
    let mut reader = BufReader::new(output);
    loop {
        let next = tokio::select! {
            next = next(&mut reader) => next,
            // Nobody listens any more.
            () = lines.closed() => return,
        };
        let Some(entry) = next else { return };
        let later = |line: &LogLine| since.is_none_or(|since| line.at.is_none_or(|at| at > since));
        if let Some(line) = parse(&entry).filter(later)
            && lines.send(line).await.is_err()
        {
            return;
        }
    }
}

/// The next entry; one that is too long is passed over.
async fn next(reader: &mut BufReader<ChildStdout>) -> Option<Vec<u8>> {
    loop {
        let mut entry = Vec::new();
        let mut bounded = reader.take(ENTRY_MAX_BYTES);
        match bounded.read_until(b'\n', &mut entry).await {
            Ok(0) | Err(_) => return None,
            Ok(_) if entry.ends_with(b"\n") => return Some(entry),
            Ok(_) => skip(reader).await?,
        }
    }
}

async fn skip(reader: &mut BufReader<ChildStdout>) -> Option<()> {
    loop {
        let buffer = reader.fill_buf().await.ok().filter(|b| !b.is_empty())?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(taken);
        if end.is_some() {
            return Some(());
        }
    }
}

/// One entry of `journalctl --output=json`: a message that is no UTF-8 is a list of its bytes.
fn parse(entry: &[u8]) -> Option<LogLine> {
    let entry: Value = serde_json::from_slice(entry).ok()?;
    let mut text = match entry.get("MESSAGE")? {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            let bytes: Option<Vec<u8>> = bytes.iter().map(byte).collect();
            String::from_utf8_lossy(&bytes?).into_owned()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    if text.len() > LOG_LINE_MAX_BYTES {
        text.truncate(text.floor_char_boundary(LOG_LINE_MAX_BYTES));
    }
    let micros = entry.get("__REALTIME_TIMESTAMP").and_then(Value::as_str);
    let micros: Option<u64> = micros.and_then(|micros| micros.parse().ok());
    Some(LogLine {
        at: micros.map(|micros| Timestamp::from_millis(micros / 1000)),
        text,
    })
}

/// Ends the program, if it has not ended by itself, and waits for it.
async fn end(mut child: Child) {
    if let Err(error) = child.kill().await {
        tracing::debug!(%error, "journalctl could not be ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_whatever_their_message_is_made_of() {
        let line = parse(br#"{"MESSAGE":"hello","__REALTIME_TIMESTAMP":"1700000000123456"}"#);
        let line = line.unwrap();
        assert_eq!(line.text, "hello");
        assert_eq!(line.at, Some(Timestamp::from_millis(1_700_000_000_123)));
        let odd = parse(br#"{"MESSAGE":[104,255,105]}"#).unwrap();
        assert_eq!((odd.text.as_str(), odd.at), ("h\u{fffd}i", None));
        for bad in [
            &b"{}"[..],
            b"",
            br#"{"MESSAGE":null}"#,
            br#"{"MESSAGE":[1,999]}"#,
        ] {
            assert_eq!(parse(bad), None);
        }
        let long = format!(r#"{{"MESSAGE":"{}"}}"#, "ü".repeat(LOG_LINE_MAX_BYTES));
        assert!(parse(long.as_bytes()).unwrap().text.len() <= LOG_LINE_MAX_BYTES);
    }

    #[test]
    fn what_is_asked_for_is_one_argument_each() {
        let service = ServiceName::parse("web").unwrap();
        let request = LogRequest {
            since: Some(Timestamp::from_millis(1_700_000_000_007)),
            tail: 5,
            follow: true,
        };
        let arguments = arguments(&service, request);
        for expected in [
            "--lines=5",
            "--since=@1700000000.007",
            "--follow",
            "_SYSTEMD_UNIT=holdfast-web.service",
        ] {
            assert!(arguments.iter().any(|a| a == expected), "{arguments:?}");
        }
    }
}
