//! `--wait`: bound to what was asked for, ends only on a final phase, says meanwhile why nothing moves.
//!
//! *Expected flow:* look; while it is going on, say what has changed and look again. *Guarantees:*
//! the first look comes before any pause, so what is done already ends at once; passing health is
//! never taken for the end; a coordinator that is away for a while is waited for.

use std::time::Duration;

use holdfast_protocol::api::deployment::{Deployment, Phase};
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::name::{EnvironmentName, ServiceName};

use super::{Outcome, Session, logs};
use crate::client::Client;
use crate::error::{Exit, Failure};
use crate::output::text::wait_line;

/// What one look at the awaited thing shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on; each line says how one part stands.
    Going(Vec<String>),
    /// It is as it should be.
    Done,
    /// It will not become so by itself.
    Failed {
        /// Why, each line about one part.
        reasons: Vec<String>,
        /// The tracks to look into.
        tracks: Vec<(ServiceName, EnvironmentName)>,
    },
}

/// Waits for deployments, by number.
///
/// # Errors
/// 6 when they are not final in time, 7 when one failed, 3 when one does not exist.
pub async fn deployments(session: &mut Session<'_>, ids: &[u64], timeout: Duration) -> Outcome {
    until(session, timeout, async |client: &Client| {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let path = ["deployments", &id.to_string()];
            let items: Vec<Deployment> = client.items(&path, &[]).await?;
            all.extend(items);
        }
        if all.len() < ids.len() {
            return Err(Failure::not_found(
                "a deployment that was waited for is gone",
            ));
        }
        Ok(judge(&all))
    })
    .await
}

/// Looks again and again until the verdict is final or time is over.
///
/// # Errors
/// 6 when time is over, 7 when it failed, and whatever keeps one from looking and does not pass.
pub async fn until<F>(session: &mut Session<'_>, timeout: Duration, mut look: F) -> Outcome
where
    F: AsyncFnMut(&Client) -> Result<Verdict, Failure>,
{
    let deadline = tokio::time::Instant::now() + timeout;
    let mut told: Vec<String> = Vec::new();
    let mut seen = false;
    loop {
        let lines = match look(&session.client).await {
            Ok(Verdict::Done) => return Ok(Exit::Done),
            Ok(Verdict::Failed { reasons, tracks }) => {
                return Err(failed(session, &reasons, &tracks).await);
            }
            Ok(Verdict::Going(lines)) => lines,
            // One that never answered is unreachable; one that answered before will be back.
            Err(failure) if failure.passing && seen => vec![failure.message],
            Err(failure) => return Err(failure),
        };
        seen = true;
        for line in lines.iter().filter(|line| !told.contains(line)) {
            session.screen.note(&format!("waiting: {line}"));
        }
        told = lines;
        if tokio::time::Instant::now() + POLL_INTERVAL > deadline {
            return Err(late(timeout, &told));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How some deployments stand, taken together.
#[must_use]
pub fn judge(deployments: &[Deployment]) -> Verdict {
    let failed: Vec<&Deployment> = deployments
        .iter()
        .filter(|deployment| is_failure(deployment.phase))
        .collect();
    if !failed.is_empty() {
        return Verdict::Failed {
            reasons: failed.iter().map(|deployment| line(deployment)).collect(),
            tracks: failed
                .iter()
                .map(|deployment| (deployment.service.clone(), deployment.environment.clone()))
                .collect(),
        };
    }
    let going: Vec<String> = deployments
        .iter()
        .filter(|deployment| !deployment.phase.is_final())
        .map(line)
        .collect();
    if going.is_empty() {
        Verdict::Done
    } else {
        Verdict::Going(going)
    }
}

/// Whether a deployment in this phase will never become stable.
#[must_use]
pub const fn is_failure(phase: Phase) -> bool {
    match phase {
        // One that goes back has failed, but is not over: what it ends as is still to be seen.
        Phase::Waiting | Phase::Rolling | Phase::Verifying | Phase::RollingBack | Phase::Stable => {
            false
        }
        Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => true,
    }
}

/// How one deployment stands, in one line, with nothing in it that changes by itself.
fn line(deployment: &Deployment) -> String {
    let Deployment {
        id,
        service,
        environment,
        version,
        phase,
        targets,
        ..
    } = deployment;
    let mut line = format!(
        "{service} {version} in {environment} (deployment {id}) is {phase:?}, {}/{} ready",
        targets.ready, targets.total
    );
    let why = because(&deployment.waits);
    if !why.is_empty() {
        line.push_str(&format!("; {why}"));
    } else if !deployment.reason.is_empty() {
        line.push_str(&format!("; {}", deployment.reason));
    }
    line
}

/// The waits in one line.
#[must_use]
pub fn because(waits: &[Wait]) -> String {
    waits.iter().map(wait_line).collect::<Vec<_>>().join("; ")
}

fn late(timeout: Duration, told: &[String]) -> Failure {
    let span = holdfast_protocol::time::friendly(timeout);
    let failure = Failure::new(
        Exit::TimedOut,
        format!("not finished within {span}: {}", told.join("; ")),
    );
    failure.help(
        "it goes on without this command: `holdfast status -w`, or wait longer with --timeout",
    )
}

async fn failed(
    session: &mut Session<'_>,
    reasons: &[String],
    tracks: &[(ServiceName, EnvironmentName)],
) -> Failure {
    for (service, environment) in tracks {
        logs::tail(session, service, environment).await;
    }
    let failure = Failure::new(Exit::DeploymentFailed, reasons.join("; "));
    match tracks.first() {
        Some((service, environment)) => failure.help(format!(
            "`holdfast why {service} -e {environment}` says what can be done"
        )),
        None => failure,
    }
}

/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::output::tests::deployment;

    #[test]
    fn only_a_final_phase_ends_the_waiting() {
        for phase in [
            Phase::Waiting,
            Phase::Rolling,
            Phase::Verifying,
            Phase::RollingBack,
        ] {
            assert!(
                matches!(judge(&[deployment(4, phase)]), Verdict::Going(_)),
                "{phase:?}"
            );
        }
        assert_eq!(judge(&[deployment(4, Phase::Stable)]), Verdict::Done);
        for phase in [
            Phase::RolledBack,
            Phase::RollbackFailed,
            Phase::Halted,
            Phase::Rejected,
            Phase::Superseded,
        ] {
            assert!(
                matches!(judge(&[deployment(4, phase)]), Verdict::Failed { .. }),
                "{phase:?}"
            );
        }
    }

    #[test]
    fn one_failure_among_several_ends_the_waiting() {
        let verdict = judge(&[
            deployment(4, Phase::Rolling),
            deployment(5, Phase::RolledBack),
            deployment(6, Phase::Stable),
        ]);
        let Verdict::Failed { reasons, tracks } = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!((reasons.len(), tracks.len()), (1, 1));
    }

    #[test]
    fn while_it_waits_it_says_why() {
        let Verdict::Going(lines) = judge(&[deployment(4, Phase::Waiting)]) else {
            panic!("it is not over");
        };
        expect![[
            r#"web 1.4.0 in production (deployment 4) is Waiting, 1/2 ready; order staging: 1.4.0 is not stable in staging yet"#
        ]]
        .assert_eq(&lines.join("\n"));
    }
}
