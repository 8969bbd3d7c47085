//! Refusals as RFC 9457 problem documents.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdfast_protocol::api::{Code, Problem};

use crate::event::Refused;
use crate::store::StoreError;

/// A refusal on its way out.
#[derive(Debug)]
pub struct Failed(pub Refused);

/// Longest reason that a person can give, in bytes: it is kept for ever.
const REASON_MAX_BYTES: usize = 1_024;

/// Refuses a reason that is too long to be kept.
///
/// # Errors
/// [`Failed`].
pub fn check_reason(reason: Option<&String>) -> Result<(), Failed> {
    if reason.is_none_or(|reason| reason.len() <= REASON_MAX_BYTES) {
        return Ok(());
    }
    let detail = format!("a reason has at most {REASON_MAX_BYTES} bytes");
    Err(Failed(Refused::new(Code::TooLarge, detail)))
}

/// What handlers answer.
pub type Answer<T> = Result<Json<T>, Failed>;

/// A JSON body; one that is not what is expected is answered with a problem document.
#[derive(Debug, FromRequest)]
#[from_request(via(Json), rejection(Failed))]
pub struct Body<T>(pub T);

/// Query parameters, with the same.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Failed))]
pub struct Query<T>(pub T);

/// Parts of the path, with the same.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Failed))]
pub struct Path<T>(pub T);

impl From<PathRejection> for Failed {
    fn from(rejection: PathRejection) -> Self {
        Self(Refused::new(Code::BadRequest, rejection.body_text()))
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self(refused)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = crate::chain(&error), "the store failed");
        Self(Refused::new(Code::Internal, error.to_string()))
    }
}

impl From<JsonRejection> for Failed {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            _ => Code::BadRequest,
        };
        Self(Refused::new(code, rejection.body_text()))
    }
}

impl From<QueryRejection> for Failed {
    fn from(rejection: QueryRejection) -> Self {
        Self(Refused::new(Code::BadRequest, rejection.body_text()))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, title) = describe(self.0.code);
        let mut response = document(self.0, status, title);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

fn document(refused: Refused, status: StatusCode, title: &str) -> Response {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: title.to_owned(),
        status: status.as_u16(),
        detail: refused.detail,
        code: refused.code,
        help: refused.help,
        diagnostics: refused.diagnostics,
    };
    let mut response = (status, Json(problem)).into_response();
    let content = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        // What is left of the request is not read, so nothing can follow it.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

const fn describe(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::BadRequest => (StatusCode::BAD_REQUEST, "bad request"),
        Code::InvalidManifest => (StatusCode::UNPROCESSABLE_ENTITY, "invalid manifest"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "not authenticated"),
        Code::Forbidden => (StatusCode::FORBIDDEN, "not allowed"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not found"),
        Code::Conflict => (StatusCode::CONFLICT, "conflict"),
        Code::Refused => (StatusCode::CONFLICT, "not possible now"),
        Code::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        Code::Disconnected => (StatusCode::SERVICE_UNAVAILABLE, "target not connected"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "not available"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal fault"),
    }
}

/// A path that is none of ours.
pub async fn no_route(uri: Uri) -> Failed {
    Failed(
        Refused::new(
            Code::NotFound,
            format!("there is nothing at {}", uri.path()),
        )
        .help("see /v1/openapi.json"),
    )
}

/// A path of ours with another method.
pub async fn no_method(method: Method, uri: Uri) -> Response {
    let detail = format!("{method} is not possible at {}", uri.path());
    let refused = Refused::new(Code::BadRequest, detail).help("see /v1/openapi.json");
    document(
        refused,
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed",
    )
}

/// Longest time for an answer to begin, the reading of the request included.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers for those who take too long. What they were asked to do may still be done.
pub async fn in_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let detail = format!(
            "no answer within {}; a change may still be made",
            holdfast_protocol::time::friendly(ANSWER_TIMEOUT)
        );
        Failed(Refused::new(Code::Unavailable, detail).help("look before you repeat a change"))
            .into_response()
    })
}
