//! The one loop: event → world → steps → one commit → effects.
//!
//! *Expected flow:* a round takes every event that waits, changes the world, steps the tracks that
//! this moves, commits all of it at once, and only then answers callers and tells targets.
//! *Guarantees:* nothing that was brought is answered, and no target is told anything, before it is
//! on disk. When a commit fails in a way that passes (a full disk), the round's writes are kept and
//! tried again until they succeed; meanwhile questions are answered, from a world that is at most one
//! round ahead of the disk, and no further event is taken, so nothing grows. When it fails for good
//! or nobody can say what is on disk, the driver ends, and the process with it: what the next one
//! reads is what counts. *Assumptions:* this is the only place that changes the world.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_engine::effect::Ask;
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::event::{Event, Question, Refused, Reply, TargetVerb};
use crate::history::Entry;
use crate::link::logs;
use crate::metrics::Metrics;
use crate::perform::{self, Job};
use crate::store::write::Write;
use crate::store::{Outlook, Store, StoreError};
use crate::world::{After, Link, OrderChange, Round, World, last};

/// Most events that one round takes.
const ROUND_MAX_EVENTS: usize = 512;
/// Events that wait for a round before those who bring them have to wait.
const EVENTS_WAITING_MAX: usize = 1_024;
/// Questions that wait before those who ask have to wait.
const QUESTIONS_WAITING_MAX: usize = 256;
/// How long a commit may take before questions are answered meanwhile, and the coordinator no longer
/// calls itself ready: disks stall.
const COMMIT_PATIENCE: Duration = Duration::from_secs(1);
/// Pause before a failed commit is tried again.
const COMMIT_RETRY: Duration = Duration::from_millis(500);
/// Targets that are asked for last lines at once; no more are asked before one has answered.
const ASKED_AT_ONCE_MAX: usize = 64;
/// Longest sleep, so that a clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// How everybody else reaches the driver.
#[derive(Debug, Clone)]
pub struct Handle {
    events: mpsc::Sender<Event>,
    questions: mpsc::Sender<Question>,
    head: watch::Receiver<u64>,
    healthy: watch::Receiver<bool>,
}

/// The loop with all it owns.
#[derive(Debug)]
pub struct Driver {
    world: World,
    store: Store,
    metrics: Metrics,
    events: mpsc::Receiver<Event>,
    questions: mpsc::Receiver<Question>,
    head: watch::Sender<u64>,
    healthy: watch::Sender<bool>,
    /// Where checks are performed.
    jobs: mpsc::Sender<Job>,
    /// Answers to checks that there was no room for.
    unasked: Vec<Event>,
    /// Targets that are being asked for last lines.
    asking: JoinSet<Option<Event>>,
    /// The revision under which what is outstanding was asked last; none before the first round.
    asked_under: Option<u64>,
}

impl Driver {
    /// A driver for `world` that hands checks to `jobs`, and the handle to it.
    #[must_use]
    pub fn new(
        world: World,
        store: Store,
        metrics: Metrics,
        jobs: mpsc::Sender<Job>,
    ) -> (Self, Handle) {
        let (event_sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let (question_sender, questions) = mpsc::channel(QUESTIONS_WAITING_MAX);
        let (head, head_receiver) = watch::channel(world.head.sequence);
        let (healthy, healthy_receiver) = watch::channel(true);
        let handle = Handle {
            events: event_sender,
            questions: question_sender,
            head: head_receiver,
            healthy: healthy_receiver,
        };
        (
            Self {
                world,
                store,
                metrics,
                events,
                questions,
                head,
                healthy,
                jobs,
                unasked: Vec::new(),
                asking: JoinSet::new(),
                asked_under: None,
            },
            handle,
        )
    }

    /// Runs until `stop` is cancelled; what was taken is committed before it returns, if that is
    /// possible at all.
    ///
    /// # Errors
    /// The failure of a commit that trying again cannot mend.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let everything = self.world.tracks.keys().cloned().collect();
        self.round(Vec::new(), everything, &stop).await?;
        while !stop.is_cancelled() {
            let sleep = self.until_next_wake();
            let mut batch = Vec::new();
            tokio::select! {
                () = stop.cancelled() => break,
                taken = self.events.recv_many(&mut batch, ROUND_MAX_EVENTS) => {
                    if taken == 0 {
                        break;
                    }
                }
                Some(question) = self.questions.recv() => {
                    question(&self.world);
                    continue;
                }
                Some(Ok(answered)) = self.asking.join_next() => batch.extend(answered),
                () = tokio::time::sleep(sleep) => {}
            }
            batch.append(&mut self.unasked);
            if batch.is_empty() && !self.is_due() {
                continue;
            }
            self.round(batch, BTreeSet::new(), &stop).await?;
        }
        tracing::debug!("driver stopped");
        Ok(())
    }

