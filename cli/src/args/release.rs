//! Arguments of `release`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName, Version};

use super::{Wait, pair};

/// Registers releases.
#[derive(Debug, Subcommand)]
pub enum Release {
    /// Registers an immutable release; files are uploaded and addressed by SHA-256
    Create(Create),
}

/// Registers a release.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast release create web --version 1.4.0 --file app=web.tar.gz\n  \
                  holdfast release create web --version 1.4.0 --file app=web.tar.gz --commit 9f2c1e0 --wait\n  \
                  holdfast release create web --version 1.4.1 --artifact app=registry.example.com/web@sha256:ba78…15ad"
)]
pub struct Create {
    /// The service
    pub service: ServiceName,
    /// The release's version; it can never mean other content later
    #[arg(long, value_name = "VERSION")]
    pub version: Version,
    /// Upload a file as this artifact
    #[arg(long, value_name = "NAME=PATH", value_parser = pair::<ArtifactName, PathBuf>)]
    pub file: Vec<(ArtifactName, PathBuf)>,
    /// Name an image, REPOSITORY@sha256:…, or what was uploaded before, sha256:…
    #[arg(long, value_name = "NAME=REF", value_parser = pair::<ArtifactName, String>)]
    pub artifact: Vec<(ArtifactName, String)>,
    /// The commit it was built from
    #[arg(long, value_name = "SHA")]
    pub commit: Option<String>,
    /// Whatever else is to be known of it
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::<String, String>)]
    pub meta: Vec<(String, String)>,
    /// With --wait: only these environments, instead of all that the service runs in
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Vec<EnvironmentName>,
    /// Waiting for its deployments.
    #[command(flatten)]
    pub wait: Wait,
}
