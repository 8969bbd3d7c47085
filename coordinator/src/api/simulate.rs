//! What would happen when: the clock of the engine's simulation, over the world as it is.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use holdfast_engine::track::TrackName;
use holdfast_engine::whatif::simulate::{self as engine, End, Pace};
use holdfast_protocol::api::Code;
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::simulate::{Moment, Simulation, Timeline, Waiting};
use holdfast_protocol::time::{Timestamp, parse_span};

use super::apply::compiled;
use super::problem::{Answer, Body, Failed};
use super::{App, Caller};
use crate::clock;
use crate::event::Refused;
use crate::store::DeploymentPage;

/// Furthest that a clock runs.
const UNTIL_MAX: Duration = Duration::from_hours(24 * 366);
/// Most tracks that can be told to fail.
const FAIL_MAX: usize = 1_000;
/// Past deployments that are looked at for how long approvals take.
const LOOKED_AT: u32 = 200;
/// How long things take of which nothing is known.
const READY_USUAL: Duration = Duration::from_secs(5);
const CHECK_USUAL: Duration = Duration::from_secs(1);
const APPROVAL_USUAL: Duration = Duration::from_hours(1);

/// Runs the clock forward. Nothing of it leaves the coordinator.
#[utoipa::path(
    post,
    path = "/v1/simulate",
    request_body = Simulation,
    responses((status = 200, body = Timeline), (status = 422, description = "the manifests do not compile"))
)]
pub async fn simulate(
    State(app): State<App>,
    _: Caller,
    Body(simulation): Body<Simulation>,
) -> Answer<Timeline> {
    let until = until(&simulation.until)?;
    let fail = tracks(&simulation.fail)?;
    let planned = match simulation.request {
        Some(request) => Some(compiled(&app, request).await?.compiled),
        None => None,
    };
    let (scene, ready) = app
        .driver
        .ask(move |world| {
            let compiled = planned.unwrap_or_else(|| world.compiled.clone());
            (world.scene(compiled), world.usual_readiness())
        })
        .await?;
    let unknown = fail
        .iter()
        .find(|name| !scene.compiled.tracks.contains_key(name));
    if let Some(name) = unknown {
        return Err(Failed(crate::world::steer::unknown_track(name)));
    }
    let pace = Pace {
        ready,
        ready_else: READY_USUAL,
        check: CHECK_USUAL,
        approval: usual_approval(&app).await?,
    };
    let place = app.limits.compilation().await?;
    let began_at = clock::now();
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        engine::simulate(scene, &pace, &fail, began_at, began_at.after(until))
    });
    let timeline = work.await.map_err(|_| {
        Failed(Refused::new(
            Code::Internal,
            "the simulation failed; please report it",
        ))
    })?;
    Ok(Json(body(timeline, began_at)))
}

fn until(text: &str) -> Result<Duration, Failed> {
    let wrong = |detail: String| Failed(Refused::new(Code::BadRequest, detail));
    let span = parse_span(text).map_err(|error| wrong(format!("`until`: {error}")))?;
    if span > UNTIL_MAX {
        return Err(wrong("`until` is at most 366 days".to_owned()));
    }
    Ok(span)
}

fn tracks(names: &[String]) -> Result<BTreeSet<TrackName>, Failed> {
    if names.len() > FAIL_MAX {
        let detail = format!("at most {FAIL_MAX} tracks can be told to fail");
        return Err(Failed(Refused::new(Code::BadRequest, detail)));
    }
    names.iter().map(|name| track(name)).collect()
}

fn track(text: &str) -> Result<TrackName, Failed> {
    let (service, environment) = text.split_once('@').ok_or_else(|| {
        let refused = Refused::new(Code::BadRequest, format!("{text:?} is no track"));
        Failed(refused.help("write SERVICE@ENVIRONMENT, such as web@production"))
    })?;
    Ok(TrackName {
        service: super::parse(service)?,
        environment: super::parse(environment)?,
    })
}

/// How long it took until people had agreed, in the middle of the newest deployments that needed it.
async fn usual_approval(app: &App) -> Result<Duration, Failed> {
    let page = DeploymentPage {
        service: None,
        environment: None,
        before: None,
        limit: LOOKED_AT,
    };
    let newest = app.store.deployments(&page).await?;
    let took = |deployment: &Deployment| {
        let last = deployment
            .approvals
            .iter()
            .map(|approval| approval.at)
            .max();
        Some(last?.since(deployment.started_at))
    };
    let mut spans: Vec<Duration> = newest.iter().filter_map(took).collect();
    spans.sort_unstable();
    Ok(spans
        .get(spans.len() / 2)
        .copied()
        .unwrap_or(APPROVAL_USUAL))
}

fn body(timeline: engine::Timeline, began_at: Timestamp) -> Timeline {
    let moment = |moment: engine::Moment| Moment {
        at: moment.at,
        service: moment.track.service,
        environment: moment.track.environment,
        kind: moment.kind.to_owned(),
        message: moment.message,
    };
    let waiting = |(track, waits): (TrackName, _)| Waiting {
        service: track.service,
        environment: track.environment,
        waits,
    };
    Timeline {
        items: timeline.moments.into_iter().map(moment).collect(),
        began_at,
        ended_at: timeline.ended_at,
        end: match timeline.end {
            End::AtRest => "atRest",
            End::Until => "until",
            End::TooLong => "tooLong",
        }
        .to_owned(),
        waiting: timeline.waiting.into_iter().map(waiting).collect(),
    }
}
