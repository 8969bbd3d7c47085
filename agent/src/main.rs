//! `holdfast-agent`: parses the command line, runs one command, says how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use holdfast_agent::checks;
use holdfast_agent::command::{self, Arguments, EXIT_FAILED, EXIT_USAGE, Failed};

fn main() -> ExitCode {
    // A process that becomes a workload must not have started a thread before.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "launch") {
        let Err(error) = holdfast_adapters::process::launch::main(arguments);
        return end(&Failed {
            message: error.to_string(),
            help: None,
            code: EXIT_FAILED,
        });
    }
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == checks::LAUNCH)
    {
        let Err(error) = holdfast_confine::launch::main();
        return end(&Failed {
            message: error.to_string(),
            help: None,
            code: EXIT_FAILED,
        });
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    holdfast_agent::beat::begin();
    // One thread: an agent waits nearly always, and a thread costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(command::command(arguments));
            // What still hashes or syncs on another thread must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failed {
            message: error.to_string(),
            help: None,
            code: EXIT_FAILED,
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => end(&failed),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // What is asked for (help, version) is no mistake.
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => EXIT_USAGE,
    };
    // There is nowhere left to say that nothing can be said.
    let _ = error.print();
    ExitCode::from(code)
}

#[expect(clippy::print_stderr, reason = "errors of a program belong there")]
fn end(failed: &Failed) -> ExitCode {
    eprintln!("error: {}", failed.message);
    if let Some(help) = &failed.help {
        eprintln!("  help: {help}");
    }
    ExitCode::from(failed.code)
}
