//! Secrets: set, listed without their values, deleted.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_certs::vault::Plain;
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::api::secret::{NewSecret, Secret};
use holdfast_protocol::api::steer::Steered;
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::name::{EnvironmentName, SecretName};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Body, Failed, Path, Query};
use super::{App, Caller};
use crate::access::{self, Action, Subject};
use crate::event::{Event, Refused};
use crate::world::secret::Change;

/// Sets a secret; each new value has the next number. The value is in no answer.
#[utoipa::path(
    post,
    path = "/v1/secrets",
    request_body = NewSecret,
    responses(
        (status = 200, body = Secret),
        (status = 404, description = "no such environment, or nothing to rotate")
    )
)]
pub async fn set(
    State(app): State<App>,
    Caller(caller): Caller,
    Body(new): Body<NewSecret>,
) -> Answer<Secret> {
    demand(&caller, &new.environment)?;
    let value = value(new.value, new.base64)?;
    let by = caller.name;
    let (environment, name, rotate) = (new.environment, new.name, new.rotate);
    let event = |reply| {
        Event::Secret(Box::new(Change::Set {
            environment,
            name,
            value,
            rotate,
            by,
            reply,
        }))
    };
    Ok(Json(app.driver.request(event).await?))
}

/// Which secrets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this environment.
    environment: Option<String>,
}

/// The secrets by environment and name, without their values.
#[utoipa::path(
    get,
    path = "/v1/secrets",
    params(Filter),
    responses((status = 200, body = Items<Secret>))
)]
pub async fn list(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<Secret>> {
    let environment: Option<EnvironmentName> = super::parse_some(filter.environment.as_ref())?;
    let secrets = app
        .driver
        .ask(move |world| world.secret_list(environment.as_ref()));
    Ok(Json(secrets.await?.into()))
}

/// Forgets a secret that no manifest names.
#[utoipa::path(
    delete,
    path = "/v1/secrets/{environment}/{name}",
    params(("environment" = String, Path), ("name" = String, Path)),
    responses(
        (status = 200, body = Secret),
        (status = 404, description = "no such secret"),
        (status = 409, description = "a service uses it")
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(caller): Caller,
    Path((environment, name)): Path<(String, String)>,
) -> Answer<Secret> {
    let environment: EnvironmentName = super::parse(&environment)?;
    let name: SecretName = super::parse(&name)?;
    demand(&caller, &environment)?;
    let by = caller.name;
    let event = |reply| {
        Event::Secret(Box::new(Change::Delete {
            environment,
            name,
            by,
            reply,
        }))
    };
    Ok(Json(app.driver.request(event).await?))
}

/// Puts every value under a new key of the coordinator's.
#[utoipa::path(
    post,
    path = "/v1/secrets/rekey",
    responses((status = 200, body = Steered))
)]
pub async fn rekey(State(app): State<App>, Caller(caller): Caller) -> Answer<Steered> {
    let by = caller.name;
    let event = |reply| Event::Secret(Box::new(Change::Rekey { by, reply }));
    Ok(Json(app.driver.request(event).await?))
}

fn demand(caller: &access::Caller, environment: &EnvironmentName) -> Result<(), Failed> {
    let action = Action::new(Permission::Secret, Subject::environment(environment));
    access::allows(caller, &action).map_err(Failed)
}

/// The value, whichever way it was written. What is wrong with it is said without a part of it.
fn value(text: Option<String>, base64: Option<String>) -> Result<Plain, Failed> {
    let wrong = |detail: &str| Failed(Refused::new(Code::BadRequest, detail));
    match (text, base64) {
        (Some(text), None) => Ok(Plain::new(text.into_bytes())),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map(Plain::new)
            .map_err(|_| wrong("`base64` is not base64")),
        (Some(_), Some(_)) | (None, None) => {
            Err(wrong("exactly one of `value` and `base64` is expected"))
        }
    }
}
