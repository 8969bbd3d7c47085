//! `Idempotency-Key`: a write that is repeated with the same key is answered with what the first one
//! was answered, and not done again.
//!
//! The answer is kept right after the round that did the write, not with it: a crash between the two
//! leaves a write without an answer, and its repetition is done as if it were new. All writes but the
//! making of tokens find that they are done already.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdfast_protocol::api::Code;
use holdfast_protocol::digest::Digest;

use super::apply::REQUEST_MAX_BYTES;
use super::problem::{ANSWER_TIMEOUT, Failed};
use super::{App, Caller};
use crate::clock;
use crate::event::Refused;

/// Longest key, in bytes.
const KEY_MAX_BYTES: usize = 255;
/// Largest answer that is kept, in bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Answers whose repetition would need a secret to be kept: these are given once.
const NEVER_KEPT: [&str; 3] = ["/v1/tokens", "/v1/users", "/v1/users/{name}/rotate"];

/// Keys of the writes that are being answered, so that two of one key at once are not both done.
#[derive(Debug, Clone, Default)]
pub struct Underway(Arc<Mutex<BTreeSet<String>>>);

impl Underway {
    /// Takes a key; none when somebody else has it. Given back when the guard is dropped.
    fn take(&self, key: &str) -> Option<Taken> {
        let mut keys = self.0.lock().ok()?;
        keys.insert(key.to_owned()).then(|| Taken {
            key: key.to_owned(),
            all: self.clone(),
        })
    }
}

/// A key, given back when this is dropped.
struct Taken {
    key: String,
    all: Underway,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Ok(mut keys) = self.all.0.lock() {
            keys.remove(&self.key);
        }
    }
}

/// Answers repetitions, and keeps first answers. Only what carries a key and is small enough to be
/// compared is looked at; uploads are addressed by content and need none. Whoever may not make the
/// request has been refused before.
pub async fn keep(State(app): State<App>, request: Request, next: Next) -> Response {
    let key = request.headers().get("idempotency-key").cloned();
    let writes = matches!(
        *request.method(),
        Method::POST | Method::PATCH | Method::DELETE
    );
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or_else(|| request.uri().path(), MatchedPath::as_str);
    let kept = writes && !NEVER_KEPT.contains(&path);
    match key {
        Some(key) if kept => match once(app, key, request, next).await {
            Ok(response) => response,
            Err(failed) => failed.into_response(),
        },
        Some(_) | None => next.run(request).await,
    }
}

async fn once(
    app: App,
    key: HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Failed> {
    let wrong = |detail: &str| Failed(Refused::new(Code::BadRequest, detail));
    let key = key
        .to_str()
        .map_err(|_| wrong("the Idempotency-Key is not plain text"))?;
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return Err(wrong("an Idempotency-Key has 1 to 255 characters"));
    }
    let (mut parts, body) = request.into_parts();
    let _known = Caller::from_request_parts(&mut parts, &app).await?;
    let body = tokio::time::timeout(ANSWER_TIMEOUT, to_bytes(body, REQUEST_MAX_BYTES))
        .await
        .map_err(|_| wrong("the body did not come in time"))?
        .map_err(|_| wrong("the body broke off or is too large"))?;
    // The token is part of what is compared: a key of somebody else's is another key.
    let caller = parts
        .headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let asked = [
        caller,
        parts.method.as_str().as_bytes(),
        parts.uri.to_string().as_bytes(),
        &body,
    ]
    .join(&0u8);
    let asked = Digest::of(&asked).to_string();
    let owner = Digest::of(caller).short();
    let key = format!("{owner} {key}");
    let taken = app.underway.take(&key).ok_or_else(|| {
        let detail = "a request with this Idempotency-Key is being answered";
        Failed(Refused::new(Code::Conflict, detail).help("try again in a moment"))
    })?;
    // A task of its own: a caller whose connection breaks will ask again, and has to find the answer.
    let request = Request::from_parts(parts, Body::from(body));
    let doing = tokio::spawn(async move {
        let _taken = taken;
        answer_once(&app, &key, &asked, request, next).await
    });
    doing.await.map_err(|_| {
        Failed(Refused::new(
            Code::Internal,
            "the request failed; please report it",
        ))
    })?
}

/// The answer of before, or that of now.
async fn answer_once(
    app: &App,
    key: &str,
    asked: &str,
    request: Request,
    next: Next,
) -> Result<Response, Failed> {
    match app.store.answer(key).await? {
        Some((before, status, body)) if before == asked => Ok(answer(status, body)),
        Some(_) => Err(Failed(Refused::new(
            Code::Conflict,
            "this Idempotency-Key was used for another request",
        ))),
        None => {
            let response = next.run(request).await;
            Ok(keep_answer(app, key, asked, response).await)
        }
    }
}

/// Keeps an answer that tells of something done. One that cannot be kept is given all the same, since
/// it is done.
async fn keep_answer(app: &App, key: &str, asked: &str, response: Response) -> Response {
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ANSWER_MAX_BYTES).await else {
        return Failed(Refused::new(
            Code::Internal,
            "it is done, and the answer is too large to be kept",
        ))
        .into_response();
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    let status = parts.status.as_u16();
    let kept = app
        .store
        .keep_answer(key, asked, status, &text, clock::now());
    if let Err(error) = kept.await {
        tracing::error!(error = crate::chain(&error), "an answer was not kept");
    }
    Response::from_parts(parts, Body::from(body))
}

fn answer(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
