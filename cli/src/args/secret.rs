//! Arguments of `secret`.

use clap::{Args, Subcommand};
use holdfast_protocol::name::{EnvironmentName, SecretName};

/// Values that only the workloads of one environment see.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Sets a secret to what comes on standard input
    Set(SecretSet),
    /// Lists secrets, never their values
    List(SecretList),
    /// Gives a secret that is there a new value, or puts all of them under a new key
    Rotate(SecretRotate),
    /// Forgets a secret that no manifest names
    Delete(SecretDelete),
}

/// Sets a secret.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast secret set db-password -e production < password.txt\n  \
                        pass show db | holdfast secret set db-password -e production\n\n\
                        One line end at the end of the value is left out. A new value spreads over the targets\n\
                        as any other change does: by waves, with checks, and back if it fails."
)]
pub struct SecretSet {
    /// The secret
    pub name: SecretName,
    /// The environment that it is for
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
    /// Keep the value to the last byte, a line end included
    #[arg(long)]
    pub exact: bool,
}

/// Lists secrets.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast secret list -e production\n  holdfast secret list -o json"
)]
pub struct SecretList {
    /// Only those of this environment
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
}

/// Gives a secret a new value.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  openssl rand -hex 32 | holdfast secret rotate api-key -e production\n  \
                        holdfast secret rotate --key      # all values, under a new key of the coordinator"
)]
pub struct SecretRotate {
    /// The secret
    #[arg(required_unless_present = "key")]
    pub name: Option<SecretName>,
    /// The environment that it is for
    #[arg(
        short,
        long,
        alias = "env",
        value_name = "NAME",
        required_unless_present = "key"
    )]
    pub environment: Option<EnvironmentName>,
    /// Keep the value to the last byte, a line end included
    #[arg(long)]
    pub exact: bool,
    /// Put the values of all secrets under a new key of the coordinator; the values stay
    #[arg(long, conflicts_with_all = ["name", "environment", "exact"])]
    pub key: bool,
}

/// Forgets a secret.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast secret delete db-password -e staging")]
pub struct SecretDelete {
    /// The secret
    pub name: SecretName,
    /// The environment that it is for
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
}
