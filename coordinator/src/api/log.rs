//! Output of workloads, from the targets themselves.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
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
use crate::world::Target;
use crate::world::steer::unknown_track;

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
    let past = which.deployment.is_some();
    let places = app.driver.ask(move |world| {
        let here = world
            .tracks
            .get(&track)
            .ok_or_else(|| unknown_track(&track))?;
        let mut names: Vec<&TargetName> = here
            .placements
            .keys()
            .filter(|name| only.as_ref().is_none_or(|o| o == *name))
            .collect();
        // A target that no longer runs the service may have kept what it wrote.
        if past && names.is_empty() {
            let joined = world.targets.of(&track.environment).map(|(name, _)| name);
            names.extend(joined.filter(|name| only.as_ref() == Some(*name)));
        }
        let place = |name: &TargetName| {
            let up = world.targets.get(name).and_then(Target::up);
            (
                name.clone(),
                up.map(|(link, version)| (link.clone(), version)),
            )
        };
        Ok(names
            .into_iter()
            .take(TARGETS_MAX)
            .map(place)
            .collect::<Vec<_>>())
    });
    let places: Vec<_> = places.await?.map_err(Failed)?;
    let place = app.limits.stream()?;
    let (sender, receiver) = mpsc::channel(ENTRIES_WAITING_MAX);
    let tasks: Vec<_> = places
        .into_iter()
        .map(|(target, connection)| {
            let entry = Source {
                target,
                service: service.clone(),
            };
            let reading = read(entry, connection, request.clone(), sender.clone());
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
    source: Source,
    connection: Option<(quinn::Connection, u16)>,
    request: CoordinatorOpens,
    sender: mpsc::Sender<LogEntry>,
) {
    let is_past = matches!(request, CoordinatorOpens::Kept(_));
    let opened = match connection {
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
        // A reader that has gone needs no reason.
        Err(why) => drop(sender.send(source.silence(&why)).await),
    }
}
