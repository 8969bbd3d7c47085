//! `approve`, `reject`, `skip`, `repeat`, `freeze`, `unfreeze`: what a person says of one deployment,
//! or of all that would start.

use holdfast_protocol::api::freeze::NewFreeze;
use holdfast_protocol::api::steer::{Judgement, Steer, Steered};

use super::steer::{finish, print};
use super::{Outcome, Session};
use crate::args::judge;
use crate::error::{Exit, Failure};

/// `approve DEPLOYMENT`.
///
/// # Errors
/// The coordinator refuses: nobody is asked, the caller has none of the roles, or what was shown has
/// changed.
pub async fn approve(session: &mut Session<'_>, args: &judge::Approve) -> Outcome {
    let judgement = Judgement {
        reason: args.reason.clone(),
        shown: args.shown,
        protection: None,
    };
    say(session, args.deployment, "approve", &judgement).await
}

/// `reject DEPLOYMENT`.
///
/// # Errors
/// The coordinator refuses.
pub async fn reject(session: &mut Session<'_>, args: &judge::Reject) -> Outcome {
    let judgement = Judgement {
        reason: args.reason.clone(),
        ..Judgement::default()
    };
    say(session, args.deployment, "reject", &judgement).await
}

/// `skip DEPLOYMENT PROTECTION --reason R`.
///
/// # Errors
/// The coordinator refuses: it may not be skipped, or not by the caller.
pub async fn skip(session: &mut Session<'_>, args: &judge::Skip) -> Outcome {
    let judgement = Judgement {
        reason: Some(args.reason.clone()),
        protection: Some(args.protection.clone()),
        shown: None,
    };
    say(session, args.deployment, "skip", &judgement).await
}

/// `repeat DEPLOYMENT`.
///
/// # Errors
/// The coordinator refuses, or the deployment fails that was waited for.
pub async fn repeat(session: &mut Session<'_>, args: &judge::Repeat) -> Outcome {
    let path = ["deployments", &args.deployment.to_string(), "repeat"];
    let judgement = Judgement {
        reason: args.reason.clone(),
        ..Judgement::default()
    };
    let steered: Steered = session.client.post(&path, &judgement).await?;
    print(session, &steered)?;
    finish(session, &steered, &args.wait).await
}

/// `freeze [-e ENV] --reason R`.
///
/// # Errors
/// The coordinator refuses.
pub async fn freeze(session: &mut Session<'_>, args: &judge::Freeze) -> Outcome {
    let new = NewFreeze {
        environment: args.environment.clone(),
        reason: args.reason.clone(),
    };
    let steered: Steered = session.client.post(&["freezes"], &new).await?;
    print(session, &steered)?;
    Ok(Exit::Done)
}

/// `unfreeze [-e ENV]`.
///
/// # Errors
/// The coordinator refuses.
pub async fn unfreeze(session: &mut Session<'_>, args: &judge::Unfreeze) -> Outcome {
    let place = args.environment.as_ref();
    let place = place.map_or("-", |environment| environment.as_str());
    let steer = Steer {
        reason: args.reason.clone(),
        ..Steer::default()
    };
    let steered: Steered = session
        .client
        .post(&["freezes", place, "end"], &steer)
        .await?;
    print(session, &steered)?;
    Ok(Exit::Done)
}

async fn say(
    session: &mut Session<'_>,
    deployment: u64,
    verb: &str,
    judgement: &Judgement,
) -> Outcome {
    let path = ["deployments", &deployment.to_string(), verb];
    let steered: Result<Steered, Failure> = session.client.post(&path, judgement).await;
    print(session, &steered?)?;
    Ok(Exit::Done)
}
