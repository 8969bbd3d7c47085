//! `deploy`, `promote`, `pin`, `rollback`, `retry`, `halt`, `pause`, `resume`, `confirm`: what a
//! person asks of one track.

use holdfast_protocol::api::steer::{Steer, Steered};
use holdfast_protocol::name::Version;

use super::{Outcome, Session, wait};
use crate::args::Wait;
use crate::args::steer::{Confirm, Deploy, Pin, Promote, Retry, Rollback, Track};
use crate::error::{Exit, Failure};

/// `rollback SERVICE -e ENV [--to V]`.
///
/// # Errors
/// The coordinator refuses, or the deployment fails that was waited for.
pub async fn rollback(session: &mut Session<'_>, args: &Rollback) -> Outcome {
    let steered = ask(session, "rollback", &args.track, args.to.clone()).await?;
    finish(session, &steered, &args.wait).await
}

/// `deploy SERVICE --version V -e ENV [--hotfix --reason R]`.
///
/// # Errors
/// As [`rollback`].
pub async fn deploy(session: &mut Session<'_>, args: &Deploy) -> Outcome {
    let steer = Steer {
        reason: args.track.reason.clone(),
        version: Some(args.version.clone()),
        hotfix: args.hotfix,
    };
    let steered = send(session, "deploy", &args.track, &steer).await?;
    finish(session, &steered, &args.wait).await
}

/// `promote SERVICE -e ENV [--version V]`.
///
/// # Errors
/// As [`rollback`].
pub async fn promote(session: &mut Session<'_>, args: &Promote) -> Outcome {
    let steered = ask(session, "promote", &args.track, args.version.clone()).await?;
    finish(session, &steered, &args.wait).await
}

/// `pin SERVICE -e ENV V`.
///
/// # Errors
/// As [`rollback`].
pub async fn pin(session: &mut Session<'_>, args: &Pin) -> Outcome {
    let steered = ask(session, "pin", &args.track, Some(args.version.clone())).await?;
    finish(session, &steered, &args.wait).await
}

/// `retry SERVICE -e ENV`.
///
/// # Errors
/// As [`rollback`].
pub async fn retry(session: &mut Session<'_>, args: &Retry) -> Outcome {
    let steered = ask(session, "retry", &args.track, None).await?;
    finish(session, &steered, &args.wait).await
}

/// `halt`, `pause`, `resume` and `unpin`, which take effect at once.
///
/// # Errors
/// The coordinator refuses.
pub async fn plain(session: &mut Session<'_>, verb: &str, track: &Track) -> Outcome {
    ask(session, verb, track, None).await?;
    Ok(Exit::Done)
}

/// `confirm REVISION`.
///
/// # Errors
/// The coordinator refuses.
pub async fn confirm(session: &mut Session<'_>, args: &Confirm) -> Outcome {
    let number = args.revision.to_string();
    let steer = Steer {
        reason: args.reason.clone(),
        ..Steer::default()
    };
    let steered: Steered = session
        .client
        .post(&["revisions", &number, "confirm"], &steer)
        .await?;
    print(session, &steered)?;
    Ok(Exit::Done)
}

async fn ask(
    session: &mut Session<'_>,
    verb: &str,
    track: &Track,
    version: Option<Version>,
) -> Result<Steered, Failure> {
    let steer = Steer {
        reason: track.reason.clone(),
        version,
        ..Steer::default()
    };
    send(session, verb, track, &steer).await
}

async fn send(
    session: &mut Session<'_>,
    verb: &str,
    track: &Track,
    steer: &Steer,
) -> Result<Steered, Failure> {
    let path = [
        "tracks",
        track.service.as_str(),
        track.environment.as_str(),
        verb,
    ];
    let steered: Steered = session.client.post(&path, steer).await?;
    print(session, &steered)?;
    Ok(steered)
}

/// Prints what came of a wish.
///
/// # Errors
/// Standard output is closed.
pub fn print(session: &mut Session<'_>, steered: &Steered) -> Result<(), Failure> {
    session.screen.object(steered, |_| {
        format!("{}\n", crate::output::clean(&steered.message))
    })
}

/// Waits for the deployment that a wish led to, or says how to follow it.
///
/// # Errors
/// The deployment fails that was waited for.
pub async fn finish(session: &mut Session<'_>, steered: &Steered, args: &Wait) -> Outcome {
    match steered.deployment {
        Some(id) if args.wait => wait::deployments(session, &[id], args.timeout).await,
        Some(id) if steered.changed => {
            session.screen.note(&format!(
                "deployment {id}: follow it with `holdfast show {id}`"
            ));
            Ok(Exit::Done)
        }
        Some(_) | None => Ok(Exit::Done),
    }
}
