//! What a job needs next: it is run to completion, and then never again for the same body.
//!
//! *Expected flow:* started, it ends with exit code 0, which is remembered on disk; from then on it is
//! ready, whatever is left of it, also after a restart of this agent or of the machine. An attempt that
//! ends otherwise, or takes too long and is stopped, is explained by the end of its output; another one
//! follows after a growing pause, until all have been made. That, too, is remembered on disk.
//! *Guarantee:* at least once. It is run again where nobody can tell how it ended and attempts are left:
//! it was killed with the machine, or this agent was killed between the end and the note of it.
//! *Assumption:* how many attempts were made is known only to this process; after a restart, what is
//! seen counts as one.

use std::collections::BTreeMap;

use holdfast_adapters::run::Exit;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::State;
use holdfast_protocol::time::friendly;
use holdfast_protocol::workload::JobTerms;

use super::status::said;
use super::{Decision, Status, Step, Subject};
use crate::desired::{Intent, Standing};
use crate::diff::{Difference, Run};

impl Subject<'_> {
    /// Runs it, waits for its end, or says how it ended.
    pub(super) fn decide_job(
        &self,
        intent: &Intent,
        terms: JobTerms,
        decided: &BTreeMap<ServiceName, Status>,
    ) -> Decision {
        if self.standing.good == Some(self.body) {
            return self.still(State::Ready, "it has run to completion".to_owned(), None);
        }
        if self.standing.given_up == Some(self.body) {
            return self.decide_given_up();
        }
        let never = self.attempt.job.started == 0;
        match self.difference {
            Difference::Unknown(why) => self.still(State::Unknown, why.clone(), None),
            Difference::NoAdapter(runtime) => {
                let message = format!("this agent has no adapter for runtime {runtime}");
                self.still(State::Failed, message, None)
            }
            Difference::Running(run) | Difference::Unready { run, .. } => {
                self.decide_going(terms, *run)
            }
            Difference::Ended(Exit::Code(0)) => self.decide_completed(),
            Difference::Ended(exit) => match &self.attempt.job.trouble {
                None => self.conclude(said(*exit), false),
                Some(trouble) => self.decide_again(intent, terms, trouble.clone()),
            },
            Difference::Other { running: true, .. } if !self.world.newest => {
                let message = "the newest assignment cannot be read; what runs is left alone";
                self.still(State::Unknown, message.to_owned(), None)
            }
            Difference::Altered(what) if !never => {
                let message = format!("it runs; from outside was changed: {what}");
                self.still(State::Progressing, message, None)
            }
            Difference::Missing | Difference::Other { .. } | Difference::Altered(_) if never => {
                let held = self.held_by(intent, decided);
                self.decide_start(intent, held, self.attempt.not_before)
            }
            Difference::Missing | Difference::Other { .. } | Difference::Altered(_) => {
                let trouble = self.attempt.job.trouble.clone();
                let gone = || "it was started and is not there any more".to_owned();
                self.decide_again(intent, terms, trouble.unwrap_or_else(gone))
            }
        }
    }

    /// It runs, for as long as it may.
    fn decide_going(&self, terms: JobTerms, run: Run) -> Decision {
        let now = self.world.now.at;
        let seen = self.attempt.run.filter(|(known, _)| *known == run);
        let since = seen.map_or(now, |(_, since)| since);
        let until = since.after(terms.time_limit());
        if now >= until && now >= self.attempt.not_before {
            let limit = friendly(terms.time_limit());
            return self.conclude(
                format!("it was stopped, since it took longer than {limit}"),
                true,
            );
        }
        let message = match terms.attempts {
            1 => "running".to_owned(),
            all => format!("running, attempt {} of {all}", self.attempt.job.started),
        };
        let wake_at = until.max(self.attempt.not_before);
        self.still(State::Progressing, message, Some(wake_at))
    }

    fn decide_completed(&self) -> Decision {
        let standing = Standing {
            good: Some(self.body),
            ..self.standing
        };
        Decision {
            status: self.status(State::Ready, "it has run to completion".to_owned()),
            step: Step::Record(standing),
            wake_at: None,
        }
    }

    /// An attempt is over: another one, unless it was the last.
    fn decide_again(&self, intent: &Intent, terms: JobTerms, trouble: String) -> Decision {
        if self.attempt.job.started < terms.attempts {
            let at = self.attempt.mend_at(&intent.restart, self.world.now.at);
            return self.decide_start(intent, None, at);
        }
        let standing = Standing {
            given_up: Some(self.body),
            ..self.standing
        };
        Decision {
            status: self.status(State::Failed, trouble),
            step: Step::Record(standing),
            wake_at: None,
        }
    }

    /// All attempts were made. After a restart, what the last one said is read once more.
    fn decide_given_up(&self) -> Decision {
        let known = self.world.attempts.given_up.get(self.service);
        let known = known.filter(|(body, _)| *body == self.body);
        let why = known
            .map(|(_, why)| why)
            .or(self.attempt.job.trouble.as_ref());
        match (why, self.difference) {
            (Some(why), _) => self.still(State::Failed, why.clone(), None),
            (None, Difference::Ended(exit)) => {
                let mut decision = self.conclude(said(*exit), false);
                decision.status.state = State::Failed;
                decision
            }
            (None, _) => self.still(State::Failed, "it failed here before".to_owned(), None),
        }
    }

    /// How the attempt ended has to be put into words first.
    fn conclude(&self, why: String, stop: bool) -> Decision {
        Decision {
            status: self.status(State::Progressing, why.clone()),
            step: Step::Conclude { why, stop },
            wake_at: None,
        }
    }
}
