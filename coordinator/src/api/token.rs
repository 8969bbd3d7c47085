//! Join tokens.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::api::token::{CreatedToken, NewToken, Token};

use super::problem::{Answer, Body, Path};
use super::{App, Caller};
use crate::access::{self, Action, Subject};
use crate::event::Event;

/// Makes a join token. The answer is the only time that its secret is shown.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    request_body = NewToken,
    responses((status = 200, body = CreatedToken))
)]
pub async fn create(
    State(app): State<App>,
    Caller(user): Caller,
    Body(new): Body<NewToken>,
) -> Answer<CreatedToken> {
    let on = Subject::environment(&new.environment);
    access::allows(&user, &Action::new(Permission::Target, on))?;
    let by = user.name;
    Ok(Json(
        app.driver
            .request(|reply| Event::CreateToken { new, by, reply })
            .await?,
    ))
}

/// The join tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", responses((status = 200, body = Items<Token>)))]
pub async fn list(State(app): State<App>, _: Caller) -> Answer<Items<Token>> {
    let tokens = app.driver.ask(|world| {
        world
            .tokens
            .values()
            .map(|token| token.about.clone())
            .collect::<Vec<_>>()
    });
    Ok(Json(tokens.await?.into()))
}

/// Makes a join token void.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = Token), (status = 404, description = "no such token"))
)]
pub async fn revoke(
    State(app): State<App>,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Answer<Token> {
    let by = user.name;
    Ok(Json(
        app.driver
            .request(|reply| Event::RevokeToken { id, by, reply })
            .await?,
    ))
}
