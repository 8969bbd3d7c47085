//! The one loop of this program: an event says where to look, `diff` and `plan` say what to do, the
//! tasks of `perform` do it, and what came of it is the next event.
//!
//! *Expected flow:* take what happened, think, sleep until something happens or time alone could
//! change the answer. *Guarantees:* the loop waits for nothing but its next event; it works the same
//! with and without a connection; every task that it starts it also ends. *Assumptions:* the cache is
//! this process's alone (`run` holds the lock).

mod act;
mod assign;
mod condition;
mod hold;
mod leave;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_adapters::run::Adapter;
use holdfast_certs::clock::Clock as CertificateClock;
use holdfast_certs::identity::Identity;
use holdfast_certs::sign::AssignmentVerifier;
use holdfast_homes::way::Homes;
use holdfast_protocol::assignment::Held;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::{Facts, TargetConditionKind};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::artifacts::Store;
use crate::attempt::Attempts;
use crate::cache::Cache;
use crate::clock::{Clock, Moment, Now};
use crate::desired::{Bodies, Desired, Standings};
use crate::diff::{self, Sight, Sights};
use crate::event::Event;
use crate::facts;
use crate::health::{Probe, Probed};
use crate::hold::Holding;
use crate::journal::Journal;
use crate::link::{Greeting, LinkEvent};
use crate::output::Outputs;
use crate::plan::{self, Artifacts, Busy, Plan, Secrets, Source, World};
use crate::secrets;
use crate::snapshot::Snapshot;

use act::Running;
use assign::Unstored;
use leave::Leaving;
use report::Reporter;

/// The adapters of this agent, by runtime.
pub type Adapters = Arc<BTreeMap<&'static str, Arc<dyn Adapter>>>;

/// Pause between two looks at everything, for what no runtime tells.
pub const OBSERVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a look at a runtime that could not say waits for the next.
pub const OBSERVE_RETRY: Duration = Duration::from_secs(5);
/// Events that may wait.
pub const EVENTS_MAX: usize = 256;
/// How long after a damaged cache was mended the condition is still shown.
pub const DAMAGE_SHOWN: Duration = Duration::from_secs(10 * 60);
/// Time at the start until the coordinator is dialled even if an adapter has not said what is there.
pub const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);

/// Everything that a driver is built from.
pub struct Parts {
    /// Both clocks.
    pub clock: Clock,
    /// The clock that certificates are checked by: raised by what the coordinator says.
    pub certificate_clock: Arc<CertificateClock>,
    /// Who this target is.
    pub identity: Identity,
    /// Whose signature makes an assignment valid.
    pub signing_keys: Vec<AssignmentVerifier>,
    /// When the certificate began that this process was started with.
    pub certificate_began: Timestamp,
    /// When the certificate ends.
    pub certificate_expires: Timestamp,
    /// The runtimes.
    pub adapters: Adapters,
    /// Assignments and bodies.
    pub cache: Cache,
    /// Artifacts.
    pub store: Store,
    /// Where those that have a home come from; none where all come through the coordinator.
    pub homes: Option<Arc<Homes>>,
    /// Most artifacts that are fetched at once.
    pub fetches_max: usize,
    /// Secrets, sealed.
    pub secrets: secrets::Secrets,
    /// What happened while nobody listened.
    pub journal: Journal,
    /// What workloads wrote during deployments that are over.
    pub outputs: Outputs,
    /// What this machine is.
    pub facts: Facts,
}

/// What comes in.
#[derive(Debug)]
pub struct Inbox {
    /// From this machine.
    pub events: mpsc::Receiver<Event>,
    /// From the link.
    pub link: mpsc::Receiver<LinkEvent>,
}

/// What goes out.
#[derive(Debug)]
pub struct Outlets {
    /// For the tasks that this driver starts.
    pub events: mpsc::Sender<Event>,
    /// What the link says first.
    pub greeting: watch::Sender<Greeting>,
    /// The newest picture.
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    /// Told once everything has been looked at for the first time.
    pub first_look: Option<oneshot::Sender<()>>,
}

