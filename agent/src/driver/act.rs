//! Looking and acting: starts the tasks of `perform` and takes in how they ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_adapters::adapter_of;
use holdfast_adapters::failure::Failure;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::TargetConditionKind;
use holdfast_protocol::secret::SecretRef;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::Check;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Adapters, Driver, OBSERVE_INTERVAL, OBSERVE_RETRY};
use crate::artifacts::Sources;
use crate::clock::{Moment, Now};
use crate::desired::Bodies;
use crate::diff::Sight;
use crate::event::Event;
use crate::health::{self, Probe, Probed};
use crate::perform;
use crate::plan::{Action, Busy, Doing, Fetch, Lane, Plan, Source};
use crate::resident;

/// Verdicts that may wait.
const PROBED_MAX: usize = 64;

/// What belongs to a service with an action under way.
#[derive(Debug)]
pub(super) enum Running {
    /// Its task heeds this.
    Acting(CancellationToken),
    /// It ended; the look with this number at its runtime tells what came of it.
    Settling {
        /// Which runtime.
        runtime: String,
        /// Which look.
        look: u64,
    },
}

/// The tasks that check what runs.
#[derive(Debug)]
pub(super) struct Probes {
    tasks: Vec<(Probe, JoinHandle<()>)>,
    told: mpsc::Sender<Probed>,
}

impl Probes {
    pub(super) fn new() -> (Self, mpsc::Receiver<Probed>) {
        let (told, probed) = mpsc::channel(PROBED_MAX);
        (
            Self {
                tasks: Vec::new(),
                told,
            },
            probed,
        )
    }

    /// Checks exactly `wanted`: what is checked already goes on being so.
    /// `fill` gives a check what only this target knows.
    pub(super) fn keep(
        &mut self,
        wanted: &[Probe],
        fill: &dyn Fn(&Probe) -> Result<Check, String>,
        now: Timestamp,
    ) {
        self.tasks.retain(|(probe, task)| {
            let keep = wanted.contains(probe);
            if !keep {
                task.abort();
            }
            keep
        });
        for probe in wanted {
            if !self.tasks.iter().any(|(known, _)| known == probe) {
                let age = now.since(probe.run.since);
                let watched = health::watch(probe.clone(), fill(probe), age, self.told.clone());
                let task = tokio::spawn(watched);
                self.tasks.push((probe.clone(), task));
            }
        }
    }

    pub(super) fn end(&mut self) {
        for (_, task) in self.tasks.drain(..) {
            task.abort();
        }
    }
}

/// A probe's check with its placeholders filled by the adapter that runs the workload.
pub(super) fn filled(adapters: &Adapters, bodies: &Bodies, probe: &Probe) -> Result<Check, String> {
    let intent = bodies.get(&probe.body).ok_or("its body is not at hand")?;
    let workload = &intent.workload;
    let adapter = adapters
        .get(adapter_of(&workload.runtime))
        .ok_or("its runtime is not here")?;
    let fill = |text: &String| {
        let filled = adapter.fill(workload, text);
        filled.map_err(|name| format!("the health check names {name}, which is not there"))
    };
    Ok(match &probe.health.check {
        Check::Http { url, expect } => Check::Http {
            url: fill(url)?,
            expect: *expect,
        },
        Check::Tcp { address } => Check::Tcp {
            address: fill(address)?,
        },
        Check::Exec { command } => Check::Exec {
            command: command.iter().map(fill).collect::<Result<_, _>>()?,
        },
    })
}

impl Driver {
    /// Hears what the runtimes say.
    pub(super) fn follow_changes(&mut self) {
        for (runtime, adapter) in self.parts.adapters.iter() {
            let mut changes = adapter.changes();
            let (runtime, events) = ((*runtime).to_owned(), self.outlets.events.clone());
            let stop = self.stop_tasks.clone();
            let follow = async move {
                while changes.recv().await.is_some() {
                    let runtime = runtime.clone();
                    if events.send(Event::Changed { runtime }).await.is_err() {
                        return;
                    }
                }
            };
            self.tasks.spawn(async move {
                stop.run_until_cancelled(follow).await;
            });
        }
    }

