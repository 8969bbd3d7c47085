//! Is a running workload ready? The verdict over its checks, pure, and the task that makes them.

mod probe;

use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::workload::{Check, Health};
use tokio::sync::mpsc;

use crate::diff::Run;

pub use probe::check;

/// Longest text of an answer that is repeated in a message, in characters.
pub const ANSWER_MAX_CHARS: usize = 200;
/// Pause between checks until one passes first, where the interval is longer.
pub const EAGER_INTERVAL: Duration = Duration::from_millis(500);
/// Shortest pause between checks, whatever is asked for.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What to check: one run of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The service.
    pub service: ServiceName,
    /// The body.
    pub body: Digest,
    /// The run; another one starts the counting anew.
    pub run: Run,
    /// What is asked, how often.
    pub health: Health,
}

/// What the checks of one run say so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Whether it is ready.
    pub ready: bool,
    /// Checks that passed in a row.
    pub passed: u32,
    /// Checks that failed in a row.
    pub failed: u32,
    /// The last answer that failed.
    pub message: String,
}

/// A check was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Of what.
    pub probe: Probe,
    /// The verdict, this check included.
    pub verdict: Verdict,
}

impl Verdict {
    /// The verdict after one more check; `age` is how long the run has lasted.
    #[must_use]
    pub fn after(mut self, outcome: Result<(), String>, health: &Health, age: Duration) -> Self {
        match outcome {
            Ok(()) => {
                self.passed = self.passed.saturating_add(1);
                self.failed = 0;
                self.message.clear();
                self.ready |= self.passed >= health.success_threshold.max(1);
            }
            Err(message) => {
                self.passed = 0;
                self.message = message;
                if age >= Duration::from_millis(health.start_period_ms) {
                    self.failed = self.failed.saturating_add(1);
                }
                self.ready &= self.failed < health.failure_threshold.max(1);
            }
        }
        self
    }

    /// The pause before the next check.
    #[must_use]
    pub fn pause(&self, health: &Health) -> Duration {
        let interval = health.interval().max(INTERVAL_MIN);
        if self.ready || self.passed > 0 {
            interval
        } else {
            interval.min(EAGER_INTERVAL)
        }
    }
}

/// Checks one run until it is aborted, and tells what came of it whenever the verdict changed.
/// `asked` is the check of the probe as it is made here, or why it cannot be.
pub async fn watch(
    probe: Probe,
    asked: Result<Check, String>,
    age_at_start: Duration,
    told: mpsc::Sender<Probed>,
) {
    let started = tokio::time::Instant::now();
    let mut verdict = Verdict::default();
    let mut first = true;
    loop {
        let limit = probe.health.timeout();
        let outcome = match &asked {
            Ok(asked) => within(limit, asked).await,
            Err(why) => Err(why.clone()),
        };
        let age = age_at_start + started.elapsed();
        let next = verdict.clone().after(outcome, &probe.health, age);
        let changed = next.ready != verdict.ready || next.message != verdict.message;
        verdict = next;
        if changed || first {
            first = false;
            let probed = Probed {
                probe: probe.clone(),
                verdict: verdict.clone(),
            };
            if told.send(probed).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(verdict.pause(&probe.health)).await;
    }
}

async fn within(limit: Duration, asked: &Check) -> Result<(), String> {
    tokio::time::timeout(limit, check(asked))
        .await
        .unwrap_or_else(|_| {
            let limit = holdfast_protocol::time::friendly(limit);
            Err(format!(
                "{} gave no answer within {limit}",
                probe::subject(asked)
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::workload::Check;

    fn health() -> Health {
        Health {
            check: Check::Tcp {
                address: "127.0.0.1:1".to_owned(),
            },
            interval_ms: 10_000,
            timeout_ms: 1_000,
            success_threshold: 2,
            failure_threshold: 2,
            start_period_ms: 5_000,
        }
    }

    fn after(outcomes: &[Result<(), &str>], age: u64) -> Verdict {
        outcomes
            .iter()
            .fold(Verdict::default(), |verdict, outcome| {
                let outcome = outcome.map_err(str::to_owned);
                verdict.after(outcome, &health(), Duration::from_secs(age))
            })
    }

    #[test]
    fn it_is_ready_after_enough_checks_in_a_row() {
        assert!(!after(&[Ok(())], 9).ready);
        assert!(!after(&[Ok(()), Err("no"), Ok(())], 9).ready);
        assert!(after(&[Err("no"), Ok(()), Ok(())], 9).ready);
    }

    #[test]
    fn it_stays_ready_until_enough_checks_fail_in_a_row() {
        let ready = [Ok(()), Ok(())];
        assert!(after(&[ready.as_slice(), &[Err("no")]].concat(), 9).ready);
        let lost = after(&[ready.as_slice(), &[Err("no"), Err("500")]].concat(), 9);
        assert!(!lost.ready && lost.message == "500");
    }

    #[test]
    fn failures_do_not_count_in_the_start_period() {
        let ready = [Ok(()), Ok(()), Err("a"), Err("b"), Err("c")];
        assert!(after(&ready, 1).ready);
        assert!(!after(&ready, 5).ready);
    }

    #[test]
    fn it_is_asked_often_until_it_answers_first() {
        assert_eq!(Verdict::default().pause(&health()), EAGER_INTERVAL);
        assert_eq!(
            after(&[Ok(())], 1).pause(&health()),
            Duration::from_secs(10)
        );
    }
}
