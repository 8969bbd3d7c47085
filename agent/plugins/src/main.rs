//! The plugins that ship in one program: it is the one by whose name it is called, or whose name is
//! its first argument.

use std::path::Path;
use std::process::ExitCode;

use holdfast_plugins::cloud_run::Services;
use holdfast_plugins::command::Command;
use holdfast_plugins::helm::Helm;
use holdfast_plugins::run;
use holdfast_plugins::terraform::Terraform;

/// The plugins of this program, by name.
const PLUGINS: &[Named] = &[
    ("cloud-run", || {
        run(&Services::new(|name| std::env::var_os(name)))
    }),
    ("command", || run(&Command)),
    ("helm", || run(&Helm)),
    ("terraform", || run(&Terraform)),
];

/// A plugin's name, and its whole run.
type Named = (&'static str, fn() -> ExitCode);

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    let named = |name: &str| PLUGINS.iter().find(|(known, _)| *known == name);
    let first = arguments.next().unwrap_or_default();
    match named(&name.to_string_lossy()).or_else(|| named(&first)) {
        Some((_, plugin)) => plugin(),
        None => usage(),
    }
}

#[expect(clippy::print_stderr, reason = "it was called by a person")]
fn usage() -> ExitCode {
    let names: Vec<&str> = PLUGINS.iter().map(|(name, _)| *name).collect();
    eprintln!("usage: holdfast-plugins NAME <REQUEST");
    eprintln!("NAME is one of: {}", names.join(", "));
    eprintln!("As a plugin it is called by that name: install it as /etc/holdfast/plugins/NAME.");
    ExitCode::from(64)
}
