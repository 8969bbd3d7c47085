//! Artifact streams: the relay from the coordinator's store to a target that needs the content.

use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame::{self, Decoder};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::stream::{AgentOpens, ArtifactReply};
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{CloseReason, Context};
use crate::event::Event;

/// Largest header of a stream, in bytes.
const HEADER_MAX_BYTES: usize = 1_024;
/// Time for the header to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a refusal to arrive before the connection is closed for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes read from disk at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Time that a peer may take for one chunk before it is given up.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

/// The target at the other end of a stream.
#[derive(Debug)]
pub struct Asker {
    /// Its name, from its certificate.
    pub target: TargetName,
    /// Its connection.
    pub connection: quinn::Connection,
}

/// Serves one stream to its end. A target is given the artifacts of its own assignment. One of its
/// environment that it does not need any more is refused; asking for any other is an offence, and
/// the answer is the same as for one that does not exist.
pub async fn serve(context: Context, asker: Asker, mut send: SendStream, receive: RecvStream) {
    let (digest, offset) = match header(receive).await {
        Ok(AgentOpens::Artifact { digest, offset }) => (digest, offset),
        Err(Unreadable::Malformed) => {
            return offend(
                &context,
                asker,
                "opened a stream that is none of a target's",
            )
            .await;
        }
        Err(Unreadable::Gone) => return,
    };
    let (target, asked) = (asker.target.clone(), digest);
    let known = context.driver.ask(move |world| {
        world
            .artifact_for(&target, &asked)
            .ok_or_else(|| world.is_artifact_nearby(&target, &asked))
    });
    let size = match known.await {
        Ok(Ok(size)) => size,
        // Outdated, and no offence; or the coordinator stops.
        Ok(Err(true)) | Err(_) => return refuse(&mut send).await,
        Ok(Err(false)) => {
            refuse(&mut send).await;
            // The answer has to arrive before the connection ends.
            drop(tokio::time::timeout(ANSWER_TIMEOUT, send.stopped()).await);
            let what =
                format!("asked for the artifact {digest}, which its assignment does not name");
            return offend(&context, asker, &what).await;
        }
    };
    if let Err(error) = stream(&context, &mut send, digest, offset, size).await {
        tracing::debug!(target = %asker.target, %digest, %error, "artifact stream ended early");
    }
}

/// Why a header was not read.
enum Unreadable {
    /// It is not a header that a target sends.
    Malformed,
    /// The peer went away or took too long.
    Gone,
}

async fn header(mut receive: RecvStream) -> Result<AgentOpens, Unreadable> {
    let read = async {
        let mut decoder = Decoder::new(HEADER_MAX_BYTES);
        let mut buffer = [0; HEADER_MAX_BYTES];
        loop {
            let read = receive
                .read(&mut buffer)
                .await
                .map_err(|_| Unreadable::Gone)?;
            let length = read.ok_or(Unreadable::Gone)?;
            decoder.feed(buffer.get(..length).unwrap_or_default());
            if let Some(header) = decoder.next_message().map_err(|_| Unreadable::Malformed)? {
                return Ok(header);
            }
        }
    };
    tokio::time::timeout(HEADER_TIMEOUT, read)
        .await
        .unwrap_or(Err(Unreadable::Gone))
}

async fn refuse(send: &mut SendStream) {
    if let Ok(reply) = frame::encode(&ArtifactReply::Unavailable) {
        // A peer that has gone needs no answer.
        drop(send.write_all(&reply).await);
        drop(send.finish());
    }
}

/// Records what a target did that it may not, and closes its connection.
async fn offend(context: &Context, asker: Asker, what: &str) {
    context.metrics.refusals.inc();
    let from = asker.connection.remote_address();
    let offence = Event::Offence {
        target: Some(asker.target),
        from,
        what: what.to_owned(),
    };
    // While the coordinator stops, there is nobody to tell.
    drop(context.driver.bring(offence).await);
    CloseReason::Refused.close(&asker.connection);
}

async fn stream(
    context: &Context,
    send: &mut SendStream,
    digest: Digest,
    offset: u64,
    size: u64,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(context.artifacts.join(digest.hex())).await?;
    file.seek(std::io::SeekFrom::Start(offset.min(size)))
        .await?;
    let reply = frame::encode(&ArtifactReply::Content { size }).map_err(std::io::Error::other)?;
    send.write_all(&reply).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = file.read(&mut chunk).await?;
        if length == 0 {
            break;
        }
        let writing = send.write_all(chunk.get(..length).unwrap_or_default());
        tokio::time::timeout(CHUNK_TIMEOUT, writing).await??;
    }
    send.finish().map_err(std::io::Error::other)
}
