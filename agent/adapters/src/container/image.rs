//! Images: pulled by digest, verified, and removed when no release needs them.

use bollard::auth::DockerCredentials;
use bollard::errors::Error as ApiError;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::{Stream, StreamExt as _};
use holdfast_homes::credentials::{self, Credentials};
use holdfast_protocol::image::Reference;
use holdfast_protocol::login::{Goal, Login};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::engine::{ANSWER_MAX, Engine, EngineError, WORK_MAX, within};
use super::spec::{Pull, PullPolicy};
use crate::failure::Failure;
use crate::run::Wanted;

/// Whether the engine has an image, under the digest that it is wanted by.
pub(super) async fn is_here(engine: &Engine, image: &Reference) -> Result<bool, Failure> {
    let name = image.to_string();
    let call = engine.api.inspect_image(&name);
    match within(format!("look for image {name}"), ANSWER_MAX, call).await {
        Ok(found) => {
            let ends = format!("@{}", image.digest);
            let digests = found.repo_digests.unwrap_or_default();
            if digests.iter().any(|digest| digest.ends_with(&ends)) {
                return Ok(true);
            }
            Err(Failure::Retryable(format!(
                "the container engine gave another image for {name}: it has {digests:?}"
            )))
        }
        Err(error) if error.is_unknown() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What the registry of an image is to be told: the secret that the manifest names for its repository, or
/// what this target's own file has for it. Both may be mended, so trying again may help.
pub(super) fn login(
    settings: &Settings,
    wanted: &Wanted,
    image: &Reference,
) -> Result<Option<DockerCredentials>, Failure> {
    let registry = &image.repository.registry;
    let known = match (of_secret(wanted, image)?, &settings.credentials) {
        (Some(known), _) => Some(known),
        (None, Some(path)) => {
            credentials::of(path, registry).map_err(|e| Failure::Retryable(e.to_string()))?
        }
        (None, None) => None,
    };
    Ok(known.map(|known| DockerCredentials {
        username: known.username,
        // The engine's client has no other form; it goes with the request.
        password: known.password.map(|text| String::clone(&text)),
        identitytoken: known.identity_token.map(|text| String::clone(&text)),
        registrytoken: known.bearer.map(|text| String::clone(&text)),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    }))
}

fn of_secret(wanted: &Wanted, image: &Reference) -> Result<Option<Credentials>, Failure> {
    let (registry, name) = (&image.repository.registry, image.repository.to_string());
    let is_meant = |login: &&Login| match &login.goal {
        Goal::Image { repository } => *repository == name,
        Goal::File { .. } => false,
    };
    let Some(login) = wanted.workload.logins.iter().find(is_meant) else {
        return Ok(None);
    };
    let value = wanted.logins.value(&login.secret)?;
    let known = credentials::of_value(value, registry, Some(registry));
    known.map_err(|error| {
        let secret = &login.secret;
        Failure::Retryable(format!(
            "secret {secret} cannot be told to {registry}: {error}"
        ))
    })
}

/// Whom an image runs as by itself; empty where that is root.
pub(super) async fn user(engine: &Engine, image: &Reference) -> Result<String, Failure> {
    let name = image.to_string();
    let call = engine.api.inspect_image(&name);
    let found = within(format!("look for image {name}"), ANSWER_MAX, call).await?;
    Ok(found
        .config
        .and_then(|config| config.user)
        .unwrap_or_default())
}

/// Pulls an image that is not here.
pub(super) async fn pull(
    engine: &Engine,
    image: &Reference,
    how: Pull,
    login: Option<DockerCredentials>,
    say: &(dyn Fn(String) + Sync),
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    match how.policy {
        PullPolicy::Missing => {}
        PullPolicy::Never => {
            return Err(Failure::Retryable(format!(
                "image {image} is not here, and pull.policy never leaves it to somebody else"
            )));
        }
    }
    say(format!("pulling image {image}"));
    let options = CreateImageOptionsBuilder::default()
        .from_image(&image.to_string())
        .build();
    let layers = engine.api.create_image(Some(options), None, login);
    let pulling = tokio::time::timeout(how.timeout, drain(layers, image, say));
    tokio::select! {
        () = cancel.cancelled() => return Err(Failure::Cancelled),
        pulled = pulling => match pulled {
            Ok(pulled) => pulled?,
            Err(_) => {
                let seconds = how.timeout.as_secs();
                let why = format!("image {image} was not pulled within {seconds} s");
                return Err(Failure::Retryable(why));
            }
        },
    }
    if is_here(engine, image).await? {
        return Ok(());
    }
    Err(Failure::Retryable(format!(
        "image {image} was pulled and is not there under its digest"
    )))
}

/// Takes the engine's progress until it ends.
async fn drain(
    mut layers: impl Stream<Item = Result<CreateImageInfo, ApiError>> + Unpin,
    image: &Reference,
    say: &(dyn Fn(String) + Sync),
) -> Result<(), Failure> {
    let (mut begun, mut done) = (0_u32, 0_u32);
    while let Some(step) = layers.next().await {
        let step = step.map_err(|error| refused(image, error))?;
        if let Some(why) = step.error_detail.and_then(|detail| detail.message) {
            return Err(unpulled(image, &why));
        }
        match step.status.as_deref() {
            Some("Pulling fs layer") => begun += 1,
            Some("Pull complete" | "Already exists") => {
                done += 1;
                say(format!(
                    "pulling image {image}: {done} of {} layers",
                    begun.max(done)
                ));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn refused(image: &Reference, error: ApiError) -> Failure {
    match error {
        ApiError::DockerResponseServerError { message, .. } => unpulled(image, message.trim()),
        ApiError::DockerStreamError { error } => unpulled(image, &error),
        source => {
            let attempt = format!("pull image {image}");
            EngineError::Away { attempt, source }.into()
        }
    }
}

/// A registry that says no today may have the image, or the right to it, tomorrow.
fn unpulled(image: &Reference, why: &str) -> Failure {
    let hint = if why.contains("unauthorized") || why.contains("no basic auth") {
        "; `credentials` of the artifact in the manifest names a secret, or container.credentials in \
         agent.toml a file"
    } else {
        ""
    };
    Failure::Retryable(format!("image {image} cannot be pulled: {why}{hint}"))
}

/// Removes an image by its reference, where no container needs it. Gives whether it is gone.
pub(super) async fn remove(engine: &Engine, image: &str) -> Result<bool, EngineError> {
    let options = RemoveImageOptionsBuilder::default().build();
    let call = engine.api.remove_image(image, Some(options), None);
    match within(format!("remove image {image}"), WORK_MAX, call).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_unknown() => Ok(true),
        // A container of somebody else needs it, too.
        Err(EngineError::Refused { status: 409, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
