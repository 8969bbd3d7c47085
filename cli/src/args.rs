//! The command line as a type: every command, every flag, an example for each.
//!
//! Each flag is also an environment variable, `HOLDFAST_` and the flag's long name in capitals; the
//! rule is applied once, in [`command`], so that no flag can be forgotten.

pub mod access;
pub mod inputs;
pub mod judge;
pub mod observe;
pub mod release;
pub mod secret;
pub mod steer;
pub mod user;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use holdfast_protocol::time::parse_span;

use crate::output::{Colour, Format};

/// Deploys services to many targets and keeps them so.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    about = "Deploys services to many targets and keeps them so",
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start here:\n  holdfast demo                            see it work on this machine, in a minute\n  \
                  holdfast login https://HOST:7443 --ca ca.pem\n  holdfast apply -f deploy/\n  \
                  holdfast status\n\nExit codes: 0 done, 1 failed, 3 not found, 4 not allowed, 5 unreachable, 6 timed out,\n\
                  7 the deployment failed, 8 conflict, 64 wrong usage, 65 invalid manifest, 130 interrupted."
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The coordinator's API, such as https://coordinator:7443
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub server: Option<String>,
    /// File that holds the API token [env: HOLDFAST_TOKEN_FILE; or the token itself in HOLDFAST_TOKEN]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub token_file: Option<PathBuf>,
    /// Certificate (PEM) that vouches for the coordinator: its ca.pem
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub ca: Option<PathBuf>,
    /// Named context of the configuration file, written by `holdfast login`
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub context: Option<String>,
    /// How to print results
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        help_heading = "Output"
    )]
    pub output: Format,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        help_heading = "Output"
    )]
    pub color: Colour,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the whole system at work on this machine, in about a minute
    Demo(access::Demo),
    /// Uploads a set of manifests as one revision and prints what changed
    Apply(inputs::Apply),
    /// Shows what an apply would change, and which gates would stand
    Plan(inputs::Plan),
    /// Checks manifests without a server
    Validate(inputs::Validate),
    /// Prints the JSON Schema of manifests, for editors
    Schema(inputs::Schema),
    /// Lists objects of one kind
    Get(observe::Get),
    /// Tells all about one object
    Describe(observe::Describe),
    /// Shows each service in each environment: release, phase, targets, waits
    Status(observe::Status),
    /// Says why a service does not move, since when, and who can end it
    Why(observe::Why),
    /// Shows the compiled workload and who set each field, and where
    Explain(observe::Explain),
    /// Shows which targets run which release, now, or where a release ever was
    Where(observe::Where),
    /// Lists past deployments, oldest first
    History(observe::History),
    /// Tells all about one deployment
    Show(observe::Show),
    /// Compares two deployments: release, configuration
    Diff(observe::Diff),
    /// Brings what a past deployment brought once more
    Repeat(judge::Repeat),
    /// Shows what would happen when, with the clock running forward
    Simulate(inputs::Simulate),
    /// Agrees to a deployment that waits for it
    Approve(judge::Approve),
    /// Turns a deployment down
    Reject(judge::Reject),
    /// Lets one deployment pass by a protection
    Skip(judge::Skip),
    /// Asks for one release on a track
    Deploy(steer::Deploy),
    /// Lets a release that is stable before come to an environment
    Promote(steer::Promote),
    /// Keeps a track at one release
    Pin(steer::Pin),
    /// Ends a pin
    Unpin(steer::Unpin),
    /// Puts an earlier release back
    Rollback(steer::Rollback),
    /// Tries a release that failed once more
    Retry(steer::Retry),
    /// Stops a deployment where it stands
    Halt(steer::Halt),
    /// Lets no new deployment of a service start
    Pause(steer::Pause),
    /// Ends a pause
    Resume(steer::Resume),
    /// Lets nothing new start, in one environment or everywhere
    Freeze(judge::Freeze),
    /// Ends a freeze
    Unfreeze(judge::Unfreeze),
    /// Confirms a revision that removes more than is allowed unasked
    Confirm(steer::Confirm),
    /// Registers releases
    #[command(subcommand)]
    Release(release::Release),
    /// Prints the output of workloads
    Logs(observe::Logs),
    /// Lists what happened, oldest first
    Events(observe::Events),
    /// Prints the record of all decisions, or verifies its hash chain
    Audit(observe::Audit),
    /// Makes, lists and revokes join tokens
    #[command(subcommand)]
    Token(access::Token),
    /// Changes joined targets
    #[command(subcommand)]
    Target(access::Target),
    /// Makes, lists and revokes users: people and programs that use the API
    #[command(subcommand)]
    User(user::User),
    /// Declares and lists roles: what users may do, and where
    #[command(subcommand)]
    Role(user::Role),
    /// Sets, lists and rotates secrets: values that only workloads see
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Remembers a coordinator, its certificate and a token
    Login(access::Login),
    /// Shows who the token belongs to
    Whoami(access::WhoamiArgs),
    /// Shows certificates
    #[command(subcommand)]
    Ca(access::Ca),
    /// Prints a completion script for a shell
    Completion(access::Completion),
}

