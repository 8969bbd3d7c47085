//! `release create`: uploads files by their digest, then registers the release.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::StreamExt as _;
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::release::{NewRelease, Release};
use holdfast_protocol::api::service::Service;
use holdfast_protocol::api::status::Status;
use holdfast_protocol::digest::{Digest, Hasher};
use holdfast_protocol::home::Named;
use holdfast_protocol::image::Reference;
use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName, Version};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::wait::{Verdict, because, judge, until};
use super::{Outcome, Session};
use crate::args::release::Create;
use crate::client::{Client, Query};
use crate::error::{Exit, Failure};

/// `release create SERVICE --version V`.
///
/// # Errors
/// A file cannot be read, the version has other content already (8); with `--wait`, 6 and 7.
pub async fn run(session: &mut Session<'_>, args: &Create) -> Outcome {
    let mut artifacts = BTreeMap::new();
    let mut repositories = BTreeMap::new();
    let mut homes = BTreeMap::new();
    for (name, reference) in &args.artifact {
        match referred(name, reference)? {
            Referred::Digest(digest) => put(&mut artifacts, name, digest)?,
            Referred::Image(image) => {
                put(&mut artifacts, name, image.digest)?;
                repositories.insert(name.clone(), image.repository.to_string());
            }
            // What it leads to is found out by the coordinator.
            Referred::Home => put(&mut homes, name, reference.clone())?,
        }
    }
    for (name, path) in &args.file {
        let digest = uploaded(session, name, path).await?;
        put(&mut artifacts, name, digest)?;
    }
    let new = NewRelease {
        version: args.version.clone(),
        artifacts,
        repositories,
        homes,
        commit: args.commit.clone(),
        meta: args.meta.iter().cloned().collect(),
    };
    let release: Release = session
        .client
        .post(&["services", args.service.as_str(), "releases"], &new)
        .await?;
    session.screen.object(&release, |_| {
        format!(
            "release {} of {} (number {})\n",
            release.version, release.service, release.sequence
        )
    })?;
    if args.wait.wait {
        return deployed(session, args).await;
    }
    if !session.screen.structured() {
        session.screen.note(&format!(
            "follow it with `holdfast status {} -w`",
            args.service
        ));
    }
    Ok(Exit::Done)
}

fn put<T>(
    artifacts: &mut BTreeMap<ArtifactName, T>,
    name: &ArtifactName,
    content: T,
) -> Result<(), Failure> {
    match artifacts.insert(name.clone(), content) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("artifact {name} is given twice"))),
    }
}

/// What `--artifact NAME=REF` names.
#[derive(Debug)]
enum Referred {
    /// Something that was uploaded.
    Digest(Digest),
    /// An image, with its repository.
    Image(Reference),
    /// A file that stays where it is.
    Home,
}

fn referred(name: &ArtifactName, reference: &str) -> Result<Referred, Failure> {
    let refused = |why: String, help: &str| {
        Failure::usage(format!("artifact {name}: {why}")).help(help.to_owned())
    };
    if let Ok(digest) = reference.parse() {
        return Ok(Referred::Digest(digest));
    }
    if Named::is_meant(reference) {
        let named = reference.parse::<Named>();
        let help = "a file stays where it is as oci://REGISTRY/REPOSITORY@sha256:… or as \
                    https://HOST/PATH#sha256=…";
        return named
            .map(|_| Referred::Home)
            .map_err(|why| refused(why, help));
    }
    Reference::parse(reference)
        .map(Referred::Image)
        .map_err(|why| {
            let help = "an image is named by REPOSITORY@sha256:…, a file in a registry by \
                        oci://REGISTRY/REPOSITORY@sha256:…, one of a web server by \
                        https://HOST/PATH#sha256=…, what was uploaded before by sha256:…, and a file \
                        is uploaded with --file NAME=PATH";
            refused(why, help)
        })
}

/// Sees to it that the coordinator has a file, and says so; tells its digest.
async fn uploaded(
    session: &mut Session<'_>,
    name: &ArtifactName,
    path: &Path,
) -> Result<Digest, Failure> {
    let bar = bar(session.screen.progress, name);
    let upload = upload(&session.client, path, &bar).await;
    bar.finish_and_clear();
    let Upload {
        digest,
        length,
        fresh,
    } = upload?;
    let short = digest.short();
    session.screen.note(&if fresh {
        format!("{name}: {short} uploaded, {length} bytes")
    } else {
        format!("{name}: {short} is there already")
    });
    Ok(digest)
}

/// A file that the coordinator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it had to be sent.
    pub fresh: bool,
}

/// Sends a file to the coordinator unless it has it.
///
/// # Errors
/// The file cannot be read, or the coordinator does not take it.
pub async fn upload(client: &Client, path: &Path, bar: &ProgressBar) -> Result<Upload, Failure> {
    let (digest, length) = hashed(path).await?;
    let fresh = !client.has_artifact(digest).await?;
    if fresh {
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|error| unreadable(path, &error))?;
        bar.set_length(length);
        let moving = bar.clone();
        // A file that grows meanwhile must not make the body longer than announced.
        let bytes =
            ReaderStream::with_capacity(file.take(length), CHUNK_BYTES).inspect(move |piece| {
                if let Ok(piece) = piece {
                    moving.inc(piece.len() as u64);
                }
            });
        client.upload(digest, length, bytes).await?;
    }
    Ok(Upload {
        digest,
        length,
        fresh,
    })
}