/// Why the driver ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to stop; the workloads go on.
    Stopped,
    /// The target has left; what the driver kept is gone.
    Left(Left),
}

/// A target has left.
#[derive(Debug)]
pub struct Left {
    /// Whether its workloads are gone, too.
    pub workloads_removed: bool,
    /// What could not be done, for people.
    pub warning: Option<String>,
    /// Who waits for the end of it.
    pub done: oneshot::Sender<Option<String>>,
}

/// The driver.
pub struct Driver {
    parts: Parts,
    outlets: Outlets,
    desired: Desired,
    bodies: Bodies,
    standings: Standings,
    highest: Option<Held>,
    artifacts: Artifacts,
    secrets: Secrets,
    sights: Sights,
    looks: BTreeMap<String, Look>,
    attempts: Attempts,
    busy: BTreeMap<ServiceName, Busy>,
    running: BTreeMap<ServiceName, Running>,
    probes: act::Probes,
    probed: mpsc::Receiver<Probed>,
    tasks: JoinSet<()>,
    stop_tasks: CancellationToken,
    reporter: Reporter,
    unstored: Option<Unstored>,
    standings_unsaved: bool,
    mended_at: Option<Moment>,
    next_observe: Moment,
    /// Everything is being looked at, and the program has not been given back since.
    looked: bool,
    leaving: Option<Leaving>,
    holding: Option<Holding>,
}

/// Looks at one adapter: one at a time, and one more when something happened meanwhile.
#[derive(Debug, Default)]
struct Look {
    under_way: bool,
    again: bool,
    /// Counts the looks that were started.
    number: u64,
}

impl Driver {
    /// A driver that has read the cache and looked at nothing yet.
    #[must_use]
    pub fn new(parts: Parts, outlets: Outlets) -> Self {
        let keys = parts.signing_keys.clone();
        let verify = |signed: &_| holdfast_certs::sign::open(signed, &keys).is_ok();
        let loaded = parts.cache.load(&parts.identity, &verify);
        let now = parts.clock.now();
        let unseen = || Sight::Unknown("it has not been looked at yet".to_owned());
        let (probes, probed) = act::Probes::new();
        let artifacts = Artifacts {
            present: parts.store.present(),
            direct: parts.homes.is_some(),
            at_once: parts.fetches_max,
            ..Artifacts::default()
        };
        let secrets = Secrets {
            present: parts.secrets.present(),
            ..Secrets::default()
        };
        let mut driver = Self {
            desired: loaded.desired,
            bodies: loaded.bodies,
            standings: loaded.standings,
            highest: loaded.highest,
            artifacts,
            secrets,
            sights: parts
                .adapters
                .keys()
                .map(|r| ((*r).to_owned(), unseen()))
                .collect(),
            looks: BTreeMap::new(),
            attempts: Attempts::default(),
            busy: BTreeMap::new(),
            running: BTreeMap::new(),
            probes,
            probed,
            tasks: JoinSet::new(),
            stop_tasks: CancellationToken::new(),
            reporter: Reporter::new(parts.facts.clone(), now),
            unstored: None,
            standings_unsaved: false,
            mended_at: None,
            next_observe: now.at,
            looked: false,
            leaving: None,
            holding: None,
            parts,
            outlets,
        };
        if let Some(issued_at) = loaded.issued_at {
            driver.hear_time(issued_at, now);
        }
        if let Some(damage) = loaded.damage {
            tracing::error!(damage, "the cache is damaged");
            driver
                .reporter
                .conditions
                .set(TargetConditionKind::CacheDamaged, damage, now.wall);
        }
        driver.resume_hold(now);
        driver.judge_machine(now);
        driver.publish(now, &Plan::default());
        driver
    }

