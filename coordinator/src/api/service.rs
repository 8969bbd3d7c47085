//! Services.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::service::Service;
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::name::ServiceName;

use super::problem::{Answer, Failed, Path};
use super::{App, Caller};
use crate::event::Refused;

/// The services.
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = Items<Service>)))]
pub async fn list(State(app): State<App>, _: Caller) -> Answer<Items<Service>> {
    Ok(Json(app.driver.ask(|world| world.services()).await?.into()))
}

/// One service.
#[utoipa::path(
    get,
    path = "/v1/services/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = Service), (status = 404, description = "no such service"))
)]
pub async fn one(State(app): State<App>, _: Caller, Path(name): Path<String>) -> Answer<Service> {
    let name: ServiceName = super::parse(&name)?;
    let all = app.driver.ask(|world| world.services()).await?;
    let one = all.into_iter().find(|service| service.name == name);
    one.map(Json).ok_or_else(|| {
        Failed(
            Refused::new(Code::NotFound, format!("no service {name} is declared"))
                .help("list them: holdfast get services"),
        )
    })
}
