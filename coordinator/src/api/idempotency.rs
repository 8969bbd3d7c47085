//! `Idempotency-Key`: a write that is repeated with the same key is answered with what the first one
//! was answered, and not done again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdfast_protocol::api::Code;
use holdfast_protocol::digest::Digest;

use super::apply::REQUEST_MAX_BYTES;
use super::problem::Failed;
use super::{App, Caller};
use crate::clock;
use crate::event::Refused;

/// Longest key, in bytes.
const KEY_MAX_BYTES: usize = 255;
/// Largest answer that is kept, in bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Answers whose repetition would need a secret to be kept: these are given once.
const NEVER_KEPT: [&str; 1] = ["/v1/tokens"];

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
/// compared is looked at; uploads are addressed by content and need none. A stranger's request is
/// left to be refused before anything of it is read.
pub async fn keep(State(app): State<App>, request: Request, next: Next) -> Response {
    let key = request.headers().get("idempotency-key").cloned();
    let writes = matches!(
        *request.method(),
        Method::POST | Method::PATCH | Method::DELETE
    );
    let kept = writes && !NEVER_KEPT.contains(&request.uri().path());
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
    let body = to_bytes(body, REQUEST_MAX_BYTES)
        .await
        .map_err(|_| wrong("the body is too large"))?;
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
    let _taken = app.underway.take(&key).ok_or_else(|| {
        let detail = "a request with this Idempotency-Key is being answered";
        Failed(Refused::new(Code::Conflict, detail).help("try again in a moment"))
    })?;
    if let Some((before, status, body)) = app.store.answer(&key).await? {
        if before != asked {
            return Err(Failed(Refused::new(
                Code::Conflict,
                "this Idempotency-Key was used for another request",
            )));
        }
        return Ok(answer(status, body));
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_MAX_BYTES).await.map_err(|_| {
        Failed(Refused::new(
            Code::Internal,
            "the answer is too large to be kept",
        ))
    })?;
    let text = String::from_utf8_lossy(&body).into_owned();
    app.store
        .keep_answer(&key, &asked, parts.status.as_u16(), &text, clock::now())
        .await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn answer(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
