//! What is told to the coordinator, to the journal, and to `status`.
//!
//! One report is under way at a time; what changes meanwhile is in the next one. Each names only what
//! changed since the last one that was stored. The first of this process names everything, and so
//! does one on a connection that begins an hour or more after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::assignment::Generation;
use holdfast_protocol::codec;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::{
    Facts, Report, State, TargetCondition, TargetConditionKind, Transition, WorkloadStatus,
};
use holdfast_protocol::time::Timestamp;
use quinn::Connection;
use tokio::sync::mpsc;

use super::Driver;
use super::condition::Conditions;
use crate::clock::{Moment, Now};
use crate::diff::{self, Unwanted};
use crate::facts;
use crate::hold::Holding;
use crate::link::{Command, Greeting};
use crate::plan::{self, Plan, Status};
use crate::snapshot::{ConditionLine, Snapshot, WorkloadLine};

/// Bytes of statuses and transitions put into one report: it must fit a frame.
pub(super) const REPORT_BYTES: usize = 512 * 1024;
/// Most transitions in one report.
pub(super) const REPORT_TRANSITIONS: usize = 200;
/// After this long a new connection begins with everything again.
pub(super) const COMPLETE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Pause in which writes to the journal are gathered before they are forced to disk.
pub(super) const JOURNAL_SYNC: Duration = Duration::from_secs(1);

/// What was told, and what is still to be told.
pub(super) struct Reporter {
    pub(super) conditions: Conditions,
    pub(super) facts: Facts,
    statuses: BTreeMap<ServiceName, WorkloadStatus>,
    /// Services whose newest status is not stored.
    unsaid: BTreeSet<ServiceName>,
    converged: bool,
    session: Option<Session>,
    /// The target has asked to be forgotten: nothing more is reported.
    leaves: bool,
    connected: bool,
    /// Since when `connected` is so.
    since: Timestamp,
    last_error: Option<String>,
    told: Option<Told>,
    complete_at: Option<Moment>,
    started: Timestamp,
    sync_at: Option<Moment>,
}

/// One connection.
struct Session {
    commands: mpsc::Sender<Command>,
    connection: Connection,
    sequence: u64,
    under_way: Option<UnderWay>,
    /// Everything is to be named in its first report.
    complete: bool,
}

/// A report that is not stored yet.
struct UnderWay {
    sequence: u64,
    statuses: BTreeSet<ServiceName>,
    transitions: usize,
    /// How many the journal had dropped by then.
    dropped: u64,
    told: Told,
    complete: bool,
}

/// What a report says besides statuses; compared to the last one that was stored.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    generation: Option<Generation>,
    converged: bool,
    conditions: Vec<TargetCondition>,
    facts: Facts,
}

impl Reporter {
    pub(super) fn new(facts: Facts, now: Now) -> Self {
        Self {
            conditions: Conditions::default(),
            facts,
            statuses: BTreeMap::new(),
            unsaid: BTreeSet::new(),
            converged: false,
            session: None,
            leaves: false,
            connected: false,
            since: now.wall,
            last_error: None,
            told: None,
            complete_at: None,
            started: now.wall,
            sync_at: None,
        }
    }

    pub(super) fn up(&mut self, commands: mpsc::Sender<Command>, connection: Connection, now: Now) {
        let stale = self
            .complete_at
            .is_none_or(|at| now.at.since(at) >= COMPLETE_INTERVAL);
        let session = Session {
            commands,
            connection,
            sequence: 0,
            under_way: None,
            complete: stale,
        };
        self.session = Some(session);
        self.connected = true;
        self.since = now.wall;
        self.last_error = None;
        if self.leaves {
            self.say(Command::Leave);
        }
    }

    pub(super) fn down(&mut self, reason: String, now: Now) {
        if self.connected {
            self.connected = false;
            self.since = now.wall;
        }
        // What was under way may or may not have been stored: it is said again.
        if let Some(under_way) = self.session.take().and_then(|session| session.under_way) {
            // The word that something is gone was said once and is not kept: say everything.
            if under_way
                .statuses
                .iter()
                .any(|service| !self.statuses.contains_key(service))
            {
                self.complete_at = None;
            }
            self.unsaid.extend(under_way.statuses);
            self.told = None;
        }
        self.last_error = Some(reason);
    }