    fn until_next_wake(&self) -> Duration {
        if !self.unasked.is_empty() {
            return Duration::ZERO;
        }
        let next = self
            .world
            .next_wake()
            .map_or(SLEEP_MAX, |at| at.since(clock::now()));
        next.min(SLEEP_MAX)
    }

    fn is_due(&self) -> bool {
        self.world.next_wake().is_some_and(|at| at <= clock::now())
    }

    async fn round(
        &mut self,
        batch: Vec<Event>,
        moved: BTreeSet<TrackName>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let revision = self.asked_under;
        let mut round = Round::new(&mut self.world, clock::now());
        round.moved = moved;
        for event in batch {
            take(&mut round, event);
        }
        round.settle();
        if revision != Some(round.world.revision) {
            round.ask_outstanding();
        }
        self.asked_under = Some(round.world.revision);
        round.assign();
        let Round { writes, after, .. } = round;
        self.commit(&writes, stop).await?;
        self.head.send_replace(self.world.head.sequence);
        for after in after {
            self.perform(after);
        }
        Ok(())
    }

    /// Commits, however often it takes: a full disk must not lose what was decided.
    async fn commit(
        &mut self,
        writes: &[Write],
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        while let Err(error) = self.commit_answering(writes).await {
            self.metrics.commit_failures.inc();
            self.set_healthy(false);
            let lasting = error.outlook() == Outlook::Lasting;
            if lasting || stop.is_cancelled() {
                return Err(error);
            }
            tracing::error!(error = crate::chain(&error), "cannot commit; trying again");
            self.wait_answering(COMMIT_RETRY).await;
        }
        self.metrics.commits.inc();
        self.set_healthy(true);
        Ok(())
    }

    /// One attempt; when it takes long, questions are answered while it goes on.
    async fn commit_answering(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let store = self.store.clone();
        let mut commit = std::pin::pin!(store.commit(writes));
        if let Ok(done) = tokio::time::timeout(COMMIT_PATIENCE, &mut commit).await {
            return done;
        }
        self.set_healthy(false);
        tracing::warn!("a commit takes long; is the disk busy or full?");
        loop {
            tokio::select! {
                done = &mut commit => return done,
                Some(question) = self.questions.recv() => question(&self.world),
            }
        }
    }

    fn set_healthy(&self, now: bool) {
        self.healthy
            .send_if_modified(|healthy| std::mem::replace(healthy, now) != now);
    }

    async fn wait_answering(&mut self, span: Duration) {
        let mut pause = std::pin::pin!(tokio::time::sleep(span));
        loop {
            tokio::select! {
                () = &mut pause => return,
                Some(question) = self.questions.recv() => question(&self.world),
            }
        }
    }

    /// Hands a check over. Where there is no room, that is its answer: the next round takes it.
    fn ask(&mut self, track: TrackName, ask: Ask) {
        let job = self.world.job(track, ask);
        // Where nobody performs any more the coordinator stops: it is asked again at the next start.
        if let Err(TrySendError::Full(Job { track, ask, .. })) = self.jobs.try_send(job) {
            let answer = perform::answer(ask, perform::too_many());
            self.unasked.push(Event::Checked { track, answer });
        }
    }

