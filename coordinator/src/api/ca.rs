//! Who asks, and the state of the certificates.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::access::{CaStatus, Granted, Whoami};

use super::problem::Answer;
use super::{App, Caller};
use crate::clock;

/// Who the bearer of the token is.
#[utoipa::path(get, path = "/v1/whoami", responses((status = 200, body = Whoami)))]
pub async fn whoami(State(app): State<App>, Caller(user): Caller) -> Answer<Whoami> {
    let trust_domain = app
        .driver
        .ask(|world| world.trust.root.trust_domain().to_string())
        .await?;
    Ok(Json(Whoami {
        user: user.name,
        roles: user.roles,
        permissions: user.permissions.into_iter().collect(),
        grants: user.grants.into_iter().map(Granted::from).collect(),
        expires_at: user.expires_at,
        coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
        trust_domain,
    }))
}

/// The state of the certificate authorities.
#[utoipa::path(get, path = "/v1/ca", responses((status = 200, body = CaStatus)))]
pub async fn status(State(app): State<App>, _: Caller) -> Answer<CaStatus> {
    let now = clock::now();
    Ok(Json(
        app.driver.ask(move |world| world.ca_status(now)).await?,
    ))
}
