//! The coordinator's program: arguments, logging, exit code.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use holdfast_coordinator::advice::advice;
use holdfast_coordinator::config::{self, Arguments, Command, Place};
use holdfast_coordinator::perform::program::LAUNCH;
use holdfast_coordinator::{maintenance, serve};
use tracing_subscriber::EnvFilter;

/// The operation failed.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    // A process that becomes a program of a check must not have started a thread before.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == LAUNCH)
    {
        let Err(error) = holdfast_confine::launch::main();
        drop(writeln!(std::io::stderr(), "error: {error}"));
        return ExitCode::from(FAILED);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    start_logging();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let help = advice(&error);
            drop(writeln!(
                std::io::stderr(),
                "error: {error:#}\n  help: {help}"
            ));
            ExitCode::from(FAILED)
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match arguments.command {
        Command::Serve(arguments) => {
            let file = config::read_file(arguments.place.config.as_ref())?;
            runtime.block_on(serve::run(config::serve(&arguments, &file)?))
        }
        Command::Backup { file, place } => {
            runtime.block_on(maintenance::backup(&data(&place)?, &file))
        }
        Command::Restore { file, place } => {
            runtime.block_on(maintenance::restore(&data(&place)?, &file))
        }
        Command::Migrate { to, place } => {
            runtime.block_on(maintenance::migrate(&data(&place)?, to))
        }
        Command::Confine => anyhow::bail!("only the coordinator itself calls this"),
        Command::Check(place) => runtime.block_on(maintenance::check(&data(&place)?)),
    }
}

fn data(place: &Place) -> anyhow::Result<PathBuf> {
    let file = config::read_file(place.config.as_ref())?;
    Ok(config::data(place, &file))
}

/// Logs go to standard error: as text for people, as JSON where nobody watches and it is asked for.
fn start_logging() {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // The environment is read here and by the arguments, and nowhere else.
    if std::env::var_os("HOLDFAST_LOG_FORMAT").is_some_and(|format| format == "json") {
        builder.json().init();
    } else {
        builder.init();
    }
}