    /// Looks at one runtime, or once more when a look is under way.
    pub(super) fn look(&mut self, runtime: &str) {
        let Some(adapter) = self.parts.adapters.get(runtime) else {
            return;
        };
        let look = self.looks.entry(runtime.to_owned()).or_default();
        if look.under_way {
            look.again = true;
            return;
        }
        look.under_way = true;
        look.number += 1;
        self.tasks.spawn(perform::observe(
            adapter.clone(),
            self.outlets.events.clone(),
        ));
    }

    pub(super) fn look_at_everything_if_due(&mut self, now: Moment) {
        if now < self.next_observe {
            return;
        }
        self.next_observe = self.parts.clock.on_beat(now.after(OBSERVE_INTERVAL));
        self.looked = true;
        let runtimes: Vec<_> = self.parts.adapters.keys().copied().collect();
        for runtime in runtimes {
            self.look(runtime);
        }
    }

    /// Once everything was looked at, most of the program is not needed until the next time.
    pub(super) fn rest(&mut self) {
        let looking = self.looks.values().any(|look| look.under_way);
        if self.looked && !looking {
            self.looked = false;
            resident::give_back();
        }
    }

    pub(super) fn seen(&mut self, runtime: String, sight: Sight, now: Moment) {
        let look = self.looks.entry(runtime.clone()).or_default();
        look.under_way = false;
        let number = look.number;
        let again = std::mem::take(&mut look.again);
        if let Sight::Unknown(why) = &sight {
            tracing::warn!(runtime, why, "cannot see what is there");
            self.next_observe = self.next_observe.min(now.after(OBSERVE_RETRY));
        }
        let settled = |running: &Running| match running {
            Running::Settling { runtime: of, look } => *of == runtime && *look <= number,
            Running::Acting(_) => false,
        };
        let done: Vec<_> = self
            .running
            .iter()
            .filter(|(_, r)| settled(r))
            .map(|(s, _)| s.clone())
            .collect();
        for service in done {
            self.running.remove(&service);
            self.busy.remove(&service);
        }
        self.sights.insert(runtime.clone(), sight);
        if again {
            self.look(&runtime);
        }
    }

    /// An action on a service ended: nobody knows what is there until somebody has looked.
    pub(super) fn settle(&mut self, service: &ServiceName, runtime: &str) {
        let look = self.looks.entry(runtime.to_owned()).or_default();
        // One that is under way may have looked before the end.
        let settling = Running::Settling {
            runtime: runtime.to_owned(),
            look: look.number + 1,
        };
        self.running.insert(service.clone(), settling);
        if let Some(busy) = self.busy.get_mut(service) {
            let body = match &busy.doing {
                Doing::Converging { body, .. } => Some(*body),
                Doing::Settling { body } => *body,
                Doing::Removing => None,
            };
            busy.doing = Doing::Settling { body };
        }
        self.look(runtime);
    }

    pub(super) fn progressed(&mut self, service: &ServiceName, text: String) {
        let doing = self.busy.get_mut(service).map(|busy| &mut busy.doing);
        if let Some(Doing::Converging { progress, .. }) = doing {
            *progress = text;
        }
    }

    pub(super) fn converged(
        &mut self,
        service: &ServiceName,
        (body, mends): (Digest, bool),
        outcome: Result<(), Failure>,
        now: Moment,
    ) {
        match &outcome {
            Ok(()) => tracing::info!(%service, %body, "converged"),
            Err(failure) => tracing::warn!(%service, %body, %failure, "not converged"),
        }
        if outcome.is_err() {
            // What was found damaged is gone now.
            self.artifacts.present = self.parts.store.present();
            self.recheck_secrets(body);
        }
        self.attempts
            .end(service, body, mends, outcome, (now, rand::random()));
        // Not from its body, which may not be at hand any more.
        let lane = self.busy.get(service).map(|busy| busy.lane.clone());
        self.settle(service, &lane.map(|lane| lane.runtime).unwrap_or_default());
    }

    /// Looks again which secrets of one body are here: of all would take long where there are many.
    fn recheck_secrets(&mut self, body: Digest) {
        let Some(intent) = self.bodies.get(&body) else {
            return;
        };
        for secret in &intent.secrets {
            if self.parts.secrets.value(secret).is_err() {
                self.secrets.present.remove(secret);
            }
        }
    }

