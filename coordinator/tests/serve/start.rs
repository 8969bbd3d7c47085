//! What keeps it from starting is said, with what to do about it.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};

use crate::program::{Program, command, serve};

/// What a start that failed said.
#[track_caller]
fn refusal(command: &mut Command, code: i32) -> String {
    let Output {
        status,
        stderr,
        stdout,
    } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(stdout.is_empty(), "nothing is ready");
    said
}

/// That it was refused with these words, and with help.
#[track_caller]
fn assert_taught(command: &mut Command, words: &str) {
    let said = refusal(command, 1);
    let begin = said.find("error: ").unwrap_or_else(|| panic!("{said}"));
    let (error, help) = said[begin..]
        .split_once("\n  help: ")
        .unwrap_or_else(|| panic!("{said}"));
    assert!(error.contains(words), "{said}");
    assert!(help.trim().len() > 10, "{said}");
}

fn stopped_installation(data: &Path) {
    drop(Program::start_in(data));
}

#[test]
fn a_configuration_that_is_missing_or_garbled_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    assert_taught(
        serve(folder.path()).arg("--config").arg(&missing),
        "none.toml",
    );
    let garbled = folder.path().join("garbled.toml");
    std::fs::write(&garbled, "listen = [").unwrap();
    assert_taught(
        serve(folder.path()).arg("--config").arg(&garbled),
        "garbled.toml",
    );
    std::fs::write(&garbled, "lisen = \"127.0.0.1:1\"").unwrap();
    assert_taught(serve(folder.path()).arg("--config").arg(&garbled), "lisen");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_taught(&mut serve(&file.join("data")), "file/data");
    assert_taught(&mut serve(&file), "file");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = tcp.local_addr().unwrap().to_string();
    let mut command = command();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--api", &api, "--data"])
        .arg(folder.path());
    assert_taught(&mut command, &format!("TCP {api}"));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = udp.local_addr().unwrap().to_string();
    let mut command = crate::program::command();
    command
        .args([
            "serve",
            "--listen",
            &listen,
            "--api",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(folder.path());
    assert_taught(&mut command, &format!("UDP {listen}"));
}

#[test]
fn a_database_that_is_none_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    stopped_installation(folder.path());
    let path = folder.path().join("holdfast.db");
    std::fs::write(&path, "this is no database, and never was one").unwrap();
    for log in ["holdfast.db-wal", "holdfast.db-shm"] {
        drop(std::fs::remove_file(folder.path().join(log)));
    }
    assert_taught(&mut serve(folder.path()), "holdfast.db");
    let left = std::fs::read_to_string(&path).unwrap();
    assert_eq!(left, "this is no database, and never was one");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    stopped_installation(folder.path());
    let path = folder.path().join("holdfast.db");
    let pool = sqlx::SqlitePool::connect(path.to_str().unwrap())
        .await
        .unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', 1, x'00', 1)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    assert_taught(&mut serve(folder.path()), "newer");
}

#[test]
fn keys_that_others_can_read_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["ca/root.key", "admin.token"] {
        let folder = tempfile::tempdir().unwrap();
        stopped_installation(folder.path());
        let path = folder.path().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_taught(&mut serve(folder.path()), name);
    }
}

#[test]
fn wrong_usage_is_64() {
    refusal(command().args(["serve", "--listen", "nowhere"]), 64);
}

#[tokio::test]
async fn a_token_file_that_was_removed_is_made_anew_and_the_old_token_is_void() {
    let folder = tempfile::tempdir().unwrap();
    let first = Program::start_in(folder.path());
    let old = first.token().to_owned();
    drop(first);
    std::fs::remove_file(folder.path().join("admin.token")).unwrap();
    let second = Program::start_in(folder.path());
    assert_ne!(second.token(), old);
    second.get("/v1/whoami").await;
    let stranger = second
        .anonymous(Method::GET, "/v1/whoami")
        .bearer_auth(&old);
    let refused = stranger.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    drop(second);
    // The one that is void stays so.
    let third = Program::start_in(folder.path());
    let stranger = third.anonymous(Method::GET, "/v1/whoami").bearer_auth(&old);
    assert_eq!(
        stranger.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}
