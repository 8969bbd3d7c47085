//! The cases of jobs, in the runtimes that run them.
//!
//! What an adapter owes a job: `converge` begins one attempt, and does nothing where the body runs or
//! has succeeded; a job that runs is `Running`, one that ended is `Ended` until the next release; one
//! that was not begun is observed without a body, or not at all. When to try again, and for how long
//! an attempt may take, is the agent's to decide.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cases::equal;
use super::{Bench, Case, Ending};
use crate::failure::Failure;
use crate::run::{Exit, Live, LogRequest, Observed, Wanted};

/// Every case.
pub(super) const ALL: &[Case] = &[
    ("a job runs once, and its result and output stay", |b| {
        Box::pin(succeeds(b))
    }),
    (
        "a job that failed tells how, and is run again when asked",
        |b| Box::pin(fails(b)),
    ),
    ("an agent started again does not run a job twice", |b| {
        Box::pin(goes_on(b))
    }),
    (
        "an agent killed in the middle does not run a job twice",
        |b| Box::pin(agent_killed(b)),
    ),
    ("a job that takes too long is stopped", |b| {
        Box::pin(too_long(b))
    }),
    ("a new release of a job takes the place of the last", |b| {
        Box::pin(next_release(b))
    }),
];

/// Time that a job of the suite has to come where it is to be.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at it.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

async fn succeeds(bench: Bench<'_>) -> Result<(), String> {
    let job = bench.job(1, Ending::Succeeds)?;
    bench.begin(&job).await?;
    let seen = bench.ended(&job, Exit::Code(0)).await?;
    let bench = bench.reopen()?;
    equal(&seen, &bench.ended(&job, Exit::Code(0)).await?)?;
    // Whoever asks for it again gets what it has done already.
    bench.begin(&job).await?;
    equal(&seen, &bench.ended(&job, Exit::Code(0)).await?)?;
    bench.has_run(1)?;
    bench.line(TAIL, "release 1").await.map(drop)?;
    bench.remove().await?;
    bench.gone().await
}

async fn fails(bench: Bench<'_>) -> Result<(), String> {
    let job = bench.job(1, Ending::Fails)?;
    for run in 1..=2 {
        bench.begin(&job).await?;
        bench.wait_runs(run).await?;
        bench.ended(&job, Exit::Code(3)).await?;
        bench.line(TAIL, "release 1").await?;
    }
    // Nobody but the agent decides about another attempt.
    let bench = bench.reopen()?;
    bench.ended(&job, Exit::Code(3)).await?;
    bench.has_run(2)
}

async fn goes_on(bench: Bench<'_>) -> Result<(), String> {
    let job = bench.job(1, Ending::Waits)?;
    bench.begin(&job).await?;
    bench.wait_runs(1).await?;
    let before = bench.running(&job).await?;
    let bench = bench.reopen()?;
    equal(&before, &bench.running(&job).await?)?;
    bench.begin(&job).await?;
    equal(&before, &bench.running(&job).await?)?;
    bench.has_run(1)
}

async fn agent_killed(bench: Bench<'_>) -> Result<(), String> {
    let mut bench = bench;
    for (release, millis) in (1..).zip([0, 2, 5, 10, 20, 40, 80, 160]) {
        let job = bench.job(release, Ending::Succeeds)?;
        let before = bench.subject.runs(&bench.service);
        let _ = tokio::time::timeout(Duration::from_millis(millis), bench.begin(&job)).await;
        bench = bench.reopen()?;
        // As the agent does: what was not begun is.
        if !bench.has_begun(&job).await? {
            bench.begin(&job).await?;
        }
        bench.ended(&job, Exit::Code(0)).await?;
        bench.has_run(before + 1)?;
    }
    Ok(())
}

