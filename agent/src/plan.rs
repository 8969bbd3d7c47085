//! The next actions on a target: a pure function of what is wanted, what is seen, what was tried and
//! what time it is.
//!
//! ```text
//! plan(desired, observed, attempts, now) -> (actions, wake_at, statuses)
//! ```
//!
//! *Guarantees*
//! 1. Nothing is touched while what is wanted is unknown, or while its adapter cannot say what is there.
//!    While it is known only from an earlier assignment, since the newest could not be read, nothing
//!    is removed and nothing that runs is replaced; what is missing or has ended is brought up.
//! 2. What is not wanted is removed before anything is added; a removal that failed and waits to be
//!    tried again, or that takes longer than [`REMOVAL_HOLDS_MAX`], holds nothing up.
//! 3. A workload is brought up, and brought to a new body, only when the ones it depends on are ready
//!    on this target. A crash is repaired without waiting for them, for one that fails must not
//!    take others with it; after the agent's own start the order counts again (a host reboot).
//! 4. At most one action a service and, in each runtime, [`ACTIONS_MAX`] at once and as many more that bring
//!    back what broke: a runtime that hangs, or is slow to bring something new, keeps nothing else down.
//!    [`FETCHES_MAX`] fetches. One that ended and was not looked at yet keeps its service from the next,
//!    and no other: a look is at everything.
//! 5. What runs in the right body is never touched, whatever its checks say.
//! 6. A job is run to completion once for each body; see `job`.
//! 7. Once every action is performed and seen, the next plan has none.

mod bound;
mod fetch;
mod job;
mod order;
mod secret;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_adapters::restart::{Policy, Restart};
use holdfast_adapters::run::Exit;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::State;
use holdfast_protocol::secret::SecretRef;

use crate::attempt::{Attempt, Attempts};
use crate::clock::{Moment, Now};
use crate::desired::{Bodies, Desired, Intent, Standing, Standings, selected};
use crate::diff::{Difference, Sights, differences, unwanted};
use crate::health::Probe;

pub use bound::Lane;
use bound::bound;
use order::dependencies_first;
pub use secret::{Secrets, Source};
pub use status::Status;

/// Most actions under way at once in one [`Lane`].
pub const ACTIONS_MAX: usize = 4;
/// How long a removal that is under way is waited for before something is added.
pub const REMOVAL_HOLDS_MAX: Duration = Duration::from_secs(30);
/// Most artifacts fetched at once, unless `agent.toml` says otherwise.
pub const FETCHES_MAX: usize = 4;
/// Most secrets asked for at once.
pub const ASKS_MAX: usize = 2;

/// Everything that a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// Whether that is the newest that this target has taken.
    pub newest: bool,
    /// Whether this target is held: nothing is given up, for what is put back would be another body.
    pub held: bool,
    /// Every body at hand.
    pub bodies: &'a Bodies,
    /// How bodies fared here before.
    pub standings: &'a Standings,
    /// What is there.
    pub sights: &'a Sights,
    /// What was tried.
    pub attempts: &'a Attempts,
    /// Services with an action under way, or whose action ended and has not been looked at since.
    pub busy: &'a BTreeMap<ServiceName, Busy>,
    /// What is known of artifacts.
    pub artifacts: &'a Artifacts,
    /// What is known of secrets.
    pub secrets: &'a Secrets,
    /// The present.
    pub now: Now,
}

/// What is known of artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// Whole and verified, on disk.
    pub present: BTreeSet<Digest>,
    /// Being fetched.
    pub fetching: BTreeSet<Digest>,
    /// Whether the coordinator can be asked.
    pub reachable: bool,
    /// Whether homes are asked from here.
    pub direct: bool,
    /// Most that are fetched at once.
    pub at_once: usize,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            present: BTreeSet::new(),
            fetching: BTreeSet::new(),
            reachable: false,
            direct: true,
            at_once: FETCHES_MAX,
        }
    }
}

/// One artifact that is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Which.
    pub artifact: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it stays; none where the coordinator keeps it.
    pub home: Option<Home>,
    /// What its home is told, if a manifest says so.
    pub told: Option<Told>,
}

