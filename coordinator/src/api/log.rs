//! Output of workloads, from the targets themselves.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::deployment::LastLines;
use holdfast_protocol::api::log::LogEntry;
use holdfast_protocol::name::{ServiceName, TargetName};
use holdfast_protocol::stream::{CoordinatorOpens, KeptRequest, LOG_TAIL_MAX_LINES, LogLine};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::version::KEPT_OUTPUT;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use utoipa::IntoParams;

use super::problem::{Failed, Query};
use super::{App, Caller, access};
use crate::event::Refused;
use crate::link::logs;
use crate::world::steer::unknown_track;
use crate::world::{Target, World};

/// Lines shown of the past unless more are asked for.
const TAIL_LINES: u32 = 100;
/// Lines that wait for the reader.
const ENTRIES_WAITING_MAX: usize = 256;
/// Most targets that one request reads from.
const TARGETS_MAX: usize = 100;

/// Which output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Of this service.
    service: String,
    /// In this environment.
    environment: String,
    /// Only on this target.
    target: Option<String>,
    /// At most so many lines of the past, from each target.
    tail: Option<u32>,
    /// Only lines after this time.
    since: Option<String>,
    /// Go on with new lines.
    follow: Option<bool>,
    /// What was written during this deployment, also when it is over: as far as its targets keep it.
    deployment: Option<u64>,
}

