//! Programs that the coordinator asks this target to run once, as checks of a deployment.
//!
//! *Guarantees:* they never run as the superuser, share nothing with any workload, and are bounded in
//! number, time, memory and output; whoever administers the target can forbid them. They come over
//! the connection that both ends have proven themselves on, and from nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_confine::{Ended, Outcome, Program, user};
use holdfast_protocol::frame;
use holdfast_protocol::stream::{
    CHECK_OUTPUT_MAX_BYTES, CHECK_TIMEOUT_MAX_MS, CheckReply, CheckRequest,
};
use quinn::SendStream;
use tokio::sync::Semaphore;

use crate::transport::StreamError;

/// The hidden subcommand that becomes such a program.
pub const LAUNCH: &str = "confine";
/// Checks under way at once.
const AT_ONCE_MAX: usize = 4;

/// What `agent.toml` says of checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Whether programs may run here at all.
    pub programs: bool,
    /// Whom they run as: `nobody` for an agent of the superuser. Any other agent runs none unless its
    /// own user is named, since that user can read its key.
    pub user: Option<String>,
    /// Where they begin; each in a temporary directory of its own otherwise.
    pub directory: Option<PathBuf>,
}

/// Runs checks.
#[derive(Debug, Clone)]
pub struct Checks {
    allowed: Arc<Allowed>,
    launcher: Arc<[OsString]>,
    places: Arc<Semaphore>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            programs: true,
            user: None,
            directory: None,
        }
    }
}

impl Checks {
    /// Checks by the executable `program`, as far as they are allowed.
    #[must_use]
    pub fn new(program: OsString, allowed: Allowed) -> Self {
        holdfast_confine::sweep();
        Self {
            allowed: Arc::new(allowed),
            launcher: Arc::new([program, OsString::from(LAUNCH)]),
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
        }
    }

    /// Runs one, and says what came of it.
    pub async fn run(&self, request: CheckRequest) -> CheckReply {
        let Ok(_place) = self.places.try_acquire() else {
            return unavailable(format!(
                "{AT_ONCE_MAX} checks are under way on this target already"
            ));
        };
        let program = match self.program(request) {
            Ok(program) => program,
            Err(why) => return unavailable(why),
        };
        tracing::info!(program = program.command.first(), "running a check");
        reply(holdfast_confine::run(&self.launcher, program).await)
    }

    fn program(&self, request: CheckRequest) -> Result<Program, String> {
        if !self.allowed.programs {
            return Err("this target runs no checks: its agent.toml says so".to_owned());
        }
        if self.allowed.user.is_none() && !rustix::process::geteuid().is_root() {
            return Err(
                "this agent does not run as root, so a check would run as its own user, who can \
                 read its key: name that user in agent.toml, [checks] user, to allow it"
                    .to_owned(),
            );
        }
        let CheckRequest {
            command,
            environment,
            timeout_ms,
        } = request;
        Ok(Program {
            command,
            environment: environment.into_iter().collect::<BTreeMap<_, _>>(),
            directory: self.allowed.directory.clone(),
            user: user::chosen(self.allowed.user.as_deref())?,
            timeout: Duration::from_millis(timeout_ms.min(CHECK_TIMEOUT_MAX_MS)),
        })
    }
}

/// Answers one stream that the coordinator opened. What is asked for is ended when nobody waits for
/// it any more.
pub(crate) async fn serve(
    checks: &Checks,
    request: CheckRequest,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let stopped = send.stopped();
    let reply = tokio::select! {
        reply = checks.run(request) => reply,
        _ = stopped => return Ok(()),
    };
    send.write_all(&frame::encode(&reply)?).await?;
    Ok(send.finish()?)
}

fn reply(outcome: Outcome) -> CheckReply {
    let Outcome { ended, output } = outcome;
    let output = holdfast_confine::output::cut(output, CHECK_OUTPUT_MAX_BYTES);
    match ended {
        Ended::Code(code) => CheckReply::Ended { code, output },
        Ended::Signal(signal) => CheckReply::Killed { signal, output },
        Ended::TimedOut => CheckReply::TimedOut { output },
        Ended::NotStarted(message) => unavailable(message),
    }
}

const fn unavailable(message: String) -> CheckReply {
    CheckReply::Unavailable { message }
}
