//! What targets say over their connections.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_engine::track::TrackName;
use holdfast_protocol::api::target::Condition;
use holdfast_protocol::assignment::{Generation, Held};
use holdfast_protocol::message::Refusal;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName};
use holdfast_protocol::observed::{
    Facts, MESSAGE_MAX_BYTES, Report, State, TargetCondition, Transition, WorkloadStatus,
};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version;

use super::{After, Link, OrderChange, Orders, Round, SessionId, Target};
use crate::event::Connected;
use crate::history::Entry;
use crate::link::CloseReason;
use crate::store::row;
use crate::store::write::Write;

/// A transition older than this was journaled while the target was away, whatever its clock says of the
/// moment when it came back, and belongs in the history.
const AWAY: Duration = Duration::from_secs(5);

impl Round<'_> {
    /// Lets a target in that has proven who it is, or answers that it is not a member any more.
    pub fn connected(&mut self, connected: Connected) {
        let Connected {
            peer,
            session,
            hello,
            connection,
            orders,
            reply,
        } = connected;
        if let Err(refused) = self.still_member(&peer) {
            let name = peer.identity.target.clone();
            self.offence("security.refused", Some(name), refused.detail.clone());
            self.answer(reply, Err(refused));
            return;
        }
        let name = peer.identity.target;
        let now = self.now;
        let Ok(there) = self.target_mut(&name) else {
            return;
        };
        // The session has found one already.
        let version = version::SUPPORTED.common(hello.versions).unwrap_or(0);
        let ahead = ahead(there, hello.held);
        there.kept.ahead = there.kept.ahead.or(ahead);
        orders.send_replace(Orders {
            assignment: there.deliverable(),
            stored: 0,
        });
        let before = std::mem::replace(
            &mut there.link,
            Link::Up {
                session,
                connection,
                orders,
                version,
            },
        );
        if matches!(before, Link::Down) {
            there.kept.since = now;
        }
        there.kept.agent_version = said(&hello.agent_version, NAME_MAX_BYTES);
        there.kept.facts = plain_facts(hello.facts);
        let environment = there.kept.environment.clone();
        self.close_older(before);
        self.relabel(&name);
        self.keep_target(&name);
        self.record(Entry {
            kind: "target.connected",
            message: format!("{name} is connected"),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            ..Entry::default()
        });
        if let Some(held) = ahead {
            self.record(Entry {
                kind: "target.ahead",
                message: format!(
                    "{name} holds assignment {held}, which is not known here: was an old backup \
                     restored? Nothing is sent to it until `holdfast target resume {name}`"
                ),
                environment: Some(environment.clone()),
                target: Some(name.clone()),
                ..Entry::default()
            });
        }
        if version < version::HOLDS {
            // An agent that was put back to an earlier release leaves nothing alone.
            self.hold(&name, session, None);
        }
        self.environment_moved(&environment);
        self.answer(reply, Ok(()));
    }

    /// The newest connection of a target counts; an older one is closed.
    fn close_older(&mut self, before: Link) {
        if let Link::Up { connection, .. } = before {
            self.after.push(After::Close {
                connection,
                reason: CloseReason::Superseded,
            });
        }
    }

    /// Notes that a connection has ended.
    pub fn disconnected(&mut self, name: &TargetName, session: SessionId) {
        let now = self.now;
        let Some(there) = self
            .world
            .targets
            .get_mut(name)
            .filter(|t| t.is_session(session))
        else {
            return;
        };
        there.link = Link::Down;
        there.kept.since = now;
        let environment = there.kept.environment.clone();
        self.keep_target(name);
        self.record(Entry {
            kind: "target.disconnected",
            message: format!("{name} is not connected any more; what runs there goes on"),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            ..Entry::default()
        });
        self.environment_moved(&environment);
    }

    /// Notes that an assignment is in force on a target.
    pub fn accepted(&self, name: &TargetName, session: SessionId, held: Held) {
        let there = self
            .world
            .targets
            .get(name)
            .filter(|there| there.is_session(session));
        if there.is_some() {
            tracing::debug!(target = %name, generation = %held.generation, "assignment accepted");
        }
    }

    /// Notes that a target did not take an assignment.
    pub fn assignment_refused(
        &mut self,
        name: &TargetName,
        session: SessionId,
        generation: Generation,
        reason: &Refusal,
    ) {
        let Some(there) = self
            .world
            .targets
            .get(name)
            .filter(|there| there.is_session(session))
        else {
            return;
        };
        let environment = there.kept.environment.clone();
        self.record(Entry {
            kind: "assignment.refused",
            actor: Some(format!("target/{name}")),
            message: format!("{name} refused assignment {generation}: {reason}"),
            environment: Some(environment),
            target: Some(name.clone()),
            ..Entry::default()
        });
    }

    /// Takes in what a target observed. What it says of services that are none of its own is not
    /// believed.
    pub fn report(&mut self, name: &TargetName, session: SessionId, report: Report) {
        let now = self.now;
        let Some(there) = self
            .world
            .targets
            .get_mut(name)
            .filter(|t| t.is_session(session))
        else {
            return;
        };
        let (report, strangers) = own(there, report);
        let environment = there.kept.environment.clone();
        let kept_before = there.kept.clone();
        if report.converged && report.generation.is_some() {
            there.kept.converged = report.generation;
        }
        if let Some(conditions) = report.conditions {
            there.kept.conditions = conditions_of(conditions);
        }
        if let Some(facts) = report.facts {
            there.kept.facts = plain_facts(facts);
        }
        let kept_differs = kept_before != there.kept;
        let changes = observe(there, report.statuses, report.complete, now);
        for (service, observed) in changes {
            self.moved.insert(TrackName {
                service: service.clone(),
                environment: environment.clone(),
            });
            self.writes.push(Write::Observed {
                target: name.clone(),
                service,
                observed,
            });
        }
        if kept_differs {
            self.keep_target(name);
            self.relabel(name);
        }
        self.ask_failed(name);
        self.transitions(name, &environment, report.transitions);
        if let Some(stranger) = strangers.first() {
            let what = format!("{name} reported on {stranger}, which is none of its services");
            self.offence("report.refused", Some(name.clone()), what);
        }
        self.after.push(After::Order {
            target: name.clone(),
            change: OrderChange::Stored(report.sequence),
        });
    }

    /// Records what happened, as far as the target's allowance goes.
    fn transitions(
        &mut self,
        name: &TargetName,
        environment: &EnvironmentName,
        transitions: Vec<Transition>,
    ) {
        let many = transitions.len();
        for (done, transition) in transitions.into_iter().enumerate() {
            if !self.world.offences.admit_transition(name, self.now) {
                let what = format!(
                    "{name} reported too much: {} lines are left out",
                    many - done
                );
                self.offence("report.refused", Some(name.clone()), what);
                return;
            }
            self.transition(name, environment, transition);
        }
    }

    /// Failures, and whatever happened while the target was away, are history.
    fn transition(
        &mut self,
        name: &TargetName,
        environment: &EnvironmentName,
        transition: Transition,
    ) {
        let there = self.world.targets.get(name);
        let away = there.is_some_and(|there| transition.at < there.kept.since)
            || self.now.since(transition.at) > AWAY;
        let kind = match transition.state {
            State::Failed => "workload.failed",
            State::NotReady => "workload.notReady",
            State::Ready if away => "workload.ready",
            State::Removed if away => "workload.removed",
            State::Progressing if away => "workload.progressing",
            State::Pending if away => "workload.pending",
            State::Ready
            | State::Removed
            | State::Progressing
            | State::Pending
            | State::Unknown => return,
        };
        let service = transition.service;
        self.record(Entry {
            kind,
            actor: Some(format!("target/{name}")),
            message: format!(
                "{service} on {name}: {}",
                said(&transition.message, MESSAGE_MAX_BYTES)
            ),
            service: Some(service),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            occurred_at: Some(transition.at),
            ..Entry::default()
        });
    }

    /// Notes that a peer did what it may not. Recorded at most [`OFFENCES_MAX`] times in a minute for
    /// each target, and for all strangers together, so that nobody can fill the disk by knocking, nor
    /// drown what another does; the log has them all.
    pub fn offence(&mut self, kind: &'static str, target: Option<TargetName>, message: String) {
        tracing::warn!(
            kind,
            target = target.as_ref().map(tracing::field::display),
            message
        );
        if !self.world.offences.admit(target.as_ref(), self.now) {
            return;
        }
        let environment = target
            .as_ref()
            .and_then(|name| self.world.targets.get(name))
            .map(|there| there.kept.environment.clone());
        self.record(Entry {
            kind,
            message,
            environment,
            target,
            ..Entry::default()
        });
    }
}

