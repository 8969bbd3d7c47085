//! Arguments of the commands that only look.

use std::time::Duration;

use clap::{Args, ValueEnum};
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use holdfast_protocol::time::parse_span;

use super::Wait;

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Trust zones and stages
    #[value(alias = "environment", alias = "env", alias = "envs")]
    Environments,
    /// What is deployed
    #[value(alias = "service")]
    Services,
    /// Joined hosts
    #[value(alias = "target")]
    Targets,
    /// Immutable versions of services
    #[value(alias = "release")]
    Releases,
    /// Attempts to bring a release onto a track
    #[value(alias = "deployment")]
    Deployments,
    /// Join tokens
    #[value(alias = "token")]
    Tokens,
    /// Numbered results of applies
    #[value(alias = "revision")]
    Revisions,
    /// Checks that must pass
    #[value(alias = "protection")]
    Protections,
    /// Rules over the compiled desired state
    #[value(alias = "policy")]
    Policies,
    /// Where events are told outside
    #[value(alias = "notifier")]
    Notifiers,
    /// What keeps new deployments from starting
    #[value(alias = "freeze")]
    Freezes,
    /// Not part of this version yet
    #[value(alias = "source", hide = true)]
    Sources,
}

/// Lists objects of one kind.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast get targets\n  holdfast get targets -e production -o wide\n  \
                        holdfast get releases web\n  holdfast get deployments -w\n  holdfast get environments staging -o json"
)]
pub struct Get {
    /// What to list
    pub kind: Kind,
    /// Only this one; for releases the service, for deployments the number
    pub name: Option<String>,
    /// Only of this environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Go on, and print a line for each change
    #[arg(short, long)]
    pub watch: bool,
}

/// Tells all about one object.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast describe service web\n  holdfast describe target web-3\n  \
                        holdfast describe release web/1.4.0\n  holdfast describe environment production"
)]
pub struct Describe {
    /// Its kind
    pub kind: Kind,
    /// Its name; a release is SERVICE/VERSION
    pub name: String,
}

/// Shows each service in each environment.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast status\n  holdfast status web -e production\n  holdfast status -w\n  \
                        holdfast status web --wait --timeout 10m"
)]
pub struct Status {
    /// Only this service
    pub service: Option<ServiceName>,
    /// Only this environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Go on, and print a line for each change
    #[arg(short, long, conflicts_with = "wait")]
    pub watch: bool,
    /// Waiting until nothing moves any more.
    #[command(flatten)]
    pub wait: Wait,
}

/// Says why a service does not move.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast why web -e production")]
pub struct Why {
    /// The service
    pub service: ServiceName,
    /// The environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
}

/// Shows the compiled workload with the provenance of every field.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast explain web -e production\n  holdfast explain web -e production --target web-3"
)]
pub struct Explain {
    /// The service
    pub service: ServiceName,
    /// The environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
    /// As rendered for this target
    #[arg(long, value_name = "NAME")]
    pub target: Option<TargetName>,
}

/// Shows what runs where.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast where web\n  holdfast where web --version 1.4.0\n  \
                        holdfast where web --version 1.4.0 --ever"
)]
pub struct Where {
    /// The service
    pub service: ServiceName,
    /// Only this release
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// In which environments a release was deployed, for how long, and what it passed there
    #[arg(long)]
    pub ever: bool,
}

/// Lists past deployments.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast history\n  holdfast history web -e production -o json"
)]
pub struct History {
    /// Only of this service
    pub service: Option<ServiceName>,
    /// Only of this environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
}

/// Tells all about one deployment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast show 17")]
pub struct Show {
    /// The deployment's number
    pub deployment: u64,
}

/// Prints the output of workloads.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast logs web -e production\n  holdfast logs web -e production --target web-3 -f\n  \
                        holdfast logs web -e staging --since 10m --tail 50\n  \
                        holdfast logs web -e production --deployment 17"
)]
pub struct Logs {
    /// The service
    pub service: ServiceName,
    /// The environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
    /// Only of this target
    #[arg(long, value_name = "NAME")]
    pub target: Option<TargetName>,
    /// What was written during this deployment, also when it is over
    #[arg(long, value_name = "NUMBER")]
    pub deployment: Option<u64>,
    /// Go on, and print new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only what is younger than this
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub since: Option<Duration>,
    /// Only the last lines of each target
    #[arg(long, value_name = "COUNT")]
    pub tail: Option<u32>,
}

/// Lists what happened.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast events\n  holdfast events -f -o json")]
pub struct Events {
    /// Go on, and print new ones as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only those after this number
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
}

/// Prints or verifies the record of decisions.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast audit\n  holdfast audit --verify")]
pub struct Audit {
    /// Check the hash chain of the whole record; ends with 1 when it is broken
    #[arg(long)]
    pub verify: bool,
}

/// Compares two deployments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast diff 12 17\n  \
                        holdfast diff 12 17 -o patch > change.patch    # `holdfast apply -f change.patch`")]
pub struct Diff {
    /// The first deployment's number
    pub from: u64,
    /// The second deployment's number
    pub to: u64,
}
