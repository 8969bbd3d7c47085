//! What is seen of one service: its containers, against what it was left with. Pure.

use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, HealthStatusEnum,
};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;

use super::body::{BODY_LABEL, JOB_LABEL, NAME_LABEL, SERVICE_LABEL};
use super::record::Record;
use super::shape::{Shape, plain_name};
use crate::run::{Exit, Live, Observed};

/// One container of this agent's, as the engine describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) name: String,
    /// The name that it was made under, by its label.
    made_as: Option<String>,
    pub(super) service: ServiceName,
    pub(super) body: Option<Digest>,
    /// Whether it runs to completion.
    pub(super) job: bool,
    pub(super) made: Timestamp,
    pub(super) state: State,
    pub(super) shape: Shape,
    /// How long it has to end when asked to.
    pub(super) grace: Duration,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It was made and never started.
    Made,
    Running {
        since: Timestamp,
        pid: Option<u32>,
        health: Health,
    },
    Paused,
    Ended {
        code: Option<i32>,
        at: Timestamp,
    },
    /// It is between two of the others.
    Changing(String),
}

/// What the engine's own check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// There is no check.
    Unchecked,
    /// It passes.
    Good,
    /// It has not passed yet.
    Starting,
    /// It fails: its last answer.
    Bad(String),
}

/// Longest answer of a check that is reported, in characters.
const ANSWER_MAX: usize = 200;
/// The engine's own grace period where a container names none.
const GRACE: Duration = Duration::from_secs(10);

impl Seen {
    /// What `inspect` says; nothing where it is not a service's container.
    pub(super) fn of(container: &ContainerInspectResponse) -> Option<Self> {
        let config = container.config.as_ref()?;
        let labels = config.labels.as_ref()?;
        let stop = config.stop_timeout.and_then(|s| u64::try_from(s).ok());
        Some(Self {
            id: container.id.clone()?,
            name: plain_name(container.name.as_deref()?),
            made_as: labels.get(NAME_LABEL).cloned(),
            service: ServiceName::parse(labels.get(SERVICE_LABEL)?).ok()?,
            body: labels.get(BODY_LABEL).and_then(|body| body.parse().ok()),
            job: labels.get(JOB_LABEL).is_some_and(|job| job == "true"),
            made: time(container.created.as_deref()),
            state: container
                .state
                .as_ref()
                .map_or_else(|| State::Changing("in no state".to_owned()), state),
            shape: Shape::of(container),
            grace: stop.map_or(GRACE, Duration::from_secs),
        })
    }

    /// Whether it is called as it was made: then this agent made it, and nobody else from an image of it.
    pub(super) fn has_its_name(&self) -> bool {
        self.made_as.as_ref() == Some(&self.name)
    }

    /// Whether it is the one that its service was left with, whatever it is called now.
    pub(super) fn is_noted(&self, record: Option<&Record>) -> bool {
        let noted = record.and_then(|record| record.current.as_ref());
        noted.is_some_and(|current| current.container == self.id)
    }

    pub(super) const fn is_running(&self) -> bool {
        match self.state {
            State::Running { .. } | State::Paused => true,
            State::Made | State::Ended { .. } | State::Changing(_) => false,
        }
    }
}

/// What is seen of a service that has these containers and this record. `ended_by` says who ended a
/// container, where that was somebody else.
pub(super) fn observed(
    service: ServiceName,
    containers: &[Seen],
    record: Option<&Record>,
    ended_by: &dyn Fn(&str) -> Option<String>,
) -> Option<Observed> {
    let current = record.and_then(|record| record.current.as_ref());
    let newest = containers.iter().max_by_key(|seen| seen.made);
    let (body, live) = match containers {
        _ if newest.is_some_and(|newest| newest.job) => newest.map(live_job)?,
        [] => {
            // Where nothing was ever left there is nothing to miss but what was prepared.
            record?;
            let what = match current {
                Some(current) => format!("its container {} was removed", current.shape.name),
                None => "its first start was interrupted".to_owned(),
            };
            let lasting = current.filter(|current| !current.job);
            (lasting.map(|lasting| lasting.body), Live::Altered { what })
        }
        [one] => {
            let left = current.filter(|current| current.container == one.id);
            let live = match left {
                Some(left) => live(one, left.shape.difference(&one.shape), ended_by),
                None => Live::Altered {
                    what: format!("the start of {} was interrupted", one.name),
                },
            };
            (one.body, live)
        }
        several => {
            let leading = several.iter().max_by_key(|seen| {
                let left = current.is_some_and(|current| current.container == seen.id);
                (seen.is_running(), left, seen.made)
            })?;
            let names: Vec<_> = several.iter().map(|seen| seen.name.as_str()).collect();
            let what = format!(
                "an update was interrupted: there are {}",
                names.join(" and ")
            );
            (leading.body, Live::Altered { what })
        }
    };
    Some(Observed {
        service,
        body,
        live,
    })
}

