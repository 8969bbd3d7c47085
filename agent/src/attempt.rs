//! What was tried for each service and how it went: counters and pauses. Pure; the driver tells it
//! what happened, `plan` asks it what may be tried when.
//!
//! *Guarantees:* the first restart in a row comes at once, later ones after growing pauses; a run
//! that lasted [`SETTLED_AFTER`] forgives what was before it; a failure that cannot pass by itself is
//! tried again only every [`HOPELESS_PAUSE`], since somebody may mend what is around the workload: give
//! a right, delete what was in the way.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_adapters::failure::Failure;
use holdfast_adapters::restart::Restart;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::secret::SecretRef;

use crate::clock::Moment;
use crate::desired::Standings;
use crate::diff::{Difference, Run};
use crate::health::Verdict;

/// A run this long forgives the restarts before it.
pub const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Pause after the first failure; doubles with each one in a row.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// Pause after a failure that cannot pass by itself.
pub const HOPELESS_PAUSE: Duration = Duration::from_secs(10 * 60);

/// What was tried for the body that a service is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The body that all of this is about.
    pub body: Digest,
    /// When it was first tried, or first seen in place.
    pub began: Option<Moment>,
    /// Whether it was ready once.
    pub was_ready: bool,
    /// The last failure, until something succeeds.
    pub failure: Option<Failure>,
    /// Failures in a row.
    pub failures: u32,
    /// Not before this after a failure, or after a success that changed nothing.
    pub not_before: Moment,
    /// Times in a row that it was made so and was not so when looked at.
    pub unsettled: u32,
    /// Restarts and repairs in a row, none of which lasted.
    pub restarts_in_row: u32,
    /// Restarts since it was first started.
    pub restarts: u32,
    /// When the present end or alteration was first seen.
    pub broken_at: Option<Moment>,
    /// The present run and when it was first seen.
    pub run: Option<(Run, Moment)>,
    /// Whether this agent has seen it run.
    pub seen_running: bool,
    /// What its checks say of the present run.
    pub health: Option<Verdict>,
    /// How often it was started, and how the last end was explained, where it is a job.
    pub job: JobAttempts,
}

/// The attempts of a job that this agent knows of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobAttempts {
    /// Starts, what was found running or ended included.
    pub started: u32,
    /// Starts before the one that is under way, which may be seen before it is done.
    pub before: u32,
    /// How the last attempt ended, with the end of its output; none while it runs or has succeeded.
    pub trouble: Option<String>,
}

/// What was tried for one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchAttempt {
    /// Failures in a row.
    pub failures: u32,
    /// Not before this.
    pub not_before: Moment,
    /// The last failure.
    pub message: String,
}

/// What was tried for every service and every artifact.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attempts {
    /// By service.
    pub services: BTreeMap<ServiceName, Attempt>,
    /// By service: removals that failed.
    pub removals: BTreeMap<ServiceName, FetchAttempt>,
    /// By artifact: fetches that failed.
    pub fetches: BTreeMap<Digest, FetchAttempt>,
    /// By secret: requests that failed.
    pub secrets: BTreeMap<SecretRef, FetchAttempt>,
    /// By service: the body that was given up, and why. A restart forgets the reason.
    pub given_up: BTreeMap<ServiceName, (Digest, String)>,
}

impl Attempt {
    /// Nothing tried yet.
    #[must_use]
    pub const fn new(body: Digest, was_ready: bool) -> Self {
        Self {
            body,
            began: None,
            was_ready,
            failure: None,
            failures: 0,
            not_before: Moment::from_millis(0),
            unsettled: 0,
            restarts_in_row: 0,
            restarts: 0,
            broken_at: None,
            run: None,
            seen_running: false,
            health: None,
            job: JobAttempts {
                started: 0,
                before: 0,
                trouble: None,
            },
        }
    }

    /// When it may be started again or repaired, having broken.
    #[must_use]
    pub fn mend_at(&self, restart: &Restart, now: Moment) -> Moment {
        let broken = self.broken_at.unwrap_or(now);
        broken
            .after(restart_pause(restart, self.restarts_in_row))
            .max(self.not_before)
    }

