//! Performing what the engine asks: checks, and telling people outside.
//!
//! *Expected flow:* the driver hands over a [`Job`] once the ask is on disk; it is performed on a
//! task of its own, and comes back as [`Event::Checked`]. *Guarantees:* there is an answer to every
//! job that was taken, whatever happens to it: a time-out, a refusal and a panic are answers, too. Of
//! one check of one track, one asking is under way at a time; a newer one takes its place.
//! *Assumptions:* what was not answered when the process ended is asked again by the engine.

pub mod check;
pub mod egress;
pub mod http;
pub mod message;
pub mod notify;
pub mod program;
pub mod prometheus;
pub mod target;

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_engine::check::Answer;
use holdfast_engine::compiled::protection::When;
use holdfast_engine::effect::Ask;
use holdfast_engine::track::TrackName;
use holdfast_engine::track::check::CheckResult;
use holdfast_protocol::name::ProtectionName;
use holdfast_protocol::time::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::driver::Handle;
use crate::event::Event;
use check::{Outside, Said, Work};

/// Checks performed at once.
const AT_ONCE_MAX: usize = 64;
/// Checks that wait for their turn before more are answered with a refusal.
const WAITING_MAX: usize = 1_024;
/// Jobs that the driver may hand over before this has looked at them.
const JOBS_MAX: usize = 256;

/// A check to be performed.
#[derive(Debug)]
pub struct Job {
    /// Of which track.
    pub track: TrackName,
    /// What was asked.
    pub ask: Ask,
    /// What is to be done, or why it cannot be.
    pub work: Result<Work, String>,
}

/// Performs checks until it is stopped.
#[derive(Debug)]
pub struct Performer {
    jobs: mpsc::Receiver<Job>,
    driver: Handle,
    outside: Arc<Outside>,
    places: Arc<Semaphore>,
    under_way: HashMap<Key, UnderWay>,
    asked: HashMap<Id, Asked>,
    tasks: JoinSet<Said>,
}

/// What tells checks apart: of one, one asking is under way.
type Key = (TrackName, ProtectionName, When);

#[derive(Debug)]
struct UnderWay {
    asked_at: Timestamp,
    deployment: Option<u64>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Asked {
    track: TrackName,
    ask: Ask,
}

/// A queue for jobs.
#[must_use]
pub fn queue() -> (mpsc::Sender<Job>, mpsc::Receiver<Job>) {
    mpsc::channel(JOBS_MAX)
}

/// The answer to `ask`.
#[must_use]
pub fn answer(ask: Ask, said: Said) -> Answer {
    Answer {
        guard: ask.guard,
        when: ask.when,
        deployment: ask.deployment,
        asked_at: ask.asked_at,
        result: said.result,
        output: said.output,
    }
}

/// The answer to a job that there is no room for.
#[must_use]
pub fn too_many() -> Said {
    Said::unknown("too many checks at once; it is asked again later".to_owned())
}

impl Performer {
    /// Performs `jobs` with what `outside` has, and tells `driver`.
    #[must_use]
    pub fn new(jobs: mpsc::Receiver<Job>, driver: Handle, outside: Arc<Outside>) -> Self {
        holdfast_confine::sweep();
        Self {
            jobs,
            driver,
            outside,
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            under_way: HashMap::new(),
            asked: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Runs until `stop` is cancelled; what is under way then is dropped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await,
                job = self.jobs.recv() => match job {
                    Some(job) => self.take(job).await,
                    None => return,
                },
            }
        }
    }

    async fn take(&mut self, job: Job) {
        let Job { track, ask, work } = job;
        let key = (track.clone(), ask.guard.clone(), ask.when);
        if let Some(before) = self.under_way.get(&key) {
            if (before.asked_at, before.deployment) == (ask.asked_at, ask.deployment) {
                return;
            }
            before.task.abort();
        }
        let work = match work {
            Ok(work) => work,
            Err(why) => return self.tell(track, ask, Said::unknown(why)).await,
        };
        if self.tasks.len() >= AT_ONCE_MAX + WAITING_MAX {
            return self.tell(track, ask, too_many()).await;
        }
        let (outside, places) = (Arc::clone(&self.outside), Arc::clone(&self.places));
        let task = self.tasks.spawn(async move {
            // The semaphore is never closed; without a place the answer is the same.
            let _place = places.acquire_owned().await;
            check::perform(&outside, work).await
        });
        let under_way = UnderWay {
            asked_at: ask.asked_at,
            deployment: ask.deployment,
            task: task.clone(),
        };
        self.asked.insert(task.id(), Asked { track, ask });
        self.under_way.insert(key, under_way);
    }

    async fn ended(&mut self, ended: Result<(Id, Said), JoinError>) {
        let (id, said) = match ended {
            Ok((id, said)) => (id, Some(said)),
            // A newer asking took its place, or it panicked.
            Err(error) => {
                let fault = "the check failed inside the coordinator; please report this";
                let said = error.is_panic().then(|| Said::unknown(fault.to_owned()));
                (error.id(), said)
            }
        };
        let Some(Asked { track, ask }) = self.asked.remove(&id) else {
            return;
        };
        let key = (track.clone(), ask.guard.clone(), ask.when);
        if self
            .under_way
            .get(&key)
            .is_some_and(|newest| newest.task.id() == id)
        {
            self.under_way.remove(&key);
        }
        if let Some(said) = said {
            self.tell(track, ask, said).await;
        }
    }

    async fn tell(&self, track: TrackName, ask: Ask, said: Said) {
        tracing::debug!(%track, guard = %ask.guard, result = said.result.name(), "checked");
        let answer = answer(ask, said);
        // While the coordinator stops, nobody is told; it is asked again at the next start.
        drop(self.driver.bring(Event::Checked { track, answer }).await);
    }
}

impl Said {
    /// It passed.
    #[must_use]
    pub const fn passed(output: String) -> Self {
        Self {
            result: CheckResult::Passed,
            output,
        }
    }

    /// It failed.
    #[must_use]
    pub const fn failed(output: String) -> Self {
        Self {
            result: CheckResult::Failed,
            output,
        }
    }

    /// Nobody can say.
    #[must_use]
    pub const fn unknown(output: String) -> Self {
        Self {
            result: CheckResult::Unknown,
            output,
        }
    }
}