async fn too_long(bench: Bench<'_>) -> Result<(), String> {
    let job = bench.job(1, Ending::Waits)?;
    bench.begin(&job).await?;
    bench.wait_runs(1).await?;
    bench.running(&job).await?;
    bench.line(TAIL, "release 1").await?;
    bench.remove().await?;
    bench.gone().await?;
    bench.begin(&job).await?;
    bench.running(&job).await.map(drop)
}

async fn next_release(bench: Bench<'_>) -> Result<(), String> {
    for (release, ending) in [
        (1, Ending::Succeeds),
        (2, Ending::Waits),
        (3, Ending::Succeeds),
    ] {
        let job = bench.job(release, ending)?;
        bench.begin(&job).await?;
        bench.wait_runs(release as usize).await?;
        bench.line(TAIL, &format!("release {release}")).await?;
        match ending {
            Ending::Succeeds => bench.ended(&job, Exit::Code(0)).await?,
            Ending::Fails | Ending::Waits => bench.running(&job).await?,
        };
    }
    // What runs for ever takes a job's place, and the other way round.
    bench.converge(4).await?;
    bench.runs(4).await?;
    let job = bench.job(5, Ending::Succeeds)?;
    bench.begin(&job).await?;
    bench.ended(&job, Exit::Code(0)).await?;
    bench.alive(&[]).await
}

impl Bench<'_> {
    fn job(&self, release: u32, ending: Ending) -> Result<Wanted, String> {
        let job = self.subject.job(&self.service, release, ending);
        job.ok_or_else(|| "it runs no jobs".to_owned())
    }

    async fn begin(&self, job: &Wanted) -> Result<(), String> {
        match self.try_converge(job, &CancellationToken::new()).await {
            Ok(()) => Ok(()),
            Err(failure @ (Failure::Retryable(_) | Failure::Permanent(_) | Failure::Cancelled)) => {
                Err(format!("the job was not begun: {failure}"))
            }
        }
    }

    /// Whether this body was begun, by the adapter's word.
    async fn has_begun(&self, job: &Wanted) -> Result<bool, String> {
        let seen = self.observe().await?;
        Ok(seen.is_some_and(|seen| seen.body == Some(job.body)))
    }

    async fn running(&self, job: &Wanted) -> Result<Observed, String> {
        let running = |live: &Live| matches!(live, Live::Running { .. });
        self.seen(job, "running", &running).await
    }

    async fn ended(&self, job: &Wanted, wanted: Exit) -> Result<Observed, String> {
        let ended = |live: &Live| matches!(live, Live::Ended { exit, .. } if *exit == wanted);
        self.seen(job, &format!("ended with {wanted:?}"), &ended)
            .await
    }

    /// Waits until the adapter sees the job in a state; one that ended otherwise will not come there.
    async fn seen(
        &self,
        job: &Wanted,
        what: &str,
        is_so: &(dyn Fn(&Live) -> bool + Sync),
    ) -> Result<Observed, String> {
        let begun = super::now();
        loop {
            let seen = self.observe().await?;
            match &seen {
                Some(seen) if seen.body == Some(job.body) && is_so(&seen.live) => {
                    return Ok(seen.clone());
                }
                Some(Observed {
                    live: Live::Ended { exit, .. },
                    body,
                    ..
                }) if *body == Some(job.body) => {
                    return Err(format!("it ended with {exit:?}, expected: {what}"));
                }
                Some(_) | None => {}
            }
            if super::now().duration_since(begun) > END_LIMIT {
                return Err(format!("{seen:?} is observed, expected: {what}"));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    fn has_run(&self, times: usize) -> Result<(), String> {
        match self.subject.runs(&self.service) {
            found if found == times => Ok(()),
            found => Err(format!("it was run {found} times, expected {times}")),
        }
    }

    async fn wait_runs(&self, times: usize) -> Result<(), String> {
        let begun = super::now();
        while self.subject.runs(&self.service) < times {
            if super::now().duration_since(begun) > END_LIMIT {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        self.has_run(times)
    }
}

const TAIL: LogRequest = LogRequest {
    since: None,
    tail: 10,
    follow: false,
};
