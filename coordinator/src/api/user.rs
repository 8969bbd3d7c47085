//! Users and their tokens.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::user::{CreatedUser, NewRoles, NewUser, Rotate, User};
use holdfast_protocol::name::UserName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Body, Failed, Path, Query};
use super::{App, Caller, page};
use crate::event::Event;
use crate::world::access::{Change, user};

/// Makes a user. The answer is the only time that the token is shown.
#[utoipa::path(
    post,
    path = "/v1/users",
    request_body = NewUser,
    responses(
        (status = 200, body = CreatedUser),
        (status = 409, description = "there is one of that name with other roles")
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(caller): Caller,
    Body(new): Body<NewUser>,
) -> Answer<CreatedUser> {
    let event = |reply| Event::access(caller, Change::CreateUser { new, reply });
    Ok(Json(app.driver.request(event).await?))
}

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// At most so many.
    limit: Option<u32>,
    /// Where the page begins, from the page before.
    r#continue: Option<String>,
}

/// The users by name, without their tokens.
#[utoipa::path(
    get,
    path = "/v1/users",
    params(Filter),
    responses((status = 200, body = Items<User>))
)]
pub async fn list(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<User>> {
    let after: Option<UserName> = page::begin(filter.r#continue.as_ref())?;
    let rows = page::rows(filter.limit);
    let users = app
        .driver
        .ask(move |world| world.user_list(after.as_ref(), rows));
    let name = |last: &User| last.name.to_string();
    Ok(Json(page::full(users.await?, filter.limit, name)))
}

/// One user.
#[utoipa::path(
    get,
    path = "/v1/users/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = User), (status = 404, description = "no such user"))
)]
pub async fn one(State(app): State<App>, _: Caller, Path(name): Path<String>) -> Answer<User> {
    let name: UserName = super::parse(&name)?;
    let asked = name.clone();
    let one = app
        .driver
        .ask(move |world| world.user(&asked).map(|user| user.about()));
    let one = one.await?.ok_or_else(|| Failed(user::unknown(&name)));
    one.map(Json)
}

/// Makes a user's token void. Streams that it has open end within seconds.
#[utoipa::path(
    delete,
    path = "/v1/users/{name}",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = User),
        (status = 404, description = "no such user"),
        (status = 409, description = "it is the last administrator")
    )
)]
pub async fn revoke(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(name): Path<String>,
) -> Answer<User> {
    let name = super::parse(&name)?;
    let event = |reply| Event::access(caller, Change::RevokeUser { name, reply });
    Ok(Json(app.driver.request(event).await?))
}

/// Makes a new token for a user, and the one before void.
#[utoipa::path(
    post,
    path = "/v1/users/{name}/rotate",
    params(("name" = String, Path)),
    request_body = Rotate,
    responses((status = 200, body = CreatedUser), (status = 404, description = "no such user"))
)]
pub async fn rotate(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(name): Path<String>,
    Body(Rotate { ttl }): Body<Rotate>,
) -> Answer<CreatedUser> {
    let name = super::parse(&name)?;
    let event = |reply| Event::access(caller, Change::RotateUser { name, ttl, reply });
    Ok(Json(app.driver.request(event).await?))
}

/// Gives a user other roles; the token stays.
#[utoipa::path(
    put,
    path = "/v1/users/{name}/roles",
    params(("name" = String, Path)),
    request_body = NewRoles,
    responses((status = 200, body = User), (status = 404, description = "no such user"))
)]
pub async fn assign(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(name): Path<String>,
    Body(NewRoles { roles }): Body<NewRoles>,
) -> Answer<User> {
    let name = super::parse(&name)?;
    let event = |reply| Event::access(caller, Change::AssignRoles { name, roles, reply });
    Ok(Json(app.driver.request(event).await?))
}
