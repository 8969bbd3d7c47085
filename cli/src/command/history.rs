//! `history`, `show`, `events`, `audit`: the memory of everything.

use holdfast_protocol::api::Items;
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::event::{Audit, Event};

use super::{Outcome, Session};
use crate::args::observe;
use crate::client::{Client, Lines};
use crate::clock;
use crate::error::{Exit, Failure};
use crate::output::row::record::trigger;
use crate::output::{clean, text};

/// `history [SERVICE]`.
///
/// # Errors
/// The coordinator does not answer.
pub async fn run(session: &mut Session<'_>, args: &observe::History) -> Outcome {
    let query = [
        ("service", args.service.as_ref().map(ToString::to_string)),
        (
            "environment",
            args.environment.as_ref().map(ToString::to_string),
        ),
    ];
    let mut items: Vec<Deployment> = session.client.items(&["history"], &query).await?;
    // Each page is in order, and the newest page comes first.
    items.sort_by_key(|deployment| deployment.id);
    session.screen.list(&items, "nothing was deployed yet")?;
    Ok(Exit::Done)
}

/// `show DEPLOYMENT`.
///
/// # Errors
/// The coordinator does not answer, or there is no such deployment.
pub async fn show(session: &mut Session<'_>, args: &observe::Show) -> Outcome {
    show_one(session, args.deployment).await
}

/// Tells all about one deployment.
///
/// # Errors
/// As [`show`].
pub async fn show_one(session: &mut Session<'_>, id: u64) -> Outcome {
    let path = ["deployments", &id.to_string()];
    let items: Vec<Deployment> = session.client.items(&path, &[]).await?;
    let deployment = items.into_iter().next().ok_or_else(|| {
        Failure::not_found(format!("no deployment {id}")).help("`holdfast history` lists them")
    })?;
    session.screen.object(&deployment, |_| told(&deployment))?;
    Ok(Exit::Done)
}

/// A deployment for a person.
fn told(deployment: &Deployment) -> String {
    let now = clock::now();
    let targets = deployment.targets;
    let mut fields = vec![
        ("deployment", deployment.id.to_string()),
        (
            "track",
            format!("{} in {}", deployment.service, deployment.environment),
        ),
        ("release", deployment.version.to_string()),
        ("revision", deployment.revision.to_string()),
        ("phase", format!("{:?}", deployment.phase)),
        ("reason", deployment.reason.clone()),
        ("trigger", trigger(&deployment.trigger)),
        (
            "started",
            format!(
                "{} ({} ago)",
                deployment.started_at,
                text::age(now, deployment.started_at)
            ),
        ),
    ];
    if let Some(finished) = deployment.finished_at {
        let took = text::span(finished.since(deployment.started_at));
        fields.push(("finished", format!("{finished} (after {took})")));
    }
    if let Some(previous) = &deployment.previous {
        fields.push(("previous", previous.to_string()));
    }
    fields.push((
        "targets",
        format!(
            "{} ready of {}, {} updated, {} failed, {} not connected",
            targets.ready, targets.total, targets.updated, targets.failed, targets.disconnected
        ),
    ));
    fields.push((
        "wave",
        format!("{} of {}", deployment.waves.current, deployment.waves.total),
    ));
    fields.extend(deployment.protections.iter().map(|result| {
        let (name, when, passed) = (&result.name, &result.when, &result.result);
        let said = match result.output.as_str() {
            "" => format!("{name} ({when}): {passed}"),
            output => format!("{name} ({when}): {passed}: {output}"),
        };
        ("protection", said)
    }));
    fields.extend(deployment.skipped.iter().map(|skipped| {
        let said = format!("{} by {}: {}", skipped.name, skipped.by, skipped.reason);
        ("skipped", said)
    }));
    let mut told = text::fields(&fields);
    if !deployment.waits.is_empty() {
        told.push_str("\nwaits for\n");
    }
    for wait in &deployment.waits {
        told.push_str(&text::wait_at(wait, now, 2));
    }
    for last in &deployment.last_lines {
        told.push_str(&format!(
            "\nlast lines of {} on {}\n",
            deployment.service, last.target
        ));
        let lines = last.lines.iter().rev().take(SHOWN_LINES).rev();
        told.extend(lines.map(|line| format!("  {}\n", clean(line))));
    }
    told
}

