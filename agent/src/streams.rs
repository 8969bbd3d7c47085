//! Streams that the coordinator opens: its first frame says what for.

use std::time::Duration;

use holdfast_protocol::frame::{Decoder, FIRST_FRAME_MAX_BYTES};
use holdfast_protocol::stream::CoordinatorOpens;
use quinn::{RecvStream, SendStream};

use crate::checks::{self, Checks};
use crate::logs::{self, Logs};
use crate::transport::{self, StreamError};

/// Time until the header of a stream that the coordinator opened.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// What the coordinator can ask for on a stream of its own.
#[derive(Debug, Clone)]
pub struct Offers {
    /// The output of workloads.
    pub logs: Logs,
    /// Programs to be run once.
    pub checks: Checks,
}

/// Answers one stream that the coordinator opened.
pub(crate) async fn serve(offers: Offers, mut send: SendStream, mut receive: RecvStream) {
    if let Err(error) = answer(&offers, &mut send, &mut receive).await {
        tracing::debug!(%error, "a stream ended");
    }
}

async fn answer(
    offers: &Offers,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), StreamError> {
    let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
    let header = tokio::time::timeout(HEADER_LIMIT, transport::read_frame(receive, &mut decoder));
    match header.await.map_err(|_| StreamError::Ended)?? {
        CoordinatorOpens::Logs {
            service,
            since,
            tail,
            follow,
        } => {
            let request = logs::request(since, tail, follow);
            let lines = offers.logs.open(&service, request).await;
            logs::serve(lines, send).await
        }
        CoordinatorOpens::Kept(request) => {
            logs::serve(offers.logs.open_kept(request).await, send).await
        }
        CoordinatorOpens::Check(request) => checks::serve(&offers.checks, request, send).await,
    }
}
