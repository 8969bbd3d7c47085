//! Deployments and their history.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::{Code, Items};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Failed, Path, Query};
use super::{App, Caller, page};
use crate::event::Refused;
use crate::store::DeploymentPage;

/// Which deployments.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this service.
    service: Option<String>,
    /// Only in this environment.
    environment: Option<String>,
    /// At most so many: the newest ones.
    limit: Option<u32>,
    /// Where the page begins, from the page before.
    r#continue: Option<String>,
}

/// The deployments, newest first.
#[utoipa::path(
    get,
    path = "/v1/deployments",
    params(Filter),
    responses((status = 200, body = Items<Deployment>))
)]
pub async fn list(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<Deployment>> {
    page(&app, &filter).await.map(Json)
}

/// The deployments, oldest first.
#[utoipa::path(
    get,
    path = "/v1/history",
    params(Filter),
    responses((status = 200, body = Items<Deployment>))
)]
pub async fn history(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<Deployment>> {
    let mut page = page(&app, &filter).await?;
    page.items.reverse();
    Ok(Json(page))
}

/// One deployment.
#[utoipa::path(
    get,
    path = "/v1/deployments/{id}",
    params(("id" = u64, Path)),
    responses((status = 200, body = Deployment), (status = 404, description = "no such deployment"))
)]
pub async fn one(State(app): State<App>, _: Caller, Path(id): Path<String>) -> Answer<Deployment> {
    let mut found = find(&app, super::parse(&id)?).await?;
    found.last_lines = app.store.last_lines(found.id).await?;
    Ok(Json(found))
}

/// A deployment as it stands now, or as it ended.
///
/// # Errors
/// [`Failed`] where there is none of that number.
pub(super) async fn find(app: &App, id: u64) -> Result<Deployment, Failed> {
    let live = app
        .driver
        .ask(move |world| world.current_deployments().remove(&id))
        .await?;
    let found = match live {
        Some(deployment) => Some(deployment),
        None => app.store.deployment(id).await?,
    };
    found.ok_or_else(|| {
        Failed(
            Refused::new(Code::NotFound, format!("no deployment {id}"))
                .help("list them: holdfast history"),
        )
    })
}

async fn page(app: &App, filter: &Filter) -> Result<Items<Deployment>, Failed> {
    let stored = app
        .store
        .deployments(&DeploymentPage {
            service: super::parse_some(filter.service.as_ref())?,
            environment: super::parse_some(filter.environment.as_ref())?,
            before: page::begin(filter.r#continue.as_ref())?,
            limit: page::rows(filter.limit),
        })
        .await?;
    let mut page = page::full(stored, filter.limit, |last| last.id.to_string());
    let mut live: BTreeMap<u64, Deployment> =
        app.driver.ask(|world| world.current_deployments()).await?;
    // What is on its way has counts and waits of this moment; the store has those of its last change.
    for item in &mut page.items {
        if let Some(now) = live.remove(&item.id) {
            *item = now;
        }
    }
    Ok(page)
}