    fn ask_last_lines(&mut self, ask: last::Ask) {
        if self.asking.len() < ASKED_AT_ONCE_MAX {
            self.asking.spawn(last_lines(ask));
        }
    }

    fn perform(&mut self, after: After) {
        match after {
            After::Order { target, change } => {
                let there = self.world.targets.get(&target);
                if let Some(Link::Up { orders, .. }) = there.map(|there| &there.link) {
                    orders.send_modify(|orders| match change {
                        OrderChange::Assignment(signed) => orders.assignment = Some(signed),
                        OrderChange::Stored(sequence) => {
                            orders.stored = orders.stored.max(sequence);
                        }
                    });
                }
            }
            After::Close { connection, reason } => reason.close(&connection),
            After::Check { track, ask } => self.ask(track, ask),
            After::LastLines(ask) => self.ask_last_lines(*ask),
            After::Answer(answer) => answer(),
        }
    }
}

/// What a target answers; nothing where it has none, or cannot.
async fn last_lines(ask: last::Ask) -> Option<Event> {
    match logs::last(&ask.connection, ask.request).await {
        Ok(lines) if lines.is_empty() => None,
        Ok(lines) => Some(Event::LastLines {
            deployment: ask.deployment,
            target: ask.target,
            lines,
        }),
        Err(why) => {
            tracing::debug!(target = %ask.target, why, "no last lines");
            None
        }
    }
}