    /// Whether the same body cannot succeed unless somebody mends what is around it.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.failure
            .as_ref()
            .is_some_and(|failure| !failure.is_retryable())
    }

    fn see(&mut self, difference: &Difference, now: Moment) {
        match difference {
            Difference::Running(run) | Difference::Unready { run, .. } => {
                self.see_running(*run, now);
            }
            Difference::Ended(_) | Difference::Altered(_) => {
                if matches!(difference, Difference::Ended(_)) {
                    self.job.started = self.job.started.max(1);
                }
                self.unsettled = 0;
                self.forgive(now);
                self.broken_at.get_or_insert(now);
                self.run = None;
                self.health = None;
            }
            Difference::Missing => {
                self.run = None;
                self.health = None;
                self.broken_at = None;
            }
            Difference::Other { .. } => {
                self.run = None;
                self.health = None;
                self.broken_at = None;
                // Another body runs: this one is still to come, even where it was good before. A
                // release that is put back makes progress; it has lost nothing.
                self.was_ready = false;
            }
            Difference::Unknown(_) | Difference::NoAdapter(_) => {}
        }
    }

    fn see_running(&mut self, run: Run, now: Moment) {
        self.began.get_or_insert(now);
        self.seen_running = true;
        self.job.started = self.job.started.max(1);
        self.broken_at = None;
        self.unsettled = 0;
        self.failure = None;
        self.failures = 0;
        match self.run {
            Some((known, _)) if known == run => self.forgive(now),
            Some(_) | None => {
                self.run = Some((run, now));
                self.health = None;
            }
        }
    }

    /// Forgives restarts where the run that is (or was) lasted.
    fn forgive(&mut self, now: Moment) {
        if self
            .run
            .is_some_and(|(_, since)| now.since(since) >= SETTLED_AFTER)
        {
            self.restarts_in_row = 0;
        }
    }

    fn done(&mut self, mended: bool, now: Moment) {
        self.job.started = self.job.before + 1;
        self.job.trouble = None;
        self.failure = None;
        self.failures = 0;
        if mended {
            self.restarts += 1;
            self.restarts_in_row += 1;
            self.broken_at = None;
        } else {
            self.not_before = now.after(doubled(RETRY_FIRST, RETRY_MAX, self.unsettled));
            self.unsettled += 1;
        }
    }

    fn failed(&mut self, failure: Failure, now: Moment, jitter: f64) {
        match failure {
            Failure::Cancelled => {}
            Failure::Retryable(_) | Failure::Permanent(_) => {
                let pause = if failure.is_retryable() {
                    retry_pause(self.failures, jitter)
                } else {
                    HOPELESS_PAUSE
                };
                self.not_before = now.after(pause);
                self.failures += 1;
                self.failure = Some(failure);
            }
        }
    }
}

impl FetchAttempt {
    fn failed(&mut self, message: String, now: Moment, jitter: f64) {
        self.not_before = now.after(retry_pause(self.failures, jitter));
        self.failures += 1;
        self.message = message;
    }
}

impl Attempts {
    /// Takes in what is seen of each selected service; forgets what is selected no longer.
    pub fn see(
        &mut self,
        selected: &BTreeMap<ServiceName, Digest>,
        standings: &Standings,
        differences: &BTreeMap<ServiceName, Difference>,
        now: Moment,
    ) {
        self.services
            .retain(|service, _| selected.contains_key(service));
        for (service, body) in selected {
            let good = standings
                .get(service)
                .is_some_and(|s| s.good == Some(*body));
            let attempt = self
                .services
                .entry(service.clone())
                .or_insert_with(|| Attempt::new(*body, good));
            if attempt.body != *body {
                *attempt = Attempt::new(*body, good);
            }
            if let Some(difference) = differences.get(service) {
                attempt.see(difference, now);
            }
        }
    }

    /// A converge of `body` begins.
    pub fn begin(&mut self, service: &ServiceName, body: Digest, now: Moment) {
        if let Some(attempt) = self.about(service, body) {
            attempt.began.get_or_insert(now);
            attempt.job.before = attempt.job.started;
        }
    }

    /// A converge of `body` ended; `mended` where it was there in that body before and broken.
    pub fn end(
        &mut self,
        service: &ServiceName,
        body: Digest,
        mended: bool,
        outcome: Result<(), Failure>,
        (now, jitter): (Moment, f64),
    ) {
        let Some(attempt) = self.about(service, body) else {
            return;
        };
        match outcome {
            Ok(()) => attempt.done(mended, now),
            Err(failure) => attempt.failed(failure, now, jitter),
        }
    }

    /// The end of a job's attempt was put into words, or could not be brought about.
    pub fn concluded(
        &mut self,
        service: &ServiceName,
        body: Digest,
        outcome: Result<String, Failure>,
        (now, jitter): (Moment, f64),
    ) {
        let Some(attempt) = self.about(service, body) else {
            return;
        };
        match outcome {
            Ok(trouble) => attempt.job.trouble = Some(trouble),
            Err(failure) => attempt.failed(failure, now, jitter),
        }
    }

    /// A removal ended.
    pub fn removal_ended(
        &mut self,
        service: &ServiceName,
        outcome: Result<(), Failure>,
        now: Moment,
        jitter: f64,
    ) {
        match outcome {
            Ok(()) => {
                self.removals.remove(service);
            }
            Err(failure) => {
                let attempt = self.removals.entry(service.clone()).or_default();
                attempt.failed(failure.to_string(), now, jitter);
            }
        }
    }

