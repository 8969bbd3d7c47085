//! What policies require of a release.
//!
//! What is violated ends the deployment: no waiting makes it good. What cannot be judged stands: a rule
//! that says nothing must not let anything through.

use holdfast_protocol::api::wait::WaitKind;
use serde_json::Value;

use crate::check::subject;
use crate::compiled::{Configuration, Requirement, TrackSpec};
use crate::step::Turn;
use crate::track::Point;
use crate::wait::Waits;

/// Why policies forbid `point`, if they do.
pub(crate) fn forbids(turn: &Turn<'_>, spec: &TrackSpec, point: &Point) -> Option<String> {
    let forbids = |(requirement, holds): (&Requirement, Result<bool, String>)| {
        (holds == Ok(false)).then(|| {
            let policy = &requirement.policy.name;
            format!("forbidden by policy {policy}: {}", requirement.message)
        })
    };
    let reasons: Vec<String> = judged(turn, spec, point).filter_map(forbids).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Stands where a requirement cannot be judged.
pub(super) fn unjudged(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec, point: &Point) {
    for (requirement, holds) in judged(turn, spec, point) {
        if let Err(problem) = holds {
            let policy = &requirement.policy;
            let message = format!(
                "policy {} could not be judged ({}): {problem}",
                policy.name,
                requirement.expression.text()
            );
            let wait = waits.push(WaitKind::Policy, &policy.name, message);
            wait.ends_by.push(format!(
                "holdfast apply --set {} with an expression that can be",
                policy.set
            ));
        }
    }
}

fn judged<'s>(
    turn: &Turn<'_>,
    spec: &'s TrackSpec,
    point: &Point,
) -> impl Iterator<Item = (&'s Requirement, Result<bool, String>)> {
    // Whatever it is on some target has to be allowed.
    let values: Vec<Value> = if spec.requirements.is_empty() {
        Vec::new()
    } else {
        let subject = subject(turn, spec, point);
        let workload = |one: &Configuration| {
            let mut subject = subject.clone();
            subject["workload"] = one.workload();
            subject
        };
        spec.configuration.each().map(workload).collect()
    };
    let requirements = spec.requirements.iter();
    requirements.map(move |requirement| {
        let answers = values.iter().map(|one| requirement.expression.holds(one));
        let held = answers.reduce(|held, answer| if held == Ok(true) { answer } else { held });
        (requirement, held.unwrap_or(Ok(true)))
    })
}
