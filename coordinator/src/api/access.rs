//! Who asks, and whether that may be done: looked at once for each request, before anything of it is
//! read; and again while a stream goes on.

use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdfast_protocol::api::Code;
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::digest::Digest;

use super::App;
use super::problem::{self, Failed};
use crate::access::route::{self, Asked};
use crate::access::token::TOKEN_MAX_BYTES;
use crate::access::{self, Action, Subject};
use crate::clock;
use crate::event::Refused;

/// Shortest pause between two looks at whether a stream may go on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Longest pause: a token may end although nothing happens.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Somebody who has shown a valid token that allows what is asked. An endpoint that takes this cannot
/// be reached otherwise.
#[derive(Debug, Clone)]
pub struct Caller(pub access::Caller);

impl FromRequestParts<App> for Caller {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failed> {
        // Put there by `guard`; a route that is not guarded is nobody's.
        parts.extensions.get().cloned().ok_or_else(no_rule)
    }
}

/// Lets a request through to its endpoint once its caller may make it.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match caller(&mut parts, &app).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refusal,
    }
}

async fn caller(parts: &mut Parts, app: &App) -> Result<Caller, Response> {
    let path = parts.extensions.get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let Some(rule) = route::rule(parts.method.as_str(), path) else {
        return Err(if route::is_known(path) {
            problem::no_method(parts.method.clone(), parts.uri.clone()).await
        } else {
            no_rule().into_response()
        });
    };
    // Parts that are no text are refused by the endpoint, which says which.
    let named = RawPathParams::from_request_parts(parts, app).await.ok();
    let named = named.iter().flatten();
    let asked = Asked {
        // No token hashes to that of nothing: the empty one is not looked up.
        token: Digest::of(token(parts).unwrap_or_default().as_bytes()),
        rule,
        parts: named
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        now: clock::now(),
    };
    let answer = app
        .driver
        .ask(move |world| route::authorise(world, &asked))
        .await;
    answer.flatten().map(Caller).map_err(|refused| {
        if matches!(refused.code, Code::Unauthenticated | Code::Forbidden) {
            app.metrics.refusals.inc();
            let (method, why) = (&parts.method, &refused.detail);
            tracing::info!(%method, path, %why, "a request was refused");
        }
        Failed(refused).into_response()
    })
}

fn no_rule() -> Failed {
    Failed(Refused::new(
        Code::Internal,
        "nobody has said who may do this; please report it",
    ))
}

/// The token of an `Authorization` header; the scheme's name is in any case (RFC 9110, section 11.1).
fn token(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= TOKEN_MAX_BYTES).then_some(token)
}

/// Comes once a caller may look no more, or the coordinator stops: the end of every stream. What may
/// change that is in the history, or is the end of the token.
pub async fn ended(app: App, caller: access::Caller) {
    let mut head = app.driver.head();
    loop {
        let left = caller.expires_at.map(|end| end.since(clock::now()));
        let patience = left.unwrap_or(LOOK_MAX).clamp(LOOK_AGAIN, LOOK_MAX);
        tokio::select! {
            () = app.stop.cancelled() => return,
            changed = head.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(patience) => {}
        }
        let (hash, now) = (caller.token_hash, clock::now());
        let known = app.driver.ask(move |world| world.caller(&hash, now)).await;
        let look = Action::new(Permission::Read, Subject::default());
        let may = |known: &access::Caller| access::allows(known, &look).is_ok();
        if !known.is_ok_and(|known| known.is_some_and(|known| may(&known))) {
            return;
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests;
