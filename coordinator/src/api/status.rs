//! How tracks stand, why they wait, where values come from, what runs where.

use axum::Json;
use axum::extract::State;
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::explain::Explanation;
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::whereabouts::Whereabouts;
use holdfast_protocol::api::why::Reason;
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Failed, Query};
use super::{App, Caller};
use crate::event::Refused;
use crate::world::World;
use crate::world::steer::unknown_track;
use crate::world::view::TrackFilter;

/// Which tracks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this service.
    service: Option<String>,
    /// Only in this environment.
    environment: Option<String>,
}

/// How tracks stand.
#[utoipa::path(
    get,
    path = "/v1/status",
    params(Filter),
    responses((status = 200, body = Items<Status>), (status = 404, description = "no such service"))
)]
pub async fn status(
    State(app): State<App>,
    _: Caller,
    Query(filter): Query<Filter>,
) -> Answer<Items<Status>> {
    let filter = TrackFilter {
        service: super::parse_some(filter.service.as_ref())?,
        environment: super::parse_some(filter.environment.as_ref())?,
    };
    let statuses = app.driver.ask(move |world| {
        demand_known(world, filter.service.as_ref(), filter.environment.as_ref())?;
        Ok::<_, Refused>(world.statuses(&filter))
    });
    Ok(Json(statuses.await??.into()))
}

/// A name that nobody has heard of is a mistake; one without tracks is not.
fn demand_known(
    world: &World,
    service: Option<&ServiceName>,
    environment: Option<&EnvironmentName>,
) -> Result<(), Refused> {
    let tracks = || world.tracks.keys();
    if let Some(name) = service {
        let known = world.compiled.services.contains_key(name)
            || tracks().any(|track| track.service == *name);
        if !known {
            return Err(
                Refused::new(Code::NotFound, format!("no service {name} is declared"))
                    .help("list them: holdfast get services"),
            );
        }
    }
    if let Some(name) = environment {
        let known = world.compiled.environments.contains_key(name)
            || tracks().any(|track| track.environment == *name);
        if !known {
            return Err(
                Refused::new(Code::NotFound, format!("no environment {name} is declared"))
                    .help("list them: holdfast get environments"),
            );
        }
    }
    Ok(())
}

/// One track.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OneTrack {
    /// Its service.
    service: String,
    /// Its environment.
    environment: String,
    /// A target of it.
    target: Option<String>,
}

impl OneTrack {
    fn name(&self) -> Result<TrackName, Failed> {
        let service = super::parse(&self.service)?;
        Ok(TrackName {
            service,
            environment: super::parse(&self.environment)?,
        })
    }
}

/// Why a track does not move, down to the root.
#[utoipa::path(
    get,
    path = "/v1/why",
    params(OneTrack),
    responses((status = 200, body = Items<Reason>), (status = 404, description = "no such track"))
)]
pub async fn why(
    State(app): State<App>,
    _: Caller,
    Query(track): Query<OneTrack>,
) -> Answer<Items<Reason>> {
    let name = track.name()?;
    let asked = name.clone();
    let reasons = app.driver.ask(move |world| world.why(&asked)).await?;
    Ok(Json(reasons.ok_or_else(|| unknown_track(&name))?.into()))
}

/// Where each value of a workload comes from.
#[utoipa::path(
    get,
    path = "/v1/explain",
    params(OneTrack),
    responses((status = 200, body = Explanation), (status = 404, description = "no such track"))
)]
pub async fn explain(
    State(app): State<App>,
    _: Caller,
    Query(track): Query<OneTrack>,
) -> Answer<Explanation> {
    let name = track.name()?;
    let target: Option<TargetName> = super::parse_some(track.target.as_ref())?;
    let asked = name.clone();
    let explained = app
        .driver
        .ask(move |world| world.explanation(&asked, target.as_ref()))
        .await?;
    let explained = explained.ok_or_else(|| unknown_track(&name))?;
    Ok(Json(explained.map_err(|problem| {
        Failed(Refused::new(Code::NotFound, problem))
    })?))
}

/// Which workloads.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Of this service.
    service: String,
    /// Only of this release.
    version: Option<String>,
}

impl Which {
    /// The service, and the release if one is named.
    pub(super) fn read(&self) -> Result<(ServiceName, Option<Version>), Failed> {
        Ok((
            super::parse(&self.service)?,
            super::parse_some(self.version.as_ref())?,
        ))
    }

    /// A name that nobody has heard of is a mistake.
    pub(super) async fn demand_known(&self, app: &App) -> Result<(), Failed> {
        let (service, _) = self.read()?;
        let known = app
            .driver
            .ask(move |world| demand_known(world, Some(&service), None));
        Ok(known.await??)
    }
}

/// What runs where, as last observed.
#[utoipa::path(
    get,
    path = "/v1/where",
    params(Which),
    responses((status = 200, body = Items<Whereabouts>), (status = 404, description = "no such service"))
)]
pub async fn whereabouts(
    State(app): State<App>,
    _: Caller,
    Query(which): Query<Which>,
) -> Answer<Items<Whereabouts>> {
    let (service, version) = which.read()?;
    let found = app.driver.ask(move |world| {
        demand_known(world, Some(&service), None)?;
        Ok::<_, Refused>(world.whereabouts(&service, version.as_ref()))
    });
    Ok(Json(found.await??.into()))
}