    /// Keeps newly sampled facts when they are worth a message.
    pub(super) fn sampled(&mut self, new: Facts) {
        if facts::differ(&self.facts, &new) {
            self.facts = new;
        }
    }

    /// Says something to the coordinator, if there is a connection. One that takes nothing is
    /// dropped, and with it the connection.
    pub(super) fn say(&mut self, command: Command) {
        let Some(session) = &self.session else { return };
        if let Err(error) = session.commands.try_send(command) {
            tracing::warn!(%error, "the connection takes nothing");
            session.connection.close(1u32.into(), b"too slow");
        }
    }

    /// Asks to be forgotten. It is the last thing said on this connection, and on later ones the
    /// first.
    pub(super) fn leave(&mut self) {
        self.leaves = true;
        self.say(Command::Leave);
    }

    pub(super) fn connection(&self) -> Option<Connection> {
        self.session
            .as_ref()
            .map(|session| session.connection.clone())
    }
}

impl Driver {
    /// Takes in how things stand now: journal what changed, show the newest picture.
    pub(super) fn publish(&mut self, now: Now, plan: &Plan) {
        self.reporter.converged = plan.converged && !self.something_waits();
        let mut next = BTreeMap::new();
        let mut transitions = Vec::new();
        for (service, status) in self.standing_now(plan) {
            let known = self.reporter.statuses.get(&service);
            let (status, transition) = follow(
                service.clone(),
                status,
                known,
                now.wall,
                self.reporter.started,
            );
            if known != Some(&status) {
                self.reporter.unsaid.insert(service.clone());
            }
            transitions.extend(transition);
            next.insert(service, status);
        }
        self.reporter.statuses = next;
        for transition in transitions {
            self.note(transition, now);
        }
        self.sync_journal(now);
        self.show();
    }

    /// The status of every service that is wanted, is there all the same, or has just gone.
    fn standing_now(&self, plan: &Plan) -> BTreeMap<ServiceName, Standing> {
        let mut all: BTreeMap<_, _> = BTreeMap::new();
        let crate::desired::Desired::Known { wanted, .. } = &self.desired else {
            return all;
        };
        let selected = plan::selection(wanted, &self.standings, &self.bodies);
        let there = diff::unwanted(&selected, &self.bodies, &self.sights);
        for (service, known) in &self.reporter.statuses {
            if known.state != State::Removed || self.reporter.unsaid.contains(service) {
                all.insert(service.clone(), Standing::Gone);
            }
        }
        for Unwanted { service, .. } in there {
            let failed = self.attempts.removals.get(&service);
            let message = failed.map_or_else(
                || "being removed".to_owned(),
                |failed| format!("could not be removed: {}", failed.message),
            );
            all.insert(service, Standing::Unwanted(message));
        }
        for (service, status) in &plan.statuses {
            all.insert(service.clone(), Standing::Wanted(status.clone()));
        }
        for (service, status) in self.waiting(plan) {
            all.insert(service, Standing::Wanted(status));
        }
        all
    }

    fn note(&mut self, transition: Transition, now: Now) {
        let (service, state) = (transition.service.clone(), transition.state);
        tracing::info!(%service, ?state, message = transition.message, "state changed");
        if let Err(error) = self.parts.journal.push(transition) {
            self.unwritable(&error, now);
        }
        let dropped = self.parts.journal.dropped();
        if dropped > 0 {
            let message = format!("{dropped} transitions were dropped");
            self.reporter
                .conditions
                .set(TargetConditionKind::JournalOverflow, message, now.wall);
        }
    }

    /// Forces the journal to disk once a second at most. While reports are stored at once there is
    /// nothing to force.
    fn sync_journal(&mut self, now: Now) {
        if !self.parts.journal.is_unsynced() {
            self.reporter.sync_at = None;
            return;
        }
        let due = *self
            .reporter
            .sync_at
            .get_or_insert(now.at.after(JOURNAL_SYNC));
        if due > now.at {
            return;
        }
        self.reporter.sync_at = None;
        if let Err(error) = self.parts.journal.sync() {
            self.unwritable(&error, now);
        }
    }