    /// A fetch ended.
    pub fn fetch_ended(
        &mut self,
        artifact: Digest,
        outcome: Result<(), String>,
        now: Moment,
        jitter: f64,
    ) {
        match outcome {
            Ok(()) => {
                self.fetches.remove(&artifact);
            }
            Err(message) => {
                self.fetches
                    .entry(artifact)
                    .or_default()
                    .failed(message, now, jitter);
            }
        }
    }

    /// A request for a secret ended.
    pub fn ask_ended(
        &mut self,
        secret: SecretRef,
        outcome: Result<(), String>,
        now: Moment,
        jitter: f64,
    ) {
        match outcome {
            Ok(()) => {
                self.secrets.remove(&secret);
            }
            Err(message) => {
                let attempt = self.secrets.entry(secret).or_default();
                attempt.failed(message, now, jitter);
            }
        }
    }

    /// The coordinator answers again: what waited for it need not wait longer.
    pub fn nudge_fetches(&mut self) {
        self.fetches.clear();
        self.secrets.clear();
    }

    /// A check of a running workload was made.
    pub fn probed(&mut self, service: &ServiceName, body: Digest, run: Run, verdict: Verdict) {
        let Some(attempt) = self.about(service, body) else {
            return;
        };
        if attempt.run.is_some_and(|(present, _)| present == run) {
            attempt.health = Some(verdict);
        }
    }

    /// Whether bringing about the body that a service is to have has begun.
    #[must_use]
    pub fn has_begun(&self, service: &ServiceName) -> bool {
        let attempt = self.services.get(service);
        attempt.is_some_and(|attempt| attempt.began.is_some())
    }

    /// A body became ready.
    pub fn ready(&mut self, service: &ServiceName, body: Digest) {
        if let Some(attempt) = self.about(service, body) {
            attempt.was_ready = true;
        }
    }

    fn about(&mut self, service: &ServiceName, body: Digest) -> Option<&mut Attempt> {
        self.services
            .get_mut(service)
            .filter(|attempt| attempt.body == body)
    }
}

/// The pause before the restart after `in_row` others: none, then `initial`, then twice the one
/// before, up to `max`.
#[must_use]
pub fn restart_pause(restart: &Restart, in_row: u32) -> Duration {
    in_row
        .checked_sub(1)
        .map_or(Duration::ZERO, |n| doubled(restart.initial, restart.max, n))
}

/// The pause after a failure that `failures` others preceded: doubles up to [`RETRY_MAX`]; `jitter`
/// from 0 to 1 takes off up to half, so that what failed together is not tried together.
#[must_use]
pub fn retry_pause(failures: u32, jitter: f64) -> Duration {
    let whole = doubled(RETRY_FIRST, RETRY_MAX, failures);
    whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

fn doubled(first: Duration, max: Duration, times: u32) -> Duration {
    let factor = 1u32.checked_shl(times.min(20)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_comes_at_once_and_the_next_after_doubling_pauses() {
        let restart = Restart::default();
        let pauses: Vec<u64> = (0..9)
            .map(|n| restart_pause(&restart, n).as_secs())
            .collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_body_that_was_good_is_still_to_come_while_another_one_runs() {
        let (good, bad) = (Digest::of(b"good"), Digest::of(b"bad"));
        let mut attempt = Attempt::new(good, true);
        attempt.see(&Difference::Missing, Moment::from_millis(1));
        assert!(attempt.was_ready, "after a reboot it is missed");
        attempt.see(
            &Difference::Other {
                body: Some(bad),
                running: true,
            },
            Moment::from_millis(2),
        );
        assert!(!attempt.was_ready, "after a rollback it is awaited");
    }

    #[test]
    fn a_start_that_is_seen_before_it_is_done_counts_once() {
        let (service, body) = (ServiceName::parse("job").unwrap(), Digest::of(b"body"));
        let now = Moment::from_millis(1);
        let selected = BTreeMap::from([(service.clone(), body)]);
        let ended = Difference::Ended(holdfast_adapters::run::Exit::Code(1));
        let mut attempts = Attempts::default();
        let see = |attempts: &mut Attempts, difference: &Difference| {
            let seen = BTreeMap::from([(service.clone(), difference.clone())]);
            attempts.see(&selected, &Standings::default(), &seen, now);
            attempts.services[&service].job.started
        };
        assert_eq!(see(&mut attempts, &Difference::Missing), 0);
        for start in 1..=2 {
            attempts.begin(&service, body, now);
            assert_eq!(see(&mut attempts, &ended), start.min(1));
            attempts.end(&service, body, start > 1, Ok(()), (now, 0.0));
            assert_eq!(see(&mut attempts, &ended), start);
        }
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        assert_eq!(retry_pause(2, 0.0), Duration::from_secs(4));
        assert_eq!(retry_pause(2, 1.0), Duration::from_secs(2));
        assert_eq!(retry_pause(u32::MAX, 0.0), RETRY_MAX);
    }
}
