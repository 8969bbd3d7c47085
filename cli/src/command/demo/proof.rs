//! What is so: asked of the coordinator, of the sites and of the system, for the story to tell.

use std::path::Path;
use std::time::Duration;

use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::event::Audit;
use holdfast_protocol::api::release::{NewRelease, Release};
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::target::Target;
use indicatif::ProgressBar;
use rustix::process::{Signal, kill_process};

use super::program::{belongs_to, pid_of};
use super::stage::Stage;
use super::{ensure, eventually};
use crate::client::Client;
use crate::command::create::upload;
use crate::error::Failure;

/// Uploads a file and registers a release with it.
pub(super) async fn release(
    client: &Client,
    service: &str,
    version: &str,
    artifact: &str,
    file: &Path,
) -> Result<(), Failure> {
    let wrong = |error: holdfast_protocol::name::NameError| Failure::failed(error.to_string());
    let upload = upload(client, file, &ProgressBar::hidden()).await?;
    let new = NewRelease {
        version: version.parse().map_err(wrong)?,
        artifacts: [(artifact.parse().map_err(wrong)?, upload.digest)].into(),
        repositories: std::collections::BTreeMap::new(),
        homes: std::collections::BTreeMap::new(),
        commit: None,
        meta: std::collections::BTreeMap::new(),
    };
    let _: Release = client
        .post(&["services", service, "releases"], &new)
        .await?;
    Ok(())
}

/// The history, oldest first.
pub(super) async fn deployments(client: &Client) -> Result<Vec<Deployment>, Failure> {
    client.items(&["history"], &[]).await
}

/// The record, whose hash chain must hold.
pub(super) async fn verified(client: &Client) -> Result<Audit, Failure> {
    let audit: Audit = client.fetch(&["audit"], &[]).await?;
    ensure(audit.valid, || {
        format!("the record's hash chain holds: {}", audit.message)
    })?;
    Ok(audit)
}

/// Waits until so many targets are connected.
pub(super) async fn connected(client: &Client, count: usize) -> Result<(), Failure> {
    eventually("all agents are connected", CONNECT_TIMEOUT, async || {
        let targets: Vec<Target> = client.items(&["targets"], &[]).await?;
        let connected = targets.iter().filter(|target| target.connected).count();
        Ok((connected == count).then_some(()))
    })
    .await
}

/// Whether both services are stable in an environment, with this version.
pub(super) async fn are_stable(
    client: &Client,
    environment: &str,
    version: &str,
) -> Result<bool, Failure> {
    let query = [("environment", Some(environment.to_owned()))];
    let tracks: Vec<Status> = client.items(&["status"], &query).await?;
    let failed = tracks.iter().find(|track| {
        track
            .current
            .as_ref()
            .is_some_and(|current| crate::command::wait::is_failure(current.phase))
    });
    ensure(failed.is_none(), || {
        format!("no deployment fails: {failed:?}")
    })?;
    let stable = tracks.iter().filter(|track| {
        track
            .stable
            .as_ref()
            .is_some_and(|stable| stable.version.as_str() == version)
    });
    Ok(stable.count() == SERVICES)
}

/// Whether anybody serves this port.
pub(super) async fn serving(stage: &Stage, port: u16) -> bool {
    stage.visitor.look(port, "/").await.is_some()
}

/// A port must serve the site, whole, in this version.
pub(super) async fn expect_version(stage: &Stage, port: u16, version: &str) -> Result<(), Failure> {
    let served = stage.visitor.version(port).await;
    ensure(served.as_deref() == Some(version), || {
        format!("port {port} serves the site in version {version}, not {served:?}")
    })
}

/// The process that serves a port, which must be one of the demo's own.
pub(super) async fn server_of(stage: &Stage, port: u16) -> Result<u32, Failure> {
    let pid = stage.visitor.pid(port).await;
    let own = pid.filter(|pid| belongs_to(*pid, stage.folder()));
    own.ok_or_else(|| {
        Failure::failed(format!(
            "a process of the demo serves port {port}, not {pid:?}"
        ))
    })
}

/// Kills a process without warning.
pub(super) fn kill(pid: u32) -> Result<(), Failure> {
    pid_of(pid)
        .and_then(|pid| kill_process(pid, Signal::KILL).ok())
        .ok_or_else(|| Failure::failed(format!("process {pid} cannot be killed")))
}

/// Writes a file of the demo.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// How many services the example has.
const SERVICES: usize = 2;
/// Time for agents to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
