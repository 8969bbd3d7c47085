//! Checks that always have to hold, about what is stable: incidents.
//!
//! *Expected flow.* While nothing rolls, each is asked every interval about the stable point. Once it
//! has failed as often in a row as it may, an incident is open until it passes: told when it opens,
//! told when it closes, a wait meanwhile. Where the check says so, the stable point before is put back
//! then, as urgently as a person would.
//!
//! *Guarantees.* What a check has put back is not sent back by a check again: from there on it only
//! tells. The release that was sent back is passed over; one that is newer than it is not, since it
//! may be the cure. While a person decides (`Halted`, `RollbackFailed`) nothing is sent back.

use holdfast_protocol::api::wait::WaitKind;

use super::{due, gate, has_passed, tend_one, verdict};
use crate::compiled::TrackSpec;
use crate::compiled::protection::{Check, Guard, OnIncident, When};
use crate::rollback;
use crate::step::{Next, Turn};
use crate::track::check::{CheckResult, CheckState};
use crate::track::{Deployment, Phase, Track};
use crate::wait::{Waits, by_command};

/// Whether what is stable is what runs, as far as this track has a say.
pub(crate) fn is_watched(track: &Track) -> bool {
    let rolls = |current: &Deployment| match current.phase {
        Phase::Rolling { .. } | Phase::Verifying { .. } | Phase::RollingBack { .. } => true,
        Phase::Waiting
        | Phase::Stable
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => false,
    };
    let moves = |current: &Deployment| rolls(current) || current.is_urgent() && !current.is_final();
    track.stable.is_some() && !track.current.as_ref().is_some_and(moves)
}

/// Asks what is due, and opens and closes incidents.
pub(super) fn tend(turn: &mut Turn<'_>, spec: &TrackSpec) {
    if !is_watched(&turn.track) {
        return;
    }
    let Some(stable) = turn.track.stable.clone() else {
        return;
    };
    forget_undeclared(turn, spec);
    let mut states = turn.track.watched.clone();
    for guard in guards(spec) {
        let at = states.iter().position(|state| state.name == guard.name);
        let at = at.unwrap_or_else(|| {
            states.push(CheckState::new(guard.name.clone(), When::Always, turn.now));
            states.len() - 1
        });
        let state = &mut states[at];
        tend_one(turn, guard, state, (None, &stable));
        judge(turn, guard, state);
    }
    turn.track.watched = states;
}

/// The checks that always have to hold. People are asked once, not for ever.
fn guards(spec: &TrackSpec) -> impl Iterator<Item = &Guard> {
    spec.guards.iter().filter(|guard| {
        let people = matches!(guard.protection.check, Check::Approval(_));
        guard.when.contains(&When::Always) && !people
    })
}

fn judge(turn: &mut Turn<'_>, guard: &Guard, state: &mut CheckState) {
    let failed = gate::fails(state) && state.failures >= verdict::threshold(guard);
    if failed && !state.notified {
        state.notified = true;
        let message = format!("{}: {}", turn.track.name, verdict::words(guard, state));
        turn.record("incident.opened", message, None);
    } else if state.notified && has_passed(state) {
        state.notified = false;
        let message = format!("{}: {}", turn.track.name, verdict::words(guard, state));
        turn.record("incident.closed", message, None);
    }
}

/// What is asked no more ends with its incident.
fn forget_undeclared(turn: &mut Turn<'_>, spec: &TrackSpec) {
    let declared = |state: &CheckState| guards(spec).any(|guard| guard.name == state.name);
    if turn.track.watched.iter().all(declared) {
        return;
    }
    let watched = std::mem::take(&mut turn.track.watched);
    let (kept, gone): (Vec<_>, Vec<_>) = watched.into_iter().partition(declared);
    turn.track.watched = kept;
    close(turn, &gone, "is asked no more");
}

/// Something else is stable now: what was known is of another point.
pub(crate) fn forget(turn: &mut Turn<'_>) {
    let gone = std::mem::take(&mut turn.track.watched);
    let stable = turn.track.stable.as_ref();
    let why = stable.map_or_else(String::new, |stable| {
        format!("{} is stable", stable.version)
    });
    close(turn, &gone, &why);
}

fn close(turn: &mut Turn<'_>, gone: &[CheckState], why: &str) {
    for state in gone.iter().filter(|state| state.notified) {
        let message = format!("{}: {}: {why}", turn.track.name, state.name);
        turn.record("incident.closed", message, None);
    }
}

/// Back to the stable point before, where an open incident says so.
pub(crate) fn send_back(turn: &Turn<'_>, spec: &TrackSpec) -> Option<Next> {
    if turn.track.watched.is_empty() || turn.track.sent_back || !turn.may_begin() {
        return None;
    }
    let person = awaits_a_person(&turn.track);
    if person || !is_watched(&turn.track) {
        return None;
    }
    rollback::before(&turn.track)?;
    let open = guards(spec).filter(|guard| guard.on_incident == OnIncident::Rollback);
    let reasons = open.filter_map(|guard| {
        let state = open_state(&turn.track, guard)?;
        Some(verdict::words(guard, state))
    });
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| Next::SendBack(reasons.join("; ")))
}

/// Whether what is under way stopped where it stands, so that a person has to say how it goes on.
fn awaits_a_person(track: &Track) -> bool {
    let decides =
        |current: &Deployment| matches!(current.phase, Phase::Halted | Phase::RollbackFailed);
    track.current.as_ref().is_some_and(decides)
}

fn open_state<'t>(track: &'t Track, guard: &Guard) -> Option<&'t CheckState> {
    let mut states = track.watched.iter();
    states.find(|state| state.name == guard.name && state.notified)
}

/// Open incidents, and checks that nobody can answer.
pub(crate) fn explain(waits: &mut Waits, turn: &Turn<'_>, spec: &TrackSpec) {
    if turn.track.watched.is_empty() || !is_watched(&turn.track) {
        return;
    }
    for guard in guards(spec) {
        let mut states = turn.track.watched.iter();
        let Some(state) = states.find(|state| state.name == guard.name) else {
            continue;
        };
        let unknown = state
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.result == CheckResult::Unknown);
        if !state.notified && !unknown {
            continue;
        }
        let mut message = verdict::words(guard, state);
        if state.notified && guard.on_incident == OnIncident::Rollback {
            let why = if awaits_a_person(&turn.track) {
                "a person decides what becomes of the newest deployment"
            } else if turn.track.sent_back {
                "it was put back by a check itself"
            } else {
                "there is no earlier release to go back to by itself"
            };
            message = format!("{message} (not rolled back: {why})");
        }
        let wait = waits.push(WaitKind::Protection, &guard.name, message);
        let next = due(guard, state, turn.now);
        wait.until = Some(next).filter(|at| *at > turn.now);
        wait.ends_by.push(format!("{} passing", guard.name));
        if state.notified {
            by_command(wait, "rollback", &turn.track.name);
        }
    }
}
