//! What targets say over their connections.

use holdfast_engine::track::TrackName;
use holdfast_protocol::api::target::Condition;
use holdfast_protocol::assignment::{Generation, Held};
use holdfast_protocol::message::Refusal;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::observed::{Report, State, TargetCondition, Transition, WorkloadStatus};
use holdfast_protocol::time::Timestamp;

use super::{After, Link, OrderChange, Orders, Round, SessionId, Target};
use crate::event::Connected;
use crate::history::Entry;
use crate::link::CloseReason;
use crate::store::{Write, row};

/// A transition older than this was journaled while the target was away, and belongs in the history.
const AWAY: std::time::Duration = std::time::Duration::from_secs(5);

impl Round<'_> {
    /// Lets a target in that has proven who it is.
    ///
    /// # Errors
    /// [`Refused`] when it is not a member any more.
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
        orders.send_replace(Orders {
            assignment: there
                .assigned
                .as_ref()
                .map(|assigned| assigned.signed.clone()),
            stored: 0,
        });
        let before = std::mem::replace(
            &mut there.link,
            Link::Up {
                session,
                connection,
                orders,
            },
        );
        if matches!(before, Link::Down) {
            there.kept.since = now;
        }
        there.kept.agent_version = hello.agent_version;
        there.kept.facts = hello.facts;
        let (environment, ahead) = (there.kept.environment.clone(), ahead(there, hello.held));
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
                    "{name} holds assignment {held}, which is newer than any that is known here: \
                     was an old backup restored?"
                ),
                environment: Some(environment.clone()),
                target: Some(name.clone()),
                ..Entry::default()
            });
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

    /// Takes in what a target observed.
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
        let environment = there.kept.environment.clone();
        let kept_before = there.kept.clone();
        if report.converged && report.generation.is_some() {
            there.kept.converged = report.generation;
        }
        if let Some(conditions) = report.conditions {
            there.kept.conditions = conditions.into_iter().map(condition).collect();
        }
        if let Some(facts) = report.facts {
            there.kept.facts = facts;
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
        for transition in report.transitions {
            self.transition(name, &environment, transition);
        }
        self.after.push(After::Order {
            target: name.clone(),
            change: OrderChange::Stored(report.sequence),
        });
    }

    /// Failures, and whatever happened while the target was away, are history.
    fn transition(
        &mut self,
        name: &TargetName,
        environment: &holdfast_protocol::name::EnvironmentName,
        transition: Transition,
    ) {
        let away = self.now.since(transition.at) > AWAY;
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
            message: format!("{service} on {name}: {}", transition.message),
            service: Some(service),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            occurred_at: Some(transition.at),
            ..Entry::default()
        });
    }

    /// Notes that a peer did what it may not. Recorded at most [`OFFENCES_MAX`] times in a minute, so
    /// that nobody can fill the disk by knocking; the log has them all.
    pub fn offence(&mut self, kind: &'static str, target: Option<TargetName>, message: String) {
        tracing::warn!(
            kind,
            target = target.as_ref().map(tracing::field::display),
            message
        );
        if !self.world.offences.admit(self.now) {
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

/// Most offences that are recorded in a minute.
const OFFENCES_MAX: u32 = 60;

/// Counts offences by the minute.
#[derive(Debug, Default)]
pub struct Offences {
    minute: u64,
    count: u32,
}

impl Offences {
    fn admit(&mut self, now: Timestamp) -> bool {
        let minute = now.as_millis() / 60_000;
        if minute != self.minute {
            *self = Self { minute, count: 0 };
        }
        self.count += 1;
        self.count <= OFFENCES_MAX
    }
}

/// The number that a target holds, where it is greater than any that this coordinator has given.
fn ahead(there: &Target, held: Option<Held>) -> Option<Generation> {
    let newest = there
        .assigned
        .as_ref()
        .map(|assigned| assigned.assignment.generation);
    held.map(|held| held.generation)
        .filter(|held| Some(*held) > newest)
}

/// Merges statuses into what is known; gives what changed.
fn observe(
    there: &mut Target,
    statuses: Vec<WorkloadStatus>,
    complete: bool,
    now: Timestamp,
) -> Vec<(holdfast_protocol::name::ServiceName, Option<row::Observed>)> {
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
        message: status.message,
        since: status.since,
        heard_at: same.map_or(now, |before| before.heard_at),
        restarts: status.restarts,
    }
}

fn condition(condition: TargetCondition) -> Condition {
    Condition {
        kind: condition.kind,
        message: condition.message,
        since: condition.since,
    }
}