/// Most offences of one peer that are recorded in a minute.
const OFFENCES_MAX: u32 = 60;
/// Most transitions of one target that are recorded at once: what an agent's journal holds.
const TRANSITIONS_MAX: u64 = 1_000;
/// Time after which one more is recorded.
const TRANSITION_EVERY: Duration = Duration::from_secs(1);
/// Longest name that is kept of what a target says of itself, in bytes.
const NAME_MAX_BYTES: usize = 128;

/// Counts what peers bring into the history, so that none of them can fill it.
#[derive(Debug, Default)]
pub struct Offences {
    minute: u64,
    /// Offences in this minute, by target; nothing stands for all strangers.
    counts: BTreeMap<Option<TargetName>, u32>,
    /// When the whole allowance of transitions is there again.
    replenished: BTreeMap<TargetName, Timestamp>,
}

impl Offences {
    fn admit(&mut self, who: Option<&TargetName>, now: Timestamp) -> bool {
        let minute = now.as_millis() / 60_000;
        if minute != self.minute {
            self.minute = minute;
            self.counts.clear();
            self.replenished.retain(|_, at| *at > now);
        }
        let count = self.counts.entry(who.cloned()).or_default();
        *count = count.saturating_add(1);
        *count <= OFFENCES_MAX
    }

