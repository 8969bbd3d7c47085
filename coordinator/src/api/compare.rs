//! What differs between two deployments.

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::apply::ManifestFile;
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::diff::{DeploymentDiff, FieldChange, Side};
use holdfast_protocol::api::release::Release;
use holdfast_protocol::name::InputSetName;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::problem::{Answer, Failed, Query};
use super::{App, Caller, deployment};
use crate::world::World;

/// Which two.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Pair {
    /// Number of the first.
    from: u64,
    /// Number of the second.
    to: u64,
}

/// Compares two deployments: release, configuration, manifests.
#[utoipa::path(
    get,
    path = "/v1/diff",
    params(Pair),
    responses((status = 200, body = DeploymentDiff), (status = 404, description = "no such deployment"))
)]
pub async fn diff(
    State(app): State<App>,
    _: Caller,
    Query(pair): Query<Pair>,
) -> Answer<DeploymentDiff> {
    let from = deployment::find(&app, pair.from).await?;
    let to = deployment::find(&app, pair.to).await?;
    let about = (from.clone(), to.clone());
    let (releases, sets) = app
        .driver
        .ask(move |world| {
            let releases = (release(world, &about.0), release(world, &about.1));
            (releases, world.sets_of(&about.0, &about.1))
        })
        .await?;
    let before = configuration(&app, &from).await?;
    let after = configuration(&app, &to).await?;
    let patch = patch(&app, &sets, from.revision, to.revision).await?;
    Ok(Json(DeploymentDiff {
        release: changes(&releases.0, &releases.1),
        configuration: changes(&before, &after),
        patch,
        from: side(&from),
        to: side(&to),
    }))
}

fn side(deployment: &Deployment) -> Side {
    Side {
        id: deployment.id,
        service: deployment.service.clone(),
        environment: deployment.environment.clone(),
        version: deployment.version.clone(),
        revision: deployment.revision,
    }
}

/// What a release is made of. What only says when and as what it was registered is left out.
fn release(world: &World, deployment: &Deployment) -> Value {
    let releases = world.releases.get(&deployment.service);
    let found = releases.and_then(|all| all.iter().find(|one| one.version == deployment.version));
    found.map_or(Value::Null, |release| {
        let Release {
            version,
            artifacts,
            commit,
            meta,
            ..
        } = &**release;
        json!({"version": version, "artifacts": artifacts, "commit": commit, "meta": meta})
    })
}

async fn configuration(app: &App, deployment: &Deployment) -> Result<Value, Failed> {
    let Some(digest) = deployment.configuration else {
        return Ok(Value::Null);
    };
    Ok(app.store.configuration(digest).await?.unwrap_or_default())
}

fn changes(before: &Value, after: &Value) -> Vec<FieldChange> {
    holdfast_engine::compile::diff::leaf_changes(before, after)
}

/// The difference of the manifests between two revisions, set by set and file by file.
async fn patch(app: &App, sets: &[InputSetName], from: u64, to: u64) -> Result<String, Failed> {
    let mut patch = String::new();
    for set in sets {
        let before = app.store.files(set, from).await?;
        let after = app.store.files(set, to).await?;
        let paths = before.iter().chain(&after).map(|file| file.path.as_str());
        let mut paths: Vec<&str> = paths.collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let (old, new) = (content(&before, path), content(&after, path));
            if old != new {
                patch.push_str(&unified(set, path, old, new));
            }
        }
    }
    Ok(patch)
}

fn content<'f>(files: &'f [ManifestFile], path: &str) -> Option<&'f str> {
    let file = files.iter().find(|file| file.path == path);
    file.map(|file| file.content.as_str())
}

/// One file's difference. `/dev/null` stands for a file that is not there, as in `git diff`.
fn unified(set: &InputSetName, path: &str, old: Option<&str>, new: Option<&str>) -> String {
    let name = |side: char, content: Option<&str>| match content {
        Some(_) => format!("{side}/{set}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let mut options = diffy::DiffOptions::new();
    options
        .set_original_filename(name('a', old))
        .set_modified_filename(name('b', new));
    options
        .create_patch(old.unwrap_or_default(), new.unwrap_or_default())
        .to_string()
}
