//! `rollback`, `retry`, `halt`, `pause`, `resume`, `confirm`: what a person asks of one track.

use holdfast_protocol::api::steer::{Steer, Steered};
use holdfast_protocol::name::Version;

use super::{Outcome, Session, wait};
use crate::args::Wait;
use crate::args::steer::{Confirm, Retry, Rollback, Track};
use crate::error::{Exit, Failure};

/// `rollback SERVICE -e ENV [--to V]`.
///
/// # Errors
/// The coordinator refuses, or the deployment fails that was waited for.
pub async fn rollback(session: &mut Session<'_>, args: &Rollback) -> Outcome {
    let steered = ask(session, "rollback", &args.track, args.to.clone()).await?;
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

/// `halt`, `pause` and `resume`, which take effect at once.
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
    let path = [
        "tracks",
        track.service.as_str(),
        track.environment.as_str(),
        verb,
    ];
    let steer = Steer {
        reason: track.reason.clone(),
        version,
        ..Steer::default()
    };
    let steered: Steered = session.client.post(&path, &steer).await?;
    print(session, &steered)?;
    Ok(steered)
}

fn print(session: &mut Session<'_>, steered: &Steered) -> Result<(), Failure> {
    session.screen.object(steered, |_| {
        format!("{}\n", crate::output::clean(&steered.message))
    })
}

async fn finish(session: &mut Session<'_>, steered: &Steered, args: &Wait) -> Outcome {
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
