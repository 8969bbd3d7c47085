//! Steering one track.

use axum::Json;
use axum::extract::State;
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::steer::{Steer, Steered};

use super::problem::{self, Answer, Body, Failed, Path};
use super::{App, Caller};
use crate::event::{Event, Refused, Verb};

/// Carries out a person's wish: `deploy`, `promote`, `pin`, `unpin`, `rollback`, `retry`, `halt`,
/// `pause`, `resume`.
#[utoipa::path(
    post,
    path = "/v1/tracks/{service}/{environment}/{verb}",
    params(("service" = String, Path), ("environment" = String, Path), ("verb" = String, Path)),
    request_body = Steer,
    responses((status = 200, body = Steered), (status = 409, description = "not possible now"))
)]
pub async fn steer(
    State(app): State<App>,
    Caller(user): Caller,
    Path((service, environment, verb)): Path<(String, String, String)>,
    Body(wish): Body<Steer>,
) -> Answer<Steered> {
    problem::check_reason(wish.reason.as_ref())?;
    let track = TrackName {
        service: super::parse(&service)?,
        environment: super::parse(&environment)?,
    };
    let verb = Verb::parse(&verb).ok_or_else(|| {
        let known: Vec<&str> = Verb::ALL.iter().map(|(name, _)| *name).collect();
        let help = format!("the verbs are {}", known.join(", "));
        Failed(Refused::new(Code::NotFound, format!("nobody can {verb} a track")).help(help))
    })?;
    let by = user.name;
    Ok(Json(
        app.driver
            .request(|reply| Event::Steer {
                track,
                verb,
                wish,
                by,
                reply,
            })
            .await?,
    ))
}
