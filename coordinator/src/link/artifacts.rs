//! Artifact streams: to a target that needs the content, from the coordinator's store, or from its
//! home through the relay.

use std::io;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame::{self, Decoder, FrameError};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::stream::{AgentOpens, ArtifactReply};
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use super::{CloseReason, Context, secrets};
use crate::event::Event;
use crate::relay::{Errand, Progress};
use crate::world::artifact::Place;

/// Largest header of a stream, in bytes.
const HEADER_MAX_BYTES: usize = 1_024;
/// Time for the header to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a refusal to arrive before the connection is closed for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes read from disk at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Time for the first byte from a home; shorter than the silence that targets put up with.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(20);
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
        Ok(AgentOpens::Secret(which)) => {
            return secrets::serve(&context, asker, &which, send).await;
        }
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
    let content = match known.await {
        Ok(Ok(content)) => content,
        // Outdated, and no offence; or the coordinator stops.
        Ok(Err(true)) | Err(_) => {
            return answer(&mut send, frame::encode(&ArtifactReply::Unavailable)).await;
        }
        Ok(Err(false)) => {
            answer(&mut send, frame::encode(&ArtifactReply::Unavailable)).await;
            arrived(&send).await;
            let what =
                format!("asked for the artifact {digest}, which its assignment does not name");
            return offend(&context, asker, &what).await;
        }
    };
    let streamed = match content.place {
        Place::Stored => stored(&context, &mut send, digest, (offset, content.size)).await,
        Place::Gone => {
            let message = "the coordinator has removed it: no release that is kept needed it";
            away(&mut send, message.to_owned()).await
        }
        Place::Home(home, told) => {
            let (artifact, size) = (digest, content.size);
            let errand = Errand {
                artifact,
                size,
                home,
                told,
            };
            relayed(&context, &mut send, errand, offset).await
        }
    };
    if let Err(error) = streamed {
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

/// Answers a stream with one message, as a frame.
pub(super) async fn answer(send: &mut SendStream, reply: Result<Vec<u8>, FrameError>) {
    if let Ok(reply) = reply {
        // A peer that has gone needs no answer.
        drop(send.write_all(&reply).await);
        drop(send.finish());
    }
}

/// Waits for a while until an answer has arrived: it has to before the connection ends for it.
pub(super) async fn arrived(send: &SendStream) {
    drop(tokio::time::timeout(ANSWER_TIMEOUT, send.stopped()).await);
}

async fn away(send: &mut SendStream, message: String) -> io::Result<()> {
    answer(send, frame::encode(&ArtifactReply::Away { message })).await;
    Ok(())
}

/// Records what a target did that it may not, and closes its connection.
pub(super) async fn offend(context: &Context, asker: Asker, what: &str) {
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

async fn stored(
    context: &Context,
    send: &mut SendStream,
    digest: Digest,
    (offset, size): (u64, u64),
) -> io::Result<()> {
    let mut file = tokio::fs::File::open(context.artifacts.join(digest.hex())).await?;
    begin(send, &mut file, (offset, size)).await?;
    copy(send, &mut file, size.saturating_sub(offset)).await?;
    send.finish().map_err(io::Error::other)
}

/// Gives what the relay fetches, as it comes.
async fn relayed(
    context: &Context,
    send: &mut SendStream,
    errand: Errand,
    offset: u64,
) -> io::Result<()> {
    let (artifact, size) = (errand.artifact, errand.size);
    let Some(mut progress) = context.relay.fetch(errand).await else {
        let message = "the coordinator's relay has too much to fetch".to_owned();
        return away(send, message).await;
    };
    let first = reached(&mut progress, offset, size);
    let at = match tokio::time::timeout(FIRST_BYTE_TIMEOUT, first).await {
        Ok(Some(at)) => at,
        Ok(None) => return away(send, "the coordinator stops".to_owned()).await,
        Err(_) => {
            let message = "the coordinator is still fetching it".to_owned();
            return away(send, message).await;
        }
    };
    if let Progress::Failed(why) = at {
        return away(send, why).await;
    }
    let mut file = context.relay.open(artifact).await?;
    begin(send, &mut file, (offset, size)).await?;
    let mut given = offset;
    while given < size {
        let at = reached(&mut progress, given, size).await;
        // Without an end of the stream, the target knows that this is not all, and asks again.
        let length = at.and_then(|at| here(&at, size));
        let length = length.ok_or_else(|| io::Error::other("the relay failed"))?;
        given += copy(send, &mut file, length - given).await?;
    }
    send.finish().map_err(io::Error::other)
}

/// Waits until there is more than `length`, or there will be no more; nothing where the coordinator
/// stops.
async fn reached(
    progress: &mut watch::Receiver<Progress>,
    length: u64,
    size: u64,
) -> Option<Progress> {
    let enough = |at: &Progress| here(at, size).is_none_or(|here| here > length || here == size);
    progress.wait_for(enough).await.ok().map(|at| at.clone())
}

/// Bytes that the relay may give; nothing where it failed. The last piece is held back until the whole
/// is verified, so that a target hears why something is wrong instead of finding out.
fn here(at: &Progress, size: u64) -> Option<u64> {
    match at {
        Progress::Going(length) => Some((*length).min(size.saturating_sub(CHUNK_BYTES as u64))),
        Progress::Whole => Some(size),
        Progress::Failed(_) => None,
    }
}

async fn begin(
    send: &mut SendStream,
    file: &mut tokio::fs::File,
    (offset, size): (u64, u64),
) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(offset.min(size))).await?;
    let reply = frame::encode(&ArtifactReply::Content { size }).map_err(io::Error::other)?;
    Ok(send.write_all(&reply).await?)
}

/// Sends the next `most` bytes of a file, or as many as it has; says how many those were.
async fn copy(send: &mut SendStream, file: &mut tokio::fs::File, most: u64) -> io::Result<u64> {
    let mut rest = file.take(most);
    let (mut chunk, mut sent) = (vec![0; CHUNK_BYTES], 0);
    while sent < most {
        let length = rest.read(&mut chunk).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let writing = send.write_all(chunk.get(..length).unwrap_or_default());
        tokio::time::timeout(CHUNK_TIMEOUT, writing).await??;
        sent += length as u64;
    }
    Ok(sent)
}
