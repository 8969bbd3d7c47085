//! The plugin `aws-lambda`: functions as immutable versions behind an alias.

use std::time::Duration;

use holdfast_plugins::{About, Call, Failure, Plugin, Sighting, State, Wrong, image, memory};
use holdfast_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::api::Lambda;
use self::plan::Wanted;
use self::seen::Sha;
use self::sight::{Sight, sight};
use self::template::{Code, Function};
use crate::connection::connect;
use crate::place::Place;
use holdfast_plugins::wait::wait_for;

mod api;
mod change;
mod pack;
mod plan;
mod seen;
mod sight;
mod template;
#[cfg(test)]
mod tests;

/// Time that one call of the API may take, with all its attempts: an archive may be long.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// Functions in AWS Lambda.
pub(crate) struct Functions;

/// A function that was made, or was about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    name: String,
    place: Place,
}

/// What an archive of a body is, so that it need not be packed to be compared.
#[derive(Debug, Serialize, Deserialize)]
struct PackedBefore {
    body: Digest,
    digest: Digest,
}

impl Plugin for Functions {
    type Template = Value;

    fn about(&self) -> About {
        About {
            version: env!("CARGO_PKG_VERSION"),
            summary: "a function in AWS Lambda",
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
            let config = connect(&wanted.function.place, call.left()).await?;
            let seen = Lambda::new(&config, &wanted.function.name).look().await?;
            Ok(sight(&wanted, seen.as_ref()))
        })?;
        Ok(told(call, sight, body))
    }

    fn converge(&self, call: &Call<'_, Value>) -> Result<(), Failure> {
        let wanted = wanted(call)?;
        let mine = Made {
            name: wanted.function.name.clone(),
            place: wanted.function.place.clone(),
        };
        let mut made: Vec<Made> = memory::recall(call.directory(), MADE_FILE).unwrap_or_default();
        if !made.contains(&mine) {
            made.push(mine.clone());
            memory::remember(call.directory(), MADE_FILE, &made)?;
        }
        wait_for(async {
            change::converge(call, &wanted).await?;
            let others: Vec<Made> = made.into_iter().filter(|other| *other != mine).collect();
            delete(call, &others).await?;
            if others.is_empty() {
                return Ok(());
            }
            memory::remember(call.directory(), MADE_FILE, &[&mine])
        })
    }

    fn remove(&self, call: &Call<'_, Value>) -> Result<(), Failure> {
        let made: Vec<Made> = memory::recall(call.directory(), MADE_FILE).unwrap_or_default();
        wait_for(delete(call, &made))
    }
}

/// Deletes what was made under other names, and is still ours.
async fn delete(call: &Call<'_, Value>, made: &[Made]) -> Result<(), Failure> {
    for Made { name, place } in made {
        let config = connect(place, CALL_LIMIT.min(call.left())).await?;
        Lambda::new(&config, name).delete(&call.id).await?;
    }
    Ok(())
}

/// What is wanted, with the digest of its code.
fn wanted(call: &Call<'_, Value>) -> Result<Wanted, Failure> {
    let function = template::read(&call.template).map_err(|problems| problems.failure())?;
    Ok(Wanted {
        owner: call.id.clone(),
        body: call.body,
        code: code(call, &function)?,
        function,
    })
}

/// The digest of the code; an archive is packed once for each body.
fn code(call: &Call<'_, Value>, function: &Function) -> Result<Sha, Failure> {
    let path = match &function.code {
        Code::Image(image) => {
            return image::digest(image)
                .map(Sha::Image)
                .map_err(Failure::Permanent);
        }
        Code::Path(path) => path,
    };
    let before: Option<PackedBefore> = memory::recall(call.directory(), PACKED_FILE);
    if let Some(before) = before.filter(|before| before.body == call.body) {
        return Ok(Sha::Zip(before.digest));
    }
    let digest = packed(path)?.digest;
    let body = call.body;
    memory::remember(
        call.directory(),
        PACKED_FILE,
        &PackedBefore { body, digest },
    )?;
    Ok(Sha::Zip(digest))
}

fn packed(path: &std::path::Path) -> Result<pack::Packed, Failure> {
    pack::pack(path).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        Failure::Permanent(format!("{error}{}", source.unwrap_or_default()))
    })
}

fn told(call: &Call<'_, Value>, sight: Sight, body: Option<Digest>) -> Sighting {
    let (state, message) = match sight {
        Sight::Running => (State::Running, None),
        Sight::Starting(why) => (State::Starting, Some(why)),
        Sight::Failing(why) => (State::Failing, Some(why)),
        Sight::Altered(what) => (State::Altered, Some(what)),
        Sight::Absent => (State::Absent, None),
    };
    Sighting {
        body,
        message,
        ..call.seen(state)
    }
}

/// Where it is remembered which functions were made.
const MADE_FILE: &str = "made.json";
/// Where it is remembered what an archive was.
const PACKED_FILE: &str = "packed.json";
