//! The join exchange: one request, one reply.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_protocol::api::Code;
use holdfast_protocol::frame::{self, Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::join::{EXPORTER_BYTES, EXPORTER_LABEL, ToAuthority, ToJoiner};
use quinn::RecvStream;

use super::{CloseReason, Context};
use crate::event::{Event, Refused};

/// Time for the whole exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the reply to reach the peer.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read at a time.
const READ_BYTES: usize = 4 * 1024;
/// When to come back while the coordinator cannot answer, in milliseconds.
const RETRY_AFTER_MS: u64 = 2_000;

/// Runs one exchange to its end.
pub async fn run(context: Context, connection: quinn::Connection, from: SocketAddr) {
    let exchange = exchange(&context, &connection, from);
    if tokio::time::timeout(EXCHANGE_TIMEOUT, exchange)
        .await
        .is_err()
    {
        tracing::debug!(%from, "join exchange took too long");
    }
    CloseReason::Done.close(&connection);
}

async fn exchange(
    context: &Context,
    connection: &quinn::Connection,
    from: SocketAddr,
) -> Option<()> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let request = read_request(&mut receive).await?;
    let answer = match request {
        ToAuthority::Join(request) => {
            let request = Box::new(request);
            context
                .driver
                .request(|reply| Event::Join {
                    request,
                    from,
                    reply,
                })
                .await
        }
        ToAuthority::Renew(request) => {
            let mut exporter = vec![0; EXPORTER_BYTES];
            connection
                .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
                .ok()?;
            let request = Box::new(request);
            context
                .driver
                .request(|reply| Event::RenewExpired {
                    request,
                    exporter,
                    from,
                    reply,
                })
                .await
        }
    };
    let reply = match answer {
        Ok(joined) => ToJoiner::Joined(joined),
        Err(refused) => said_no(refused),
    };
    send.write_all(&frame::encode(&reply).ok()?).await.ok()?;
    send.finish().ok()?;
    // The peer closes when it has read the reply.
    drop(tokio::time::timeout(LINGER, connection.closed()).await);
    Some(())
}

fn said_no(refused: Refused) -> ToJoiner {
    if refused.code == Code::Unavailable {
        ToJoiner::Busy {
            retry_after_ms: RETRY_AFTER_MS,
        }
    } else {
        ToJoiner::Refused {
            message: refused.detail,
        }
    }
}

async fn read_request(receive: &mut RecvStream) -> Option<ToAuthority> {
    let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = receive.read(&mut buffer).await.ok()??;
        decoder.feed(buffer.get(..length)?);
        if let Some(request) = decoder.next_message().ok()? {
            return Some(request);
        }
    }
}
