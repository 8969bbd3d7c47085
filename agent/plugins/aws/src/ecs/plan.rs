//! From a service in ECS as it is wanted and as it is to the next step, and what is told of it. Pure.
//!
//! *Expected flow*: register a task definition, create or update the service, wait for its rolling
//! deployment, note the body it was made of, forget old task definitions.
//! *Guarantees*: a service or task definition without our tag is never changed; a task definition
//! that was registered before is used again; a deployment that ECS's circuit breaker ends has failed.
//! *Assumptions*: a task definition never changes, so the digest in its tag says what it is made of.

use holdfast_protocol::digest::Digest;

use super::template::{Deployment, Network, Service};
use crate::owner::mine;
use crate::sight::Sight;

/// What is wanted, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// ENVIRONMENT/TARGET/SERVICE.
    pub(crate) owner: String,
    pub(crate) body: Digest,
    /// Of the task definition.
    pub(crate) content: Digest,
    pub(crate) service: Service,
}

/// A service as ECS has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) arn: String,
    pub(crate) owner: Option<String>,
    pub(crate) body: Option<Digest>,
    pub(crate) life: Life,
    pub(crate) desired: i32,
    pub(crate) running: i32,
    /// What its task definition is made of, by its tag.
    pub(crate) content: Option<Digest>,
    pub(crate) definition: String,
    pub(crate) network: Option<Network>,
    pub(crate) deployment: Option<Deployment>,
    /// Whether ECS ends a deployment that fails, and goes back.
    pub(crate) has_breaker: bool,
    /// Newest first; the first one is what ECS now works for.
    pub(crate) rollouts: Vec<Rollout>,
    /// What ECS last said of it.
    pub(crate) event: Option<String>,
}

/// Whether a service is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Active,
    Draining,
    Gone,
}

/// One deployment, in ECS's sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollout {
    pub(crate) id: String,
    pub(crate) definition: String,
    pub(crate) state: RolloutState,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

/// The deployment that a converge has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) id: String,
    /// Whether ECS has shown it since, so that its absence says something.
    pub(crate) was_listed: bool,
}

/// A task definition of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) arn: String,
    pub(crate) content: Option<Digest>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Register a task definition.
    Register,
    /// Make the service with this task definition.
    Create { definition: String },
    /// Change the service; `what` differs.
    Update { definition: String, what: String },
    /// Look again in a moment.
    Wait { at: String },
    /// Note the body on the service.
    Mark { arn: String },
    /// Deregister task definitions that nobody needs any more.
    Forget { definitions: Vec<String> },
    /// It is as wanted.
    Done,
}

/// Why it cannot be made so, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

/// The next step. `definitions` are ours, newest first; `started` is the deployment that this converge
/// has begun, so that one that failed before is tried again.
///
/// # Errors
/// Why there is none.
pub(crate) fn step(
    wanted: &Wanted,
    seen: Option<&Seen>,
    definitions: &[Definition],
    started: Option<&Started>,
) -> Result<Step, Refused> {
    let fits = definitions
        .iter()
        .find(|one| one.content == Some(wanted.content));
    let Some(seen) = seen.filter(|seen| seen.life != Life::Gone) else {
        return Ok(fits.map_or(Step::Register, |one| Step::Create {
            definition: one.arn.clone(),
        }));
    };
    own(wanted, seen)?;
    if seen.life == Life::Draining {
        let at = format!("service {} is being deleted", wanted.service.name);
        return Ok(Step::Wait { at });
    }
    let Some(fits) = fits else {
        return Ok(Step::Register);
    };
    if let Some(reason) = started.and_then(|started| failed(seen, started)) {
        return Err(Refused(format!(
            "ECS gave up deploying {}: {reason}",
            fits.arn
        )));
    }
    let what = differences(wanted, seen).join("; ");
    let first = seen.rollouts.first();
    let ended = first.is_some_and(|first| first.state == RolloutState::Failed);
    if !what.is_empty() || ended {
        let definition = fits.arn.clone();
        return Ok(Step::Update { definition, what });
    }
    Ok(settle(wanted, seen, definitions))
}

