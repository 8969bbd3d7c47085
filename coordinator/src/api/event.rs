//! The history: as pages, or as a stream of server-sent events.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use holdfast_protocol::api::Items;
use holdfast_protocol::api::event::{Audit, Event};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Answer, Failed, Query};
use super::{App, Caller, access, page};
use crate::history;

/// Entries read at a time for a stream.
const STREAM_PAGE_ROWS: u32 = 256;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only after the one with this number.
    after: Option<u64>,
    /// Where the page begins, from the page before.
    r#continue: Option<String>,
    /// At most so many.
    limit: Option<u32>,
    /// Go on with new ones, as a stream of server-sent events.
    follow: Option<bool>,
}

/// The history, oldest first. With `follow`, or asked for as `text/event-stream`, it goes on as a
/// stream; `Last-Event-ID` continues one that broke off. A stream without a beginning starts now.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(Which),
    responses((status = 200, body = Items<Event>))
)]
pub async fn events(
    State(app): State<App>,
    Caller(user): Caller,
    headers: HeaderMap,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let streamed = text(header::ACCEPT).is_some_and(|accept| accept.contains("text/event-stream"));
    if which.follow.unwrap_or(streamed) {
        let resumed = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok());
        let after = resumed.and_then(|id| id.parse().ok()).or(which.after);
        let after = after.unwrap_or_else(|| *app.driver.head().borrow());
        let place = app.limits.stream()?;
        let ended = Box::pin(access::ended(app.clone(), user));
        let stream = follow(app, after).take_until(ended).map(move |sent| {
            let _held = &place;
            sent
        });
        let sse = Sse::new(stream).keep_alive(KeepAlive::default());
        return Ok(sse.into_response());
    }
    let after = page::begin(which.r#continue.as_ref())?.or(which.after);
    let rows = page::rows(which.limit);
    let items = app.store.events(after.unwrap_or(0), rows).await?;
    let sequence = |last: &Event| last.sequence.to_string();
    Ok(Json(page::full(items, which.limit, sequence)).into_response())
}

/// Every entry after `after`, now and whenever there are more. Ends when reading them fails.
fn follow(app: App, after: u64) -> impl Stream<Item = Result<Sent, Infallible>> {
    let begin = (
        app.driver.head(),
        app,
        after,
        std::collections::VecDeque::<Event>::new(),
    );
    stream::unfold(
        begin,
        |(mut head, app, mut after, mut waiting)| async move {
            loop {
                if let Some(event) = waiting.pop_front() {
                    let sent = Sent::default()
                        .id(event.sequence.to_string())
                        .event(event.kind.clone())
                        .json_data(&event)
                        .unwrap_or_default();
                    return Some((Ok(sent), (head, app, after, waiting)));
                }
                waiting = app.store.events(after, STREAM_PAGE_ROWS).await.ok()?.into();
                match waiting.back() {
                    Some(last) => after = last.sequence,
                    None => head
                        .wait_for(|newest| *newest > after)
                        .await
                        .map(|_| ())
                        .ok()?,
                }
            }
        },
    )
}

/// Checks the history's hash chain.
#[utoipa::path(get, path = "/v1/audit", responses((status = 200, body = Audit)))]
pub async fn audit(State(app): State<App>, _: Caller) -> Answer<Audit> {
    let known = *app.driver.head().borrow();
    let mut audit = history::audit(&app.store).await?;
    if audit.valid && audit.entries < known {
        audit.valid = false;
        audit.broken_at = Some(audit.entries + 1);
        audit.message = format!("{} entries are missing at the end", known - audit.entries);
    }
    Ok(Json(audit))
}