/// A secret that a home is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whose newest value.
    pub secret: SecretRef,
    /// The one host that it is for; without, the value says it by itself.
    pub host: Option<String>,
}

/// What is under way for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Among which others it is counted.
    pub lane: Lane,
    /// Since when.
    pub since: Moment,
    /// What.
    pub doing: Doing,
}

/// What is done about a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// It is being brought to this body; the newest word of progress.
    Converging {
        /// Which.
        body: Digest,
        /// Progress, for people.
        progress: String,
    },
    /// It is being removed.
    Removing,
    /// Something ended; nobody has looked since.
    Settling {
        /// The body that it was to be brought to; none after a removal.
        body: Option<Digest>,
    },
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Remember how a body fared.
    Record {
        /// Of which service.
        service: ServiceName,
        /// What to remember.
        standing: Standing,
    },
    /// Stop what is under way for a service: it is wanted no longer.
    Cancel {
        /// Which.
        service: ServiceName,
    },
    /// Remove a service from a runtime.
    Remove {
        /// Which.
        service: ServiceName,
        /// From where.
        runtime: String,
    },
    /// Fetch an artifact.
    Fetch(Fetch),
    /// Ask for a secret.
    Ask(SecretRef),
    /// Bring a service to a body.
    Converge {
        /// Which.
        service: ServiceName,
        /// To what.
        body: Digest,
        /// Whether it was there in this body and broke.
        mends: bool,
    },
    /// Put into words how an attempt of a job ended, with the end of its output.
    Conclude {
        /// Which service.
        service: ServiceName,
        /// Which body was tried.
        body: Digest,
        /// What is known of the end.
        why: String,
        /// Whether it still runs and has to be stopped.
        stop: bool,
    },
}

/// What to do, when to think again, and how things stand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What to do now.
    pub actions: Vec<Action>,
    /// When time alone could change the answer.
    pub wake_at: Option<Moment>,
    /// How each wanted service stands.
    pub statuses: BTreeMap<ServiceName, Status>,
    /// What to check.
    pub probes: Vec<Probe>,
    /// Whether everything is as wanted and ready.
    pub converged: bool,
}

/// What is decided for one service.
struct Decision {
    status: Status,
    step: Step,
    wake_at: Option<Moment>,
}

/// What a service needs next.
enum Step {
    None,
    Record(Standing),
    Fetch(Vec<Fetch>),
    Ask(Vec<SecretRef>),
    Converge { mends: bool },
    Conclude { why: String, stop: bool },
}

/// Decides; see the module's text.
#[must_use]
pub fn plan(world: &World<'_>) -> Plan {
    let Desired::Known { wanted, .. } = world.desired else {
        return Plan::default();
    };
    let selected = selection(wanted, world.standings, world.bodies);
    let differences = differences(&selected, world.bodies, world.sights);
    let mut plan = Plan {
        actions: cancels(&selected, world),
        ..Plan::default()
    };
    let removals = removals(&selected, world, &mut plan);
    let order = dependencies_first(&selected, world.bodies);
    for service in &order {
        let subject = Subject::of(service, wanted, &selected, &differences, world);
        let decision = subject.decide(&plan.statuses);
        plan.wake_at = earliest(plan.wake_at, decision.wake_at);
        plan.probes.extend(subject.probe());
        plan.statuses.insert(service.clone(), decision.status);
        if !world.busy.contains_key(service) {
            push_step(&mut plan, &subject, decision.step, removals.hold);
        }
    }
    plan.converged = removals.none && plan.statuses.values().all(|s| s.state == State::Ready);
    bound(&mut plan.actions, world);
    plan
}

/// The body to bring about for each wanted service.
#[must_use]
pub fn selection(
    wanted: &BTreeMap<ServiceName, Digest>,
    standings: &Standings,
    bodies: &Bodies,
) -> BTreeMap<ServiceName, Digest> {
    let standing = |service: &ServiceName| standings.get(service).copied().unwrap_or_default();
    wanted
        .iter()
        .map(|(service, body)| (service.clone(), selected(*body, standing(service), bodies)))
        .collect()
}

