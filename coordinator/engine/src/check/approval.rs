//! Approvals: who agreed to what, and for how long that holds.
//!
//! An approval is bound to the digest of what was shown to the approver: the track, the deployment,
//! what it brings and what is stable now. If any of that changes, it is void.

use std::collections::BTreeSet;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::RoleName;
use holdfast_protocol::time::{Timestamp, friendly};

use crate::compiled::protection::{Approval, Guard};
use crate::effect::{Effect, Record};
use crate::step::Turn;
use crate::track::check::Approved;
use crate::track::{Deployment, Point, Track};

/// Digest of what an approver is shown of a deployment.
#[must_use]
pub fn shown(track: &Track, deployment: &Deployment) -> Digest {
    let point = |point: &Point| {
        let run = point.run.map_or(0, Timestamp::as_millis);
        format!(
            "{} {} {} {run}",
            point.sequence, point.version, point.configuration
        )
    };
    let stable = track.stable.as_ref().map(point).unwrap_or_default();
    let brings = point(&deployment.point);
    // Names and versions hold no line break, so no two of these read the same.
    let text = format!(
        "approval\n{}\n{}\n{brings}\n{stable}",
        track.name, deployment.id
    );
    Digest::of(text.as_bytes())
}

/// How the people whose approval a check wants have decided.
#[derive(Debug)]
pub(crate) struct Tally<'d> {
    /// Those who approved and whose approval holds, each once.
    pub(crate) by: BTreeSet<&'d str>,
    /// How many are wanted.
    pub(crate) of: usize,
    /// Those whose approval has lapsed and who have not given it again.
    pub(crate) lapsed: BTreeSet<&'d str>,
    /// When the first of them lapses.
    pub(crate) lapses: Option<Timestamp>,
}

/// Counts the approvals of a deployment.
pub(crate) fn tally<'d>(
    track: &Track,
    deployment: &'d Deployment,
    approval: &Approval,
    now: Timestamp,
) -> Tally<'d> {
    let shown = shown(track, deployment);
    let meant = |given: &&Approved| given.shown == shown && fits(&given.roles, &approval.roles);
    let mut tally = Tally {
        by: BTreeSet::new(),
        of: approval.count.max(1) as usize,
        lapsed: BTreeSet::new(),
        lapses: None,
    };
    for given in deployment.approvals.iter().filter(meant) {
        let until = given.at.after(approval.expires);
        if now < until {
            tally.by.insert(&given.by);
            tally.lapses = Some(tally.lapses.map_or(until, |first| first.min(until)));
        } else {
            tally.lapsed.insert(&given.by);
        }
    }
    let Tally { by, lapsed, .. } = &mut tally;
    lapsed.retain(|who| !by.contains(who));
    tally
}

impl Tally<'_> {
    /// Whether enough people have agreed.
    pub(crate) fn is_enough(&self) -> bool {
        self.by.len() >= self.of
    }

    /// Who has agreed: `approved by alice, bob`.
    pub(crate) fn words(&self) -> String {
        format!("approved by {}", listed(&self.by))
    }

    /// What is missing: `1 of 2 approvals by release-manager (alice); that of bob has lapsed`.
    pub(crate) fn missing(&self, approval: &Approval) -> String {
        let roles = either(&approval.roles);
        let mut text = match (self.of, self.by.len()) {
            (1, _) => format!("no approval by {roles} yet"),
            (of, 0) => format!("none of {of} approvals by {roles} yet"),
            (of, given) => {
                format!("{given} of {of} approvals by {roles}, {}", self.words())
            }
        };
        if !self.lapsed.is_empty() {
            let after = friendly(approval.expires);
            text.push_str(&format!("; lapsed after {after}: {}", listed(&self.lapsed)));
        }
        text
    }
}

/// Whether one of these roles is among those that may approve.
pub(crate) fn fits(roles: &[RoleName], wanted: &[RoleName]) -> bool {
    roles.iter().any(|role| wanted.contains(role))
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn either(roles: &[RoleName]) -> String {
    match roles {
        [] => "nobody".to_owned(),
        [role] => role.to_string(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(RoleName::as_str).collect();
            format!("{} or {last}", first.join(", "))
        }
    }
}

fn listed(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Tells those who may approve that they are asked to.
pub(super) fn request(turn: &mut Turn<'_>, guard: &Guard, approval: &Approval) {
    let Some(deployment) = &turn.track.current else {
        return;
    };
    let message = format!(
        "{} on {} wants {} approval{} by {} ({}): holdfast approve {}",
        deployment.point.version,
        turn.track.name,
        approval.count.max(1),
        if approval.count > 1 { "s" } else { "" },
        either(&approval.roles),
        guard.name,
        deployment.id,
    );
    let record = Record {
        kind: "approval.requested",
        message,
        deployment: Some(deployment.id),
        by: None,
        notify: None,
    };
    turn.effect(Effect::Record(record));
    turn.unsaved();
}