/// Puts one event into the world.
#[expect(
    clippy::too_many_lines,
    reason = "one arm for each event, each one call"
)]
fn take(round: &mut Round<'_>, event: Event) {
    match event {
        Event::Connected(connected) => round.connected(*connected),
        Event::Disconnected { target, session } => round.disconnected(&target, session),
        Event::Accepted {
            target,
            session,
            held,
        } => round.accepted(&target, session, held),
        Event::AssignmentRefused {
            target,
            session,
            generation,
            reason,
        } => {
            round.assignment_refused(&target, session, generation, &reason);
        }
        Event::Report {
            target,
            session,
            report,
        } => round.report(&target, session, *report),
        Event::Hold {
            target,
            session,
            hold,
        } => round.hold(&target, session, hold),
        Event::Join {
            request,
            from,
            reply,
        } => {
            let answer = round.join(&request, from);
            round.answer(reply, answer);
        }
        Event::Renew {
            peer,
            request,
            reply,
        } => {
            let answer = round.renew(&peer, &request);
            round.answer(reply, answer);
        }
        Event::RenewExpired {
            request,
            exporter,
            from,
            reply,
        } => {
            let answer = round.renew_expired(&request, &exporter, from);
            round.answer(reply, answer);
        }
        Event::Leave {
            target,
            session,
            reply,
        } => {
            round.leave(&target, session);
            round.answer(reply, Ok(()));
        }
        Event::Offence { target, from, what } => {
            let message = match &target {
                Some(name) => format!("{name} at {from}: {what}"),
                None => format!("{from}: {what}"),
            };
            round.offence("security.refused", target, message);
        }
        Event::Apply {
            prepared,
            by,
            reply,
        } => {
            let answer = round.apply(*prepared, &by);
            round.answer(reply, answer);
        }
        Event::Plan {
            mut prepared,
            request,
            reply,
        } => {
            round.world.stamp(&mut prepared.compiled);
            let answer = round.world.plan(&prepared, *request, round.now);
            round.answer(reply, answer);
        }
        Event::ConfirmRemovals {
            revision,
            by,
            reason,
            reply,
        } => {
            let answer = round.confirm_removals(revision, &by, reason.as_deref());
            round.answer(reply, answer);
        }
        Event::Release {
            service,
            new,
            found,
            by,
            reply,
        } => {
            let answer = round.create_release(&service, (&new, &found), &by);
            round.answer(reply, answer);
        }
        Event::ArtifactStored {
            digest,
            size,
            reply,
        } => {
            let answer = round.artifact_stored(digest, size);
            round.answer(reply, answer);
        }
        Event::ForgetArtifacts { old, keep, reply } => {
            let unneeded = round.forget_artifacts(&old, keep);
            round.answer(reply, Ok(unneeded));
        }
        Event::ArtifactsRemoved(digests) => round.artifacts_removed(&digests),
        Event::Checked { track, answer } => round.checked(&track, &answer),
        Event::LastLines {
            deployment,
            target,
            lines,
        } => round.last_lines(deployment, target, &lines),
        Event::Told {
            notifier,
            sequence,
            outcome,
            reply,
        } => {
            round.told(&notifier, sequence, outcome);
            round.answer(reply, Ok(()));
        }
        Event::Freeze { new, by, reply } => {
            let answer = round.freeze(new, &by);
            round.answer(reply, answer);
        }
        Event::Unfreeze {
            environment,
            by,
            reason,
            reply,
        } => {
            let answer = round.unfreeze(environment.as_ref(), &by, reason.as_deref());
            round.answer(reply, answer);
        }
        Event::Steer {
            track,
            verb,
            wish,
            by,
            reply,
        } => {
            let answer = round.steer(&track, verb, wish, &by);
            round.answer(reply, answer);
        }
        Event::Judge {
            deployment,
            judging,
            judgement,
            caller,
            reply,
        } => {
            let answer = round.judge(deployment, judging, judgement, &caller);
            round.answer(reply, answer);
        }
        Event::Repeat {
            deployment,
            reason,
            caller,
            reply,
        } => {
            let answer = round.repeat(&deployment, reason, &caller);
            round.answer(reply, answer);
        }
        Event::CreateToken { new, by, reply } => {
            let answer = round.create_token(&new, &by);
            round.answer(reply, answer);
        }
        Event::RevokeToken { id, by, reply } => {
            let answer = round.revoke_token(&id, &by);
            round.answer(reply, answer);
        }
        Event::SteerTarget {
            target,
            verb,
            by,
            reason,
            reply,
        } => {
            let answer = match verb {
                TargetVerb::Revoke => round.revoke_target(&target, &by, reason.as_deref()),
                TargetVerb::Resume => round.resume_target(&target, &by, reason.as_deref()),
            };
            round.answer(reply, answer);
        }
        Event::Secret(change) => round.change_secret(*change),
        Event::Label {
            target,
            change,
            by,
            reply,
        } => {
            let answer = round.label(&target, change, &by);
            round.answer(reply, answer);
        }
        Event::Access { change, by } => round.change_access(*change, &by),
    }
}

impl Handle {
    /// Brings an event.
    ///
    /// # Errors
    /// [`Refused`] while the coordinator stops.
    pub async fn bring(&self, event: Event) -> Result<(), Refused> {
        self.events.send(event).await.map_err(|_| stopping())
    }

    /// Brings an event and waits for the answer, which comes after the commit.
    ///
    /// # Errors
    /// What the event is answered with, or that the coordinator stops.
    pub async fn request<T, E: From<Refused>>(
        &self,
        event: impl FnOnce(Reply<T, E>) -> Event,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.bring(event(reply)).await?;
        answer.await.unwrap_or_else(|_| Err(stopping().into()))
    }

    /// Asks about the world as it is between two rounds.
    ///
    /// # Errors
    /// [`Refused`] while the coordinator stops.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&World) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |world| drop(reply.send(question(world))));
        self.questions
            .send(question)
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// The number of the newest entry of the history that is on disk, as it grows.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Whether what happens can be kept at present.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        *self.healthy.borrow()
    }
}

fn stopping() -> Refused {
    Refused::new(Code::Unavailable, "the coordinator is stopping").help("try again in a moment")
}

/// The first entry of the history.
#[must_use]
pub fn first_entry(version: &str) -> Entry {
    Entry {
        kind: "installation.created",
        message: format!("a new installation, made by holdfast-coordinator {version}"),
        ..Entry::default()
    }
}