    /// A leaky bucket, kept as the time at which it will be empty.
    fn admit_transition(&mut self, who: &TargetName, now: Timestamp) -> bool {
        let whole = TRANSITION_EVERY.saturating_mul(u32::try_from(TRANSITIONS_MAX).unwrap_or(0));
        let empty = self.replenished.get(who).copied().unwrap_or(now).max(now);
        // A clock that was set back must not silence anyone for long.
        if empty.since(now) >= whole && empty.since(now) <= whole * 2 {
            return false;
        }
        let empty = empty.min(now.after(whole));
        self.replenished
            .insert(who.clone(), empty.after(TRANSITION_EVERY));
        true
    }
}

/// A report without what it says of services that are none of the target's, and those.
fn own(there: &Target, mut report: Report) -> (Report, Vec<ServiceName>) {
    let mut strangers = Vec::new();
    let mut concerns = |service: &ServiceName| {
        let concerns = there.concerns(service);
        if !concerns {
            strangers.push(service.clone());
        }
        concerns
    };
    report.statuses.retain(|status| concerns(&status.service));
    report.transitions.retain(|line| concerns(&line.service));
    (report, strangers)
}

/// Text of a target's as it is kept: no longer than `max_bytes`, and without characters that a
/// terminal obeys.
pub(super) fn said(text: &str, max_bytes: usize) -> String {
    let text = text.chars().map(|c| match c {
        '\n' | '\t' => c,
        c if c.is_control() => ' ',
        c => c,
    });
    let mut kept = String::new();
    for c in text {
        if kept.len() + c.len_utf8() > max_bytes {
            break;
        }
        kept.push(c);
    }
    kept
}

/// What a target says that it is, as it is kept.
pub(super) fn plain_facts(facts: Facts) -> Facts {
    let plain = |text: &str| said(text, NAME_MAX_BYTES);
    Facts {
        os: plain(&facts.os),
        os_version: plain(&facts.os_version),
        kernel: plain(&facts.kernel),
        arch: plain(&facts.arch),
        hostname: plain(&facts.hostname),
        ..facts
    }
}

