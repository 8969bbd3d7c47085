//! What people say about one deployment: yes, no, or that a check shall not hold it.
//!
//! Each is idempotent: who approved has approved, what is skipped is skipped. Each is recorded with
//! who and why. What was said of one deployment is said of no other.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ProtectionName, RoleName};
use holdfast_protocol::time::Timestamp;

use super::{Refusal, Steered};
use crate::check::{self, either, fits, is_skipped, shown};
use crate::compiled::TrackSpec;
use crate::compiled::protection::{Approval, Check, Guard, Skippable, When};
use crate::input::Inputs;
use crate::rollback;
use crate::step::{Outcome, Turn, step};
use crate::track::check::{Approved, Skipped};
use crate::track::{Deployment, Phase, Track};

/// A person who says something.
#[derive(Debug, Clone, Copy)]
pub struct Human<'h> {
    /// Who.
    pub by: &'h str,
    /// In which roles.
    pub roles: &'h [RoleName],
    /// Why; may be empty.
    pub reason: &'h str,
}

/// What a person says about a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Yes, to what had this digest when it was shown; to what it is now where none is named.
    Approve {
        /// As [`shown`] had it.
        shown: Option<Digest>,
    },
    /// No: it shall not start.
    Reject,
    /// This check shall not hold it.
    Skip {
        /// The check, as the track calls it.
        guard: ProtectionName,
    },
}

/// Takes what a person says about the deployment with this number, and takes the next step.
///
/// # Errors
/// [`Refusal`] where it comes too late, or the person may not say it.
pub fn say(
    track: &Track,
    deployment: u64,
    word: &Word,
    human: Human<'_>,
    inputs: &Inputs<'_>,
    now: Timestamp,
) -> Result<Steered, Refusal> {
    let mut turn = Turn::new(track.clone(), inputs, now);
    let (of, spec) = current(&turn, deployment)?;
    let said = match word {
        Word::Approve { shown } => approve(&mut turn, spec, &of, (*shown, human)),
        Word::Reject => reject(&mut turn, &of, human),
        Word::Skip { guard } => skip(&mut turn, spec, &of, (guard, human)),
    }?;
    let (outcome, message, changed) = match said {
        Said::New(message) => (turn.run(&track.waits), message, true),
        Said::Already(message) => (step(track, inputs, now), message, false),
    };
    Ok(Steered {
        outcome,
        message,
        changed,
    })
}

/// Takes into account in which roles somebody may still agree: an approval counts in no others from now
/// on. None where nothing of what this person said changes.
#[must_use]
pub fn withdraw(
    track: &Track,
    (by, roles): (&str, &[RoleName]),
    inputs: &Inputs<'_>,
    now: Timestamp,
) -> Option<Outcome> {
    let mut turn = Turn::new(track.clone(), inputs, now);
    let current = turn.track.current.as_mut()?;
    let lost = |given: &Approved| given.by == by && !given.roles.iter().all(|r| roles.contains(r));
    if current.phase != Phase::Waiting || !current.approvals.iter().any(lost) {
        return None;
    }
    for given in current.approvals.iter_mut().filter(|given| given.by == by) {
        given.roles.retain(|role| roles.contains(role));
    }
    let left = match roles {
        [] => "may not approve it any more".to_owned(),
        roles => format!("may approve it as {} only", either(roles)),
    };
    let version = &current.point.version;
    let message = format!("{by} approved {version} on {}, and {left}", track.name);
    turn.unsaved();
    turn.record("approval.void", message, None);
    Some(turn.run(&track.waits))
}

enum Said {
    New(String),
    Already(String),
}

/// The deployment, if it is the one that this track has under way.
fn current<'a>(turn: &Turn<'a>, id: u64) -> Result<(Deployment, &'a TrackSpec), Refusal> {
    let name = &turn.track.name;
    let spec = super::declared(turn)?;
    match &turn.track.current {
        Some(current) if current.id == id => Ok((current.clone(), spec)),
        Some(current) => Err(Refusal {
            message: format!(
                "deployment {id} is over; {name} is at deployment {} of {} now",
                current.id, current.point.version
            ),
            help: format!("see what it brings: holdfast show {}", current.id),
        }),
        None => Err(Refusal {
            message: format!("{name} has no deployment {id}"),
            help: format!("holdfast history {} -e {}", name.service, name.environment),
        }),
    }
}

