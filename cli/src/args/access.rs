//! Arguments of the commands about who may do what: tokens, targets, certificates, contexts; and of
//! the demo.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::Shell;
use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, TargetName};
use holdfast_protocol::time::parse_span;

use super::pair;

/// Shows the whole system at work.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast demo\n  holdfast demo --keep      # leave it running, to try commands on it\n  \
                        holdfast demo -o json     # one JSON object a step"
)]
pub struct Demo {
    /// Leave everything running and say how to use and end it
    #[arg(long)]
    pub keep: bool,
    /// Folder of the programs holdfast-coordinator, holdfast-agent and holdfast-example-server
    /// (beside this program, if not given)
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

/// Join tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Makes a join token and prints it alone on standard output
    Create(TokenCreate),
    /// Lists join tokens, without their secrets
    #[command(after_help = "Examples:\n  holdfast token list")]
    List,
    /// Makes a join token useless; what joined with it stays
    Revoke(TokenRevoke),
}

/// Makes a join token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast token create -e staging\n  \
                        holdfast token create -e production --ttl 1h --uses 20 --label role=web\n  \
                        holdfast token create -e staging > token.txt")]
pub struct TokenCreate {
    /// The environment that its bearers join
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: EnvironmentName,
    /// How long it may be used
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    pub ttl: Duration,
    /// How many targets may use it
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub uses: u32,
    /// Label of the targets that join with it
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::<LabelKey, LabelValue>)]
    pub label: Vec<(LabelKey, LabelValue)>,
}

/// Revokes a join token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast token revoke 4f9a1c")]
pub struct TokenRevoke {
    /// Its public part, as `token list` shows it
    pub id: String,
}

/// Joined targets.
#[derive(Debug, Subcommand)]
pub enum Target {
    /// Takes a target's certificate away and closes its connection
    Revoke(TargetRevoke),
    /// Lets a target go on that holds an assignment which the coordinator does not know
    Resume(TargetResume),
    /// Sets labels, and removes those written with a trailing `-`
    Label(TargetLabel),
}

/// Revokes a target.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast target revoke web-3 --reason stolen")]
pub struct TargetRevoke {
    /// The target
    pub name: TargetName,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Lets a target go on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast target resume web-3 --reason restored",
    after_long_help = "After an old backup of the coordinator was restored, targets may hold \
                       assignments that it does not know.\nNothing is sent to those until a person \
                       says so.\n\nExamples:\n  holdfast target resume web-3 --reason restored"
)]
pub struct TargetResume {
    /// The target
    pub name: TargetName,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Labels a target.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast target label web-3 role=web rack=b2\n  holdfast target label web-3 rack-"
)]
pub struct TargetLabel {
    /// The target
    pub name: TargetName,
    /// `KEY=VALUE` sets, `KEY-` removes
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = label_change)]
    pub labels: Vec<(LabelKey, Option<LabelValue>)>,
}

/// Remembers a coordinator.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast login https://coordinator:7443 --ca ca.pem --token-file admin.token\n  \
                        holdfast login https://coordinator:7443 --ca ca.pem --name prod < admin.token"
)]
pub struct Login {
    /// The coordinator's API
    pub url: String,
    /// Name of the context
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: String,
}

/// Shows who the token belongs to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast whoami")]
pub struct WhoamiArgs {}

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Shows the authorities, what they issued, and what has expired
    #[command(after_help = "Examples:\n  holdfast ca status")]
    Status,
}

/// Prints a completion script.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast completion bash > /etc/bash_completion.d/holdfast\n  holdfast completion zsh"
)]
pub struct Completion {
    /// The shell
    pub shell: Shell,
}

fn label_change(text: &str) -> Result<(LabelKey, Option<LabelValue>), String> {
    if text.contains('=') {
        return pair(text).map(|(key, value)| (key, Some(value)));
    }
    let key = text
        .strip_suffix('-')
        .ok_or_else(|| format!("{text:?} is neither KEY=VALUE nor KEY-"))?;
    let key = LabelKey::parse(key).map_err(|e| e.to_string())?;
    Ok((key, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_set_with_an_equals_sign_and_removed_with_a_hyphen() {
        let (key, value) = label_change("role=web").unwrap();
        assert_eq!((key.as_str(), value.unwrap().as_str()), ("role", "web"));
        let (key, value) = label_change("host-type-").unwrap();
        assert_eq!((key.as_str(), value), ("host-type", None));
        assert!(label_change("role").is_err());
        assert!(label_change("a b=c").is_err());
    }
}
