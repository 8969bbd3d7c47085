//! Arguments of the commands with which a person judges one deployment, and of freezes.

use clap::Args;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, ProtectionName};

/// Agrees to a deployment that waits for it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast approve 17\n  \
                        holdfast approve 17 --reason change-4711\n\nAn approval holds for what is shown: the release, the configuration and what it\n\
                        replaces. If that changes, it is asked for again.")]
pub struct Approve {
    /// The deployment's number
    pub deployment: u64,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only if this is still what is shown, from `holdfast show DEPLOYMENT -o json`
    #[arg(long, value_name = "DIGEST")]
    pub shown: Option<Digest>,
}

/// Turns a deployment down.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast reject 17 --reason not-before-the-holidays")]
pub struct Reject {
    /// The deployment's number
    pub deployment: u64,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Lets one deployment pass by a protection.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast skip 17 alerts-not-firing --reason known-alarm")]
pub struct Skip {
    /// The deployment's number
    pub deployment: u64,
    /// The protection
    pub protection: ProtectionName,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Brings what a past deployment brought once more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast repeat 12 --reason the-cache-was-cold")]
pub struct Repeat {
    /// The deployment's number
    pub deployment: u64,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Waiting for the outcome.
    #[command(flatten)]
    pub wait: super::Wait,
}

/// Lets nothing new start.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast freeze -e production --reason quarter-end\n  \
                        holdfast freeze --reason incident-42"
)]
pub struct Freeze {
    /// Only in this environment; everywhere if not given
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Why; it is recorded, and shown to everybody who waits
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Ends a freeze.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast unfreeze -e production\n  holdfast unfreeze")]
pub struct Unfreeze {
    /// The freeze of this environment; that of all if not given
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}
