//! The plugin `aws-ecs`: services of containers, rolled out by ECS's own deployments.

use std::time::Duration;

use holdfast_plugins::hidden::hidden;
use holdfast_plugins::made::Made;
use holdfast_plugins::wait::wait_for;
use holdfast_plugins::{About, Call, Failure, Plugin, Sighting, Wrong};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use self::api::Ecs;
use self::plan::{Life, Started, Step, Wanted, sight, step};
use crate::connection::connect;
use crate::place::Place;

mod api;
mod plan;
mod template;
#[cfg(test)]
mod tests;

/// Time that one call of the API may take, with all its attempts.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Most steps of one converge, waits included.
const STEPS_MAX: usize = 1000;
/// Time between two looks at what ECS is at: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Services in Amazon ECS.
pub(crate) struct Services;

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
    cluster: String,
    name: String,
    place: Place,
}

impl Plugin for Services {
    type Template = Value;

    fn about(&self) -> About {
        About {
            version: env!("CARGO_PKG_VERSION"),
            summary: "a service in Amazon ECS",
            template: template::schema(),
            logs: true,
            interval_seconds: 30,
        }
    }

    fn problems(&self, call: &Call<'_, Value>) -> Vec<Wrong> {
        let problems = template::read(&call.template).err().unwrap_or_default();
        problems.wrong()
    }

    fn observe(&self, call: &Call<'_, Value>) -> Result<Sighting, Failure> {
        let wanted = wanted(call)?;
        let (sight, body) = wait_for(async {
            let ecs = open(&address(&wanted), call).await?;
            let seen = ecs.look().await?;
            Ok(sight(&wanted, seen.as_ref()))
        })?;
        let (state, message) = sight.told();
        Ok(Sighting {
            body,
            message,
            ..call.seen(state)
        })
    }

    fn converge(&self, call: &Call<'_, Value>) -> Result<(), Failure> {
        let wanted = wanted(call)?;
        let mine = address(&wanted);
        let mut made = Made::recall(call.directory());
        made.note(&mine)?;
        wait_for(async {
            let ecs = open(&mine, call).await?;
            let converged = in_time(call, run(call, &wanted, &ecs)).await;
            converged.map_err(|failure| hidden(failure, wanted.service.task.values()))?;
            for other in made.others(&mine) {
                in_time(call, delete(call, &open(&other, call).await?)).await?;
            }
            made.keep(&mine)
        })
    }

    fn remove(&self, call: &Call<'_, Value>) -> Result<(), Failure> {
        let named = wanted(call).map(|wanted| address(&wanted));
        let made = Made::recall(call.directory()).all(named.ok());
        wait_for(async {
            for one in &made {
                let ecs = open(one, call).await?;
                in_time(call, delete(call, &ecs)).await?;
                let left = ecs.definitions(&family(&call.id), &call.id).await?;
                let left: Vec<String> = left.into_iter().map(|one| one.arn).collect();
                ecs.forget(&left).await?;
            }
            Ok(())
        })
    }
}

fn address(wanted: &Wanted) -> Address {
    Address {
        cluster: wanted.service.cluster.clone(),
        name: wanted.service.name.clone(),
        place: wanted.service.place.clone(),
    }
}

async fn open(address: &Address, call: &Call<'_, Value>) -> Result<Ecs, Failure> {
    let config = connect(&address.place, CALL_LIMIT.min(call.left())).await?;
    Ok(Ecs::new(&config, &address.cluster, &address.name))
}

fn wanted(call: &Call<'_, Value>) -> Result<Wanted, Failure> {
    let service = template::read(&call.template).map_err(|problems| problems.failure())?;
    Ok(Wanted {
        owner: call.id.clone(),
        body: call.body,
        content: service.task.content(),
        service,
    })
}

/// The family of a workload's task definitions: nobody else's, as its id.
fn family(id: &str) -> String {
    format!("holdfast_{}", id.replace('/', "_"))
}

async fn in_time(
    call: &Call<'_, Value>,
    steps: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let late = |_| Err(Failure::Retryable("ECS is not done in time".to_owned()));
    timeout(call.left(), steps).await.unwrap_or_else(late)
}

/// Makes it so, one planned step at a time.
async fn run(call: &Call<'_, Value>, wanted: &Wanted, ecs: &Ecs) -> Result<(), Failure> {
    let family = family(&call.id);
    let (mut started, mut pause, mut told) = (None::<Started>, PAUSES.0, String::new());
    let mut definitions = ecs.definitions(&family, &wanted.owner).await?;
    for _ in 0..STEPS_MAX {
        let seen = ecs.look().await?;
        if let (Some(started), Some(seen)) = (&mut started, &seen) {
            started.was_listed |= seen.rollouts.iter().any(|one| one.id == started.id);
        }
        let next = step(wanted, seen.as_ref(), &definitions, started.as_ref());
        match next.map_err(|refused| Failure::Permanent(refused.0))? {
            Step::Done => return Ok(()),
            Step::Wait { at } => {
                if told != at {
                    call.progress(&at);
                    told = at;
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                continue;
            }
            Step::Register => {
                call.progress("registering a task definition");
                ecs.register(wanted, &family).await?;
                definitions = ecs.definitions(&family, &wanted.owner).await?;
            }
            Step::Create { definition } => {
                call.output(&format!("release {}: creating {definition}", call.version));
                started = Some(ecs.create(wanted, &definition).await?);
            }
            Step::Update { definition, what } => {
                let why = if what.is_empty() {
                    "its deployment failed"
                } else {
                    &what
                };
                call.output(&format!(
                    "release {}: deploying {definition}, as {why}",
                    call.version
                ));
                started = Some(ecs.update(wanted, &definition, what.is_empty()).await?);
            }
            Step::Mark { arn } => {
                ecs.mark(&arn, wanted.body).await?;
                call.output(&format!("release {} is deployed", call.version));
            }
            Step::Forget { definitions: old } => {
                ecs.forget(&old).await?;
                definitions.retain(|one| !old.contains(&one.arn));
            }
        }
        pause = PAUSES.0;
    }
    Err(Failure::Retryable(
        "the service does not come to rest: somebody else changes it".to_owned(),
    ))
}

/// Deletes the service if it is ours, and waits until it is gone.
async fn delete(call: &Call<'_, Value>, ecs: &Ecs) -> Result<(), Failure> {
    if !ecs.has_cluster().await? {
        return Ok(());
    }
    let mut asked = false;
    let mut pause = PAUSES.0;
    loop {
        let Some(seen) = ecs.look().await? else {
            return Ok(());
        };
        if seen.owner.as_deref() != Some(call.id.as_str()) {
            return Ok(());
        }
        match seen.life {
            Life::Gone => return Ok(()),
            Life::Active if !asked => {
                ecs.delete().await?;
                asked = true;
            }
            Life::Active | Life::Draining => {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}
