//! Uploading the content of artifacts. Content is addressed by its SHA-256, so an upload can be
//! repeated, and one that does not match its name leaves nothing behind.
//!
//! Content stays for ever, as releases do. A file whose round was never committed is not known to
//! anyone; the next upload of the same content takes its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body as Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use holdfast_protocol::api::Code;
use holdfast_protocol::digest::{Digest, Hasher};
use tokio::io::AsyncWriteExt as _;

use super::problem::{self, Failed};
use super::{App, Caller};
use crate::event::{Event, Refused};

/// Begins the name of the file of an upload that is under way.
const UNFINISHED: &str = ".upload-";
/// Largest artifact.
const ARTIFACT_MAX_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Longest pause within an upload.
const UPLOAD_IDLE: Duration = Duration::from_secs(30);

/// Removes what uploads left behind that an end of the process has cut off.
///
/// # Errors
/// When the folder cannot be read or a file cannot be removed.
pub fn remove_unfinished(artifacts: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(artifacts)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether the content is there already.
#[utoipa::path(
    head,
    path = "/v1/artifacts/{digest}",
    params(("digest" = String, Path)),
    responses((status = 200, description = "it is there"), (status = 404, description = "it is not"))
)]
pub async fn there(
    State(app): State<App>,
    _: Caller,
    problem::Path(digest): problem::Path<String>,
) -> Result<StatusCode, Failed> {
    let digest: Digest = super::parse(&digest)?;
    let known = app
        .driver
        .ask(move |world| world.artifacts.contains_key(&digest))
        .await?;
    Ok(if known {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    })
}

/// Uploads the content.
#[utoipa::path(
    put,
    path = "/v1/artifacts/{digest}",
    params(("digest" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "it is there"), (status = 400, description = "other content"))
)]
pub async fn upload(
    State(app): State<App>,
    _: Caller,
    problem::Path(digest): problem::Path<String>,
    body: Bytes,
) -> Result<StatusCode, Failed> {
    let digest: Digest = super::parse(&digest)?;
    let _place = app.limits.upload()?;
    let unfinished = Unfinished(
        app.artifacts
            .join(format!("{UNFINISHED}{:016x}", rand::random::<u64>())),
    );
    let size = receive(&unfinished.0, digest, body).await?;
    put(&unfinished.0, &app.artifacts, digest).await?;
    app.driver
        .request(|reply| Event::ArtifactStored {
            digest,
            size,
            reply,
        })
        .await?;
    Ok(StatusCode::CREATED)
}

/// The file of an upload that is under way. However the upload ends, nothing of it is left under
/// this name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Usually it has another name by now; what is left over is removed at start.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Writes what is uploaded to `fresh`; gives its length once all of it is on disk.
async fn receive(fresh: &Path, digest: Digest, body: Bytes) -> Result<u64, Failed> {
    let mut file = tokio::fs::File::create(fresh).await.map_err(unwritable)?;
    let mut hasher = Hasher::default();
    let mut size: u64 = 0;
    let mut chunks = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(UPLOAD_IDLE, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| broken_off(&"nothing more came"))? else {
            break;
        };
        let chunk = chunk.map_err(|error| broken_off(&error))?;
        size += chunk.len() as u64;
        if size > ARTIFACT_MAX_BYTES {
            return Err(Failed(Refused::new(
                Code::TooLarge,
                format!("an artifact has at most {ARTIFACT_MAX_BYTES} bytes"),
            )));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(unwritable)?;
    }
    let found = hasher.finish();
    if found != digest {
        return Err(Failed(Refused::new(
            Code::BadRequest,
            format!("the content is {found}, not {digest}"),
        )));
    }
    // A write that failed in the background is told by the flush, and by nothing else: `sync_all`
    // alone forgets it.
    file.flush().await.map_err(unwritable)?;
    file.sync_all().await.map_err(unwritable)?;
    Ok(size)
}

/// Gives a complete file the name of its content, for good.
async fn put(fresh: &Path, artifacts: &Path, digest: Digest) -> Result<(), Failed> {
    tokio::fs::rename(fresh, artifacts.join(digest.hex()))
        .await
        .map_err(unwritable)?;
    let directory = tokio::fs::File::open(artifacts).await.map_err(unwritable)?;
    directory.sync_all().await.map_err(unwritable)
}

fn broken_off(why: &dyn std::fmt::Display) -> Failed {
    let detail = format!("the upload broke off: {why}");
    Failed(Refused::new(Code::BadRequest, detail))
}

fn unwritable(error: std::io::Error) -> Failed {
    tracing::error!(%error, "cannot store an artifact");
    Failed(
        Refused::new(
            Code::Unavailable,
            format!("the content cannot be stored: {error}"),
        )
        .help("is the coordinator's disk full?"),
    )
}