/// How long to wait for an outcome.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Wait until it has succeeded (0), failed (7) or timed out (6)
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = parse_span)]
    pub timeout: Duration,
}

/// The whole command line, every flag with its environment variable.
#[must_use]
pub fn command() -> clap::Command {
    with_variables(Cli::command())
}

fn with_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(with_variable)
        .mut_subcommands(with_variables)
}

fn with_variable(arg: clap::Arg) -> clap::Arg {
    // The token's file has two variables whose order matters; context.rs reads them.
    let long = match arg.get_long() {
        Some("token-file") | None => return arg,
        Some(long) => long.to_owned(),
    };
    let variable = format!("HOLDFAST_{}", long.to_uppercase().replace('-', "_"));
    let flag = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = arg.env(variable);
    if flag {
        arg.value_parser(BoolishValueParser::new())
    } else {
        arg
    }
}

/// Reads a command line; the first of `words` is the program's name.
///
/// # Errors
/// What clap says: help and version are "errors" too.
pub fn parse<I, T>(words: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
}

/// `KEY=VALUE`, both non-empty keys checked by the caller's types.
fn pair<K, V>(text: &str) -> Result<(K, V), String>
where
    K: std::str::FromStr<Err: std::fmt::Display>,
    V: std::str::FromStr<Err: std::fmt::Display>,
{
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} has no `=`: write KEY=VALUE"))?;
    let key = key.parse().map_err(|e: K::Err| e.to_string())?;
    let value = value.parse().map_err(|e: V::Err| e.to_string())?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        command().debug_assert();
    }

    fn each_command(
        command: &clap::Command,
        path: &str,
        visit: &mut dyn FnMut(&str, &clap::Command),
    ) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            visit(&path, sub);
            each_command(sub, &path, visit);
        }
    }

    #[test]
    fn every_command_has_a_sentence_and_an_example_that_names_it() {
        each_command(&command(), "holdfast", &mut |path, sub| {
            assert!(sub.get_about().is_some(), "{path} says nothing of itself");
            if sub.has_subcommands() {
                return;
            }
            let help = sub.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|text| text.contains(path)),
                "{path} has no example"
            );
        });
    }

    #[test]
    fn every_example_of_the_help_texts_parses() {
        let mut examples = Vec::new();
        each_command(&command(), "holdfast", &mut |_, sub| {
            if let Some(text) = sub.get_after_help() {
                let text = text.to_string();
                examples.extend(
                    text.lines()
                        .map(str::trim)
                        .filter(|line| line.starts_with("holdfast "))
                        .map(str::to_owned),
                );
            }
        });
        assert!(examples.len() > 30);
        for example in examples {
            let typed = example.split(['#', '|', '>', '<']).next().unwrap();
            let words = typed.split("  ").next().unwrap().split_whitespace();
            if let Err(error) = parse(words) {
                panic!("{example}: {error}");
            }
        }
    }

    /// The commands of the blocks of kind `sh` on a page, continued lines joined.
    fn commands(page: &str) -> Vec<String> {
        let blocks = page.split("```sh\n").skip(1);
        let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
        let text: String = blocks.collect();
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim);
        let ours = lines.filter(|line| line.starts_with("holdfast "));
        ours.map(str::to_owned).collect()
    }

    /// The words of a command up to what the shell does with the rest; a quoted text is one word.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('"').enumerate();
        let plain = parts.map(|(number, part)| if number % 2 == 1 { "text" } else { part });
        let plain: String = plain.collect();
        let typed = plain.split([';', '|', '>', '<', '#']).next().unwrap();
        typed.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn every_command_on_the_pages_of_the_examples_parses() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        let entries = std::fs::read_dir(folder).unwrap();
        let pages = entries.map(|entry| entry.unwrap().path().join("README.md"));
        let pages = pages.chain([std::path::Path::new(folder).join("README.md")]);
        let (mut pages_seen, mut seen) = (0, 0);
        for page in pages.filter(|page| page.is_file()) {
            pages_seen += 1;
            for line in commands(&std::fs::read_to_string(&page).unwrap()) {
                seen += 1;
                let words = words(&line.replace("$set", "set"));
                if let Err(error) = parse(words) {
                    panic!("{}: {line}: {error}", page.display());
                }
            }
        }
        assert!(
            pages_seen > 8 && seen > 80,
            "{pages_seen} pages, {seen} commands"
        );
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        let check = |path: &str, sub: &clap::Command| {
            for arg in sub.get_arguments() {
                match arg.get_long() {
                    Some("token-file") | None => {}
                    Some(long) => assert!(arg.get_env().is_some(), "{path} --{long}"),
                }
            }
        };
        check("holdfast", &command());
        each_command(&command(), "holdfast", &mut |path, sub| check(path, sub));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "holdfast",
            "holdfast frobnicate",
            "holdfast apply",
            "holdfast get widgets",
            "holdfast why web",
            "holdfast status -e Prod!",
            "holdfast token create -e staging --label x",
            "holdfast status --timeout soon",
            "holdfast release create web --version 1 --file app",
        ] {
            assert!(parse(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
