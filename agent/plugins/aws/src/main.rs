//! The plugins `aws-lambda` and `aws-ecs`, in one program that goes by the name it is called.

use std::path::Path;
use std::process::ExitCode;

mod connection;
mod ecs;
mod fault;
mod lambda;
mod owner;
mod place;
mod problem;
mod sight;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called)
        .file_name()
        .and_then(|name| name.to_str());
    // By hand the name may also be its first argument.
    let named = std::env::args().nth(1);
    match named.as_deref().or(name) {
        Some("aws-lambda") => holdfast_plugins::run(&lambda::Functions),
        Some("aws-ecs") => holdfast_plugins::run(&ecs::Services),
        other => unknown(other.unwrap_or_default()),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "there is nobody else to tell: this is no call of an agent"
)]
fn unknown(name: &str) -> ExitCode {
    eprintln!("there is no plugin {name:?} in here; install this program as aws-lambda or aws-ecs");
    ExitCode::FAILURE
}
