//! A full disk: what is there is still answered, nothing is lost or half done, and it goes on by
//! itself once there is space.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_tests::disk::Disk;
use holdfast_tests::skip::skip;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::program::{Program, until};

/// Requests that are made while the disk is full: more than the database's log has room for that it
/// has taken before.
const WRITES: usize = 120;
/// What the process may grow by while it waits for space.
const GROWTH_MAX_BYTES: u64 = 8 * 1024 * 1024;

#[tokio::test]
async fn a_full_disk_stops_writes_alone_and_it_goes_on_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), "32m") else {
        return skip("full disk", "a file system cannot be mounted");
    };
    let program = Program::start_in(&folder.path().join("data"));
    program.apply().await;
    program.release("1").await;
    let before = program.get("/v1/audit").await;
    assert_eq!(before["valid"], true);
    disk.fill();

    let writes = write_much(&program);
    until_stuck(&program, &writes).await;
    let memory = program.resident_bytes();
    for path in ["/v1/status", "/v1/targets", "/v1/deployments", "/v1/whoami"] {
        program.get(path).await;
    }
    let upload = holdfast_protocol::digest::Digest::of(b"no room");
    let upload = program.request(Method::PUT, &format!("/v1/artifacts/{upload}"));
    let upload = upload.body("no room").send().await.unwrap();
    assert_eq!(upload.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(program.artifacts().is_empty(), "{:?}", program.artifacts());
    // Several attempts to commit pass meanwhile, and nothing more is answered.
    let answered = || writes.iter().filter(|write| write.is_finished()).count();
    let before = answered();
    assert!(before < WRITES);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(answered(), before);
    let grown = program.resident_bytes().saturating_sub(memory);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes");

    disk.free();
    for write in writes {
        let answer = write.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    until("it is ready again", async || {
        let ready = program.anonymous(Method::GET, "/readyz").send().await;
        ready.unwrap().status() == StatusCode::OK
    })
    .await;
    let after = program.get("/v1/audit").await;
    assert_eq!(after["valid"], true, "{after}");
    // One more, on the connection that has failed.
    program.release("last").await;
    let data = program.data().to_owned();
    drop(program);

    let again = Program::start_in(&data);
    assert_eq!(again.get("/v1/audit").await["valid"], true);
    let releases = again.get("/v1/releases").await;
    assert_eq!(releases["items"].as_array().unwrap().len(), WRITES + 2);
}

#[tokio::test]
async fn it_stops_when_it_is_told_to_although_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), "32m") else {
        return skip("full disk, stopped", "a file system cannot be mounted");
    };
    let data = folder.path().join("data");
    let mut program = Program::start_in(&data);
    program.apply().await;
    disk.fill();
    let writes = write_much(&program);
    until_stuck(&program, &writes).await;
    program.terminate();
    let (status, took) = program.ended().await;
    // What it had been brought could not be kept, and nobody was told that it was.
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(10), "{took:?}");
    let mut acknowledged = 0;
    for write in writes {
        let answer = write.await.unwrap();
        acknowledged += usize::from(answer.is_ok_and(|answer| answer.status().is_success()));
    }
    assert!(acknowledged < WRITES);
    disk.free();
    let again = Program::start_in(&data);
    assert_eq!(again.get("/v1/audit").await["valid"], true);
    let releases = again.get("/v1/releases").await;
    assert_eq!(releases["items"].as_array().unwrap().len(), acknowledged);
}

/// Registers releases with much to say, all at once.
fn write_much(program: &Program) -> Vec<Write> {
    let text = "x".repeat(1_000);
    let meta: BTreeMap<String, &str> = (0..60).map(|n| (n.to_string(), text.as_str())).collect();
    (0..WRITES)
        .map(|n| {
            let request = program.request(Method::POST, "/v1/services/web/releases");
            let body = json!({"version": format!("much-{n}"), "meta": meta});
            tokio::spawn(request.json(&body).send())
        })
        .collect()
}

type Write = tokio::task::JoinHandle<reqwest::Result<reqwest::Response>>;

/// Waits until it says that it is not ready, and nothing more is answered.
async fn until_stuck(program: &Program, writes: &[Write]) {
    let mut answered = usize::MAX;
    until("it is stuck", async || {
        let now = writes.iter().filter(|write| write.is_finished()).count();
        let same = std::mem::replace(&mut answered, now) == now;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ready = program.anonymous(Method::GET, "/readyz").send().await;
        same && ready.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
}
