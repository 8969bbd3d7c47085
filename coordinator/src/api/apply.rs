//! Applying manifests.

use axum::Json;
use axum::extract::{Path, State};
use holdfast_protocol::api::apply::{Applied, ApplyRequest, MANIFESTS_MAX_BYTES, Plan, Revision};
use holdfast_protocol::api::steer::{Steer, Steered};
use holdfast_protocol::api::{Code, Items};

use super::problem::{Answer, Body, Failed};
use super::{App, Caller};
use crate::event::{Event, Refused};
use crate::store::PAGE_MAX_ROWS;
use crate::world::apply::{MOVED_ON, Prepared, prepare};

/// Largest request: JSON may double the size of the manifests in it.
pub const REQUEST_MAX_BYTES: usize = 2 * MANIFESTS_MAX_BYTES;
/// How often a request is prepared again when other applies come first.
const ATTEMPTS_MAX: u32 = 8;

/// Puts one input set into force, whole.
#[utoipa::path(
    post,
    path = "/v1/apply",
    request_body = ApplyRequest,
    responses((status = 200, body = Applied), (status = 422, description = "the manifests do not compile"))
)]
pub async fn apply(
    State(app): State<App>,
    Caller(user): Caller,
    Body(request): Body<ApplyRequest>,
) -> Answer<Applied> {
    for _ in 0..ATTEMPTS_MAX {
        let prepared = Box::new(compiled(&app, request.clone()).await?);
        let by = user.name.clone();
        let applied = app
            .driver
            .request(|reply| Event::Apply {
                prepared,
                by,
                reply,
            })
            .await;
        match applied {
            Err(refused) if refused.detail == MOVED_ON => {}
            answer => return Ok(Json(answer?)),
        }
    }
    Err(Failed(
        Refused::new(Code::Conflict, "too many applies at once").help("try again in a moment"),
    ))
}

/// Says what an apply would do, and changes nothing.
#[utoipa::path(
    post,
    path = "/v1/plan",
    request_body = ApplyRequest,
    responses((status = 200, body = Plan), (status = 422, description = "the manifests do not compile"))
)]
pub async fn plan(
    State(app): State<App>,
    _: Caller,
    Body(request): Body<ApplyRequest>,
) -> Answer<Plan> {
    for _ in 0..ATTEMPTS_MAX {
        let prepared = Box::new(compiled(&app, request.clone()).await?);
        let request = Box::new(request.clone());
        let plan = app
            .driver
            .request(|reply| Event::Plan {
                prepared,
                request,
                reply,
            })
            .await;
        match plan {
            Err(refused) if refused.detail == MOVED_ON => {}
            answer => return Ok(Json(answer?)),
        }
    }
    Err(Failed(
        Refused::new(Code::Conflict, "too many applies at once").help("try again in a moment"),
    ))
}

/// Compiles on a thread of its own: large inputs take seconds, and others must not wait for them.
async fn compiled(app: &App, request: ApplyRequest) -> Result<Prepared, Failed> {
    let base = app.driver.ask(|world| world.base()).await?;
    let prepared = tokio::task::spawn_blocking(move || prepare(&base, request)).await;
    let prepared = prepared.map_err(|_| {
        Failed(Refused::new(
            Code::Internal,
            "the compiler failed; please report it",
        ))
    })?;
    prepared.map_err(|diagnostics| {
        let count = diagnostics.len();
        let detail = match count {
            1 => "1 problem in the manifests; nothing was changed".to_owned(),
            _ => format!("{count} problems in the manifests; nothing was changed"),
        };
        Failed(Refused {
            diagnostics,
            ..Refused::new(Code::InvalidManifest, detail)
        })
    })
}

/// The revisions, newest first.
#[utoipa::path(get, path = "/v1/revisions", responses((status = 200, body = Items<Revision>)))]
pub async fn revisions(State(app): State<App>, _: Caller) -> Answer<Items<Revision>> {
    Ok(Json(app.store.revisions(PAGE_MAX_ROWS).await?.into()))
}

/// Lets the removals of a revision happen that wait for a person.
#[utoipa::path(
    post,
    path = "/v1/revisions/{number}/confirm",
    params(("number" = u64, Path)),
    request_body = Steer,
    responses((status = 200, body = Steered))
)]
pub async fn confirm(
    State(app): State<App>,
    Caller(user): Caller,
    Path(number): Path<String>,
    Body(steer): Body<Steer>,
) -> Answer<Steered> {
    let revision: u64 = super::parse(&number)?;
    let (by, reason) = (user.name, steer.reason);
    let confirm = |reply| Event::ConfirmRemovals {
        revision,
        by,
        reason,
        reply,
    };
    Ok(Json(app.driver.request(confirm).await?))
}
