//! The plugin `aws-lambda`: functions as immutable versions behind an alias.

use std::path::Component;
use std::time::Duration;

use holdfast_plugins::hidden::hidden;
use holdfast_plugins::made::Made;
use holdfast_plugins::wait::wait_for;
use holdfast_plugins::{About, Call, Failure, Plugin, Sighting, Wrong, image, memory};
use holdfast_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::api::Lambda;
use self::plan::Wanted;
use self::seen::Sha;
use self::sight::sight;
use self::template::{Code, Function};
use crate::connection::connect;
use crate::place::Place;

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

/// Where a function is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
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
        let outside = |function: &Function| {
            let outside = outside(call, function);
            outside.map(|why| Wrong::at("code.path", &why))
        };
        match template::read(&call.template) {
            Ok(function) => outside(&function).into_iter().collect(),
            Err(problems) => problems.wrong(),
        }
    }

    fn observe(&self, call: &Call<'_, Value>) -> Result<Sighting, Failure> {
        let wanted = wanted(call, code)?;
        let (sight, body) = wait_for(async {
            let config = connect(&wanted.function.place, call.left()).await?;
            let seen = Lambda::new(&config, &wanted.function.name).look().await?;
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
        // Packed now: what is sent is what is compared.
        let wanted = wanted(call, packed_code)?;
        let mine = Address {
            name: wanted.function.name.clone(),
            place: wanted.function.place.clone(),
        };
        let mut made = Made::recall(call.directory());
        made.note(&mine)?;
        wait_for(async {
            let converged = change::converge(call, &wanted).await;
            let values = wanted.function.settings.environment.values();
            converged.map_err(|failure| hidden(failure, values))?;
            delete(call, &made.others(&mine)).await?;
            made.keep(&mine)
        })
    }

    fn remove(&self, call: &Call<'_, Value>) -> Result<(), Failure> {
        let named = template::read(&call.template);
        let named = named.map(|Function { name, place, .. }| Address { name, place });
        let made = Made::recall(call.directory()).all(named.ok());
        wait_for(delete(call, &made))
    }
}

/// Deletes what was made under other names, and is still ours.
async fn delete(call: &Call<'_, Value>, made: &[Address]) -> Result<(), Failure> {
    for Address { name, place } in made {
        let config = connect(place, CALL_LIMIT.min(call.left())).await?;
        Lambda::new(&config, name).delete(&call.id).await?;
    }
    Ok(())
}

/// Why code is not taken from a path: what a manifest names may be no more than what it brings, for the
/// plugin may read more, such as its own credentials.
fn outside(call: &Call<'_, Value>, function: &Function) -> Option<String> {
    let Code::Path(path) = &function.code else {
        return None;
    };
    let plain = path.components().all(|part| part != Component::ParentDir);
    let below = call
        .artifacts
        .values()
        .any(|one| path.starts_with(&one.path));
    let help = "lies in no artifact of the service; expected \"{{ artifacts.NAME.path }}\"";
    (!plain || !below).then(|| format!("{} {help}", path.display()))
}

/// What is wanted, with the digest of its code.
fn wanted(
    call: &Call<'_, Value>,
    code: fn(&Call<'_, Value>, &Function) -> Result<Sha, Failure>,
) -> Result<Wanted, Failure> {
    let function = template::read(&call.template).map_err(|problems| problems.failure())?;
    if let Some(why) = outside(call, &function) {
        return Err(Failure::Permanent(format!("code.path: {why}")));
    }
    Ok(Wanted {
        owner: call.id.clone(),
        body: call.body,
        code: code(call, &function)?,
        function,
    })
}

/// The digest of the code; an archive that was packed for this body before is as it was.
fn code(call: &Call<'_, Value>, function: &Function) -> Result<Sha, Failure> {
    let before: Option<PackedBefore> = memory::recall(call.directory(), PACKED_FILE);
    match before.filter(|before| before.body == call.body) {
        Some(before) if matches!(function.code, Code::Path(_)) => Ok(Sha::Zip(before.digest)),
        Some(_) | None => packed_code(call, function),
    }
}

/// The digest of the code; an archive is packed for it.
fn packed_code(call: &Call<'_, Value>, function: &Function) -> Result<Sha, Failure> {
    let path = match &function.code {
        Code::Image(image) => {
            return image::digest(image)
                .map(Sha::Image)
                .map_err(Failure::Permanent);
        }
        Code::Path(path) => path,
    };
    let digest = packed(path)?.digest;
    let body = call.body;
    let packed = PackedBefore { body, digest };
    memory::remember(call.directory(), PACKED_FILE, &packed)?;
    Ok(Sha::Zip(digest))
}

fn packed(path: &std::path::Path) -> Result<pack::Packed, Failure> {
    pack::pack(path).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        Failure::Permanent(format!("{error}{}", source.unwrap_or_default()))
    })
}

/// Where it is remembered what an archive was.
const PACKED_FILE: &str = "packed.json";
