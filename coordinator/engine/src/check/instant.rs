//! Checks that are judged on the spot: nobody has to be asked.

use std::time::Duration;

use holdfast_protocol::time::Timestamp;

use super::{subject, tally, timeout};
use crate::compiled::protection::{Check, Guard};
use crate::gates::{is_moving, words};
use crate::step::{Turn, spec};
use crate::track::Point;
use crate::track::check::CheckResult;

/// What came of looking.
pub(super) enum Judged {
    /// It cannot be judged here: it has to be asked, which may take so long.
    Outside { timeout: Duration },
    /// People have not said yet. Time may take back what they said.
    Open { changes: Option<Timestamp> },
    /// It is so.
    Said {
        result: CheckResult,
        output: String,
        changes: Option<Timestamp>,
    },
}

/// Judges a check about `point`, where that needs no asking.
pub(super) fn judge(turn: &Turn<'_>, guard: &Guard, point: &Point) -> Judged {
    let (result, output) = match &guard.protection.check {
        check @ (Check::Run(_) | Check::Resource(_) | Check::Http(_) | Check::Prometheus(_)) => {
            let timeout = timeout(check).unwrap_or_default();
            return Judged::Outside { timeout };
        }
        Check::Approval(approval) => {
            let Some(deployment) = &turn.track.current else {
                return Judged::Open { changes: None };
            };
            let tally = tally(&turn.track, deployment, approval, turn.now);
            if !tally.is_enough() {
                return Judged::Open {
                    changes: tally.lapses,
                };
            }
            return Judged::Said {
                result: CheckResult::Passed,
                output: tally.words(),
                changes: tally.lapses,
            };
        }
        Check::Expression(expression) => {
            let Some(spec) = spec(turn.inputs) else {
                return Judged::Open { changes: None };
            };
            match expression.holds(&subject(turn, spec, point)) {
                Ok(true) => (CheckResult::Passed, String::new()),
                Ok(false) => (
                    CheckResult::Failed,
                    format!("{} is false", expression.text()),
                ),
                Err(problem) => (CheckResult::Unknown, problem),
            }
        }
        check @ Check::Stable { .. } => elsewhere(turn, check),
    };
    Judged::Said {
        result,
        output,
        changes: None,
    }
}

/// Whether another track is stable and does not move.
fn elsewhere(turn: &Turn<'_>, check: &Check) -> (CheckResult, String) {
    let Some((service, environment)) = check.stable_elsewhere(&turn.track.name) else {
        return (CheckResult::Unknown, "it asks about no track".to_owned());
    };
    let mut tracks = turn.inputs.elsewhere.iter();
    let there = tracks.find(|there| (there.service, there.environment) == (service, environment));
    match there.map(|there| (there.stable, there.phase)) {
        None | Some((None, _)) => {
            let output = format!("{service} has no stable release in {environment} yet");
            (CheckResult::Failed, output)
        }
        Some((Some(_), Some(phase))) if is_moving(phase) => {
            let output = format!("{service} is {} in {environment}", words(phase));
            (CheckResult::Failed, output)
        }
        Some((Some(version), _)) => {
            let output = format!("{service} {version} is stable in {environment}");
            (CheckResult::Passed, output)
        }
    }
}