/// Output of a service's workloads: one JSON object a line. A target that cannot answer gives one
/// line that says why.
#[utoipa::path(
    get,
    path = "/v1/logs",
    params(Which),
    responses(
        (status = 200, body = LogEntry, content_type = "application/x-ndjson"),
        (status = 404, description = "no such track")
    )
)]
pub async fn logs(
    State(app): State<App>,
    Caller(user): Caller,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    let service: ServiceName = super::parse(&which.service)?;
    let environment = super::parse(&which.environment)?;
    let track = TrackName {
        service: service.clone(),
        environment,
    };
    let only: Option<TargetName> = super::parse_some(which.target.as_ref())?;
    let request = request(&app, &which, &track).await?;
    let last = match which.deployment {
        Some(id) => Some(app.store.last_lines(id).await?),
        None => None,
    };
    let places = app
        .driver
        .ask(move |world| places(world, &track, only.as_ref(), last));
    let places: Vec<_> = places.await?.map_err(Failed)?;
    let place = app.limits.stream()?;
    let (sender, receiver) = mpsc::channel(ENTRIES_WAITING_MAX);
    let tasks: Vec<_> = places
        .into_iter()
        .map(|place| {
            let reading = read(service.clone(), place, request.clone(), sender.clone());
            AbortOnDropHandle::new(tokio::spawn(reading))
        })
        .collect();
    drop(sender);
    // The tasks end with the response, and the place is free again.
    let held = (receiver, tasks, place);
    let lines = stream::unfold(held, |(mut receiver, tasks, place)| async move {
        let entry: LogEntry = receiver.recv().await?;
        let mut line = serde_json::to_string(&entry).unwrap_or_default();
        line.push('\n');
        Some((line, (receiver, tasks, place)))
    });
    let lines = lines.take_until(Box::pin(access::ended(app.clone(), user)));
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A target that lines may come from.
struct Place {
    target: TargetName,
    /// Its connection, and the minor version that is spoken on it.
    up: Option<(quinn::Connection, u16)>,
    /// What is kept here of what it wrote, for when it cannot be asked.
    last: Vec<String>,
}

/// The targets that a track runs on; for a deployment that is over, whose `last` lines are given, also
/// those where it failed and the one that is asked for by name.
fn places(
    world: &World,
    track: &TrackName,
    only: Option<&TargetName>,
    last: Option<Vec<LastLines>>,
) -> Result<Vec<Place>, Refused> {
    let here = world
        .tracks
        .get(track)
        .ok_or_else(|| unknown_track(track))?;
    let mut names: BTreeSet<TargetName> = here.placements.keys().cloned().collect();
    if let Some(last) = &last {
        names.extend(last.iter().map(|lines| lines.target.clone()));
        let joined = world.targets.of(&track.environment);
        let named = joined.filter(|(name, _)| only == Some(*name));
        names.extend(named.map(|(name, _)| name.clone()));
    }
    names.retain(|name| only.is_none_or(|only| only == name));
    let mut last: BTreeMap<TargetName, Vec<String>> = last
        .into_iter()
        .flatten()
        .map(|lines| (lines.target, lines.lines))
        .collect();
    let place = |target: TargetName| {
        let up = world.targets.get(&target).and_then(Target::up);
        Place {
            up: up.map(|(link, version)| (link.clone(), version)),
            last: last.remove(&target).unwrap_or_default(),
            target,
        }
    };
    Ok(names.into_iter().take(TARGETS_MAX).map(place).collect())
}

/// What is asked of each target.
async fn request(app: &App, which: &Which, track: &TrackName) -> Result<CoordinatorOpens, Failed> {
    let service = track.service.clone();
    let since = super::parse_some::<Timestamp>(which.since.as_ref())?;
    let tail = which.tail.unwrap_or(TAIL_LINES).min(LOG_TAIL_MAX_LINES);
    let follow = which.follow.unwrap_or(false);
    let Some(id) = which.deployment else {
        return Ok(CoordinatorOpens::Logs {
            service,
            since,
            tail,
            follow,
        });
    };
    let deployment = super::deployment::find(app, id).await?;
    if deployment.service != track.service || deployment.environment != track.environment {
        let (service, environment) = (&deployment.service, &deployment.environment);
        let message = format!("deployment {id} is of {service} in {environment}, not of {track}");
        let refused = Refused::new(Code::BadRequest, message);
        let help = format!("holdfast logs {service} -e {environment} --deployment {id}");
        return Err(Failed(refused.help(help)));
    }
    let configuration = deployment.configuration.ok_or_else(|| {
        let message = format!("deployment {id} was made before output was kept");
        Failed(Refused::new(Code::NotFound, message))
    })?;
    Ok(CoordinatorOpens::Kept(KeptRequest {
        service,
        version: deployment.version,
        configuration,
        since,
        tail,
        follow,
    }))
}

/// Where lines come from.
struct Source {
    target: TargetName,
    service: ServiceName,
}

impl Source {
    fn entry(&self, line: LogLine) -> LogEntry {
        LogEntry {
            at: line.at,
            line: Some(line.text),
            ..self.silence("")
        }
    }

    fn silence(&self, why: &str) -> LogEntry {
        LogEntry {
            target: self.target.clone(),
            service: self.service.clone(),
            at: None,
            line: None,
            unavailable: (!why.is_empty()).then(|| why.to_owned()),
        }
    }
}

async fn read(
    service: ServiceName,
    place: Place,
    request: CoordinatorOpens,
    sender: mpsc::Sender<LogEntry>,
) {
    let Place { target, up, last } = place;
    let source = Source { target, service };
    let is_past = matches!(request, CoordinatorOpens::Kept(_));
    let opened = match up {
        Some((_, version)) if is_past && version < KEPT_OUTPUT => {
            Err("its agent is too old to keep output; upgrade it".to_owned())
        }
        Some((connection, _)) => logs::open(&connection, request).await,
        None => Err("the target is not connected".to_owned()),
    };
    match opened {
        Ok(mut lines) => {
            while let Some(line) = lines.recv().await {
                if sender.send(source.entry(line)).await.is_err() {
                    return;
                }
            }
        }
        Err(why) => tell_last(&source, &why, last, &sender).await,
    }
}

/// Tells why a target gives no lines, and those that are kept here. A reader that has gone needs neither.
async fn tell_last(source: &Source, why: &str, last: Vec<String>, sender: &mpsc::Sender<LogEntry>) {
    let why = match last.as_slice() {
        [] => why.to_owned(),
        [..] => format!("{why}; these are the last lines from when it failed"),
    };
    let lines = last
        .into_iter()
        .map(|text| source.entry(LogLine { at: None, text }));
    for entry in [source.silence(&why)].into_iter().chain(lines) {
        if sender.send(entry).await.is_err() {
            return;
        }
    }
}
