//! Environments.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::environment::Environment;
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::name::EnvironmentName;

use super::problem::{Answer, Failed, Path};
use super::{App, Caller};
use crate::event::Refused;

/// The environments.
#[utoipa::path(get, path = "/v1/environments", responses((status = 200, body = Items<Environment>)))]
pub async fn list(State(app): State<App>, _: Caller) -> Answer<Items<Environment>> {
    Ok(Json(
        app.driver.ask(|world| world.environments()).await?.into(),
    ))
}

/// One environment.
#[utoipa::path(
    get,
    path = "/v1/environments/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = Environment), (status = 404, description = "no such environment"))
)]
pub async fn one(
    State(app): State<App>,
    _: Caller,
    Path(name): Path<String>,
) -> Answer<Environment> {
    let name: EnvironmentName = super::parse(&name)?;
    let all = app.driver.ask(|world| world.environments()).await?;
    let one = all.into_iter().find(|environment| environment.name == name);
    one.map(Json).ok_or_else(|| {
        Failed(
            Refused::new(Code::NotFound, format!("no environment {name} is declared"))
                .help("list them: holdfast get environments"),
        )
    })
}
