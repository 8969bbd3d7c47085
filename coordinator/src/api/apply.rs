//! Applying manifests.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::apply::{
    Applied, ApplyRequest, InputSet, MANIFESTS_MAX_BYTES, Plan, Revision,
};
use holdfast_protocol::api::steer::{Steer, Steered};
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::name::InputSetName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{self, Answer, Body, Failed, Path, Query};
use super::{App, Caller, page};
use crate::access::document;
use crate::clock;
use crate::event::{Event, Refused};
use crate::world::apply::{NotApplied, Prepared, prepare};

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
        document::allows_changes(&user, &prepared.set, &prepared.changes)?;
        let by = user.name.clone();
        let event = |reply| Event::Apply {
            prepared,
            by,
            reply,
        };
        match app.driver.request(event).await {
            Ok(applied) => return Ok(Json(applied)),
            Err(NotApplied::Refused(refused)) => return Err(Failed(refused)),
            Err(NotApplied::MovedOn) => {}
        }
    }
    Err(too_many())
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
        let event = |reply| Event::Plan {
            prepared,
            request,
            reply,
        };
        match app.driver.request(event).await {
            Ok(plan) => return Ok(Json(plan)),
            Err(NotApplied::Refused(refused)) => return Err(Failed(refused)),
            Err(NotApplied::MovedOn) => {}
        }
    }
    Err(too_many())
}

fn too_many() -> Failed {
    Failed(Refused::new(Code::Conflict, "too many applies at once").help("try again in a moment"))
}

/// Compiles on a thread of its own: large inputs take seconds, and others must not wait for them.
pub(super) async fn compiled(app: &App, request: ApplyRequest) -> Result<Prepared, Failed> {
    let place = app.limits.compilation().await?;
    let now = clock::now();
    let base = app.driver.ask(move |world| world.base(now)).await?;
    // The place is free once the work is done, whether or not the caller still waits.
    let work = tokio::task::spawn_blocking(move || (prepare(&base, request), place));
    let prepared = work.await.map(|(prepared, _)| prepared);
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

/// The manifests of an input set, as they were applied last.
#[utoipa::path(
    get,
    path = "/v1/sets/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = InputSet), (status = 404, description = "no such set"))
)]
pub async fn set(State(app): State<App>, _: Caller, Path(name): Path<String>) -> Answer<InputSet> {
    let set: InputSetName = super::parse(&name)?;
    let asked = set.clone();
    let (known, revision) = app
        .driver
        .ask(move |world| (world.manifests.contains_key(&asked), world.revision))
        .await?;
    if !known {
        let refused = Refused::new(Code::NotFound, format!("nothing was applied as set {set}"));
        return Err(Failed(
            refused.help("`holdfast get revisions` names the sets"),
        ));
    }
    let files = app.store.files(&set, revision).await?;
    Ok(Json(InputSet {
        set,
        revision,
        files,
    }))
}

/// Which revisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// At most so many: the newest ones.
    limit: Option<u32>,
    /// Where the page begins, from the page before.
    r#continue: Option<String>,
}

/// The revisions, newest first.
#[utoipa::path(
    get,
    path = "/v1/revisions",
    params(Which),
    responses((status = 200, body = Items<Revision>))
)]
pub async fn revisions(
    State(app): State<App>,
    _: Caller,
    Query(which): Query<Which>,
) -> Answer<Items<Revision>> {
    let before: Option<u64> = page::begin(which.r#continue.as_ref())?;
    let rows = app.store.revisions(before, page::rows(which.limit)).await?;
    let number = |last: &Revision| last.number.to_string();
    Ok(Json(page::full(rows, which.limit, number)))
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
    problem::check_reason(steer.reason.as_ref())?;
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