/// What is left to do when ECS works for what is wanted.
fn settle(wanted: &Wanted, seen: &Seen, definitions: &[Definition]) -> Step {
    if let Some(at) = rolling(seen) {
        return Step::Wait { at };
    }
    if seen.body != Some(wanted.body) {
        return Step::Mark {
            arn: seen.arn.clone(),
        };
    }
    let spares = definitions.iter().filter(|one| one.arn != seen.definition);
    let old: Vec<String> = spares
        .skip(wanted.service.keep)
        .map(|one| one.arn.clone())
        .collect();
    if old.is_empty() {
        Step::Done
    } else {
        Step::Forget { definitions: old }
    }
}

/// Whether the service may be touched.
fn own(wanted: &Wanted, seen: &Seen) -> Result<(), Refused> {
    let service = &wanted.service;
    let what = format!("service {} of cluster {}", service.name, service.cluster);
    mine(&what, seen.owner.as_deref(), &wanted.owner).map_err(Refused)
}

/// Why ECS gave up a deployment, if it did.
fn failed<'a>(seen: &'a Seen, started: &Started) -> Option<&'a str> {
    let of = |rollout: &&Rollout| rollout.id == started.id;
    match seen.rollouts.iter().find(of) {
        Some(one) => (one.state == RolloutState::Failed).then_some(one.reason.as_str()),
        // It went back, and has cleared away what it began.
        None if started.was_listed => seen.rollouts.first().map(|now| now.reason.as_str()),
        None => None,
    }
}

/// What ECS is still at.
fn rolling(seen: &Seen) -> Option<String> {
    let rolling = seen
        .rollouts
        .first()
        .is_some_and(|first| first.state == RolloutState::InProgress);
    let event = seen
        .event
        .as_ref()
        .map(|event| format!(": {event}"))
        .unwrap_or_default();
    (rolling || seen.running != seen.desired)
        .then(|| format!("{} of {} tasks run{event}", seen.running, seen.desired))
}

fn differences(wanted: &Wanted, seen: &Seen) -> Vec<String> {
    let mut all = Vec::new();
    if seen.content != Some(wanted.content) {
        all.push(format!("its task definition is {}", seen.definition));
    }
    let service = &wanted.service;
    if let Some(desired) = service.desired.filter(|desired| *desired != seen.desired) {
        all.push(format!(
            "{} tasks are asked for instead of {desired}",
            seen.desired
        ));
    }
    if service.network.is_some()
        && seen.network.as_ref().map(sorted) != service.network.as_ref().map(sorted)
    {
        all.push("its network is another one".to_owned());
    }
    if seen.deployment != Some(service.deployment) {
        all.push("the limits of its deployments are others".to_owned());
    }
    if !seen.has_breaker {
        all.push("its circuit breaker is off".to_owned());
    }
    all
}

fn sorted(network: &Network) -> Network {
    let mut network = network.clone();
    network.subnets.sort();
    network.security_groups.sort();
    network
}

/// What is told of what was seen, and the body that it was made of.
pub(crate) fn sight(wanted: &Wanted, seen: Option<&Seen>) -> (Sight, Option<Digest>) {
    let Some(seen) = seen.filter(|seen| seen.life != Life::Gone) else {
        return (Sight::Absent, None);
    };
    if let Err(refused) = own(wanted, seen) {
        return (Sight::Altered(refused.0), None);
    }
    if seen.life == Life::Draining {
        return (Sight::Altered("somebody deletes it".to_owned()), seen.body);
    }
    let mut differs = differences(wanted, seen);
    if !differs.is_empty() {
        let gave_up = seen
            .rollouts
            .iter()
            .find(|rollout| rollout.state == RolloutState::Failed);
        differs.extend(gave_up.map(|rollout| rollout.reason.clone()));
        return (Sight::Altered(differs.join("; ")), seen.body);
    }
    let failed = seen
        .rollouts
        .first()
        .filter(|first| first.state == RolloutState::Failed);
    let sight = match (failed, rolling(seen)) {
        (Some(failed), _) => Sight::Failing(failed.reason.clone()),
        (None, Some(at)) => Sight::Starting(at),
        (None, None) => Sight::Running,
    };
    (sight, seen.body)
}
