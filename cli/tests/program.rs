//! The program itself: exit codes, streams, what it does without a coordinator.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "all of this is a test, and its deadlines are real time"
)]

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// `holdfast`, as it runs for a user whose home is empty.
fn holdfast(home: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command
        .args(line.split_whitespace())
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::null());
    command
}

fn run(line: &str) -> Output {
    let home = tempfile::tempdir().unwrap();
    holdfast(home.path(), line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A port of this machine that refuses connections.
fn closed() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

#[test]
fn each_way_to_fail_has_its_exit_code_and_says_so_on_standard_error_alone() {
    let closed = closed();
    for (line, code, words) in [
        ("frobnicate".to_owned(), 64, "frobnicate"),
        ("status".to_owned(), 64, "no coordinator is named"),
        (
            "get sources --server https://127.0.0.1:1".to_owned(),
            64,
            "later release",
        ),
        (format!("status --server {closed}"), 5, "does not answer"),
        (
            format!("whoami --server {closed} --ca /nowhere"),
            64,
            "/nowhere",
        ),
        (
            "whoami --server http://coordinator.example".to_owned(),
            64,
            "in the clear",
        ),
        ("validate -f nowhere".to_owned(), 64, "nowhere"),
        ("validate -f .".to_owned(), 65, "no manifest"),
        (
            "demo --bin-dir /nowhere".to_owned(),
            1,
            "holdfast-coordinator",
        ),
    ] {
        let output = run(&line);
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{line}");
        let said = text(&output.stderr);
        assert!(said.starts_with("error: "), "{line}: {said}");
        let unwrapped = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains(words), "{line}: {said}");
    }
}

#[test]
fn a_failure_is_one_json_object_where_json_is_asked_for() {
    let closed = closed();
    for (line, code) in [
        ("get widgets -o json".to_owned(), "usage"),
        (
            format!("get targets -o json --server {closed}"),
            "unreachable",
        ),
        ("validate -f . -o json".to_owned(), "invalidManifest"),
    ] {
        let output = run(&line);
        assert_eq!(text(&output.stdout), "", "{line}");
        let said: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(said["error"]["code"], code, "{line}");
        assert!(said["error"]["message"].is_string(), "{line}");
        assert!(said["error"]["details"].is_array(), "{line}");
    }
}

#[test]
fn help_and_scripts_go_to_standard_output() {
    for line in [
        "--help",
        "release create --help",
        "completion bash",
        "schema",
        "--version",
    ] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(!output.stdout.is_empty(), "{line}");
        assert_eq!(text(&output.stderr), "", "{line}");
    }
}

#[test]
fn a_flag_can_be_an_environment_variable() {
    let home = tempfile::tempdir().unwrap();
    let output = holdfast(home.path(), "status")
        .env("HOLDFAST_SERVER", closed())
        .env("HOLDFAST_OUTPUT", "json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).starts_with("{\"error\""));
}

#[test]
fn a_login_that_cannot_be_verified_is_not_remembered() {
    let home = tempfile::tempdir().unwrap();
    let mut child = holdfast(home.path(), &format!("login {}", closed()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(!text(&output.stderr).contains("secret"));
    assert!(!home.path().join(".config").exists());
}

/// The connection that `child` makes; a child that ends before that has failed.
fn accepted(listener: &std::net::TcpListener, child: &mut Child) -> std::net::TcpStream {
    listener.set_nonblocking(true).unwrap();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
        }
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it asked");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn ctrl_c_ends_a_command_that_waits() {
    // A coordinator that takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    let mut child = holdfast(home.path(), &format!("status --server {server}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it has asked, it waits, and attends to interruption.
    let mut asked = accepted(&listener, &mut child);
    let mut first = [0; 3];
    asked.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"GET");
    interrupt(&child);
    let output = ended(child);
    assert_eq!(
        output.status.code(),
        Some(130),
        "{:?}",
        output.status.signal()
    );
    assert_eq!(text(&output.stderr), "error: interrupted\n");
}

#[test]
fn ctrl_c_ends_a_command_that_reads_standard_input() {
    let home = tempfile::tempdir().unwrap();
    let mut child = holdfast(home.path(), "validate -f -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than a pipe holds: once it is written, the program has begun to read.
    input.write_all(&[b'#'; 256 * 1024]).unwrap();
    interrupt(&child);
    let output = ended(child);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    drop(input);
}

#[test]
fn a_reader_who_goes_away_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let mut child = holdfast(home.path(), "completion zsh")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

/// The output of a program that ends within ten seconds.
fn ended(mut child: Child) -> Output {
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}
