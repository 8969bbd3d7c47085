//! `status` and `why`.

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::api::why::Reason;
use holdfast_protocol::time::Timestamp;

use super::wait::{Verdict, because, is_failure, until};
use super::{Outcome, Session, watch};
use crate::args::observe;
use crate::client::Client;
use crate::clock;
use crate::error::{Exit, Failure};
use crate::output::text;

/// `status [SERVICE] [-e ENV]`.
///
/// # Errors
/// The coordinator does not answer; with `--wait`, 6 and 7.
pub async fn run(session: &mut Session<'_>, args: &observe::Status) -> Outcome {
    if args.watch {
        return watch::watch(session, async |client: &Client| fetch(client, args).await).await;
    }
    let outcome = if args.wait.wait {
        until(session, args.wait.timeout, async |client: &Client| {
            Ok(judge(&fetch(client, args).await?))
        })
        .await
    } else {
        Ok(Exit::Done)
    };
    let shown = fetch(&session.client, args).await.and_then(|items| {
        session.screen.list(
            &items,
            "no service is declared yet: `holdfast apply -f PATH`",
        )
    });
    // How the waiting ended says more than that the table could not be shown.
    let exit = outcome?;
    shown.map(|()| exit)
}

/// `why SERVICE -e ENV`.
///
/// # Errors
/// The coordinator does not answer, or there is no such track.
pub async fn why(session: &mut Session<'_>, args: &observe::Why) -> Outcome {
    let query = [
        ("service", Some(args.service.to_string())),
        ("environment", Some(args.environment.to_string())),
    ];
    let reasons: Vec<Reason> = session.client.items(&["why"], &query).await?;
    let empty = format!("{} in {} waits for nothing", args.service, args.environment);
    if session.screen.format != crate::output::Format::Table || reasons.is_empty() {
        session.screen.list(&reasons, &empty)?;
        return Ok(Exit::Done);
    }
    let now = clock::now();
    for reason in &reasons {
        session.screen.write(&chained(reason, now))?;
    }
    Ok(Exit::Done)
}

/// A reason for a person: those of other tracks say whose they are, further in the further away.
fn chained(reason: &Reason, now: Timestamp) -> String {
    if reason.depth == 0 {
        return text::wait(&reason.wait, now);
    }
    let indent = 4 * reason.depth.min(INDENT_MAX) as usize;
    let root = if reason.root { " (the root)" } else { "" };
    format!(
        "{:indent$}because {}@{}{root} waits for\n{}",
        "",
        reason.service,
        reason.environment,
        text::wait_at(&reason.wait, now, indent)
    )
}

/// How far a chain is indented at most.
const INDENT_MAX: u32 = 8;

async fn fetch(client: &Client, args: &observe::Status) -> Result<Vec<Status>, Failure> {
    let query = [
        ("service", args.service.as_ref().map(ToString::to_string)),
        (
            "environment",
            args.environment.as_ref().map(ToString::to_string),
        ),
    ];
    client.items(&["status"], &query).await
}

/// How some tracks stand, taken together.
fn judge(tracks: &[Status]) -> Verdict {
    let failed: Vec<&Status> = tracks.iter().filter(|track| has_failed(track)).collect();
    if !failed.is_empty() {
        return Verdict::Failed {
            reasons: failed.iter().map(|track| line(track)).collect(),
            tracks: failed
                .iter()
                .map(|track| (track.service.clone(), track.environment.clone()))
                .collect(),
        };
    }
    let going: Vec<String> = tracks
        .iter()
        .filter(|track| !is_settled(track))
        .map(line)
        .collect();
    if going.is_empty() {
        Verdict::Done
    } else {
        Verdict::Going(going)
    }
}

fn has_failed(track: &Status) -> bool {
    track.current.as_ref().is_some_and(|current| {
        // A deployment that gave way to a newer one says nothing of the track.
        current.phase != Phase::Superseded && is_failure(current.phase)
    })
}

/// Whether a track is what it should be and nothing is under way.
fn is_settled(track: &Status) -> bool {
    let stands = track
        .current
        .as_ref()
        .is_some_and(|current| current.phase == Phase::Stable);
    let wanted = match (&track.wanted, &track.stable) {
        (Some(wanted), Some(stable)) => wanted.version == stable.version,
        (Some(_), None) => false,
        (None, _) => true,
    };
    stands && wanted && !track.waits.iter().any(|wait| holds_back(wait.kind))
}

/// Whether something is still to come once a wait of this kind ends. A stable track may have targets
/// that are away; they converge whenever they return.
const fn holds_back(kind: WaitKind) -> bool {
    match kind {
        WaitKind::Target | WaitKind::Hold | WaitKind::Failed => false,
        WaitKind::Order
        | WaitKind::Dependency
        | WaitKind::Policy
        | WaitKind::Protection
        | WaitKind::Approval
        | WaitKind::Window
        | WaitKind::Pause
        | WaitKind::Freeze
        | WaitKind::Removal
        | WaitKind::Capacity => true,
    }
}

fn line(track: &Status) -> String {
    let Status {
        service,
        environment,
        targets,
        ..
    } = track;
    let current = track.current.as_ref().map_or_else(
        || "has no deployment yet".to_owned(),
        |current| format!("{} is {:?}", current.version, current.phase),
    );
    let mut line = format!(
        "{service} in {environment}: {current}, {}/{} ready",
        targets.ready, targets.total
    );
    let why = because(&track.waits);
    if !why.is_empty() {
        line.push_str(&format!("; {why}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::{status, wait};

    #[test]
    fn a_track_is_settled_when_what_it_wants_is_stable_and_nothing_is_to_come() {
        let settled = status(Phase::Stable);
        assert_eq!(judge(std::slice::from_ref(&settled)), Verdict::Done);

        let mut newer = settled.clone();
        newer.wanted.as_mut().unwrap().version = "1.5.0".parse().unwrap();
        assert!(matches!(judge(&[newer]), Verdict::Going(_)));

        let mut before = settled.clone();
        before.waits.push(wait(WaitKind::Order));
        assert!(matches!(judge(&[before]), Verdict::Going(_)));

        let mut away = settled;
        away.waits.push(wait(WaitKind::Target));
        assert_eq!(judge(&[away]), Verdict::Done);
    }

    #[test]
    fn a_track_whose_deployment_failed_is_a_failure_and_one_under_way_is_not() {
        assert!(matches!(
            judge(&[status(Phase::RolledBack)]),
            Verdict::Failed { .. }
        ));
        assert!(matches!(
            judge(&[status(Phase::RollingBack)]),
            Verdict::Going(_)
        ));
        assert!(matches!(
            judge(&[status(Phase::Superseded)]),
            Verdict::Going(_)
        ));
    }
}