    pub(super) fn removed(
        &mut self,
        service: &ServiceName,
        runtime: &str,
        outcome: Result<(), Failure>,
        now: Moment,
    ) {
        match &outcome {
            Ok(()) => tracing::info!(%service, runtime, "removed"),
            Err(failure) => tracing::warn!(%service, runtime, %failure, "not removed"),
        }
        self.attempts
            .removal_ended(service, outcome, now, rand::random());
        self.settle(service, runtime);
    }

    pub(super) fn fetched(&mut self, artifact: Digest, outcome: Result<(), String>, now: Moment) {
        self.artifacts.fetching.remove(&artifact);
        match &outcome {
            Ok(()) => {
                tracing::info!(%artifact, "fetched");
                self.artifacts.present.insert(artifact);
            }
            Err(message) => tracing::warn!(%artifact, message, "not fetched"),
        }
        self.attempts
            .fetch_ended(artifact, outcome, now, rand::random());
    }

    pub(super) fn asked(&mut self, secret: SecretRef, outcome: Result<(), String>, now: Moment) {
        self.secrets.asking.remove(&secret);
        match &outcome {
            Ok(()) => {
                tracing::info!(%secret, "a secret has come");
                self.secrets.present.insert(secret.clone());
            }
            Err(message) => tracing::warn!(%secret, message, "a secret has not come"),
        }
        self.attempts
            .ask_ended(secret, outcome, now, rand::random());
    }

    /// Takes to heart what a plan says is to be remembered; whether there was anything.
    pub(super) fn remember(&mut self, plan: &Plan, now: Now) -> bool {
        let mut any = false;
        for action in &plan.actions {
            let Action::Record { service, standing } = action else {
                continue;
            };
            any = true;
            self.standings_unsaved = true;
            self.standings.insert(service.clone(), *standing);
            match (standing.given_up, standing.good) {
                (Some(failed), _) => {
                    let status = plan.statuses.get(service);
                    let why = status
                        .map(|status| status.message.clone())
                        .unwrap_or_default();
                    tracing::warn!(%service, %failed, why, "given up here");
                    self.attempts
                        .given_up
                        .insert(service.clone(), (failed, why));
                    // The failure is told before what follows it hides it.
                    self.publish(now, plan);
                }
                (None, good) => tracing::debug!(%service, ?good, "ready"),
            }
            if let Some(good) = standing.good {
                self.attempts.ready(service, good);
            }
        }
        any
    }

    pub(super) fn save_standings(&mut self, now: Now) {
        if !self.standings_unsaved {
            return;
        }
        match self.parts.cache.remember(&self.standings) {
            Ok(()) => {
                self.standings_unsaved = false;
                self.collect();
            }
            Err(error) => self.unwritable(&error, now),
        }
    }

    /// Notes that something could not be written. The first reason is kept while that lasts: several
    /// files fail in turn, and a text that changes each time would be reported each time.
    pub(super) fn unwritable(&mut self, error: &dyn std::error::Error, now: Now) {
        let kind = TargetConditionKind::CacheUnwritable;
        let conditions = &mut self.reporter.conditions;
        if conditions.has(kind) {
            return;
        }
        let message = crate::chain(error);
        tracing::error!(
            message,
            "the cache cannot be written; the old state stays in force"
        );
        conditions.set(kind, message, now.wall);
    }

    /// Starts what was decided.
    pub(super) fn act(&mut self, actions: &[Action], now: Now) {
        for action in actions {
            match action {
                Action::Record { .. } => {}
                Action::Cancel { service } => {
                    if let Some(Running::Acting(cancel)) = self.running.get(service) {
                        cancel.cancel();
                    }
                }
                Action::Remove { service, runtime } => {
                    self.start_removal(service, runtime, now.at);
                }
                Action::Conclude {
                    service,
                    body,
                    why,
                    stop,
                } => self.start_conclusion(service, *body, (why, *stop), now.at),
                Action::Fetch(fetch) => self.start_fetch(fetch.clone()),
                Action::Ask(secret) => self.start_ask(secret),
                Action::Converge {
                    service,
                    body,
                    mends,
                } => {
                    self.start_converge(service, *body, *mends, now.at);
                }
            }
        }
    }

