//! One suite that every adapter passes, through the interface alone.
//!
//! What the suite cannot know of a runtime, its [`Subject`] brings: workloads to run, a way to harm
//! them behind the adapter's back, and a way to look at the runtime that is not the adapter's own.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_protocol::name::ServiceName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::run::{Adapter, Live, LogRequest, Observed, Wanted};

mod cases;
mod jobs;

/// An adapter under test, with its runtime.
pub trait Subject: Send + Sync {
    /// What it is called in the table.
    fn name(&self) -> &str;

    /// Opens the adapter over the same directory as before: the agent was started again.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self) -> Result<Arc<dyn Adapter>, String>;

    /// A good workload of at least one artifact. Each release differs from the others, in what it
    /// runs or shows and in its artifact.
    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted;

    /// The same with a template that the adapter must refuse.
    fn bad(&self, service: &ServiceName) -> Wanted;

    /// Ends the workload behind the adapter's back: kills it, removes it.
    ///
    /// # Errors
    /// Why it could not.
    fn kill(&self, service: &ServiceName) -> Result<(), String>;

    /// Changes something that the adapter made, and leaves the workload alive.
    ///
    /// # Errors
    /// Why it could not.
    fn edit(&self, service: &ServiceName) -> Result<(), String>;

    /// The releases that are alive of this service, one for each instance, by the runtime's own word.
    fn alive(&self, service: &ServiceName) -> Vec<u32>;

    /// Whether it has output, of which one line holds `release N`.
    fn has_output(&self) -> bool;

    /// A job; none where the runtime runs no jobs, and then their cases are left out. Each run prints
    /// a line that holds `release N`, is counted by [`Self::runs`], and then goes on as `ending` says.
    fn job(&self, service: &ServiceName, release: u32, ending: Ending) -> Option<Wanted> {
        let _ = (service, release, ending);
        None
    }

    /// How many runs of the jobs of a service have begun that is not removed, not by the adapter's
    /// word.
    fn runs(&self, service: &ServiceName) -> usize {
        let _ = service;
        0
    }
}

/// How a job of the suite goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ends with exit code 0.
    Succeeds,
    /// It ends with exit code 3.
    Fails,
    /// It does not end by itself.
    Waits,
}

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The case, as a sentence.
    pub case: &'static str,
    /// How long it took, or what was wrong.
    pub result: Result<Duration, String>,
}

/// Everything that one adapter showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The adapter.
    pub name: String,
    /// In the order of the suite.
    pub outcomes: Vec<Outcome>,
}

/// Longest time that one case may take.
pub const CASE_MAX: Duration = Duration::from_secs(60);

/// Longest time that a runtime may take to show what it was told, on a busy machine.
const RUNTIME_LIMIT: Duration = Duration::from_secs(20);

/// Runs the whole suite.
pub async fn run(subject: &dyn Subject) -> Report {
    let mut outcomes = Vec::new();
    for (i, (case, check)) in all_of(subject).enumerate() {
        let begun = now();
        let result = match tokio::time::timeout(CASE_MAX, cases::one(subject, *check, i)).await {
            Ok(result) => result.map(|()| now().duration_since(begun)),
            Err(_) => Err(format!("took longer than {} s", CASE_MAX.as_secs())),
        };
        outcomes.push(Outcome { case, result });
    }
    Report {
        name: subject.name().to_owned(),
        outcomes,
    }
}

impl Report {
    /// Whether every case passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.result.is_ok())
    }
}

/// Case by adapter, with milliseconds, and below it what was wrong.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Report]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = all().map(|(case, _)| case.len()).max().unwrap_or(0);
        let mut wrong = String::new();
        write!(f, "{:width$}", "case")?;
        for report in self.0 {
            write!(f, "  {:>10}", report.name)?;
        }
        writeln!(f)?;
        for (i, (case, _)) in all().enumerate() {
            write!(f, "{case:width$}")?;
            for report in self.0 {
                match report.outcomes.get(i).map(|outcome| &outcome.result) {
                    Some(Ok(took)) => write!(f, "  {:>7} ms", took.as_millis())?,
                    Some(Err(why)) => {
                        write!(f, "  {:>10}", "FAILED")?;
                        writeln!(wrong, "{}: {case}: {why}", report.name)?;
                    }
                    None => write!(f, "  {:>10}", "-")?,
                }
            }
            writeln!(f)?;
        }
        f.write_str(&wrong)
    }
}

/// A case: what it shows, and how.
type Case = (&'static str, cases::Check);

/// Every case there is; those of jobs come last.
fn all() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().chain(jobs::ALL)
}

/// The cases that say something of this subject.
fn all_of(subject: &dyn Subject) -> impl Iterator<Item = &'static Case> {
    let any = ServiceName::parse("any").expect("it is a name");
    let runs_jobs = subject.job(&any, 1, Ending::Succeeds).is_some();
    let jobs = if runs_jobs { jobs::ALL } else { &[] };
    cases::ALL.iter().chain(jobs)
}