fn approve(
    turn: &mut Turn<'_>,
    spec: &TrackSpec,
    of: &Deployment,
    (seen, human): (Option<Digest>, Human<'_>),
) -> Result<Said, Refusal> {
    let name = turn.track.name.clone();
    let version = &of.point.version;
    let wanted: Vec<&Guard> = approvals(spec, of).map(|(guard, _)| guard).collect();
    if of.is_final() {
        return Err(over(of));
    }
    if wanted.is_empty() {
        return Err(Refusal {
            message: format!(
                "deployment {} of {version} on {name} needs no approval",
                of.id
            ),
            help: format!(
                "see what it waits for: holdfast why {} -e {}",
                name.service, name.environment
            ),
        });
    }
    let now_shown = shown(&turn.track, of);
    if seen.is_some_and(|seen| seen != now_shown) {
        return Err(Refusal {
            message: format!("deployment {} is not what it was when it was shown", of.id),
            help: format!("look at it again, then approve it: holdfast show {}", of.id),
        });
    }
    let mut fitting =
        approvals(spec, of).filter(|(_, approval)| fits(human.roles, &approval.roles));
    if fitting.next().is_none() {
        return Err(not_asked(spec, of, human));
    }
    if !needs(turn, spec, of, human) {
        let message = format!("{} has approved {version} on {name} already", human.by);
        return Ok(Said::Already(message));
    }
    let given = Approved {
        by: human.by.to_owned(),
        roles: human.roles.to_vec(),
        at: turn.now,
        shown: now_shown,
        reason: (!human.reason.is_empty()).then(|| human.reason.to_owned()),
    };
    if let Some(current) = &mut turn.track.current {
        // What was given before and has lapsed is void, and takes no room.
        current.approvals.retain(|old| old.by != human.by);
        current.approvals.push(given);
    }
    turn.unsaved();
    let text = human.did(&format!("{version} on {name} approved"));
    turn.record("approval.given", text, Some(human.by.to_owned()));
    Ok(Said::New(format!(
        "{version} is approved on {name} by {}",
        human.by
    )))
}

/// The checks of a deployment that want people to agree, without those that were skipped.
fn approvals<'s>(
    spec: &'s TrackSpec,
    of: &Deployment,
) -> impl Iterator<Item = (&'s Guard, &'s Approval)> {
    let guards = spec.guards.iter();
    let guards = guards.filter(|guard| !is_skipped(of, &guard.name));
    guards.filter_map(|guard| match &guard.protection.check {
        Check::Approval(approval) => Some((guard, approval)),
        Check::Run(_)
        | Check::Resource(_)
        | Check::Http(_)
        | Check::Prometheus(_)
        | Check::Expression(_)
        | Check::Stable { .. } => None,
    })
}

/// Whether the yes of this person is one more than there is.
fn needs(turn: &Turn<'_>, spec: &TrackSpec, of: &Deployment, human: Human<'_>) -> bool {
    approvals(spec, of).any(|(_, approval)| {
        let tally = check::tally(&turn.track, of, approval, turn.now);
        fits(human.roles, &approval.roles) && !tally.by.contains(human.by)
    })
}

fn not_asked(spec: &TrackSpec, of: &Deployment, human: Human<'_>) -> Refusal {
    let mut roles: Vec<RoleName> = Vec::new();
    for role in approvals(spec, of).flat_map(|(_, approval)| &approval.roles) {
        if !roles.contains(role) {
            roles.push(role.clone());
        }
    }
    let has = if human.roles.is_empty() {
        "no role".to_owned()
    } else {
        let names: Vec<&str> = human.roles.iter().map(RoleName::as_str).collect();
        format!("the roles {}", names.join(", "))
    };
    Refusal {
        message: format!("{} has {has}, and may not approve this", human.by),
        help: format!("ask somebody with the role {}", either(&roles)),
    }
}

