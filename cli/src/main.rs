//! `holdfast`, the operator's command. Reads the command line, runs one command, prints its failure,
//! ends with the exit code of the contract.

use std::process::ExitCode;

use clap::error::ErrorKind;

use holdfast_cli::context::Surroundings;
use holdfast_cli::error::{Exit, Failure};
use holdfast_cli::output::{Colour, Format, Screen};
use holdfast_cli::{args, command};

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return misread(&error).into(),
    };
    let mut screen = Screen::standard(cli.global.output, cli.global.color);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(command::run(cli, &mut screen, &Surroundings::read()));
            // A thread that still reads standard input must not keep the program.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::failed(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // The reader of the result has gone: nobody is left to be told.
            if failure.exit != Exit::Done {
                screen.failure(&failure);
            }
            failure.exit.into()
        }
    }
}

/// A command line that is not understood, or asks for help.
fn misread(error: &clap::Error) -> Exit {
    let wanted = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if wanted {
        let _ = error.print();
        return Exit::Done;
    }
    if asks_for_json(std::env::args_os()) {
        let first = error.to_string();
        let first = first.lines().next().unwrap_or("wrong usage");
        let failure = Failure::usage(first.trim_start_matches("error: "));
        Screen::standard(Format::Json, Colour::Never).failure(&failure);
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// Whether the command line, though not understood, says `-o json`.
fn asks_for_json(words: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let joined = ["-ojson", "-o=json", "--output=json"];
    words.iter().any(|word| joined.contains(&word.as_str()))
        || words
            .windows(2)
            .any(|pair| matches!(pair, [flag, value] if (flag == "-o" || flag == "--output") && value == "json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_that_asks_for_json_is_answered_in_json() {
        let asks = |line: &str| asks_for_json(line.split_whitespace().map(Into::into));
        assert!(asks("holdfast get widgets -o json"));
        assert!(asks("holdfast get widgets --output=json"));
        assert!(!asks("holdfast get json -o yaml"));
    }
}