    /// Runs until `stop`, or until the target has left.
    pub async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) -> Ended {
        self.follow_changes();
        loop {
            let wake = self.think();
            tokio::select! {
                () = stop.cancelled() => return self.end(Ended::Stopped).await,
                Some(event) = inbox.events.recv() => self.take(event),
                Some(event) = inbox.link.recv() => self.take_link(event),
                Some(probed) = self.probed.recv() => self.take_probed(probed),
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                () = tokio::time::sleep_until(self.parts.clock.instant(wake)) => {}
            }
            // What came together is thought about once.
            while let Ok(event) = inbox.events.try_recv() {
                self.take(event);
            }
            if let Some(left) = self.left() {
                return self.end(Ended::Left(left)).await;
            }
        }
    }

    /// One round: look, plan, act, report. Gives the moment of the next one.
    fn think(&mut self) -> Moment {
        let now = self.parts.clock.now();
        self.look_at_everything_if_due(now.at);
        self.dial_once_looked_at(now.at);
        self.retry_unstored(now);
        self.end_hold_if_over(now);
        self.save_standings(now);
        let plan = self.plan(now);
        let plan_wake = plan.wake_at;
        self.act(&plan.actions, now);
        let (adapters, bodies) = (&self.parts.adapters, &self.bodies);
        let fill = |probe: &Probe| act::filled(adapters, bodies, probe);
        self.probes.keep(&plan.probes, &fill, now.wall);
        self.publish(now, &plan);
        self.report(now);
        self.rest();
        let first_look = self.outlets.first_look.is_some();
        let dial = first_look.then(|| Moment::default().after(FIRST_LOOK_MAX).max(now.at));
        let wakes = [
            plan_wake,
            self.journal_wake(),
            self.store_wake(now),
            self.leave_wake(),
            self.hold_wake(now),
            dial,
        ];
        wakes
            .into_iter()
            .flatten()
            .fold(self.next_observe, Moment::min)
    }

    /// Plans until nothing is left to be remembered: what a plan remembers changes the next one.
    fn plan(&mut self, now: Now) -> Plan {
        // Each round remembers at least one thing of a service, and there are two to remember.
        for _ in 0..3 {
            self.see(now.at);
            let plan = plan::plan(&self.world(now));
            if !self.remember(&plan, now) {
                return plan;
            }
        }
        plan::plan(&self.world(now))
    }

    fn world(&self, now: Now) -> World<'_> {
        let held = self.desired.held().map(|held| held.generation);
        let highest = self.highest.map(|highest| highest.generation);
        World {
            desired: &self.desired,
            held: self.holding.is_some(),
            newest: held >= highest || self.leaves_nothing(),
            bodies: &self.bodies,
            standings: &self.standings,
            sights: &self.sights,
            attempts: &self.attempts,
            busy: &self.busy,
            artifacts: &self.artifacts,
            secrets: &self.secrets,
            now,
        }
    }

    fn see(&mut self, now: Moment) {
        let Desired::Known { wanted, .. } = &self.desired else {
            return;
        };
        let selected = plan::selection(wanted, &self.standings, &self.bodies);
        let differences = diff::differences(&selected, &self.bodies, &self.sights);
        self.attempts
            .see(&selected, &self.standings, &differences, now);
    }

    fn take(&mut self, event: Event) {
        let now = self.parts.clock.now();
        match event {
            Event::Changed { runtime } => self.look(&runtime),
            Event::Seen { runtime, sight } => self.seen(runtime, sight, now.at),
            Event::Progress { service, text } => self.progressed(&service, text),
            Event::Converged {
                service,
                body,
                mends,
                outcome,
            } => {
                self.converged(&service, (body, mends), outcome, now.at);
            }
            Event::Removed {
                service,
                runtime,
                outcome,
            } => {
                self.removed(&service, &runtime, outcome, now.at);
            }
            Event::Concluded {
                service,
                body,
                runtime,
                outcome,
            } => {
                let jitter = rand::random();
                self.attempts
                    .concluded(&service, body, outcome, (now.at, jitter));
                self.settle(&service, &runtime);
            }
            Event::Fetched { artifact, outcome } => self.fetched(artifact, outcome, now.at),
            Event::Asked { secret, outcome } => self.asked(secret, outcome, now.at),
            Event::Sampled(facts) => {
                self.reporter.sampled(*facts);
                self.judge_machine(now);
            }
            Event::Hold(ask) => self.hold(ask, now),
            Event::Leave(leave) => self.leave(leave, now.at),
        }
    }

    fn take_link(&mut self, event: LinkEvent) {
        let now = self.parts.clock.now();
        match event {
            LinkEvent::Up {
                welcome,
                commands,
                connection,
                signing_keys,
                certificate_expires,
            } => {
                self.parts.signing_keys = signing_keys;
                self.parts.certificate_expires = certificate_expires;
                self.judge_clock(welcome.time, now);
                self.artifacts.reachable = true;
                self.secrets.source = if welcome.version < version::SECRETS {
                    Source::Unaware
                } else {
                    Source::Here
                };
                self.attempts.nudge_fetches();
                self.reporter.up(commands, connection, now);
                self.say_hold();
            }
            LinkEvent::Offered(_) | LinkEvent::Complete { .. } if self.is_leaving() => {}
            LinkEvent::Offered(signed) => self.offered(signed, now),
            LinkEvent::Complete { signed, bodies } => self.complete(signed, bodies, now),
            LinkEvent::Renewed {
                certificate_expires,
            } => self.parts.certificate_expires = certificate_expires,
            LinkEvent::Stored { sequence } => self.stored(sequence),
            LinkEvent::Down { reason } => {
                self.artifacts.reachable = false;
                self.secrets.source = Source::Away;
                self.reporter.down(reason, now);
                self.no_farewell();
            }
            LinkEvent::Farewell => self.farewell(),
        }
    }

    fn take_probed(&mut self, probed: Probed) {
        let probe = &probed.probe;
        self.attempts
            .probed(&probe.service, probe.body, probe.run, probed.verdict);
    }

    /// The coordinator is dialled once this target goes on by itself.
    fn dial_once_looked_at(&mut self, now: Moment) {
        let unseen = |sight: &Sight| matches!(sight, Sight::Unknown(_));
        let waited = now.since(Moment::default()) >= FIRST_LOOK_MAX;
        if self.sights.values().any(unseen) && !waited {
            return;
        }
        if let Some(first_look) = self.outlets.first_look.take() {
            // Nobody waits for it when the agent stops at once.
            let _ = first_look.send(());
        }
    }

    fn judge_machine(&mut self, now: Now) {
        let pressures = facts::pressures(&self.reporter.facts);
        self.reporter.conditions.judge(
            &[
                TargetConditionKind::DiskPressure,
                TargetConditionKind::MemoryPressure,
                TargetConditionKind::LoadHigh,
            ],
            pressures,
            now.wall,
        );
    }

    /// Where this clock is plainly wrong, as one that starts in 1970, certificates are judged at the
    /// newest time that the coordinator has named. One that can be right is believed: a coordinator
    /// whose clock was once set far ahead would be refused for ever.
    fn hear_time(&self, said: Timestamp, now: Now) {
        if now.wall < self.parts.certificate_began {
            let end = self.parts.certificate_expires;
            self.parts.certificate_clock.raise(said.min(end));
        }
    }

    fn judge_clock(&mut self, theirs: Timestamp, now: Now) {
        self.hear_time(theirs, now);
        let skew = theirs.since(now.wall).max(now.wall.since(theirs));
        let found = (skew > facts::SKEW_MAX).then(|| {
            let seconds = skew.as_secs();
            let message = format!("this clock is {seconds} s away from the coordinator's");
            (TargetConditionKind::ClockSkew, message)
        });
        let kinds = [TargetConditionKind::ClockSkew];
        self.reporter
            .conditions
            .judge(&kinds, found.into_iter().collect(), now.wall);
    }

    /// Ends what this driver started and leaves the workloads alone.
    async fn end(mut self, ended: Ended) -> Ended {
        self.stop_tasks.cancel();
        self.probes.end();
        self.save_standings(self.parts.clock.now());
        if let Err(error) = self.parts.journal.sync() {
            tracing::warn!(%error, "the journal could not be forced to disk");
        }
        self.tasks.shutdown().await;
        match ended {
            Ended::Left(_) => self.forget_everything(),
            Ended::Stopped => {}
        }
        ended
    }
}
