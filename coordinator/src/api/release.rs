//! Releases.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use holdfast_homes::credentials::Credentials;
use holdfast_homes::resolve::{Found, resolve};
use holdfast_protocol::api::release::{NewRelease, Release};
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::api::{Code, Items};
use holdfast_protocol::home::Named;
use holdfast_protocol::name::{ArtifactName, ServiceName};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Body, Failed, Path, Query};
use super::{App, Caller, page};
use crate::access::{self, Action, Subject};
use crate::event::{Event, Refused};
use crate::world::login::Told;

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
    let found = found((&app, &user), &service, &new).await?;
    let (new, by) = (Box::new(new), user.name);
    Ok(Json(
        app.driver
            .request(|reply| Event::Release {
                service,
                new,
                found,
                by,
                reply,
            })
            .await?,
    ))
}

/// What the homes of a new release lead to. Found out here and once, so that whoever asks needs neither
/// a way there nor credentials, and a tag that moves later changes nothing.
async fn found(
    (app, caller): (&App, &access::Caller),
    service: &ServiceName,
    new: &NewRelease,
) -> Result<BTreeMap<ArtifactName, Found>, Failed> {
    if new.homes.len() > HOMES_MAX {
        let detail = format!("a release has at most {HOMES_MAX} artifacts");
        return Err(Failed(Refused::new(Code::TooLarge, detail)));
    }
    let of = service.clone();
    let files = app.driver.ask(move |world| {
        let declared = world.compiled.services.get(&of);
        declared.map(|declared| declared.artifacts.clone())
    });
    // What is not declared is refused with everything else that is wrong.
    let files = files.await?.unwrap_or_default();
    let mut found = BTreeMap::new();
    for (name, text) in &new.homes {
        let refused =
            |code, why: String| Failed(Refused::new(code, format!("artifact {name}: {why}")));
        let named: Named = text.parse().map_err(|why| refused(Code::BadRequest, why))?;
        let file = files.get(name).map_or("", String::as_str);
        let way = app.homes.way();
        let way = way.map_err(|e| refused(Code::Unavailable, crate::chain(&e)))?;
        let login = login((app, caller), service, name, named.host()).await?;
        let _place = app.limits.upload()?;
        let resolved = resolve(&way, (&named, file), login.as_ref()).await;
        let resolved = resolved.map_err(|e| refused(Code::BadRequest, crate::chain(&e)))?;
        found.insert(name.clone(), resolved);
    }
    Ok(found)
}

/// What the home of an artifact is told: the value of the first of the service's environments, by name,
/// in which the secret that the manifest names for it is set. Nothing where none is for that host.
async fn login(
    (app, caller): (&App, &access::Caller),
    service: &ServiceName,
    name: &ArtifactName,
    host: &str,
) -> Result<Option<Credentials>, Failed> {
    let (of, artifact) = (service.clone(), name.clone());
    let asked = app
        .driver
        .ask(move |world| world.told_at_release(&of, &artifact));
    let mut named = asked.await?;
    named.retain(|told| told.may_be_for(host));
    let unset = named.first().filter(|_| !named.iter().any(Told::is_set));
    if let Some(unset) = unset {
        let message = format!("artifact {name}: {host} is to be told a secret that is not set");
        let refused = Refused::new(Code::Refused, message).help(unset.set_by());
        return Err(Failed(refused));
    }
    let mut first = None;
    for told in named.into_iter().filter(Told::is_set) {
        match opened(told, host, caller) {
            Ok(Some(known)) => return Ok(Some(known)),
            Ok(None) => {}
            Err((why, help)) => {
                let refused = Refused::new(Code::Refused, format!("artifact {name}: {why}"));
                first.get_or_insert(match help {
                    Some(help) => refused.help(help),
                    None => refused,
                });
            }
        }
    }
    first.map_or(Ok(None), |refused| Err(Failed(refused)))
}

/// A value for `host`, as far as this caller may have it told there; why not, and perhaps what helps.
fn opened(
    told: Told,
    host: &str,
    caller: &access::Caller,
) -> Result<Option<Credentials>, (String, Option<String>)> {
    let action = Action::new(Permission::Secret, Subject::environment(told.environment()));
    if told.was_placed() || access::allows(caller, &action).is_ok() {
        return told.open(host).map_err(|why| (why, None));
    }
    let help = format!(
        "until a deployment in {} with these credentials was let through, the coordinator tells {host} only \
         a value that names it: have the first release made by somebody who may set secrets there, or the \
         value set as `docker login` writes it",
        told.environment()
    );
    let opened = told.by_itself().open(host);
    opened.map_err(|why| (why, Some(help)))
}

/// Most artifacts of one release that stay in homes.
const HOMES_MAX: usize = 64;

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
            .map(|release| world.shown(release))
            .collect::<Vec<_>>()
    });
    let key = |last: &Release| format!("{}/{}", last.service, last.sequence);
    Ok(Json(page::full(releases.await?, limit, key)))
}
