//! The new container of a service becomes ready beside the one before it, which goes on until then.

use std::time::Duration;

use super::{Update, Way};
use crate::clock;
use crate::container::sight::{Health, Seen, State};
use crate::failure::Failure;

/// How long a new release without a check must run before the one before it is stopped.
const RAN_LONG_ENOUGH: Duration = Duration::from_secs(2);
/// Longest time that a new release may take until the one before it is stopped: less than any
/// converge may.
const READY_MAX: Duration = Duration::from_secs(5 * 60);
/// Pause between two looks at a release that is to become ready, where no event tells.
const READY_LOOK: Duration = Duration::from_millis(500);

impl Way<'_> {
    /// Goes on with an update that was cut off while both ran: what runs is not stopped for one that was
    /// never ready.
    pub(super) async fn take_up(&self, kept: &Seen, others: &[&Seen]) -> Result<(), Failure> {
        let record = self.inner.records.read(&self.wanted.workload.service);
        let current = record.and_then(|record| record.current);
        let settled = current.is_some_and(|current| current.container == kept.id);
        let runs = others.iter().any(|other| other.is_running());
        match self.template.update {
            Update::StartFirst if runs && !settled => {}
            Update::StartFirst | Update::Recreate => return Ok(()),
        }
        let ready = self.becomes_ready(&kept.id).await;
        if ready.is_err() {
            self.engine.remove(&kept.id).await?;
        }
        ready
    }

    /// Waits until the engine says that the new container is ready.
    pub(super) async fn becomes_ready(&self, id: &str) -> Result<(), Failure> {
        let limit = self.wanted.workload.progress_deadline().min(READY_MAX);
        let mut stirred = self.inner.watch.stirred();
        let wait = async {
            loop {
                if self.is_ready(id).await? {
                    return Ok(());
                }
                // An event tells at once; where none comes, the next look does.
                let _ = tokio::time::timeout(READY_LOOK, stirred.changed()).await;
            }
        };
        let late = || {
            Err(Failure::Retryable(format!(
                "the new release was not ready within {} s; the one before it goes on",
                limit.as_secs()
            )))
        };
        tokio::select! {
            () = self.cancel.cancelled() => Err(Failure::Cancelled),
            ready = tokio::time::timeout(limit, wait) => ready.unwrap_or_else(|_| late()),
        }
    }

    async fn is_ready(&self, id: &str) -> Result<bool, Failure> {
        let gone = |how: String| {
            Failure::Retryable(format!("the new release {how}; the one before it goes on"))
        };
        let Some(seen) = self.inner.look(&self.engine, id).await? else {
            return Err(gone("was removed".to_owned()));
        };
        match seen.state {
            State::Running {
                health: Health::Good,
                ..
            } => Ok(true),
            State::Running {
                since,
                health: Health::Unchecked,
                ..
            } => Ok(clock::now().since(since) >= RAN_LONG_ENOUGH),
            State::Running {
                health: Health::Starting | Health::Bad(_),
                ..
            }
            | State::Made
            | State::Paused
            | State::Changing(_) => Ok(false),
            State::Ended { code, .. } => {
                let code = code.map_or_else(String::new, |code| format!(" with exit code {code}"));
                Err(gone(format!("ended at once{code}")))
            }
        }
    }
}
