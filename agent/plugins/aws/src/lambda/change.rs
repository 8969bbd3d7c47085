//! Makes a function as it is wanted, one planned step at a time.

use std::time::Duration;

use holdfast_plugins::{Call, Failure};
use serde_json::Value;
use tokio::time::sleep;

use super::api::Lambda;
use super::plan::{Step, Tried, Wanted, step};
use super::seen::Alias;
use super::template::{Canary, Code};
use super::{CALL_LIMIT, packed};
use crate::connection::connect;

/// Most steps of one converge, waits included.
const STEPS_MAX: usize = 1000;
/// Time between two looks at what Lambda is at: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Time between two looks at a canary's alias.
const CANARY_LOOK: Duration = Duration::from_secs(5);

/// Makes it so; does nothing where it is so.
///
/// # Errors
/// Why it is not so.
pub(super) async fn converge(call: &Call<'_, Value>, wanted: &Wanted) -> Result<(), Failure> {
    let config = connect(&wanted.function.place, CALL_LIMIT.min(call.left())).await?;
    let change = Change {
        call,
        wanted,
        lambda: Lambda::new(&config, &wanted.function.name),
    };
    let steps = tokio::time::timeout(call.left(), change.run());
    steps.await.unwrap_or_else(|_| {
        let name = &wanted.function.name;
        Err(Failure::Retryable(format!(
            "Lambda is not done with function {name} in time"
        )))
    })
}

/// One converge.
struct Change<'a> {
    call: &'a Call<'a, Value>,
    wanted: &'a Wanted,
    lambda: Lambda,
}

impl Change<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let (mut tried, mut pause, mut told) = (Tried::default(), PAUSES.0, String::new());
        for _ in 0..STEPS_MAX {
            let seen = self.lambda.look().await?;
            let next = step(self.wanted, seen.as_ref(), &tried);
            let next = next.map_err(|refused| Failure::Permanent(refused.0))?;
            match next {
                Step::Done => return Ok(()),
                Step::Wait { at } => {
                    if told != at {
                        self.call.progress(&at);
                        told = at;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                    continue;
                }
                Step::Try { version } => tried.trial = Some(self.try_out(version).await?),
                Step::Soak { version, alias } => {
                    tried.soak = Some(self.soak(version, &alias).await?)
                }
                other => {
                    tried.changed = true;
                    self.make(other).await?;
                }
            }
            pause = PAUSES.0;
        }
        let name = &self.wanted.function.name;
        Err(Failure::Retryable(format!(
            "function {name} does not come to rest: somebody else changes it"
        )))
    }

    /// A step that is one change of Lambda.
    async fn make(&self, step: Step) -> Result<(), Failure> {
        let (wanted, lambda) = (self.wanted, &self.lambda);
        let name = &wanted.function.name;
        match step {
            Step::Create => {
                self.call.progress(&format!("creating function {name}"));
                lambda.create(wanted, self.zip()?).await
            }
            Step::Recode { revision } => {
                self.call
                    .progress(&format!("changing the code of function {name}"));
                lambda.recode(wanted, revision, self.zip()?).await
            }
            Step::Configure { revision, what } => {
                self.call
                    .progress(&format!("changing the settings of function {name}: {what}"));
                lambda.configure(&wanted.function.settings, revision).await
            }
            Step::Publish { revision } => {
                self.call
                    .progress(&format!("publishing a version of function {name}"));
                lambda
                    .publish(&wanted.code, revision, &self.call.version)
                    .await
            }
            Step::Point { version, revision } => {
                lambda.point(wanted, &version, revision).await?;
                let (alias, release) = (&wanted.function.alias, &self.call.version);
                self.call.output(&format!(
                    "release {release}: alias {alias} of function {name} leads to version {version}"
                ));
                Ok(())
            }
            Step::Forget { versions } => {
                self.call
                    .progress(&format!("deleting old versions {}", versions.join(", ")));
                lambda.forget(&versions).await
            }
            Step::Done | Step::Wait { .. } | Step::Try { .. } | Step::Soak { .. } => Ok(()),
        }
    }

    fn zip(&self) -> Result<Option<Vec<u8>>, Failure> {
        match &self.wanted.function.code {
            Code::Image(_) => Ok(None),
            Code::Path(path) => Ok(Some(packed(path)?.bytes)),
        }
    }

    /// Has a version take the trial's event.
    async fn try_out(&self, version: String) -> Result<String, Failure> {
        if let Some(event) = &self.wanted.function.trial {
            self.call.progress(&format!("trying version {version}"));
            self.lambda.call(&version, event).await?;
        }
        Ok(version)
    }

    /// Gives a version a part of the calls for a time; takes it back where it fails its trial after
    /// that. Somebody who changes the alias meanwhile ends it.
    async fn soak(&self, version: String, alias: &Alias) -> Result<String, Failure> {
        let Some(Canary { weight, soak }) = self.wanted.function.canary else {
            return Ok(version);
        };
        let begun = Some(alias.revision.clone());
        let revision = self
            .lambda
            .weigh(alias, &version, Some(weight), begun)
            .await?;
        let percent = weight * 100.0;
        let of = &self.wanted.function.name;
        self.call.output(&format!(
            "{percent:.0}% of the calls of {of} go to version {version}"
        ));
        let mut left = soak;
        while !left.is_zero() {
            let pause = left.min(CANARY_LOOK);
            sleep(pause).await;
            left -= pause;
            self.unchanged(alias, &revision).await?;
        }
        let again = self.try_out(version.clone()).await;
        if again.is_err() {
            self.lambda
                .weigh(alias, &version, None, Some(revision))
                .await?;
        }
        again
    }

    async fn unchanged(&self, alias: &Alias, revision: &str) -> Result<(), Failure> {
        let seen = self.lambda.look().await?;
        let now = seen.as_ref().and_then(|seen| seen.alias(&alias.name));
        if now.is_some_and(|now| now.revision == revision) {
            return Ok(());
        }
        let name = &alias.name;
        Err(Failure::Retryable(format!(
            "somebody changed alias {name} while it soaked"
        )))
    }
}
