//! One check, performed by whoever can, within its time.

use std::time::Duration;

use holdfast_confine::output::{cut, plain};
use holdfast_engine::request::{Program, Request};
use holdfast_engine::track::check::{CheckResult, OUTPUT_MAX_BYTES};
use holdfast_protocol::time::friendly;

use super::egress::Egress;
use super::{http, program, prometheus, target};

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// On the coordinator.
    Here(Request),
    /// By the agent of a target.
    There {
        /// The program.
        program: Program,
        /// The target.
        on: target::Place,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it came to.
    pub result: CheckResult,
    /// What it said.
    pub output: String,
}

/// What checks are performed with.
#[derive(Debug)]
pub struct Outside {
    /// The way to other machines.
    pub egress: Egress,
    /// Whether and how programs run here.
    pub programs: program::Programs,
}

/// Time beyond a check's own for it to come to its end.
const GRACE: Duration = Duration::from_secs(2);

/// Performs one check. Takes no longer than its time and a moment.
pub async fn perform(outside: &Outside, work: Work) -> Said {
    let timeout = work.timeout();
    let performing = async {
        match work {
            Work::Here(Request::Http(request)) => http::ask(&outside.egress, &request).await,
            Work::Here(Request::Prometheus(request)) => {
                prometheus::ask(&outside.egress, &request).await
            }
            Work::Here(Request::Program(program)) => program::run(&outside.programs, program).await,
            Work::There { program, on } => target::run(&on, program).await,
        }
    };
    let said = tokio::time::timeout(timeout + GRACE, performing).await;
    let said = said.unwrap_or_else(|_| Said::unknown(no_answer(timeout)));
    Said {
        result: said.result,
        output: cut(plain(said.output.as_bytes()), OUTPUT_MAX_BYTES),
    }
}

/// As people are told that the time was over.
pub(super) fn no_answer(timeout: Duration) -> String {
    format!("no answer within {}", friendly(timeout))
}

impl Work {
    fn timeout(&self) -> Duration {
        match self {
            Self::Here(request) => request.timeout(),
            Self::There { program, .. } => program.timeout,
        }
    }
}