/// `events [-f]`.
///
/// # Errors
/// The coordinator does not answer, or the stream breaks for good.
pub async fn events(session: &mut Session<'_>, args: &observe::Events) -> Outcome {
    let after = args.after.unwrap_or(0);
    if args.follow {
        return follow(session, after).await;
    }
    let items = all_after(&session.client, after).await?;
    session.screen.list(&items, "nothing happened yet")?;
    Ok(Exit::Done)
}

/// Every event after a number. Events page by their own numbers.
async fn all_after(client: &Client, mut after: u64) -> Result<Vec<Event>, Failure> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let query = [("after", Some(after.to_string()))];
        let mut page: Items<Event> = client.fetch(&["events"], &query).await?;
        let last = page.items.last().map(|event| event.sequence);
        all.append(&mut page.items);
        match (last, page.next) {
            (Some(last), Some(_)) if last > after => after = last,
            _ => return Ok(all),
        }
    }
}

/// Prints events as they come; after a break, goes on behind the last one printed.
async fn follow(session: &mut Session<'_>, mut after: u64) -> Outcome {
    let mut connected_once = false;
    let mut told = false;
    loop {
        let broken = match subscribe(session, after).await {
            Ok(mut lines) => {
                connected_once = true;
                told = false;
                pump(session, &mut lines, &mut after).await
            }
            Err(failure) => Err(failure),
        };
        match broken {
            Ok(()) => {}
            Err(failure) if failure.passing && connected_once => {
                if !told {
                    session.screen.note(&format!("{failure}; waiting for it"));
                }
                told = true;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn subscribe(session: &Session<'_>, after: u64) -> Result<Lines, Failure> {
    let query = [
        ("after", Some(after.to_string())),
        ("follow", Some("true".to_owned())),
    ];
    session
        .client
        .lines(&["events"], &query, "text/event-stream")
        .await
}

/// Reads a server-sent event stream (HTML Living Standard, section 9.2) until it ends. Only the
/// `data` lines matter, each a whole event.
async fn pump(
    session: &mut Session<'_>,
    lines: &mut Lines,
    after: &mut u64,
) -> Result<(), Failure> {
    while let Some(line) = lines.next().await? {
        let Some(json) = line.strip_prefix("data:") else {
            continue;
        };
        let event: Event = serde_json::from_str(json.trim_start())
            .map_err(|error| Failure::failed(format!("an event is not understood: {error}")))?;
        if event.sequence > *after {
            *after = event.sequence;
            session.screen.change(&event)?;
        }
    }
    Ok(())
}

/// `audit [--verify]`.
///
/// # Errors
/// The coordinator does not answer, or the chain is broken.
pub async fn audit(session: &mut Session<'_>, args: &observe::Audit) -> Outcome {
    if !args.verify {
        let all = observe::Events {
            follow: false,
            after: None,
        };
        return events(session, &all).await;
    }
    let audit: Audit = session.client.fetch(&["audit"], &[]).await?;
    session.screen.object(&audit, |_| {
        let head = audit.head.map(|head| format!(", head {head}"));
        format!(
            "{} {} {}{}\n",
            if audit.valid { "valid:" } else { "BROKEN:" },
            audit.entries,
            if audit.entries == 1 {
                "entry"
            } else {
                "entries"
            },
            head.unwrap_or_default()
        )
    })?;
    if audit.valid {
        return Ok(Exit::Done);
    }
    let place = audit
        .broken_at
        .map(|number| format!(" at entry {number}"))
        .unwrap_or_default();
    Err(Failure::failed(format!(
        "the record's hash chain is broken{place}: {}",
        audit.message
    ))
    .help("somebody changed the record: compare it with a backup"))
}

/// Last lines that are shown of one target; `-o json` has all.
const SHOWN_LINES: usize = 20;
/// Pause before an event stream is asked for again.
const RECONNECT_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