    /// Notes what is under way for a service, until somebody has looked at what came of it.
    fn occupy(
        &mut self,
        service: &ServiceName,
        (runtime, mends): (&str, bool),
        doing: Doing,
        cancel: CancellationToken,
        since: Moment,
    ) {
        let runtime = runtime.to_owned();
        let lane = Lane { runtime, mends };
        let busy = Busy { lane, since, doing };
        self.busy.insert(service.clone(), busy);
        self.running
            .insert(service.clone(), Running::Acting(cancel));
    }

    fn start_removal(&mut self, service: &ServiceName, runtime: &str, now: Moment) {
        let Some(adapter) = self.parts.adapters.get(runtime) else {
            return;
        };
        tracing::info!(%service, runtime, "removing");
        let told = self.outlets.events.clone();
        let what = (service.clone(), runtime.to_owned());
        let outputs = self.parts.outputs.clone();
        self.tasks
            .spawn(perform::remove(adapter.clone(), outputs, what, told));
        let cancel = CancellationToken::new();
        self.occupy(service, (runtime, false), Doing::Removing, cancel, now);
    }

    fn start_conclusion(
        &mut self,
        service: &ServiceName,
        body: Digest,
        (why, stop): (&str, bool),
        now: Moment,
    ) {
        let Some(intent) = self.bodies.get(&body).cloned() else {
            return;
        };
        let runtime = adapter_of(&intent.workload.runtime);
        let Some(adapter) = self.parts.adapters.get(runtime) else {
            return;
        };
        tracing::warn!(%service, %body, why, "an attempt of a job ended");
        let told = self.outlets.events.clone();
        let (of, end) = ((service.clone(), body), (why.to_owned(), stop));
        let outputs = self.parts.outputs.clone();
        self.tasks
            .spawn(perform::conclude(adapter.clone(), outputs, of, end, told));
        let cancel = CancellationToken::new();
        self.occupy(service, (runtime, true), Doing::Removing, cancel, now);
    }

    fn start_fetch(&mut self, fetch: Fetch) {
        let (artifact, size) = (fetch.artifact, fetch.size);
        let home = fetch.home.as_ref().map(Home::plain);
        tracing::info!(%artifact, size, home, "fetching");
        let sources = Sources {
            homes: self.parts.homes.clone(),
            coordinator: self.reporter.connection(),
            secrets: self.parts.secrets.clone(),
            newer: self.newer(),
        };
        let (store, told) = (self.parts.store.clone(), self.outlets.events.clone());
        self.tasks
            .spawn(perform::fetch(store, sources, fetch, told));
        self.artifacts.fetching.insert(artifact);
    }

    /// Whom the newest values of secrets can be asked of.
    fn newer(&self) -> Option<quinn::Connection> {
        let here = self.secrets.source == Source::Here;
        self.reporter.connection().filter(|_| here)
    }

    fn start_ask(&mut self, secret: &SecretRef) {
        let Some(connection) = self.reporter.connection() else {
            return;
        };
        let (secrets, told) = (self.parts.secrets.clone(), self.outlets.events.clone());
        self.tasks
            .spawn(perform::ask(secrets, connection, secret.clone(), told));
        self.secrets.asking.insert(secret.clone());
    }

    fn start_converge(&mut self, service: &ServiceName, body: Digest, mends: bool, now: Moment) {
        let Some(intent) = self.bodies.get(&body).cloned() else {
            return;
        };
        let runtime = adapter_of(&intent.workload.runtime);
        let Some(adapter) = self.parts.adapters.get(runtime) else {
            return;
        };
        let version = &intent.workload.version;
        tracing::info!(%service, %version, %body, mends, "converging");
        let cancel = self.stop_tasks.child_token();
        let told = self.outlets.events.clone();
        let hand = perform::Hand {
            store: self.parts.store.clone(),
            secrets: self.parts.secrets.clone(),
            newer: self.newer(),
            outputs: self.parts.outputs.clone(),
        };
        let (adapter, begun) = (adapter.clone(), Arc::clone(&intent));
        self.tasks.spawn(perform::converge(
            adapter,
            hand,
            begun,
            mends,
            cancel.clone(),
            told,
        ));
        self.attempts.begin(service, body, now);
        let progress = String::new();
        let doing = Doing::Converging { body, progress };
        self.occupy(service, (runtime, mends), doing, cancel, now);
    }