/// What stands between a service and what it needs; all that is known of it in one place.
struct Subject<'a> {
    service: &'a ServiceName,
    /// What the assignment asks for.
    wanted: Digest,
    /// What is to be brought about: the same, or what was put back.
    body: Digest,
    intent: Option<&'a Intent>,
    difference: &'a Difference,
    attempt: Attempt,
    standing: Standing,
    world: &'a World<'a>,
}

impl<'a> Subject<'a> {
    fn of(
        service: &'a ServiceName,
        wanted: &BTreeMap<ServiceName, Digest>,
        selected: &BTreeMap<ServiceName, Digest>,
        differences: &'a BTreeMap<ServiceName, Difference>,
        world: &'a World<'a>,
    ) -> Self {
        let body = selected[service];
        let standing = world.standings.get(service).copied().unwrap_or_default();
        let known = world
            .attempts
            .services
            .get(service)
            .filter(|a| a.body == body);
        let fresh = || Attempt::new(body, standing.good == Some(body));
        Self {
            service,
            wanted: wanted[service],
            body,
            intent: world.bodies.get(&body).map(AsRef::as_ref),
            difference: &differences[service],
            attempt: known.cloned().unwrap_or_else(fresh),
            standing,
            world,
        }
    }

    fn decide(&self, decided: &BTreeMap<ServiceName, Status>) -> Decision {
        let Some(intent) = self.intent else {
            return self.still(State::Unknown, "its body is not at hand".to_owned(), None);
        };
        if let Some(terms) = intent.workload.job {
            return self.decide_job(intent, terms, decided);
        }
        if let Some(standing) = self.gives_up(intent) {
            let status = self.status(State::Failed, self.trouble());
            return Decision {
                status,
                step: Step::Record(standing),
                wake_at: None,
            };
        }
        match self.difference {
            Difference::Unknown(why) => self.still(State::Unknown, why.clone(), None),
            Difference::NoAdapter(runtime) => {
                let message = format!("this agent has no adapter for runtime {runtime}");
                self.still(State::Failed, message, None)
            }
            Difference::Running(run) | Difference::Unready { run, .. } => {
                self.decide_running(intent, *run)
            }
            Difference::Ended(exit) if !restarts(intent.restart, *exit) => self.decide_ended(*exit),
            Difference::Ended(_) | Difference::Altered(_) => {
                let at = self.attempt.mend_at(&intent.restart, self.world.now.at);
                let first_start = !self.attempt.seen_running;
                let held = first_start.then(|| self.held_by(intent, decided)).flatten();
                self.decide_start(intent, held, at)
            }
            Difference::Other { running: true, .. } if !self.world.newest => {
                let message = "the newest assignment cannot be read; what runs is left alone";
                self.still(State::Unknown, message.to_owned(), None)
            }
            Difference::Missing | Difference::Other { .. } => {
                let put_back = self.body != self.wanted;
                let held = if put_back {
                    None
                } else {
                    self.held_by(intent, decided)
                };
                self.decide_start(intent, held, self.attempt.not_before)
            }
        }
    }

    /// It is to be brought about, unless something stands in the way.
    fn decide_start(&self, intent: &Intent, held: Option<String>, at: Moment) -> Decision {
        let now = self.world.now.at;
        let deadline = self.deadline(intent);
        let again = self.attempt.not_before;
        if self.attempt.is_hopeless() && again > now {
            return self.still(State::Failed, self.trouble(), Some(again));
        }
        if let Some(message) = held {
            return self.still(State::Pending, message, None);
        }
        let missing = self.missing_artifacts(intent);
        if !missing.is_empty() {
            return self.decide_fetch(missing);
        }
        let missing = self.missing_secrets(intent);
        if !missing.is_empty() {
            return self.decide_ask(missing);
        }
        if at > now {
            let message = format!("{}; trying again {}", self.trouble(), soon(at.since(now)));
            let wake_at = earliest(Some(at), deadline);
            return self.still(self.unready(State::Pending), message, wake_at);
        }
        let mends = match self.difference {
            Difference::Ended(_) | Difference::Altered(_) => true,
            Difference::Missing
            | Difference::Other { .. }
            | Difference::Unknown(_)
            | Difference::NoAdapter(_)
            | Difference::Running(_)
            | Difference::Unready { .. } => false,
        };
        let status = self.status(self.unready(State::Progressing), self.trouble());
        Decision {
            status,
            step: Step::Converge { mends },
            wake_at: deadline,
        }
    }

