//! Brings an artifact from its home: goes on where an earlier attempt ended, waits no longer than is
//! worth it, and takes nothing that is not what was asked for.
//!
//! *Expected flow:* ask for the bytes that are missing; where the home cannot go on, begin anew; take
//! them as they come; where they break off and some came, ask again at once. *Guarantees:* no more
//! than the announced length is written, and no more than leaves [`SPACE_LEFT_BYTES`] free; a home
//! that gives fewer bytes than [`crate::way::Patience`] says is left. What came is kept for the next
//! attempt, unless it is wrong.

use std::io;
use std::path::Path;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::credentials::Credentials;
use crate::partial::{AppendError, Partial, free_bytes};
use crate::registry::{AskError, Question};
use crate::way::{Patience, Way};

/// Space that a fetch leaves free, in bytes, so that state and logs can still be written.
pub const SPACE_LEFT_BYTES: u64 = 64 * 1024;
/// How often one fetch asks again after it broke off, as long as bytes come.
pub const RESUMES_MAX: usize = 20;

/// Why an artifact did not come from its home. What came is kept unless it was wrong.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The home gives nothing.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It is of another length than the release says.
    #[error("it has {actual} bytes there and not {expected}, as the release says")]
    Size {
        /// Announced, or more than there should be.
        actual: u64,
        /// As in the release.
        expected: u64,
    },
    /// It is something else.
    #[error("what came is not what was asked for: its digest is {0}")]
    Digest(Digest),
    /// It is too slow.
    #[error("only {came} bytes came within {seconds} s")]
    Slow {
        /// So many.
        came: u64,
        /// How long was waited.
        seconds: u64,
    },
    /// It broke off, again and again.
    #[error("it broke off after {length} of {size} bytes: {why}")]
    BrokeOff {
        /// Bytes that are here.
        length: u64,
        /// Bytes of the whole.
        size: u64,
        /// Why.
        why: String,
    },
    /// The disk is too full.
    #[error("{needed} more bytes are needed and {free} are free")]
    NoSpace {
        /// Still to be written.
        needed: u64,
        /// Free, for this program.
        free: u64,
    },
    /// The file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Which.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
}

impl DownloadError {
    /// Whether somebody who can reach the home better could bring the same artifact.
    #[must_use]
    pub const fn is_of_the_way(&self) -> bool {
        match self {
            Self::Ask(_) | Self::Slow { .. } | Self::BrokeOff { .. } => true,
            Self::Size { .. } | Self::Digest(_) | Self::NoSpace { .. } | Self::Write { .. } => {
                false
            }
        }
    }
}

/// How one answer ended.
enum Ended {
    /// All is here.
    Whole,
    /// It broke off, for this reason.
    Early(String),
}

/// Brings an artifact of `size` bytes from its home into `store`. Where what an earlier attempt left was
/// wrong, it is brought anew at once, so that nobody who gave a bad beginning spoils it for others.
/// `told` is called with the length after each piece that was written. `login` is what the home is told
/// in place of what the machine's own file of credentials has for it.
///
/// # Errors
/// [`DownloadError`]; what came is kept for the next attempt unless it is wrong.
pub async fn bring(
    way: &Way,
    (home, login): (&Home, Option<&Credentials>),
    store: &Path,
    (artifact, size): (Digest, u64),
    told: &(dyn Fn(u64) + Sync),
) -> Result<(), DownloadError> {
    let mut partial = begin(store, artifact, size).await?;
    let had = partial.length();
    told(had);
    receive(way, (home, login), &mut partial, told).await?;
    match finish(store, partial).await {
        Err(DownloadError::Digest(_)) if had > 0 => {}
        ended => return ended,
    }
    let mut partial = begin(store, artifact, size).await?;
    told(0);
    receive(way, (home, login), &mut partial, told).await?;
    finish(store, partial).await
}

/// Opens what an earlier attempt left of an artifact, if there is room for the rest of it.
///
/// # Errors
/// [`DownloadError::NoSpace`], [`DownloadError::Write`].
pub async fn begin(store: &Path, artifact: Digest, size: u64) -> Result<Partial, DownloadError> {
    let directory = store.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let free = free_bytes(&directory)?;
        Ok((Partial::open(&directory, artifact, size)?, free))
    });
    let opened = opened.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    let (partial, free) = opened.map_err(|source| unwritten(store, source))?;
    let needed = partial.missing().saturating_add(SPACE_LEFT_BYTES);
    if needed > free {
        return Err(DownloadError::NoSpace {
            needed: partial.missing(),
            free,
        });
    }
    Ok(partial)
}