/// One adapter and one service in one case.
struct Bench<'a> {
    subject: &'a dyn Subject,
    adapter: Arc<dyn Adapter>,
    service: ServiceName,
}

impl<'a> Bench<'a> {
    fn open(subject: &'a dyn Subject, service: &str) -> Result<Self, String> {
        let service = ServiceName::parse(service).map_err(|error| error.to_string())?;
        Ok(Self {
            subject,
            adapter: subject.open()?,
            service,
        })
    }

    /// The agent was started again.
    fn reopen(self) -> Result<Self, String> {
        let Self {
            subject,
            adapter,
            service,
        } = self;
        drop(adapter);
        Ok(Self {
            subject,
            adapter: subject.open()?,
            service,
        })
    }

    fn wanted(&self, release: u32) -> Wanted {
        self.subject.wanted(&self.service, release)
    }

    async fn try_converge(
        &self,
        wanted: &Wanted,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let (progress, mut told) = mpsc::channel(64);
        let result = self.adapter.converge(wanted, &progress, cancel).await;
        told.close();
        result
    }

    async fn converge(&self, release: u32) -> Result<(), String> {
        self.try_converge(&self.wanted(release), &CancellationToken::new())
            .await
            .map_err(|failure| format!("release {release} was not converged to: {failure}"))
    }

    /// What the adapter sees of the service, if anything.
    async fn observe(&self) -> Result<Option<Observed>, String> {
        let all = self
            .adapter
            .observe()
            .await
            .map_err(|failure| failure.to_string())?;
        let mut own = all
            .into_iter()
            .filter(|observed| observed.service == self.service);
        let first = own.next();
        if own.next().is_some() {
            return Err("the service is observed twice".to_owned());
        }
        Ok(first)
    }

    /// Demands that exactly this release runs, by the adapter's word and by the runtime's.
    async fn runs(&self, release: u32) -> Result<Observed, String> {
        let wanted = self.wanted(release).body;
        let observed = self.observe().await?.ok_or("nothing is observed")?;
        if observed.body != Some(wanted) {
            return Err(format!(
                "body {:?} is observed, not {wanted:?}",
                observed.body
            ));
        }
        let observed = self.ready(observed).await?;
        if !matches!(observed.live, Live::Running { .. }) {
            return Err(format!("{:?} is observed, not running", observed.live));
        }
        self.alive(&[release]).await?;
        Ok(observed)
    }

    /// Waits while its runtime says that it has only begun.
    async fn ready(&self, first: Observed) -> Result<Observed, String> {
        self.until(first, &|live| {
            !matches!(live, Live::Unready { failing: false, .. })
        })
        .await
    }

    /// Waits until what is observed is as `wanted` says: what a runtime tells by events may come a
    /// moment after it happened.
    async fn until(
        &self,
        first: Observed,
        wanted: &(dyn Fn(&Live) -> bool + Sync),
    ) -> Result<Observed, String> {
        let begun = now();
        let mut observed = first;
        while !wanted(&observed.live) && now().duration_since(begun) < RUNTIME_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
            observed = self.observe().await?.ok_or("it is no longer observed")?;
        }
        Ok(observed)
    }

    /// Waits until the runtime itself shows just these.
    async fn alive(&self, releases: &[u32]) -> Result<(), String> {
        let begun = now();
        loop {
            let alive = self.subject.alive(&self.service);
            if alive == releases {
                return Ok(());
            }
            if now().duration_since(begun) > RUNTIME_LIMIT {
                return Err(format!(
                    "releases {alive:?} are alive, expected {releases:?}"
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn remove(&self) -> Result<(), String> {
        self.adapter
            .remove(&self.service)
            .await
            .map_err(|failure| failure.to_string())
    }

    /// Demands that nothing is left.
    async fn gone(&self) -> Result<(), String> {
        if let Some(observed) = self.observe().await? {
            return Err(format!("{observed:?} is still observed"));
        }
        self.alive(&[]).await
    }

    /// Lines of output, once there is one that `wanted` is found in.
    async fn line(&self, request: LogRequest, wanted: &str) -> Result<Vec<String>, String> {
        let begun = now();
        loop {
            let mut receiver = self
                .adapter
                .logs(&self.service, request)
                .await
                .map_err(|failure| failure.to_string())?;
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line.text);
            }
            if lines.iter().any(|line| line.contains(wanted)) {
                return Ok(lines);
            }
            if now().duration_since(begun) > RUNTIME_LIMIT {
                return Err(format!("{wanted:?} is not in the output {lines:?}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The workload with its artifacts lying elsewhere.
fn with_artifacts_at(mut wanted: Wanted, path: &Path) -> Wanted {
    for place in wanted.artifacts.values_mut() {
        path.clone_into(place);
    }
    wanted
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test suite measures with a real clock"
)]
fn now() -> Instant {
    Instant::now()
}
