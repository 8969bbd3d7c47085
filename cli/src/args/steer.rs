//! Arguments of the commands with which a person steers one track.

use clap::Args;
use holdfast_protocol::name::{EnvironmentName, ServiceName, Version};

/// One service in one environment, and why.
#[derive(Debug, Clone, Args)]
pub struct Track {
    /// The service
    pub service: ServiceName,
    /// The environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Puts an earlier release back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast rollback web -e production\n  \
                        holdfast rollback web -e production --to 1.4.0 --reason slow")]
pub struct Rollback {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
    /// The release to go back to; if not given, what was stable before, which may be the same
    /// release with another configuration
    #[arg(long, value_name = "VERSION")]
    pub to: Option<Version>,
    /// Waiting for the outcome.
    #[command(flatten)]
    pub wait: super::Wait,
}

/// Tries a release that failed once more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast retry web -e staging --reason database-is-back")]
pub struct Retry {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
    /// Waiting for the outcome.
    #[command(flatten)]
    pub wait: super::Wait,
}

/// Stops a deployment where it stands.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast halt web -e production --reason alarms")]
pub struct Halt {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
}

/// Lets no new deployment start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast pause web -e production --reason inventory")]
pub struct Pause {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
}

/// Ends a pause.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast resume web -e production")]
pub struct Resume {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
}

/// Confirms the removals of a revision.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast confirm 12 --reason the-shop-is-closed")]
pub struct Confirm {
    /// The revision's number
    pub revision: u64,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Asks for one release on a track.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast deploy web --version 1.4.1 -e production\n  \
                        holdfast deploy web --version 1.4.1 -e production --hotfix --reason CVE-2026-1234"
)]
pub struct Deploy {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
    /// The release
    #[arg(long, value_name = "VERSION")]
    pub version: Version,
    /// Past the order of environments, windows and protections that may be skipped; needs --reason
    #[arg(long, requires = "reason")]
    pub hotfix: bool,
    /// Waiting for the outcome.
    #[command(flatten)]
    pub wait: super::Wait,
}

/// Lets a release that is stable before come to an environment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast promote web -e production\n  \
                        holdfast promote web -e production --version 1.4.0 --wait")]
pub struct Promote {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
    /// The release; if not given, the newest that is stable in all environments before
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Waiting for the outcome.
    #[command(flatten)]
    pub wait: super::Wait,
}

/// Keeps a track at one release.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast pin web -e customer-a 1.4.0 --reason contract")]
pub struct Pin {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
    /// The release
    pub version: Version,
    /// Waiting for the outcome.
    #[command(flatten)]
    pub wait: super::Wait,
}

/// Ends a pin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast unpin web -e customer-a")]
pub struct Unpin {
    /// Which track.
    #[command(flatten)]
    pub track: Track,
}