    pub(super) const fn journal_wake(&self) -> Option<Moment> {
        self.reporter.sync_at
    }

    /// Replaces the picture that `status` shows, where it changed.
    fn show(&self) {
        let held = self.held();
        let reporter = &self.reporter;
        let mut runtimes = BTreeMap::new();
        for (runtime, sight) in &self.sights {
            if let diff::Sight::Known(services) = sight {
                runtimes.extend(services.keys().map(|s| (s.clone(), runtime.clone())));
            }
        }
        let line = |status: &WorkloadStatus| WorkloadLine {
            service: status.service.clone(),
            release: status.version.clone(),
            runtime: runtimes
                .get(&status.service)
                .cloned()
                .or_else(|| self.runtime_of(status)),
            ready: status.state == State::Ready,
            state: status.state,
            message: status.message.clone(),
            since: status.since,
            restarts: status.restarts,
        };
        let condition = |c: TargetCondition| ConditionLine {
            kind: c.kind,
            message: c.message,
            since: c.since,
        };
        let snapshot = Snapshot {
            name: self.parts.identity.target.clone(),
            environment: self.parts.identity.environment.clone(),
            connected: reporter.connected,
            since: reporter.since,
            generation: held.map(|held| held.generation.number),
            epoch: held.map(|held| held.generation.epoch),
            digest: held.map(|held| held.digest.to_string()),
            converged: reporter.converged,
            workloads: reporter.statuses.values().map(line).collect(),
            conditions: reporter
                .conditions
                .list()
                .into_iter()
                .map(condition)
                .collect(),
            last_error: reporter.last_error.clone(),
            certificate_expires: self.parts.certificate_expires,
            journaled: self.parts.journal.len(),
            hold: self.holding.as_ref().map(Holding::said),
            runtimes,
        };
        self.outlets.snapshot.send_if_modified(|shown| {
            let changed = **shown != snapshot;
            if changed {
                *shown = Arc::new(snapshot);
            }
            changed
        });
        self.outlets.greeting.send_if_modified(|greeting| {
            let changed = greeting.held != held || greeting.facts != reporter.facts;
            if changed {
                *greeting = Greeting {
                    held,
                    facts: reporter.facts.clone(),
                };
            }
            changed
        });
    }

    fn runtime_of(&self, status: &WorkloadStatus) -> Option<String> {
        let body = status.wanted.or(status.running)?;
        self.bodies
            .get(&body)
            .map(|intent| intent.workload.runtime.clone())
    }

    /// Sends a report when there is something to say and none is under way.
    pub(super) fn report(&mut self, now: Now) {
        let told = Told {
            generation: self.held().map(|held| held.generation),
            converged: self.reporter.converged,
            conditions: self.reporter.conditions.list(),
            facts: self.reporter.facts.clone(),
        };
        let reporter = &mut self.reporter;
        let Some(session) = &mut reporter.session else {
            return;
        };
        let first = session.sequence == 0;
        let something = first
            || !reporter.unsaid.is_empty()
            || !self.parts.journal.is_empty()
            || reporter.told.as_ref() != Some(&told);
        if session.under_way.is_some() || reporter.leaves || !something {
            return;
        }
        let complete = session.complete;
        let named: Vec<&WorkloadStatus> = if complete {
            reporter.statuses.values().collect()
        } else {
            reporter
                .unsaid
                .iter()
                .filter_map(|s| reporter.statuses.get(s))
                .collect()
        };
        let (statuses, all_fit) = fitting(&named);
        let transitions = self.parts.journal.oldest(REPORT_TRANSITIONS);
        session.sequence += 1;
        let last = reporter.told.as_ref();
        let report = Report {
            sequence: session.sequence,
            generation: told.generation,
            converged: told.converged,
            complete: complete && all_fit,
            transitions: transitions.clone(),
            conditions: (last.map(|l| &l.conditions) != Some(&told.conditions))
                .then(|| told.conditions.clone()),
            facts: last
                .is_some_and(|l| l.facts != told.facts)
                .then(|| told.facts.clone()),
            statuses: statuses.clone(),
        };
        let said: BTreeSet<ServiceName> = statuses.into_iter().map(|s| s.service).collect();
        if complete && !all_fit {
            reporter.unsaid.extend(reporter.statuses.keys().cloned());
        }
        reporter
            .unsaid
            .retain(|service| !said.contains(service) && reporter.statuses.contains_key(service));
        session.complete = false;
        session.under_way = Some(UnderWay {
            sequence: session.sequence,
            statuses: said,
            transitions: transitions.len(),
            dropped: self.parts.journal.dropped(),
            told,
            complete,
        });
        if complete {
            reporter.complete_at = Some(now.at);
        }
        reporter.say(Command::Report(report));
    }

