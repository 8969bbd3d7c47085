//! The plugins that ship against the conformance suite, as the agent calls them: unprivileged and
//! confined, each with the real program that it drives.
//!
//! This program is also the launcher of confined programs (`confine`), so it brings its own small
//! harness.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "all of it is tests, which clippy only sees in functions marked as such"
)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use holdfast_adapters::plugin::{Settings, author};
use serde_json::json;

use hand::Hand;

#[path = "../../../../tests/harness/cases.rs"]
mod cases;
// It asks the API server with reqwest.
#[allow(dead_code, reason = "tests of whole programs use the rest")]
#[path = "../../../../tests/kubernetes/cluster.rs"]
mod cluster;
mod hand;
mod helm;
#[allow(
    unreachable_pub,
    reason = "it is a part of the tests of whole programs"
)]
#[path = "../../../../tests/harness/skip.rs"]
mod skip;
#[path = "../../../../tests/harness/table.rs"]
mod table;
mod terraform;

const TESTS: &[cases::Test] = &[
    ("command_conforms", command_conforms),
    (
        "command_gives_secrets_to_changes_alone_and_keeps_none",
        command_gives_secrets_to_changes_alone_and_keeps_none,
    ),
    ("terraform_conforms", terraform::terraform_conforms),
    (
        "terraform_keeps_its_state_and_shows_no_secret",
        terraform::terraform_keeps_its_state_and_shows_no_secret,
    ),
    ("helm_conforms", helm::helm_conforms),
    (
        "helm_leaves_others_alone_and_ends_what_was_cut_off",
        helm::helm_leaves_others_alone_and_ends_what_was_cut_off,
    ),
    (
        "called_by_another_name_it_says_which_it_knows",
        called_by_another_name_it_says_which_it_knows,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    if words.first() == Some(&"confine") {
        let Err(error) = holdfast_confine::launch::main();
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    cases::run(TESTS, &words)
}

/// Where a plugin and its trial lie: everybody may read there.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("plugins")).unwrap();
        Self(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self, name: &str, environment: &[(&str, &str)]) -> Settings {
        let plugin = self.path("plugins").join(name);
        fs::copy(env!("CARGO_BIN_EXE_holdfast-plugins"), plugin).unwrap();
        let mut settings = Settings {
            directory: self.path("plugins"),
            launcher: vec![std::env::current_exe().unwrap().into(), "confine".into()],
            target: "here".to_owned(),
            ..Settings::default()
        };
        let own = settings.own.entry(name.to_owned()).or_default();
        let pairs = environment.iter();
        own.environment = pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        settings
    }

    fn conforms(&self, name: &str, trial: &Path, environment: &[(&str, &str)]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (settings, scratch) = (self.settings(name, environment), self.path("scratch"));
        let tested = author::test(settings, name, (Some(trial), &scratch));
        table::conform(&[runtime.block_on(tested).unwrap()]);
    }
}

fn trials() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("trials")
}

fn command_conforms() {
    Room::new().conforms("command", &trials().join("command.test.json"), &[]);
}

fn command_gives_secrets_to_changes_alone_and_keeps_none() {
    let room = Room::new();
    let hand = Hand {
        plugin: "command",
        state: room.path("state"),
        environment: Vec::new(),
        secrets: json!({"word": {"version": 1, "text": "s3cret-word"}}),
    };
    let shell = |script: &str| json!(["sh", "-c", script]);
    let template = json!({
        "fetch": shell("cat \"$FILE\"; echo ${WORD:-nothing}"),
        "apply": shell("echo \"applied $WORD\"; echo \"$WORD\" | cksum >\"$FILE\""),
        "environment": {"FILE": room.path("made"), "WORD": {"secret": "word", "version": 1}},
    });
    let said = hand.converges(&template);
    assert!(said.contains("applied [secret]"), "{said}");
    let kept = fs::read_to_string(hand.state.join("output.log")).unwrap();
    assert!(kept.contains("applied [secret]"), "{kept}");
    let made = fs::read_to_string(room.path("made")).unwrap();
    let sum = Command::new("sh")
        .args(["-c", "echo s3cret-word | cksum"])
        .output();
    assert_eq!(made.as_bytes(), sum.unwrap().stdout);
    // Another version is another input.
    let unchanged = hand.converges(&template);
    assert!(!unchanged.contains("applied"), "{unchanged}");
    let mut newer = template;
    newer["environment"]["WORD"]["version"] = json!(2);
    assert!(hand.converges(&newer).contains("applied"));
}

fn called_by_another_name_it_says_which_it_knows() {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-plugins"))
        .arg("ghost")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(said.contains("command, helm, terraform"), "{said}");
}
