//! Attempts of a job: each is one run of one container, which stays with its result and its output
//! until the next release.
//!
//! *Guarantees*: a job that runs, or has run to completion, is not begun again by anybody who asks;
//! which container is the job, and how it ended, stands in the engine alone, so that an agent that
//! lost its directory knows it, too.

use super::{State, Way};
use crate::container::engine::EngineError;
use crate::container::sight::Seen;
use crate::failure::Failure;

impl Way<'_> {
    /// Begins an attempt, unless one runs or has succeeded.
    pub(super) async fn run_job(&self, found: &[Seen]) -> Result<(), Failure> {
        let newest = found.iter().max_by_key(|seen| seen.made);
        let own = newest.filter(|seen| seen.job && seen.body == Some(self.wanted.body));
        let Some(own) = own else {
            return self.replace(found).await;
        };
        match own.state {
            State::Running { .. } | State::Changing(_) | State::Ended { code: Some(0), .. } => {}
            State::Paused => self.engine.unpause(&own.id).await?,
            State::Ended { .. } => {
                if !self.begin_again(own).await? {
                    return self.replace(found).await;
                }
            }
            State::Made => return self.replace(found).await,
        }
        let others: Vec<&Seen> = found.iter().filter(|seen| seen.id != own.id).collect();
        self.settle(&own.id, &others).await
    }

    /// Another attempt in the same container, whose output goes on. False where the engine cannot.
    async fn begin_again(&self, own: &Seen) -> Result<bool, Failure> {
        self.lay_secrets().await?;
        self.tell(format!("running {} again", own.name));
        let begun = self.engine.start(&own.id, &own.name).await;
        // The end of the attempt before, which was seen meanwhile, is not this one's.
        self.inner.watch.begins(&own.id);
        match begun {
            Ok(()) => Ok(true),
            Err(EngineError::Refused { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
