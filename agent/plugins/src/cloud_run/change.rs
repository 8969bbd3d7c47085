//! Makes a service as it is wanted, one planned step at a time.

use std::time::Duration;

use tokio::time::sleep;

use super::api::{Put, Run};
use super::plan::{Step, Tried, Wanted, step};
use super::seen::{self, Change, Part, Ready, Seen};
use super::template::{Canary, Template};
use crate::{Call, Failure};

/// Most steps of one converge, waits included.
const STEPS_MAX: usize = 1000;
/// Time between two looks at what Cloud Run is at: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// Most changes in a row that come too late.
const STALE_MAX: usize = 10;
/// Time between two looks at a canary.
const CANARY_LOOK: Duration = Duration::from_secs(5);

/// One converge.
pub(super) struct Converge<'a> {
    pub(super) call: &'a Call<'a, Template>,
    pub(super) wanted: &'a Wanted,
    pub(super) run: &'a Run,
}

/// How a step ended.
enum Made {
    /// As it should.
    Done,
    /// Something else was there by then.
    Stale(Failure),
}

impl Converge<'_> {
    /// Makes it so; does nothing where it is so.
    ///
    /// # Errors
    /// Why it is not so.
    pub(super) async fn to_the_end(&self) -> Result<(), Failure> {
        let (mut tried, mut pause, mut told) = (Tried::default(), PAUSES.0, String::new());
        let mut stale = 0;
        for _ in 0..STEPS_MAX {
            let Some(seen) = self.look().await? else {
                self.create().await?;
                tried.offered = true;
                continue;
            };
            let step = step(self.wanted, &seen, &tried)?;
            let made = match &step {
                Step::Done => return Ok(()),
                Step::Wait { at } => {
                    if told != *at {
                        self.call.progress(at);
                        told.clone_from(at);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                    continue;
                }
                Step::Offer { .. } | Step::Soak { .. } | Step::Lead { .. } => {
                    self.make(&step, &seen, &mut tried).await?
                }
            };
            pause = PAUSES.0;
            match made {
                Made::Done => stale = 0,
                // It is decided anew on what is there now.
                Made::Stale(failure) if stale == STALE_MAX => return Err(failure),
                Made::Stale(_) => {
                    stale += 1;
                    sleep(pause).await;
                }
            }
        }
        Err(Failure::Retryable(
            "the service does not come to rest: somebody else changes it".to_owned(),
        ))
    }

    async fn look(&self) -> Result<Option<Seen>, Failure> {
        self.run.look(&self.wanted.service.settings.mark()).await
    }

    /// A step that changes something.
    async fn make(&self, step: &Step, seen: &Seen, tried: &mut Tried) -> Result<Made, Failure> {
        let made = match step {
            Step::Offer { revision, traffic } => {
                let made = self.offer(revision, traffic, seen).await?;
                tried.offered |= matches!(made, Made::Done);
                made
            }
            Step::Soak {
                revision,
                canary,
                traffic,
            } => {
                let made = self.soak(revision, *canary, (traffic, seen)).await?;
                if matches!(made, Made::Done) {
                    tried.soaked = Some(revision.clone());
                }
                made
            }
            Step::Lead { revision, traffic } => self.lead(revision, traffic, seen).await?,
            Step::Wait { .. } | Step::Done => Made::Done,
        };
        Ok(made)
    }

    async fn create(&self) -> Result<(), Failure> {
        let place = &self.wanted.service.place;
        let release = &self.call.version;
        let line = format!("release {release}: creating service {}", place.service);
        self.call.output(&line);
        let traffic = seen::newest();
        let change = self.with_template(&self.wanted.first_name(), &traffic);
        let service = seen::fresh(&place.project, &place.service, &change);
        self.run.create(&service).await
    }

    async fn offer(&self, revision: &str, traffic: &[Part], seen: &Seen) -> Result<Made, Failure> {
        let change = self.with_template(revision, traffic);
        let changed = seen.changed(&change);
        let put = self.run.replace("offer a revision of", &changed).await?;
        Ok(self.made(put, &format!("offered revision {revision}")))
    }

    async fn lead(&self, revision: &str, traffic: &[Part], seen: &Seen) -> Result<Made, Failure> {
        let change = Change {
            body: Some(self.wanted.body),
            ..self.change(traffic)
        };
        let changed = seen.changed(&change);
        let put = self.run.replace("lead the calls of", &changed).await?;
        Ok(self.made(put, &format!("all calls go to revision {revision}")))
    }

    /// Tells of what was done.
    fn made(&self, put: Put, what: &str) -> Made {
        match put {
            Put::Done { .. } => {
                let release = &self.call.version;
                self.call.output(&format!("release {release}: {what}"));
                Made::Done
            }
            Put::Stale(failure) => Made::Stale(failure),
        }
    }

    fn with_template<'a>(&'a self, revision: &str, traffic: &'a [Part]) -> Change<'a> {
        Change {
            template: Some(self.wanted.service.settings.template(revision)),
            ..self.change(traffic)
        }
    }

    fn change<'a>(&'a self, traffic: &'a [Part]) -> Change<'a> {
        Change {
            owner: &self.wanted.owner,
            body: None,
            template: None,
            traffic,
            ingress: &self.wanted.service.ingress,
        }
    }

    /// Gives a revision a part of the calls for a time; takes it back where it is no longer ready.
    /// Somebody who changes the service meanwhile ends it.
    async fn soak(
        &self,
        revision: &str,
        canary: Canary,
        (traffic, seen): (&[Part], &Seen),
    ) -> Result<Made, Failure> {
        let changed = seen.changed(&self.change(traffic));
        let put = self.run.replace("give a part of the calls of", &changed);
        let given = match put.await? {
            Put::Done { generation } => generation,
            Put::Stale(failure) => return Ok(Made::Stale(failure)),
        };
        let (percent, release) = (canary.percent, &self.call.version);
        self.call.output(&format!(
            "release {release}: {percent}% of the calls go to revision {revision}"
        ));
        let mut left = canary.soak;
        while !left.is_zero() {
            let pause = left.min(CANARY_LOOK);
            sleep(pause).await;
            left -= pause;
            let now = self.look().await?;
            let now = now.filter(|now| now.generation == given);
            let now = now.ok_or_else(|| {
                let why = "somebody changed the service while it soaked";
                Failure::Retryable(why.to_owned())
            })?;
            let found = now.revisions.iter().find(|one| one.name == revision);
            if let Some(Ready::No(why)) = found.map(|one| &one.ready) {
                self.take_back(&seen.held(), now.clone()).await?;
                let why = format!("revision {revision} did not last its soak: {why}");
                return Err(Failure::Permanent(why));
            }
        }
        Ok(Made::Done)
    }

    /// Calls go where they went before the soak.
    async fn take_back(&self, traffic: &[Part], mut now: Seen) -> Result<(), Failure> {
        let mut late = None;
        for _ in 0..STALE_MAX {
            let changed = now.changed(&self.change(traffic));
            match self.run.replace("take back the calls of", &changed).await? {
                Put::Done { .. } => return Ok(()),
                Put::Stale(failure) => late = Some(failure),
            }
            match self.look().await? {
                Some(seen) => now = seen,
                None => return Ok(()),
            }
        }
        late.map_or(Ok(()), Err)
    }
}