    /// A report is stored: what it said need not be said again.
    pub(super) fn stored(&mut self, sequence: u64) {
        let Some(session) = &mut self.reporter.session else {
            return;
        };
        let Some(under_way) = session.under_way.take_if(|u| u.sequence <= sequence) else {
            return;
        };
        tracing::debug!(
            sequence,
            complete = under_way.complete,
            "a report is stored"
        );
        self.reporter.told = Some(under_way.told);
        let (count, dropped) = (under_way.transitions, under_way.dropped);
        if let Err(error) = self.parts.journal.delivered(count, dropped) {
            tracing::warn!(%error, "the journal could not be shortened");
        }
        if self.parts.journal.is_empty() {
            self.reporter
                .conditions
                .clear(TargetConditionKind::JournalOverflow);
        }
    }
}

/// How a service stands in the picture.
enum Standing {
    Wanted(Status),
    Unwanted(String),
    Gone,
}

/// The status that follows `known`, and the transition if the state changed.
fn follow(
    service: ServiceName,
    standing: Standing,
    known: Option<&WorkloadStatus>,
    now: Timestamp,
    started: Timestamp,
) -> (WorkloadStatus, Option<Transition>) {
    let none = WorkloadStatus {
        service,
        wanted: None,
        running: None,
        version: None,
        state: State::Removed,
        message: String::new(),
        since: now,
        restarts: 0,
    };
    let (mut next, running_since) = match standing {
        Standing::Gone => (none, None),
        Standing::Unwanted(message) => (
            WorkloadStatus {
                state: State::Progressing,
                message,
                ..none
            },
            None,
        ),
        Standing::Wanted(status) => (
            WorkloadStatus {
                wanted: Some(status.wanted),
                running: status.running,
                version: status.version,
                state: status.state,
                message: status.message,
                restarts: status.restarts,
                ..none
            },
            status.running_since,
        ),
    };
    let known = known.filter(|known| known.state != State::Unknown);
    if let Some(known) = known.filter(|k| k.state == next.state && k.wanted == next.wanted) {
        next.since = known.since;
        return (next, None);
    }
    // What ran before this agent did and still does has not changed.
    let adopted = known.is_none() && next.state == State::Ready;
    let ran_before = running_since.filter(|since| adopted && *since < started);
    next.since = ran_before.unwrap_or(now);
    let told = next.state != State::Unknown && ran_before.is_none();
    let transition = told.then(|| Transition {
        service: next.service.clone(),
        at: now,
        wanted: next.wanted,
        state: next.state,
        message: next.message.clone(),
    });
    (next, transition)
}

/// As many statuses as fit one report, and whether that is all.
fn fitting(statuses: &[&WorkloadStatus]) -> (Vec<WorkloadStatus>, bool) {
    let mut bytes = 0;
    let fit = statuses.iter().take_while(|status| {
        bytes += codec::encode(**status).len();
        bytes <= REPORT_BYTES
    });
    let fit: Vec<WorkloadStatus> = fit.map(|status| (*status).clone()).collect();
    let all = fit.len() == statuses.len();
    (fit, all)
}

#[cfg(test)]
mod tests;