/// A job is what its newest container says, whatever else was changed of it: it is never begun
/// again for that. One that was not begun has no body yet.
fn live_job(seen: &Seen) -> (Option<Digest>, Live) {
    let runs = |since: Timestamp, pid: Option<u32>| Live::Running { since, pid };
    let unready = |what: &str| Live::Unready {
        since: seen.made,
        pid: None,
        why: format!("{} is {what}", seen.name),
        failing: false,
    };
    let live = match &seen.state {
        State::Made => {
            let what = format!("{} was made and never started", seen.name);
            return (None, Live::Altered { what });
        }
        State::Running { since, pid, .. } => runs(*since, *pid),
        State::Paused => unready("paused"),
        State::Changing(what) => unready(what),
        State::Ended { code, at } => Live::Ended {
            exit: code.map_or(Exit::Unknown, Exit::Code),
            at: *at,
        },
    };
    (seen.body, live)
}

fn live(
    seen: &Seen,
    difference: Option<String>,
    ended_by: &dyn Fn(&str) -> Option<String>,
) -> Live {
    let altered = |what: String| Live::Altered { what };
    match (&seen.state, difference) {
        (State::Ended { code, at }, _) => match ended_by(&seen.id) {
            Some(how) => altered(format!("{} was {how} from outside", seen.name)),
            None => Live::Ended {
                exit: code.map_or(Exit::Unknown, Exit::Code),
                at: *at,
            },
        },
        (State::Made, _) => altered(format!("{} was made and never started", seen.name)),
        (State::Paused, _) => altered(format!("{} was paused", seen.name)),
        (State::Changing(what), _) => altered(format!("{} is {what}", seen.name)),
        (State::Running { .. }, Some(what)) => altered(what),
        (State::Running { since, pid, health }, None) => match health {
            Health::Unchecked | Health::Good => Live::Running {
                since: *since,
                pid: *pid,
            },
            Health::Starting => Live::Unready {
                since: *since,
                pid: *pid,
                why: "its first health check has not passed yet".to_owned(),
                failing: false,
            },
            Health::Bad(answer) => Live::Unready {
                since: *since,
                pid: *pid,
                why: format!("its health check fails: {answer}"),
                failing: true,
            },
        },
    }
}

fn state(state: &ContainerState) -> State {
    match state.status.unwrap_or(Status::EMPTY) {
        Status::RUNNING => State::Running {
            since: time(state.started_at.as_deref()),
            pid: state
                .pid
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
            health: health(state),
        },
        Status::PAUSED => State::Paused,
        Status::CREATED => State::Made,
        Status::EXITED | Status::DEAD => State::Ended {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
            at: time(state.finished_at.as_deref()),
        },
        Status::RESTARTING => State::Changing("being restarted by the engine".to_owned()),
        Status::REMOVING => State::Changing("being removed".to_owned()),
        Status::STOPPING => State::Changing("being stopped".to_owned()),
        Status::EMPTY => State::Changing("in no state".to_owned()),
    }
}

fn health(state: &ContainerState) -> Health {
    let Some(health) = &state.health else {
        return Health::Unchecked;
    };
    match health.status {
        Some(HealthStatusEnum::UNHEALTHY) => {
            let last = health.log.as_ref().and_then(|log| log.last());
            let answer = last
                .and_then(|last| last.output.as_deref())
                .unwrap_or_default();
            let answer = answer.trim().chars().take(ANSWER_MAX).collect::<String>();
            let code = last.and_then(|last| last.exit_code).unwrap_or_default();
            Health::Bad(match answer.as_str() {
                "" => format!("exit code {code}"),
                answer => answer.to_owned(),
            })
        }
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Good,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Health::Unchecked,
    }
}

fn time(text: Option<&str>) -> Timestamp {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