    /// Removes the bodies and artifacts that neither the assignment in force, nor the one before it,
    /// nor the last good release, nor what runs needs.
    pub(super) fn collect(&mut self) {
        let mut needed: BTreeSet<Digest> = self.bodies.keys().copied().collect();
        for sight in self.sights.values() {
            match sight {
                Sight::Known(services) => needed.extend(services.values().filter_map(|o| o.body)),
                // What runs is not known, so nobody can say what it needs.
                Sight::Unknown(_) => return,
            }
        }
        let artifacts = artifacts_of(&self.bodies);
        self.parts.cache.collect(&needed);
        self.parts.store.collect(&artifacts);
        self.artifacts.present = self.parts.store.present();
        let secrets = self.bodies.values();
        let secrets: BTreeSet<_> = secrets.flat_map(|intent| intent.every_secret()).collect();
        self.parts.secrets.collect(&secrets);
        // What is kept has been opened once, and is opened again when it is used.
        self.secrets
            .present
            .retain(|secret| secrets.contains(secret));
    }
}

fn artifacts_of(bodies: &Bodies) -> BTreeSet<Digest> {
    let of = |intent: &crate::desired::Intent| {
        intent
            .workload
            .artifacts
            .iter()
            .map(|a| a.digest)
            .collect::<Vec<_>>()
    };
    bodies.values().flat_map(|intent| of(intent)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use holdfast_protocol::workload::{Health, Placeholder, Rollback, Workload};

    use super::*;
    use crate::desired::Intent;
    use crate::diff::Run;

    fn probe(check: Check) -> (Bodies, Probe) {
        let health = Health {
            check,
            interval_ms: 1_000,
            timeout_ms: 1_000,
            success_threshold: 1,
            failure_threshold: 1,
            start_period_ms: 0,
        };
        let workload = Workload {
            service: ServiceName::parse("web").unwrap(),
            environment: "staging".parse().unwrap(),
            version: "1".parse().unwrap(),
            sequence: 1,
            configuration: Digest::of(b"configuration"),
            runtime: "process".to_owned(),
            template: r#"{"command":["/bin/true"]}"#.to_owned(),
            artifacts: Vec::new(),
            health: Some(health.clone()),
            depends_on: Vec::new(),
            rollback: Rollback::Central,
            progress_deadline_ms: 1_000,
            job: None,
            logins: Vec::new(),
        };
        let (body, bytes) = workload.seal();
        let intent = Intent::open(&bytes).unwrap();
        let service = ServiceName::parse("web").unwrap();
        let run = Run {
            since: Timestamp::from_millis(1),
            pid: None,
        };
        (
            BTreeMap::from([(body, Arc::new(intent))]),
            Probe {
                service,
                body,
                run,
                health,
            },
        )
    }

    #[test]
    fn a_health_check_knows_the_paths_of_its_workload() {
        let home = tempfile::tempdir().unwrap();
        let adapters = holdfast_adapters::run::adapters(home.path(), Vec::new()).unwrap();
        let adapters: Adapters = Arc::new(
            adapters
                .into_iter()
                .map(|adapter| (adapter.runtime(), adapter))
                .collect(),
        );
        let command = vec!["/usr/bin/test".to_owned(), Placeholder::WorkloadDir.text()];
        let (bodies, probe_here) = probe(Check::Exec { command });
        let Ok(Check::Exec { command }) = filled(&adapters, &bodies, &probe_here) else {
            panic!("it is filled");
        };
        assert!(
            command[1].starts_with(&*home.path().to_string_lossy()),
            "{command:?}"
        );
        let missing = Placeholder::ArtifactPath("app".parse().unwrap()).text();
        let (bodies, probe_gone) = probe(Check::Tcp { address: missing });
        let refused = filled(&adapters, &bodies, &probe_gone).unwrap_err();
        assert!(refused.contains("artifact:app"), "{refused}");
    }
}
