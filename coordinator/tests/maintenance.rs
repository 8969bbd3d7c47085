//! Backup, restore and check, with the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn coordinator() -> Command {
    Command::new(env!("CARGO_BIN_EXE_holdfast-coordinator"))
}

/// A coordinator that serves until it is dropped.
struct Serving(Child);

impl Serving {
    fn start(data: &Path) -> Self {
        let mut child = coordinator()
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--api",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("ready agents=127.0.0.1:"), "{line:?}");
        Self(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run(arguments: &[&str], data: &Path) -> Output {
    coordinator()
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_backup_taken_while_serving_is_restored_and_checks_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("backup.tar");
    let serving = Serving::start(&data);
    let backup = run(&["backup", file.to_str().unwrap()], &data);
    assert!(backup.status.success(), "{}", text(&backup.stderr));
    drop(serving);

    let again = run(&["backup", file.to_str().unwrap()], &data);
    assert!(
        text(&again.stderr).contains("name a file that does not exist yet"),
        "{}",
        text(&again.stderr)
    );

    let restored = folder.path().join("restored");
    let restore = run(&["restore", file.to_str().unwrap()], &restored);
    assert!(restore.status.success(), "{}", text(&restore.stderr));
    assert!(
        text(&restore.stdout).contains("history    ok"),
        "{}",
        text(&restore.stdout)
    );
    for name in ["admin.token", "ca.pem", "ca/root.key"] {
        let (before, after) = (data.join(name), restored.join(name));
        assert_eq!(
            std::fs::read(before).unwrap(),
            std::fs::read(after).unwrap(),
            "{name}"
        );
    }
    drop(Serving::start(&restored));

    let onto = run(&["restore", file.to_str().unwrap()], &data);
    assert!(
        text(&onto.stderr).contains("restore into a new directory"),
        "{}",
        text(&onto.stderr)
    );
}

#[test]
fn a_second_coordinator_in_the_same_directory_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let _serving = Serving::start(folder.path());
    let second = run(
        &["serve", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"],
        folder.path(),
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains("stop that one first"),
        "{}",
        text(&second.stderr)
    );
}

#[test]
fn a_damaged_database_does_not_check_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(Serving::start(folder.path()));
    // The first check moves what is in the write-ahead log into the database's file.
    assert!(run(&["check"], folder.path()).status.success());
    let path = folder.path().join("holdfast.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"a new installation";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    bytes[at] = b'A';
    std::fs::write(&path, bytes).unwrap();
    let check = run(&["check"], folder.path());
    assert_eq!(check.status.code(), Some(1));
    let said = text(&check.stderr);
    assert!(said.contains("entry 1 is not what was recorded"), "{said}");
}

#[test]
fn nothing_to_check_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let check = run(&["check"], folder.path());
    assert!(
        text(&check.stderr).contains("name the coordinator's data directory"),
        "{}",
        text(&check.stderr)
    );
}

#[test]
fn wrong_usage_is_64() {
    let wrong = coordinator().arg("sevre").output().unwrap();
    assert_eq!(wrong.status.code(), Some(64));
}
