//! How a service stands, in the words of a report.

use std::time::Duration;

use holdfast_adapters::run::Exit;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::Version;
use holdfast_protocol::observed::State;
use holdfast_protocol::time::Timestamp;

use super::{Action, Decision, Doing, Step, Subject, earliest};
use crate::clock::Moment;
use crate::desired::{Intent, Standing};
use crate::diff::{Difference, Run};

/// A process without a health check is ready when it has run this long.
pub(super) const RAN_LONG_ENOUGH: Duration = Duration::from_secs(1);

/// How one service stands. Since when is added by the one who remembers the last status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The body that the assignment asks for.
    pub wanted: Digest,
    /// The body that runs.
    pub running: Option<Digest>,
    /// The release that runs.
    pub version: Option<Version>,
    /// The runtime it is to run in, where its body is at hand.
    pub runtime: Option<String>,
    /// How the wanted body is doing.
    pub state: State,
    /// Why.
    pub message: String,
    /// Restarts since it was first started.
    pub restarts: u32,
    /// Since when what runs has run, by the adapter's word.
    pub running_since: Option<Timestamp>,
}

/// Whether a run is ready.
enum Readiness {
    Ready,
    NotYet {
        message: String,
        wake_at: Option<Moment>,
    },
    Failing {
        message: String,
    },
}

