//! Roles.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::role::{NewRole, Role};
use holdfast_protocol::name::RoleName;

use super::problem::{Answer, Body, Failed, Path};
use super::{App, Caller};
use crate::clock;
use crate::event::Event;
use crate::world::access::{Change, role};

/// Declares a role.
#[utoipa::path(
    post,
    path = "/v1/roles",
    request_body = NewRole,
    responses(
        (status = 200, body = Role),
        (status = 409, description = "there is one of that name that says something else")
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(caller): Caller,
    Body(new): Body<NewRole>,
) -> Answer<Role> {
    let event = |reply| Event::access(caller, Change::CreateRole { new, reply });
    Ok(Json(app.driver.request(event).await?))
}

/// The roles: those that every installation has, then those that were declared.
#[utoipa::path(get, path = "/v1/roles", responses((status = 200, body = Items<Role>)))]
pub async fn list(State(app): State<App>, _: Caller) -> Answer<Items<Role>> {
    let now = clock::now();
    let roles = app.driver.ask(move |world| world.role_list(now)).await?;
    Ok(Json(roles.into()))
}

/// One role.
#[utoipa::path(
    get,
    path = "/v1/roles/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = Role), (status = 404, description = "no such role"))
)]
pub async fn one(State(app): State<App>, _: Caller, Path(name): Path<String>) -> Answer<Role> {
    let (name, now) = (super::parse::<RoleName>(&name)?, clock::now());
    let asked = name.clone();
    let one = app.driver.ask(move |world| world.role(&asked, now)).await?;
    one.map(Json).ok_or_else(|| Failed(role::unknown(&name)))
}

/// Deletes a role that nobody has.
#[utoipa::path(
    delete,
    path = "/v1/roles/{name}",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = Role),
        (status = 404, description = "no such role"),
        (status = 409, description = "somebody has it, or it is built in")
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(name): Path<String>,
) -> Answer<Role> {
    let name = super::parse(&name)?;
    let event = |reply| Event::access(caller, Change::DeleteRole { name, reply });
    Ok(Json(app.driver.request(event).await?))
}
