//! `adapter list` and `adapter test`: what this target can bring about, and whether a plugin does it
//! right.

use std::ffi::OsString;
use std::path::Path;

use holdfast_adapters::conformance::Table;
use holdfast_adapters::plugin::{PREFIX, Settings, author};

use super::{AdapterCommand, EXIT_FAILED, EXIT_USAGE, Failed, failed, print};
use crate::checks::LAUNCH;
use crate::config::Config;

pub(super) async fn run(command: AdapterCommand, config: Config) -> Result<(), Failed> {
    let cannot = |error: std::io::Error| failed(error.to_string(), None, EXIT_FAILED);
    let program = std::env::current_exe().map_err(cannot)?;
    let mut settings = config.runtimes.plugins;
    settings.launcher = vec![program.into_os_string(), OsString::from(LAUNCH)];
    match command {
        AdapterCommand::List => list(&settings).await,
        AdapterCommand::Test { name, trial } => test(settings, &name, trial.as_deref()).await,
    }
}

async fn list(settings: &Settings) -> Result<(), Failed> {
    let mut text = holdfast_adapters::run::BUILT_IN.join("\n") + "\n";
    let listed = author::list(settings).await;
    let plugins = listed.map_err(|error| {
        let directory = settings.directory.display();
        failed(
            format!("cannot read {directory}: {error}"),
            None,
            EXIT_FAILED,
        )
    })?;
    for plugin in plugins {
        let said = match plugin.said {
            Ok((version, summary)) => format!("{version}  {summary}"),
            Err(why) => format!("not usable: {why}"),
        };
        text += &format!("{PREFIX}{}  {}\n", plugin.name, said.trim());
    }
    print(&text)
}

async fn test(settings: Settings, name: &str, trial: Option<&Path>) -> Result<(), Failed> {
    let directory = settings.directory.clone();
    let scratch = format!(
        "holdfast-test-{}-{:016x}",
        std::process::id(),
        rand::random::<u64>()
    );
    let scratch = std::env::temp_dir().join(scratch);
    let tested = author::test(settings, name, (trial, &scratch)).await;
    let report = tested.map_err(|error| {
        let help = format!(
            "plugins lie in {}; plugin-directory in agent.toml names another directory",
            directory.display()
        );
        failed(error.to_string(), Some(&help), EXIT_USAGE)
    })?;
    print(&Table(std::slice::from_ref(&report)).to_string())?;
    if report.passed() {
        return Ok(());
    }
    Err(failed(
        format!("plugin {name} does not conform"),
        None,
        EXIT_FAILED,
    ))
}