/// The number that a target holds, where this coordinator has given none so high, or has given it to
/// other content.
fn ahead(there: &Target, held: Option<Held>) -> Option<Generation> {
    let held = held?;
    let unknown = there.assigned.as_ref().is_none_or(|newest| {
        let given = newest.assignment.generation;
        held.generation > given || held.generation == given && held.digest != newest.digest
    });
    unknown.then_some(held.generation)
}

/// Merges statuses into what is known; gives what changed.
fn observe(
    there: &mut Target,
    statuses: Vec<WorkloadStatus>,
    complete: bool,
    now: Timestamp,
) -> Vec<(ServiceName, Option<row::Observed>)> {
    let mut changes = Vec::new();
    let mut named = std::collections::BTreeSet::new();
    for status in statuses {
        named.insert(status.service.clone());
        let before = there.observed.get(&status.service);
        let observed = observed(status, before, now);
        if observed.state == State::Removed {
            if there.observed.remove(&observed.service).is_some() {
                changes.push((observed.service, None));
            }
        } else if before != Some(&observed) {
            there
                .observed
                .insert(observed.service.clone(), observed.clone());
            changes.push((observed.service.clone(), Some(observed)));
        }
    }
    if complete {
        let gone: Vec<_> = there
            .observed
            .keys()
            .filter(|service| !named.contains(*service))
            .cloned()
            .collect();
        for service in gone {
            there.observed.remove(&service);
            changes.push((service, None));
        }
    }
    changes
}

/// A status with the time at which its state was first heard of here.
fn observed(
    status: WorkloadStatus,
    before: Option<&row::Observed>,
    now: Timestamp,
) -> row::Observed {
    let same = before.filter(|b| {
        b.wanted == status.wanted && b.running == status.running && b.state == status.state
    });
    row::Observed {
        service: status.service,
        wanted: status.wanted,
        running: status.running,
        version: status.version,
        state: status.state,
        message: said(&status.message, MESSAGE_MAX_BYTES),
        since: status.since,
        heard_at: same.map_or(now, |before| before.heard_at),
        restarts: status.restarts,
    }
}

/// The conditions of a target, one of each kind: the one said last.
fn conditions_of(conditions: Vec<TargetCondition>) -> Vec<Condition> {
    let of_kind: BTreeMap<_, _> = conditions
        .into_iter()
        .map(|condition| (condition.kind, condition))
        .collect();
    of_kind.into_values().map(condition).collect()
}

fn condition(condition: TargetCondition) -> Condition {
    Condition {
        kind: condition.kind,
        message: said(&condition.message, MESSAGE_MAX_BYTES),
        since: condition.since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn strangers_cannot_drown_what_a_target_does() {
        let mut offences = Offences::default();
        let web = TargetName::parse("web").unwrap();
        let admitted = (0..1_000).filter(|_| offences.admit(None, at(1))).count();
        assert_eq!(admitted, OFFENCES_MAX as usize);
        assert!(offences.admit(Some(&web), at(1)));
        assert!(offences.admit(None, at(61)));
    }

    #[test]
    fn a_whole_journal_is_recorded_and_then_a_line_each_second() {
        let mut offences = Offences::default();
        let web = TargetName::parse("web").unwrap();
        let mut admitted = |now| {
            (0..5_000)
                .filter(|_| offences.admit_transition(&web, now))
                .count()
        };
        assert_eq!(admitted(at(10_000)), 1_000);
        assert_eq!(admitted(at(10_010)), 10);
        assert_eq!(admitted(at(20_000)), 1_000);
        assert!(
            admitted(at(1)) > 0,
            "a clock that was set back silences nobody"
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_kept() {
        assert_eq!(said("a\u{1b}[2Jb\nc", 100), "a [2Jb\nc");
        assert_eq!(said("äöü", 5), "äö");
    }
}
