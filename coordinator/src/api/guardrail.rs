//! Protections, policies and notifiers, as declared.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::guardrail::{Notifier, Policy, Protection};

use super::problem::Answer;
use super::{App, Caller};

/// The protections, each with the tracks that use it.
#[utoipa::path(get, path = "/v1/protections", responses((status = 200, body = Items<Protection>)))]
pub async fn protections(State(app): State<App>, _: Caller) -> Answer<Items<Protection>> {
    let all = app.driver.ask(|world| world.protections()).await?;
    Ok(Json(all.into()))
}

/// The policies.
#[utoipa::path(get, path = "/v1/policies", responses((status = 200, body = Items<Policy>)))]
pub async fn policies(State(app): State<App>, _: Caller) -> Answer<Items<Policy>> {
    let all = app.driver.ask(|world| world.policies()).await?;
    Ok(Json(all.into()))
}

/// The notifiers.
#[utoipa::path(get, path = "/v1/notifiers", responses((status = 200, body = Items<Notifier>)))]
pub async fn notifiers(State(app): State<App>, _: Caller) -> Answer<Items<Notifier>> {
    let all = app.driver.ask(|world| world.notifiers()).await?;
    Ok(Json(all.into()))
}
