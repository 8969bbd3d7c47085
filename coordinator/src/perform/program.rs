//! A program on the coordinator, where its operator allows that.

use std::ffi::OsString;
use std::path::PathBuf;

use holdfast_confine::{Ended, Outcome, user};
use holdfast_engine::request::Program;

use super::check::{Said, no_answer};

/// The hidden subcommand that becomes such a program.
pub const LAUNCH: &str = "confine";

/// Whether and how programs run here.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Whether they do at all.
    pub allowed: bool,
    /// Whom they run as: `nobody` for a coordinator of the superuser. Others have to name their own
    /// user, who can read their keys.
    pub user: Option<String>,
    /// Where they begin; each in a temporary directory of its own otherwise.
    pub directory: Option<PathBuf>,
    /// The command that becomes the program.
    pub launcher: Vec<OsString>,
}

/// Runs a program here, and judges it.
pub async fn run(programs: &Programs, program: Program) -> Said {
    if !programs.allowed {
        let why = "programs do not run on this coordinator: its operator allows them with \
                   `programs = true` under [checks] in coordinator.toml; or let it run `on: target`";
        return Said::unknown(why.to_owned());
    }
    if programs.user.is_none() && !rustix::process::geteuid().is_root() {
        let why = "this coordinator does not run as root, so programs would run as its own user, who \
                   can read its keys: name that user as `user` under [checks] in coordinator.toml to \
                   accept that, or let it run `on: target`";
        return Said::unknown(why.to_owned());
    }
    let user = match user::chosen(programs.user.as_deref()) {
        Ok(user) => user,
        Err(why) => return Said::unknown(why),
    };
    let timeout = program.timeout;
    let run = holdfast_confine::Program {
        command: program.command,
        environment: program.environment,
        directory: programs.directory.clone(),
        user,
        timeout,
    };
    let Outcome { ended, output } = holdfast_confine::run(&programs.launcher, run).await;
    match ended {
        Ended::Code(code) => by_code(code, output),
        Ended::Signal(signal) => by_signal(signal, &output),
        Ended::TimedOut => after(&no_answer(timeout), &output),
        Ended::NotStarted(why) => Said::unknown(why),
    }
}

/// Exit code 0 passes.
pub(super) fn by_code(code: i32, output: String) -> Said {
    if code == 0 {
        Said::passed(output)
    } else {
        after(&format!("exit code {code}"), &output)
    }
}

/// A signal fails.
pub(super) fn by_signal(signal: i32, output: &str) -> Said {
    after(&format!("ended by signal {signal}"), output)
}

/// A failure with its reason and what was said before.
pub(super) fn after(why: &str, output: &str) -> Said {
    let text = format!("{why}\n{output}");
    Said::failed(text.trim_end().to_owned())
}