fn bar(visible: bool, name: &ArtifactName) -> ProgressBar {
    let target = if visible {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {eta}")
        .expect("the template is right");
    ProgressBar::with_draw_target(None, target)
        .with_style(style)
        .with_prefix(name.to_string())
}

async fn hashed(path: &Path) -> Result<(Digest, u64), Failure> {
    let failed = |error| unreadable(path, &error);
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", path.display()))
            .help("pack it first: tar -czf FILE.tar.gz -C FOLDER ."));
    }
    let mut hasher = Hasher::default();
    let mut length = 0;
    let mut piece = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut piece).await.map_err(failed)?;
        if read == 0 {
            return Ok((hasher.finish(), length));
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", path.display()))
}

/// Waits until the release is stable in every environment that was asked for.
async fn deployed(session: &mut Session<'_>, args: &Create) -> Outcome {
    let environments = if args.environment.is_empty() {
        let path = ["services", args.service.as_str()];
        let services: Vec<Service> = session.client.items(&path, &[]).await?;
        services
            .into_iter()
            .flat_map(|service| service.environments)
            .collect()
    } else {
        args.environment.clone()
    };
    until(session, args.wait.timeout, async |client: &Client| {
        look(client, &args.service, &args.version, &environments).await
    })
    .await
}

async fn look(
    client: &Client,
    service: &ServiceName,
    version: &Version,
    environments: &[EnvironmentName],
) -> Result<Verdict, Failure> {
    let query: &Query<'_> = &[("service", Some(service.to_string()))];
    let deployments: Vec<Deployment> = client.items(&["deployments"], query).await?;
    let status: Vec<Status> = client.items(&["status"], query).await?;
    Ok(stands(version, environments, &deployments, &status))
}

/// How a release stands in some environments.
fn stands(
    version: &Version,
    environments: &[EnvironmentName],
    deployments: &[Deployment],
    status: &[Status],
) -> Verdict {
    let mut newest = Vec::new();
    let mut missing = Vec::new();
    for environment in environments {
        let of_release = deployments
            .iter()
            .filter(|item| item.environment == *environment && item.version == *version)
            .max_by_key(|item| item.id);
        match of_release {
            Some(deployment) => newest.push(deployment.clone()),
            None => missing.push(not_begun(version, environment, status)),
        }
    }
    match judge(&newest) {
        Verdict::Done if missing.is_empty() => Verdict::Done,
        Verdict::Done => Verdict::Going(missing),
        Verdict::Going(lines) => Verdict::Going(lines.into_iter().chain(missing).collect()),
        failed @ Verdict::Failed { .. } => failed,
    }
}

fn not_begun(version: &Version, environment: &EnvironmentName, status: &[Status]) -> String {
    let why = status
        .iter()
        .find(|track| track.environment == *environment)
        .map(|track| because(&track.waits))
        .unwrap_or_default();
    if why.is_empty() {
        format!("{version} has not come to {environment} yet")
    } else {
        format!("{version} has not come to {environment} yet; {why}")
    }
}

/// Size of one piece of a file that is read or sent, in bytes.
const CHUNK_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use holdfast_protocol::api::deployment::Phase;

    use super::*;
    use crate::output::tests::deployment;

    fn production() -> Vec<EnvironmentName> {
        vec!["production".parse().unwrap()]
    }

    #[test]
    fn a_release_is_waited_for_in_every_environment_also_where_it_has_not_begun() {
        let version = "1.4.0".parse().unwrap();
        let none = stands(&version, &production(), &[], &[]);
        assert!(matches!(none, Verdict::Going(_)));
        let stable = [deployment(4, Phase::Stable)];
        assert_eq!(stands(&version, &production(), &stable, &[]), Verdict::Done);
        let both = ["production".parse().unwrap(), "west".parse().unwrap()];
        let half = stands(&version, &both, &stable, &[]);
        assert_eq!(
            half,
            Verdict::Going(vec!["1.4.0 has not come to west yet".to_owned()])
        );
    }

    #[test]
    fn a_deployment_of_another_release_and_an_earlier_try_do_not_count() {
        let version = "1.5.0".parse().unwrap();
        let other = [deployment(4, Phase::Stable)];
        assert!(matches!(
            stands(&version, &production(), &other, &[]),
            Verdict::Going(_)
        ));
        let version = "1.4.0".parse().unwrap();
        let tries = [
            deployment(4, Phase::RolledBack),
            deployment(9, Phase::Stable),
        ];
        assert_eq!(stands(&version, &production(), &tries, &[]), Verdict::Done);
    }

    #[test]
    fn a_reference_that_is_no_digest_is_refused_with_what_to_do() {
        let name = "app".parse().unwrap();
        let failure = referred(&name, "registry.internal/web:1").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.help.unwrap().contains("--file"));
    }

    #[tokio::test]
    async fn a_file_is_hashed_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content = vec![7; CHUNK_BYTES * 2 + 1];
        std::fs::write(&path, &content).unwrap();
        let hashed = hashed(&path).await.unwrap();
        assert_eq!(hashed, (Digest::of(&content), content.len() as u64));
        assert_eq!(
            super::hashed(folder.path()).await.unwrap_err().exit,
            Exit::Usage
        );
    }
}
