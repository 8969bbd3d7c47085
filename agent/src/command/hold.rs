//! `hold` and `unhold`: being left alone for a while.

use std::path::Path;

use clap::Args;
use holdfast_protocol::observed::Hold;
use holdfast_protocol::time::{millis, parse_span};

use super::{EXIT_USAGE, Failed, failed, print, unexpected};
use crate::hold::Wish;
use crate::socket::{self, Reply, Request};

/// How long, and why.
#[derive(Debug, Args)]
pub(super) struct HoldFlags {
    /// How long, such as 2h; at most 30d
    #[arg(long = "for", value_name = "DURATION", env = "HOLDFAST_FOR")]
    length: String,
    /// Why, for the people who wait: the coordinator shows it
    #[arg(long, env = "HOLDFAST_REASON")]
    reason: String,
}

/// The request that the flags make.
pub(super) fn request(flags: &HoldFlags) -> Result<Request, Failed> {
    let usage = |message: String| failed(message, None, EXIT_USAGE);
    let length = parse_span(&flags.length).map_err(usage)?;
    Wish::new(length, &flags.reason).map_err(usage)?;
    Ok(Request::Hold {
        for_ms: millis(length),
        reason: flags.reason.clone(),
    })
}

pub(super) async fn hold(path: &Path, request: &Request) -> Result<(), Failed> {
    match socket::ask(path, request).await?.next().await? {
        Some(Reply::Held { hold: Some(hold) }) => print(&line(&hold)),
        other => Err(unexpected(other)),
    }
}

pub(super) async fn unhold(path: &Path) -> Result<(), Failed> {
    match socket::ask(path, &Request::Unhold).await?.next().await? {
        Some(Reply::Held { hold: Some(_) }) => print("held no more\n"),
        Some(Reply::Held { hold: None }) => print("was not held\n"),
        other => Err(unexpected(other)),
    }
}

/// A hold for people.
pub(super) fn line(hold: &Hold) -> String {
    format!("held until {}: {}\n", hold.until, hold.reason)
}
