//! Arguments of the commands that bring manifests in.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use holdfast_protocol::name::InputSetName;
use holdfast_protocol::time::parse_span;

use super::Wait;

/// Uploads a set of manifests as one revision.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast apply -f deploy/\n  holdfast apply -f web.yaml --set team-web --wait\n  \
                        holdfast apply -f - < web.yaml\n  holdfast apply -f deploy/ --dry-run\n  holdfast apply plan.json"
)]
pub struct Apply {
    /// A plan saved by `holdfast plan --out`
    #[arg(
        value_name = "PLANFILE",
        conflicts_with = "file",
        required_unless_present = "file"
    )]
    pub plan: Option<PathBuf>,
    /// Files, or folders with .yaml, .yml and .json files; - is standard input
    #[arg(short, long, value_name = "PATH", num_args = 1..)]
    pub file: Vec<PathBuf>,
    /// The input set that the manifests are; what it held before and not now is removed
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub set: InputSetName,
    /// Only say what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Confirm beforehand that what is removed shall be removed
    #[arg(long)]
    pub confirm_removal: bool,
    /// Waiting for the deployments that this apply starts.
    #[command(flatten)]
    pub wait: Wait,
}

/// Shows what an apply would change.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast plan -f deploy/\n  holdfast plan -f deploy/ --out plan.json\n  \
                        holdfast plan -f deploy/ --detailed-exitcode    # 2 when there are changes"
)]
pub struct Plan {
    /// Files, or folders with .yaml, .yml and .json files; - is standard input
    #[arg(short, long, value_name = "PATH", num_args = 1.., required = true)]
    pub file: Vec<PathBuf>,
    /// The input set that the manifests are
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub set: InputSetName,
    /// Save the plan, to be applied with `holdfast apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with 2 when there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// Checks manifests without a server.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast validate -f deploy/\n  holdfast validate -f - < web.yaml"
)]
pub struct Validate {
    /// Files, or folders with .yaml, .yml and .json files; - is standard input
    #[arg(short, long, value_name = "PATH", num_args = 1.., required = true)]
    pub file: Vec<PathBuf>,
}

/// Prints the JSON Schema of manifests.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast schema > holdfast.schema.json\n  \
                        # first line of a manifest: yaml-language-server: $schema=holdfast.schema.json")]
pub struct Schema {}

/// Runs the clock forward.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast simulate\n  holdfast simulate -f deploy/ --until 7d\n  \
                        holdfast simulate -f deploy/ --fail web@production"
)]
pub struct Simulate {
    /// Manifests that would be applied first; what is in force if not given
    #[arg(short, long, value_name = "PATH", num_args = 1..)]
    pub file: Vec<PathBuf>,
    /// The input set that the manifests are
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub set: InputSetName,
    /// How far the clock runs
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = parse_span)]
    pub until: Duration,
    /// Let deployments on this track fail; several may be given
    #[arg(long, value_name = "SERVICE@ENV")]
    pub fail: Vec<String>,
}