    fn decide_fetch(&self, missing: Vec<Fetch>) -> Decision {
        let now = self.world.now.at;
        let attempts = &self.world.attempts.fetches;
        let tried = |fetch: &Fetch| attempts.get(&fetch.artifact);
        let due = |fetch: &Fetch| tried(fetch).is_none_or(|a| a.not_before <= now);
        let state = self.unready(State::Pending);
        let short: Vec<_> = missing.iter().map(|f| f.artifact.short()).collect();
        let names = short.join(", ");
        let artifacts = self.world.artifacts;
        let reachable =
            |fetch: &Fetch| artifacts.reachable || (artifacts.direct && fetch.home.is_some());
        if !missing.iter().any(reachable) {
            let message = format!("artifact {names} is not here and the coordinator is away");
            return self.still(state, message, None);
        }
        let message = missing.iter().find_map(tried).map_or_else(
            || format!("fetching artifact {names}"),
            |failed| format!("artifact {names} could not be fetched: {}", failed.message),
        );
        let later = missing.iter().filter_map(tried).map(|a| a.not_before);
        let wake_at = later.filter(|at| *at > now).min();
        let now_due = missing
            .into_iter()
            .filter(|fetch| due(fetch) && reachable(fetch));
        Decision {
            status: self.status(state, message),
            step: Step::Fetch(now_due.collect()),
            wake_at,
        }
    }

    fn missing_artifacts(&self, intent: &Intent) -> Vec<Fetch> {
        let artifacts = intent.workload.artifacts.iter();
        let absent = artifacts.filter(|a| !self.world.artifacts.present.contains(&a.digest));
        let fetch = absent.map(|a| Fetch {
            artifact: a.digest,
            size: a.size,
            home: a.home.clone(),
            told: intent.workload.login_of(&a.name).map(|(login, host)| Told {
                secret: login.reference(),
                host: host.map(str::to_owned),
            }),
        });
        fetch.collect()
    }

    /// The first service that this one waits for, as a message.
    fn held_by(&self, intent: &Intent, decided: &BTreeMap<ServiceName, Status>) -> Option<String> {
        intent.workload.depends_on.iter().find_map(|other| {
            // One that this target is not to run is the coordinator's concern.
            let waited_for = self.world.desired.wants(other) && other != self.service;
            let ready = decided.get(other).is_some_and(|s| s.state == State::Ready);
            (waited_for && !ready).then(|| format!("waits for {other} to become ready"))
        })
    }

    /// What to remember when the wanted body failed here for good and an earlier one can be put back.
    fn gives_up(&self, intent: &Intent) -> Option<Standing> {
        let good = self.standing.good.filter(|good| *good != self.body)?;
        let can = intent.rolls_back_here()
            && self.body == self.wanted
            && self.world.bodies.contains_key(&good);
        let failed = self.attempt.is_hopeless() || self.is_late(intent);
        (can && failed && !self.world.held).then_some(Standing {
            given_up: Some(self.wanted),
            ..self.standing
        })
    }

    /// When it counts as failed if it has not become ready.
    fn deadline(&self, intent: &Intent) -> Option<Moment> {
        let began = self.attempt.began.filter(|_| !self.attempt.was_ready)?;
        let deadline = began.after(intent.patience());
        (deadline > self.world.now.at).then_some(deadline)
    }

    fn is_late(&self, intent: &Intent) -> bool {
        let began = self.attempt.began.filter(|_| !self.attempt.was_ready);
        let limit = intent.patience();
        began.is_some_and(|began| began.after(limit) <= self.world.now.at)
    }

    /// The state of something that is not ready: it lost what it had, or failed, or is too late, or `early`.
    fn unready(&self, early: State) -> State {
        let late = || self.intent.is_some_and(|intent| self.is_late(intent));
        if self.attempt.was_ready {
            State::NotReady
        } else if self.attempt.is_hopeless() || late() {
            State::Failed
        } else {
            early
        }
    }

