//! Targets.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::steer::Steer;
use holdfast_protocol::api::target::{LabelChange, Target};
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, TargetName};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{self, Answer, Body, Failed, Path, Query};
use super::{App, Caller, page};
use crate::event::{Event, Refused, TargetVerb};

/// Which targets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this environment.
    environment: Option<String>,
    /// At most so many.
    limit: Option<u32>,
    /// Where the page begins, from the page before.
    r#continue: Option<String>,
}

/// The targets.
#[utoipa::path(
    get,
    path = "/v1/targets",
    params(Filter),
    responses((status = 200, body = Items<Target>))
)]
pub async fn list(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<Target>> {
    let environment: Option<EnvironmentName> = super::parse_some(filter.environment.as_ref())?;
    let after: Option<TargetName> = page::begin(filter.r#continue.as_ref())?;
    let rows = page::rows(filter.limit);
    let targets = app
        .driver
        .ask(move |world| world.target_list(environment.as_ref(), after.as_ref(), rows))
        .await?;
    let name = |last: &Target| last.name.to_string();
    Ok(Json(page::full(targets, filter.limit, name)))
}

/// One target.
#[utoipa::path(
    get,
    path = "/v1/targets/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = Target), (status = 404, description = "no such target"))
)]
pub async fn one(State(app): State<App>, _: Caller, Path(name): Path<String>) -> Answer<Target> {
    find(&app, &super::parse(&name)?).await
}

async fn find(app: &App, name: &TargetName) -> Answer<Target> {
    let asked = name.clone();
    let one = app.driver.ask(move |world| world.target(&asked)).await?;
    one.map(Json).ok_or_else(|| {
        Failed(
            Refused::new(Code::NotFound, format!("no target {name}"))
                .help("list them: holdfast get targets"),
        )
    })
}

/// Shuts a target out: its certificates are void and its connection is closed.
#[utoipa::path(
    post,
    path = "/v1/targets/{name}/revoke",
    params(("name" = String, Path)),
    request_body = Steer,
    responses((status = 200, body = Target), (status = 404, description = "no such target"))
)]
pub async fn revoke(
    State(app): State<App>,
    Caller(user): Caller,
    Path(name): Path<String>,
    Body(wish): Body<Steer>,
) -> Answer<Target> {
    steer(&app, user.name, &name, wish, TargetVerb::Revoke).await
}

/// Lets a target go on that holds an assignment which is not known here, in a new epoch.
#[utoipa::path(
    post,
    path = "/v1/targets/{name}/resume",
    params(("name" = String, Path)),
    request_body = Steer,
    responses((status = 200, body = Target), (status = 404, description = "no such target"))
)]
pub async fn resume(
    State(app): State<App>,
    Caller(user): Caller,
    Path(name): Path<String>,
    Body(wish): Body<Steer>,
) -> Answer<Target> {
    steer(&app, user.name, &name, wish, TargetVerb::Resume).await
}

async fn steer(app: &App, by: String, name: &str, wish: Steer, verb: TargetVerb) -> Answer<Target> {
    problem::check_reason(wish.reason.as_ref())?;
    let name: TargetName = super::parse(name)?;
    let (target, reason) = (name.clone(), wish.reason);
    app.driver
        .request(|reply| Event::SteerTarget {
            target,
            verb,
            by,
            reason,
            reply,
        })
        .await?;
    find(app, &name).await
}

/// Sets and removes labels.
#[utoipa::path(
    patch,
    path = "/v1/targets/{name}/labels",
    params(("name" = String, Path)),
    request_body = LabelChange,
    responses((status = 200, body = Target), (status = 404, description = "no such target"))
)]
pub async fn label(
    State(app): State<App>,
    Caller(user): Caller,
    Path(name): Path<String>,
    Body(change): Body<LabelChange>,
) -> Answer<Target> {
    let target: TargetName = super::parse(&name)?;
    let change = change.labels.iter().map(|(key, value)| {
        Ok((
            super::parse::<LabelKey>(key)?,
            match value {
                Some(value) => Some(super::parse::<LabelValue>(value)?),
                None => None,
            },
        ))
    });
    let change = change.collect::<Result<Vec<_>, Failed>>()?;
    let (name, by) = (target.clone(), user.name);
    app.driver
        .request(|reply| Event::Label {
            target,
            change,
            by,
            reply,
        })
        .await?;
    find(&app, &name).await
}