impl Subject<'_> {
    /// It runs in the body that it is to have: is it ready, and is that worth remembering?
    pub(super) fn decide_running(&self, intent: &Intent, run: Run) -> Decision {
        let put_back = self.body != self.wanted;
        let deadline = self.deadline(intent);
        let (state, message, wake_at) = match self.readiness(intent, run) {
            Readiness::Ready if put_back => (State::Failed, self.put_back(), None),
            Readiness::Ready => (State::Ready, String::new(), None),
            Readiness::NotYet { message, wake_at } => {
                (self.not_yet(), message, earliest(wake_at, deadline))
            }
            Readiness::Failing { message } => (self.unready(State::Progressing), message, deadline),
        };
        let good = Standing {
            good: Some(self.body),
            ..self.standing
        };
        let step = match state {
            State::Ready if good != self.standing => Step::Record(good),
            State::Ready
            | State::Unknown
            | State::Pending
            | State::Progressing
            | State::NotReady
            | State::Failed
            | State::Removed => Step::None,
        };
        Decision {
            status: self.status(state, message),
            step,
            wake_at,
        }
    }

    /// It ended and is not to be started again.
    pub(super) fn decide_ended(&self, exit: Exit) -> Decision {
        let message = format!("{}, and its restart policy leaves it so", said(exit));
        let state = match exit {
            Exit::Code(0) if self.body == self.wanted => State::Ready,
            Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => State::Failed,
        };
        self.still(state, message, None)
    }

    pub(super) fn status(&self, state: State, message: String) -> Status {
        let running = self.running();
        let version = running.and_then(|body| self.world.bodies.get(&body));
        let (state, message) = self.while_busy(state, message);
        let running_since = match self.difference {
            Difference::Running(run) | Difference::Unready { run, .. } => Some(run.since),
            Difference::Unknown(_)
            | Difference::NoAdapter(_)
            | Difference::Missing
            | Difference::Other { .. }
            | Difference::Ended(_)
            | Difference::Altered(_) => None,
        };
        Status {
            wanted: self.wanted,
            running,
            version: version.map(|intent| intent.workload.version.clone()),
            runtime: self.intent.map(|intent| intent.workload.runtime.clone()),
            state,
            message: holdfast_protocol::observed::cut_message(message),
            restarts: self.attempt.restarts,
            running_since,
        }
    }

    /// While something is under way, what was seen before it says little.
    fn while_busy(&self, state: State, message: String) -> (State, String) {
        let under_way = self.unready(State::Progressing);
        let looking = || "looking at what came of it".to_owned();
        let busy = self.world.busy.get(self.service);
        match busy.map(|busy| &busy.doing) {
            Some(Doing::Converging { body, progress }) if *body == self.body => {
                let message = if progress.is_empty() {
                    message
                } else {
                    progress.clone()
                };
                (under_way, message)
            }
            Some(Doing::Settling { body: Some(body) }) if *body == self.body => {
                let refused = self.attempt.failure.as_ref().filter(|f| !f.is_retryable());
                (under_way, refused.map_or_else(looking, ToString::to_string))
            }
            // Something else was done: what was seen of this body may have ended with it, and it has lost
            // nothing by that.
            Some(Doing::Settling { .. }) => (State::Progressing, looking()),
            Some(Doing::Converging { .. }) if state == State::Ready => (
                State::Progressing,
                "another release gives way to it".to_owned(),
            ),
            Some(Doing::Converging { .. } | Doing::Removing) | None => (state, message),
        }
    }

    /// What is wrong with it now, for people.
    pub(super) fn trouble(&self) -> String {
        if let Some(failure) = &self.attempt.failure {
            return failure.to_string();
        }
        match self.difference {
            Difference::Ended(exit) => said(*exit),
            Difference::Altered(what) => format!("was changed from outside: {what}"),
            Difference::Running(_) => self.late(),
            Difference::Unready { why, .. } => format!("not ready in time: {why}"),
            Difference::Missing | Difference::Other { .. } if self.attempt.unsettled > 0 => {
                "it was started and is not there".to_owned()
            }
            Difference::Missing => "starting".to_owned(),
            Difference::Other { .. } => "updating".to_owned(),
            Difference::Unknown(why) => why.clone(),
            Difference::NoAdapter(runtime) => format!("no adapter for runtime {runtime}"),
        }
    }

    /// The last check's answer of something that did not become ready in time.
    fn late(&self) -> String {
        let answer = self
            .attempt
            .health
            .as_ref()
            .map(|verdict| verdict.message.as_str());
        let answer = answer
            .filter(|text| !text.is_empty())
            .unwrap_or("it is not ready");
        format!("not ready in time: {answer}")
    }

    fn put_back(&self) -> String {
        let version = |body: &Digest| {
            let intent = self.world.bodies.get(body);
            intent.map_or_else(|| body.short(), |i| i.workload.version.to_string())
        };
        let known = self.world.attempts.given_up.get(self.service);
        let why = known
            .filter(|(body, _)| *body == self.wanted)
            .map(|(_, why)| why.as_str());
        let why = why.unwrap_or("it did not become ready here");
        format!(
            "{}: {why}; {} was put back",
            version(&self.wanted),
            version(&self.body)
        )
    }

    fn readiness(&self, intent: &Intent, run: Run) -> Readiness {
        let seen = self
            .attempt
            .run
            .filter(|(known, _)| *known == run)
            .map(|(_, at)| at);
        match (&intent.workload.health, &self.attempt.health) {
            (None, _) => self.by_its_runtime(run, seen),
            (Some(_), None) => Readiness::NotYet {
                message: "not checked yet".to_owned(),
                wake_at: None,
            },
            (Some(_), Some(verdict)) if verdict.ready => Readiness::Ready,
            (Some(_), Some(verdict)) if verdict.failed > 0 || !verdict.message.is_empty() => {
                Readiness::Failing {
                    message: verdict.message.clone(),
                }
            }
            (Some(health), Some(verdict)) => {
                let needed = health.success_threshold;
                let message = format!("{} of {needed} checks passed", verdict.passed);
                Readiness::NotYet {
                    message,
                    wake_at: None,
                }
            }
        }
    }

    /// Without checks of its own, the runtime's word counts, where it has one.
    fn by_its_runtime(&self, run: Run, seen: Option<Moment>) -> Readiness {
        match self.difference {
            Difference::Unready {
                why, failing: true, ..
            } => Readiness::Failing {
                message: why.clone(),
            },
            Difference::Unready {
                why,
                failing: false,
                ..
            } => Readiness::NotYet {
                message: why.clone(),
                wake_at: None,
            },
            Difference::Running(_)
            | Difference::Unknown(_)
            | Difference::NoAdapter(_)
            | Difference::Missing
            | Difference::Other { .. }
            | Difference::Ended(_)
            | Difference::Altered(_) => self.ran_long_enough(run, seen),
        }
    }

    fn ran_long_enough(&self, run: Run, seen: Option<Moment>) -> Readiness {
        let now = self.world.now;
        let seen = seen.unwrap_or(now.at);
        let long =
            now.wall.since(run.since) >= RAN_LONG_ENOUGH || now.at.since(seen) >= RAN_LONG_ENOUGH;
        if run.pid.is_none() || long {
            return Readiness::Ready;
        }
        let wake_at = Some(seen.after(RAN_LONG_ENOUGH));
        Readiness::NotYet {
            message: "it has only just started".to_owned(),
            wake_at,
        }
    }

    /// The state of a run that has neither passed nor failed. One that was ready in an earlier run
    /// may well be so again.
    fn not_yet(&self) -> State {
        if self.attempt.was_ready {
            State::Progressing
        } else {
            self.unready(State::Progressing)
        }
    }

    fn running(&self) -> Option<Digest> {
        match self.difference {
            Difference::Running(_) | Difference::Unready { .. } | Difference::Altered(_) => {
                Some(self.body)
            }
            Difference::Other {
                body,
                running: true,
            } => *body,
            Difference::Other { running: false, .. }
            | Difference::Unknown(_)
            | Difference::NoAdapter(_)
            | Difference::Missing
            | Difference::Ended(_) => None,
        }
    }
}

impl Action {
    /// What it is about, for logs.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Record { service, .. }
            | Self::Cancel { service }
            | Self::Remove { service, .. }
            | Self::Converge { service, .. }
            | Self::Conclude { service, .. } => service.to_string(),
            Self::Fetch(fetch) => fetch.artifact.to_string(),
            Self::Ask(secret) => secret.to_string(),
        }
    }
}

pub(super) fn said(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("it ended with exit code {code}"),
        Exit::Signal(signal) => format!("it was ended by signal {signal}"),
        Exit::Unknown => "it ended while nobody watched".to_owned(),
    }
}