    fn probe(&self) -> Option<Probe> {
        let (Difference::Running(run) | Difference::Unready { run, .. }) = self.difference else {
            return None;
        };
        let workload = &self.intent?.workload;
        // A job is judged by its end.
        let health = workload.health.clone().filter(|_| workload.job.is_none())?;
        Some(Probe {
            service: self.service.clone(),
            body: self.body,
            run: *run,
            health,
        })
    }

    /// Nothing to do for it.
    fn still(&self, state: State, message: String, wake_at: Option<Moment>) -> Decision {
        Decision {
            status: self.status(state, message),
            step: Step::None,
            wake_at,
        }
    }
}

/// What removing asks of the rest of the plan.
struct Removals {
    /// Nothing is there that is not wanted.
    none: bool,
    /// Removals are to be done first.
    hold: bool,
}

fn removals(
    selected: &BTreeMap<ServiceName, Digest>,
    world: &World<'_>,
    plan: &mut Plan,
) -> Removals {
    let found = if world.newest {
        unwanted(selected, world.bodies, world.sights)
    } else {
        Vec::new()
    };
    let mut hold = false;
    for unwanted in &found {
        let failed = world.attempts.removals.get(&unwanted.service);
        let later = failed.map(|a| a.not_before).filter(|at| *at > world.now.at);
        let busy = world.busy.get(&unwanted.service);
        let until = busy.map(|busy| busy.since.after(REMOVAL_HOLDS_MAX));
        let waited = until.filter(|until| *until > world.now.at);
        plan.wake_at = [later, waited].into_iter().fold(plan.wake_at, earliest);
        hold |= later.is_none() && (until.is_none() || waited.is_some());
        if later.is_none() && busy.is_none() {
            let (service, runtime) = (unwanted.service.clone(), unwanted.runtime.clone());
            plan.actions.push(Action::Remove { service, runtime });
        }
    }
    Removals {
        none: found.is_empty(),
        hold,
    }
}

/// How long a wait is, in words that stay the same for most of it: each other text of a status is
/// reported, and must not be told apart by the passing of time alone.
fn soon(wait: Duration) -> &'static str {
    match wait.as_secs() {
        0 => "within a second",
        1..10 => "within 10 s",
        10..60 => "within a minute",
        _ => "in some minutes",
    }
}

fn cancels(selected: &BTreeMap<ServiceName, Digest>, world: &World<'_>) -> Vec<Action> {
    let stale = |(service, busy): (&ServiceName, &Busy)| match &busy.doing {
        Doing::Converging { body, .. } if selected.get(service) != Some(body) => {
            Some(Action::Cancel {
                service: service.clone(),
            })
        }
        Doing::Converging { .. } | Doing::Removing | Doing::Settling { .. } => None,
    };
    world.busy.iter().filter_map(stale).collect()
}

fn push_step(plan: &mut Plan, subject: &Subject<'_>, step: Step, removals_first: bool) {
    let service = subject.service.clone();
    match step {
        Step::None => {}
        Step::Record(standing) => plan.actions.push(Action::Record { service, standing }),
        Step::Fetch(fetches) => plan.actions.extend(fetches.into_iter().map(Action::Fetch)),
        Step::Ask(secrets) => plan.actions.extend(secrets.into_iter().map(Action::Ask)),
        Step::Conclude { why, stop } => plan.actions.push(Action::Conclude {
            service,
            body: subject.body,
            why,
            stop,
        }),
        Step::Converge { mends } => {
            if mends || !removals_first {
                plan.actions.push(Action::Converge {
                    service,
                    body: subject.body,
                    mends,
                });
            }
        }
    }
}

/// Whether something that ended so is started again.
const fn restarts(restart: Restart, exit: Exit) -> bool {
    match (restart.policy, exit) {
        (Policy::Always, _) => true,
        (Policy::Never, _) | (Policy::OnFailure, Exit::Code(0)) => false,
        (Policy::OnFailure, Exit::Code(_) | Exit::Signal(_) | Exit::Unknown) => true,
    }
}

fn earliest(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests;