/// Gives a whole file its name.
///
/// # Errors
/// [`DownloadError::Digest`] where it is something else, and then nothing of it is left;
/// [`DownloadError::Write`].
pub async fn finish(store: &Path, partial: Partial) -> Result<(), DownloadError> {
    let finished = tokio::task::spawn_blocking(move || partial.finish());
    let finished = finished.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    finished
        .map_err(|source| unwritten(store, source))?
        .map_err(DownloadError::Digest)
}

fn unwritten(store: &Path, source: io::Error) -> DownloadError {
    DownloadError::Write {
        path: store.display().to_string(),
        source,
    }
}

/// Brings what is missing of `partial` from its home. `told` is called with the length after each
/// piece that was written.
///
/// # Errors
/// [`DownloadError`].
pub async fn receive(
    way: &Way,
    (home, login): (&Home, Option<&Credentials>),
    partial: &mut Partial,
    told: &(dyn Fn(u64) + Sync),
) -> Result<(), DownloadError> {
    for _ in 0..=RESUMES_MAX {
        let before = partial.length();
        if partial.missing() == 0 {
            return Ok(());
        }
        match once(way, (home, login), partial, told).await? {
            Ended::Whole => return Ok(()),
            Ended::Early(why) if partial.length() <= before => return Err(broke_off(partial, why)),
            Ended::Early(_) => {}
        }
    }
    let why = format!("it was gone on with {RESUMES_MAX} times");
    Err(broke_off(partial, why))
}

const fn broke_off(partial: &Partial, why: String) -> DownloadError {
    DownloadError::BrokeOff {
        length: partial.length(),
        size: partial.size(),
        why,
    }
}

async fn once(
    way: &Way,
    (home, login): (&Home, Option<&Credentials>),
    partial: &mut Partial,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Ended, DownloadError> {
    let artifact = partial.artifact().to_string();
    let question = Question::content(way, home, &artifact, partial.length())?.with(login);
    let mut response = way.ask(&question).await?;
    let begins = beginning(&response).unwrap_or_default();
    if begins != partial.length() || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        partial.restart().map_err(|e| written(home, e.into()))?;
        told(0);
        if begins != 0 || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            let question = Question::content(way, home, &artifact, 0)?.with(login);
            response = way.ask(&question).await?;
            // What such an answer holds is said of the file, and is none of it.
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                return Err(question.answered(response.status()).into());
            }
        }
    }
    if let Some(rest) = response.content_length() {
        let actual = partial.length().saturating_add(rest);
        if actual != partial.size() {
            let expected = partial.size();
            return Err(DownloadError::Size { actual, expected });
        }
    }
    take(way.rules.patience, home, &mut response, partial, told).await
}

async fn take(
    patience: Patience,
    home: &Home,
    response: &mut Response,
    partial: &mut Partial,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Ended, DownloadError> {
    let (mut ends, mut began) = (Instant::now() + patience.span, partial.length());
    while partial.missing() > 0 {
        let next = timeout_at(ends, response.chunk()).await;
        let came = match next {
            Ok(Ok(Some(chunk))) => {
                partial.append(&chunk).map_err(|e| written(home, e))?;
                told(partial.length());
                Some(())
            }
            Ok(Ok(None)) => return Ok(Ended::Early("the answer ended".to_owned())),
            Ok(Err(error)) => return Ok(Ended::Early(crate::chain(&error.without_url()))),
            Err(_) => None,
        };
        if came.is_none() || Instant::now() >= ends {
            let came = partial.length() - began;
            if came < patience.bytes && partial.missing() > 0 {
                let seconds = patience.span.as_secs();
                return Err(DownloadError::Slow { came, seconds });
            }
            (ends, began) = (Instant::now() + patience.span, partial.length());
        }
    }
    Ok(Ended::Whole)
}

/// The first byte of an answer: of the whole, unless it says otherwise.
fn beginning(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}

fn written(home: &Home, error: AppendError) -> DownloadError {
    match error {
        AppendError::TooMany(expected) => DownloadError::Size {
            actual: expected.saturating_add(1),
            expected,
        },
        AppendError::Write(source) => DownloadError::Write {
            path: format!("what came from {}", home.plain()),
            source,
        },
    }
}
