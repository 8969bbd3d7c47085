//! Releases.

use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::release::{NewRelease, Release};
use holdfast_protocol::name::ServiceName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Body, Path, Query};
use super::{App, Caller, page};
use crate::event::Event;

/// Which releases.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this service.
    service: Option<String>,
    /// At most so many.
    limit: Option<u32>,
    /// Where the page begins, from the page before: `SERVICE/SEQUENCE`.
    r#continue: Option<String>,
}

/// The last release of a page.
struct Last {
    service: ServiceName,
    sequence: u64,
}

impl FromStr for Last {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (service, sequence) = text.split_once('/').ok_or(())?;
        Ok(Self {
            service: service.parse().map_err(drop)?,
            sequence: sequence.parse().map_err(drop)?,
        })
    }
}

/// Registers a release.
#[utoipa::path(
    post,
    path = "/v1/services/{name}/releases",
    params(("name" = String, Path)),
    request_body = NewRelease,
    responses((status = 200, body = Release), (status = 409, description = "exists with other content"))
)]
pub async fn create(
    State(app): State<App>,
    Caller(user): Caller,
    Path(name): Path<String>,
    Body(new): Body<NewRelease>,
) -> Answer<Release> {
    let service: ServiceName = super::parse(&name)?;
    let (new, by) = (Box::new(new), user.name);
    Ok(Json(
        app.driver
            .request(|reply| Event::Release {
                service,
                new,
                by,
                reply,
            })
            .await?,
    ))
}

/// The releases, by service and in order.
#[utoipa::path(
    get,
    path = "/v1/releases",
    params(Filter),
    responses((status = 200, body = Items<Release>))
)]
pub async fn list(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<Release>> {
    let service: Option<ServiceName> = super::parse_some(filter.service.as_ref())?;
    let last: Option<Last> = page::begin(filter.r#continue.as_ref())?;
    let limit = filter.limit;
    let releases = app.driver.ask(move |world| {
        let wanted = |(name, _): &(&ServiceName, _)| service.as_ref().is_none_or(|s| s == *name);
        let all = world.releases.iter().filter(wanted);
        let all = all.flat_map(|(_, releases)| releases);
        let place = |release: &&Arc<Release>| {
            last.as_ref().map_or(Ordering::Greater, |last| {
                (&release.service, release.sequence).cmp(&(&last.service, last.sequence))
            })
        };
        page::rows_after(all, limit, place)
            .map(|release| Release::clone(release))
            .collect::<Vec<_>>()
    });
    let key = |last: &Release| format!("{}/{}", last.service, last.sequence);
    Ok(Json(page::full(releases.await?, limit, key)))
}