fn reject(turn: &mut Turn<'_>, of: &Deployment, human: Human<'_>) -> Result<Said, Refusal> {
    let name = turn.track.name.clone();
    let version = &of.point.version;
    match of.phase {
        Phase::Rejected => {
            let message = format!("{version} was rejected on {name} already");
            return Ok(Said::Already(message));
        }
        Phase::Waiting => {}
        Phase::Rolling { .. } | Phase::Verifying { .. } => {
            let (service, environment) = (&name.service, &name.environment);
            return Err(Refusal {
                message: format!("{version} has started on {name} already"),
                help: format!(
                    "to put back what was stable: holdfast rollback {service} -e {environment}"
                ),
            });
        }
        Phase::Stable
        | Phase::RollingBack { .. }
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Superseded => return Err(over(of)),
    }
    let by = Some(human.by.to_owned());
    rollback::reject(turn, human.did("rejected"), by);
    Ok(Said::New(format!("{version} is rejected on {name}")))
}

fn skip(
    turn: &mut Turn<'_>,
    spec: &TrackSpec,
    of: &Deployment,
    (name, human): (&ProtectionName, Human<'_>),
) -> Result<Said, Refusal> {
    let track = turn.track.name.clone();
    let guards = || spec.guards.iter().filter(|guard| is_deployments(guard));
    let Some(guard) = guards().find(|guard| guard.name == *name) else {
        let names: Vec<&str> = guards().map(|guard| guard.name.as_str()).collect();
        let help = if names.is_empty() {
            "nothing that could be skipped holds it".to_owned()
        } else {
            format!("its protections are {}", names.join(", "))
        };
        let message = format!("deployment {} has no protection {name}", of.id);
        return Err(Refusal { message, help });
    };
    if is_skipped(of, name) {
        return Ok(Said::Already(format!(
            "{name} is skipped for deployment {} already",
            of.id
        )));
    }
    if of.is_final() {
        return Err(over(of));
    }
    may_skip(guard, human)?;
    let skipped = Skipped {
        name: name.clone(),
        by: human.by.to_owned(),
        reason: human.reason.to_owned(),
        at: turn.now,
    };
    check::skip(turn, skipped);
    Ok(Said::New(format!(
        "{name} does not hold {} on {track}, this time",
        of.point.version
    )))
}

/// Whether a check can hold a deployment.
fn is_deployments(guard: &Guard) -> bool {
    guard.is_asked(When::Pre) || guard.is_asked(When::Post)
}

fn may_skip(guard: &Guard, human: Human<'_>) -> Result<(), Refusal> {
    let name = &guard.name;
    match &guard.protection.skippable {
        Skippable::Nobody => Err(Refusal {
            message: format!("{name} may be skipped by nobody"),
            help: "it has to pass, or its owner has to change it".to_owned(),
        }),
        Skippable::Roles(roles) if !fits(human.roles, roles) => Err(Refusal {
            message: format!("{} may not skip {name}", human.by),
            help: format!("ask somebody with the role {}", either(roles)),
        }),
        Skippable::Roles(_) | Skippable::Anyone if human.reason.is_empty() => Err(Refusal {
            message: format!("skipping {name} needs a reason"),
            help: "say why with --reason".to_owned(),
        }),
        Skippable::Roles(_) | Skippable::Anyone => Ok(()),
    }
}

fn over(of: &Deployment) -> Refusal {
    Refusal {
        message: format!(
            "deployment {} of {} is over: {}",
            of.id, of.point.version, of.reason
        ),
        help: format!("see how it ended: holdfast show {}", of.id),
    }
}

impl Human<'_> {
    /// `rejected by alice: not today`
    fn did(&self, what: &str) -> String {
        if self.reason.is_empty() {
            format!("{what} by {}", self.by)
        } else {
            format!("{what} by {}: {}", self.by, self.reason)
        }
    }
}
