//! Users and their tokens.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::user::{CreatedUser, NewRoles, NewUser, Rotate, User};
use holdfast_protocol::name::UserName;

use super::problem::{Answer, Body, Failed, Path};
use super::{App, Caller};
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

/// The users, without their tokens.
#[utoipa::path(get, path = "/v1/users", responses((status = 200, body = Items<User>)))]
pub async fn list(State(app): State<App>, _: Caller) -> Answer<Items<User>> {
    let users = app.driver.ask(|world| world.user_list()).await?;
    Ok(Json(users.into()))
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
