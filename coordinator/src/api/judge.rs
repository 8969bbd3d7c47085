//! What people say of one deployment.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::steer::{Judgement, Steered};

use super::problem::{self, Answer, Body, Failed, Path};
use super::{App, Caller, deployment};
use crate::event::{Event, Judging, Refused};

/// Says something of a deployment: `approve`, `reject`, `skip`, or asks for it again: `repeat`.
#[utoipa::path(
    post,
    path = "/v1/deployments/{id}/{verb}",
    params(("id" = u64, Path), ("verb" = String, Path)),
    request_body = Judgement,
    responses((status = 200, body = Steered), (status = 409, description = "not possible now"))
)]
pub async fn judge(
    State(app): State<App>,
    Caller(caller): Caller,
    Path((id, verb)): Path<(String, String)>,
    Body(judgement): Body<Judgement>,
) -> Answer<Steered> {
    problem::check_reason(judgement.reason.as_ref())?;
    let id: u64 = super::parse(&id)?;
    let caller = Box::new(caller);
    if verb == "repeat" {
        let deployment = Box::new(deployment::find(&app, id).await?);
        let reason = judgement.reason;
        let event = |reply| Event::Repeat {
            deployment,
            reason,
            caller,
            reply,
        };
        return Ok(Json(app.driver.request(event).await?));
    }
    let judging = Judging::parse(&verb).ok_or_else(|| {
        let refused = Refused::new(Code::NotFound, format!("nobody can {verb} a deployment"));
        Failed(refused.help("the verbs are approve, reject, skip, repeat"))
    })?;
    let event = |reply| Event::Judge {
        deployment: id,
        judging,
        judgement,
        caller,
        reply,
    };
    Ok(Json(app.driver.request(event).await?))
}
