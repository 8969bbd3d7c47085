//! `logs`: the output of workloads, through the agents' connections.

use std::time::Duration;

use holdfast_protocol::api::log::LogEntry;
use holdfast_protocol::api::target::Target;
use holdfast_protocol::name::{EnvironmentName, ServiceName};
use holdfast_protocol::time::{Timestamp, millis};

use super::{Outcome, Session};
use crate::args::observe;
use crate::clock;
use crate::error::{Exit, Failure};
use crate::output::{Format, clean};

/// `logs SERVICE -e ENV`.
///
/// # Errors
/// The coordinator does not answer, there is no such track, or no target could give its log.
pub async fn run(session: &mut Session<'_>, args: &observe::Logs) -> Outcome {
    let prefixed = match &args.target {
        Some(_) => false,
        None => several_targets(session, &args.environment).await?,
    };
    let query = [
        ("service", Some(args.service.to_string())),
        ("environment", Some(args.environment.to_string())),
        ("target", args.target.as_ref().map(ToString::to_string)),
        ("since", args.since.map(|span| ago(span).to_string())),
        ("tail", args.tail.map(|count| count.to_string())),
        ("deployment", args.deployment.map(|id| id.to_string())),
        ("follow", args.follow.then(|| "true".to_owned())),
    ];
    let mut lines = session
        .client
        .lines(&["logs"], &query, "application/x-ndjson")
        .await?;
    let (mut printed, mut unavailable) = (0_u64, 0_u64);
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            continue;
        }
        let entry = parse(&line)?;
        if entry.unavailable.is_some() {
            unavailable += 1;
        } else {
            printed += 1;
        }
        print(session, &entry, prefixed)?;
    }
    if printed == 0 && unavailable > 0 {
        return Err(Failure::failed("no target could give its log"));
    }
    Ok(Exit::Done)
}

/// The last lines of a track's workloads on standard error, as far as they can be had quickly.
pub async fn tail(session: &mut Session<'_>, service: &ServiceName, environment: &EnvironmentName) {
    let query = [
        ("service", Some(service.to_string())),
        ("environment", Some(environment.to_string())),
        ("tail", Some(TAIL_LINES.to_string())),
    ];
    let client = session.client.clone();
    let mut entries: Vec<LogEntry> = Vec::new();
    // Whatever came in time is shown; that the rest did not come is no news beside the failure.
    let _ = tokio::time::timeout(TAIL_TIMEOUT, async {
        let mut lines = client
            .lines(&["logs"], &query, "application/x-ndjson")
            .await?;
        while let Some(line) = lines.next().await? {
            if !line.is_empty() {
                entries.push(parse(&line)?);
            }
        }
        Ok::<(), Failure>(())
    })
    .await;
    entries.retain(|entry| entry.unavailable.is_none());
    if entries.is_empty() {
        return;
    }
    session
        .screen
        .note(&format!("last lines of {service} in {environment}:"));
    for entry in &entries {
        session.screen.quote(&format!("  {}", told(entry, true)));
    }
}

fn ago(span: Duration) -> Timestamp {
    Timestamp::from_millis(clock::now().as_millis().saturating_sub(millis(span)))
}

async fn several_targets(
    session: &Session<'_>,
    environment: &EnvironmentName,
) -> Result<bool, Failure> {
    let query = [("environment", Some(environment.to_string()))];
    let targets: Vec<Target> = session.client.items(&["targets"], &query).await?;
    Ok(targets.len() > 1)
}

fn parse(line: &str) -> Result<LogEntry, Failure> {
    serde_json::from_str(line)
        .map_err(|error| Failure::failed(format!("a log line is not understood: {error}")))
}

fn print(session: &mut Session<'_>, entry: &LogEntry, prefixed: bool) -> Result<(), Failure> {
    if session.screen.format == Format::Json {
        return session.screen.json_line(entry);
    }
    if entry.unavailable.is_some() {
        session.screen.quote(&told(entry, true));
        return Ok(());
    }
    session.screen.line(&told(entry, prefixed))
}

fn told(entry: &LogEntry, prefixed: bool) -> String {
    let text = match (&entry.line, &entry.unavailable) {
        (_, Some(why)) => format!("(no log: {})", clean(why)),
        (Some(line), None) => clean(line),
        (None, None) => String::new(),
    };
    if prefixed {
        format!("{} | {text}", entry.target)
    } else {
        text
    }
}

/// How many lines of a failed workload are shown.
const TAIL_LINES: u32 = 10;
/// How long they may take to come.
const TAIL_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_target_where_there_are_several() {
        let entry =
            parse(r#"{"target":"web-1","service":"web","line":"ready \u001b[2J"}"#).unwrap();
        assert_eq!(told(&entry, true), "web-1 | ready \u{fffd}[2J");
        assert_eq!(told(&entry, false), "ready \u{fffd}[2J");
        let away = parse(r#"{"target":"web-2","service":"web","unavailable":"not connected"}"#);
        assert_eq!(
            told(&away.unwrap(), true),
            "web-2 | (no log: not connected)"
        );
    }
}
