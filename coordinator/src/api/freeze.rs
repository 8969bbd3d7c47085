//! Freezes.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::freeze::{Freeze, NewFreeze};
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::api::steer::{Steer, Steered};
use holdfast_protocol::name::EnvironmentName;

use super::problem::{self, Answer, Body, Failed, Path};
use super::{App, Caller};
use crate::access::{Action, Subject, allows};
use crate::event::Event;

/// What stands for all environments in a path.
const EVERYWHERE: &str = "-";

/// The freezes in force, that of all environments first.
#[utoipa::path(get, path = "/v1/freezes", responses((status = 200, body = Items<Freeze>)))]
pub async fn list(State(app): State<App>, _: Caller) -> Answer<Items<Freeze>> {
    let freezes = app.driver.ask(|world| world.freezes()).await?;
    Ok(Json(freezes.into()))
}

/// Lets nothing new start, in one environment or in all.
#[utoipa::path(
    post,
    path = "/v1/freezes",
    request_body = NewFreeze,
    responses(
        (status = 200, body = Steered),
        (status = 403, description = "frozen by somebody who may do more"),
        (status = 404, description = "no such environment"),
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(caller): Caller,
    Body(new): Body<NewFreeze>,
) -> Answer<Steered> {
    problem::check_reason(Some(&new.reason))?;
    demand(&caller, new.environment.as_ref())?;
    let by = Box::new(caller);
    let event = |reply| Event::Freeze { new, by, reply };
    Ok(Json(app.driver.request(event).await?))
}

/// Ends the freeze of an environment; `-` stands for that of all.
#[utoipa::path(
    post,
    path = "/v1/freezes/{environment}/end",
    params(("environment" = String, Path)),
    request_body = Steer,
    responses(
        (status = 200, body = Steered),
        (status = 403, description = "frozen by somebody who may do more"),
        (status = 404, description = "no such environment"),
    )
)]
pub async fn end(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(environment): Path<String>,
    Body(steer): Body<Steer>,
) -> Answer<Steered> {
    problem::check_reason(steer.reason.as_ref())?;
    let environment: Option<EnvironmentName> = match environment.as_str() {
        EVERYWHERE => None,
        name => Some(super::parse(name)?),
    };
    demand(&caller, environment.as_ref())?;
    let (by, reason) = (Box::new(caller), steer.reason);
    let event = |reply| Event::Unfreeze {
        environment,
        by,
        reason,
        reply,
    };
    Ok(Json(app.driver.request(event).await?))
}

/// Whoever freezes a place may steer all that is in it.
fn demand(
    caller: &crate::access::Caller,
    environment: Option<&EnvironmentName>,
) -> Result<(), Failed> {
    let action = Action {
        permission: Permission::Deploy,
        on: environment.map_or_else(Subject::everything, Subject::environment),
    };
    allows(caller, &action).map_err(Failed)
}
