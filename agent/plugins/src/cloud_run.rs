//! The plugin `cloud-run`: services in Google Cloud Run, each release a revision to which all calls
//! are led in one step.
//!
//! It speaks the published REST API, version 1, which is that of Knative.

use std::ffi::OsString;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use self::api::{ENDPOINT, Run};
use self::change::Converge;
use self::credentials::Source;
use self::plan::{Wanted, mine, sight};
use self::template::Place;
pub use self::template::Template;
use crate::hidden::hidden;
use crate::made::Made;
use crate::wait::wait_for;
use crate::{About, Call, Failure, Plugin, Sighting, Wrong};

mod api;
mod change;
mod credentials;
mod plan;
mod refusal;
mod seen;
mod settings;
mod template;
#[cfg(test)]
mod tests;

/// Time between two looks whether a service is gone.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest value of a label in Google's cloud, in characters.
const LABEL_MAX_CHARS: usize = 63;

/// Services in Google Cloud Run.
pub struct Services {
    own: Own,
}

/// What `agent.toml` gives the plugin by its environment.
struct Own {
    /// Another address of the API.
    endpoint: Option<String>,
    credentials: Source,
}

impl Services {
    /// With what the plugin's environment says; `variable` gives the value of one of it.
    #[must_use]
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let endpoint = variable(ENDPOINT).map(|text| text.to_string_lossy().into_owned());
        let credentials = Source::new(&variable);
        Self {
            own: Own {
                endpoint,
                credentials,
            },
        }
    }
}

impl Plugin for Services {
    type Template = Template;

    fn about(&self) -> About {
        About {
            version: env!("CARGO_PKG_VERSION"),
            summary: "a service in Google Cloud Run",
            template: template::schema(),
            logs: true,
            interval_seconds: 30,
        }
    }

    fn problems(&self, call: &Call<'_, Template>) -> Vec<Wrong> {
        template::read(&call.template).err().unwrap_or_default()
    }

    fn observe(&self, call: &Call<'_, Template>) -> Result<Sighting, Failure> {
        let wanted = wanted(call)?;
        let seen = wait_for(async {
            let run = Run::open(&self.own, &wanted.service.place, call.left()).await?;
            in_time(call, run.look(&wanted.service.settings.mark())).await
        })?;
        let (state, message) = sight(&wanted, seen.as_ref());
        let own = seen.filter(|seen| mine(&wanted, seen).is_ok());
        Ok(Sighting {
            body: own.and_then(|seen| seen.body),
            message,
            ..call.seen(state)
        })
    }

    fn converge(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let wanted = wanted(call)?;
        let mine = &wanted.service.place;
        let mut made = Made::recall(call.directory());
        made.note(mine)?;
        wait_for(async {
            let run = &Run::open(&self.own, mine, call.left()).await?;
            let wanted = &wanted;
            let converge = Converge { call, wanted, run };
            let converged = in_time(call, converge.to_the_end()).await;
            converged.map_err(|failure| hidden(failure, wanted.service.settings.values()))?;
            for other in made.others(mine) {
                in_time(call, delete(call, &self.own, &other)).await?;
            }
            made.keep(mine)
        })
    }

    fn remove(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let named = template::read(&call.template).map(|service| service.place);
        let made = Made::recall(call.directory()).all(named.ok());
        wait_for(async {
            for place in &made {
                in_time(call, delete(call, &self.own, place)).await?;
            }
            Ok(())
        })
    }
}

fn wanted(call: &Call<'_, Template>) -> Result<Wanted, Failure> {
    let service = template::read(&call.template).map_err(|wrong| {
        let said = wrong
            .into_iter()
            .map(|Wrong { path, message }| format!("{path}: {message}"));
        let said: Vec<String> = said.collect();
        Failure::Permanent(format!("the template is wrong: {}", said.join("; ")))
    })?;
    Ok(Wanted {
        owner: label(&call.id),
        body: call.body,
        service,
    })
}

/// A workload's id as the value of a label: its own words, where they fit. Names of targets and
/// environments hold no `_`.
fn label(id: &str) -> String {
    let words = id.replace('/', "_");
    if words.len() <= LABEL_MAX_CHARS {
        return words;
    }
    let digest = holdfast_protocol::digest::Digest::of(id.as_bytes());
    digest.hex()[..LABEL_MAX_CHARS].to_owned()
}

async fn in_time<T>(
    call: &Call<'_, Template>,
    steps: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| {
        Err(Failure::Retryable(
            "Cloud Run is not done in time".to_owned(),
        ))
    };
    timeout(call.left(), steps).await.unwrap_or_else(late)
}

/// Deletes a service if it is ours, and waits until it is gone.
async fn delete(call: &Call<'_, Template>, own: &Own, place: &Place) -> Result<(), Failure> {
    let run = Run::open(own, place, call.left()).await?;
    let owner = label(&call.id);
    let mut asked = false;
    while let Some(seen) = run.look("").await? {
        if seen.owner.as_ref() != Some(&owner) {
            return Ok(());
        }
        if !asked && !seen.is_going {
            call.output(&format!("deleting service {}", place.service));
            run.delete().await?;
        }
        asked = true;
        sleep(PAUSE).await;
    }
    Ok(())
}
