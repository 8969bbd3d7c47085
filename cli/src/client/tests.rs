//! The client against real sockets that answer what a coordinator, a proxy or nobody would.

use holdfast_protocol::api::environment::Environment;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::context::address;

/// Answers one connection after the other, and gives back what was asked.
async fn server(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.windows(4).any(|part| part == b"\r\n\r\n") {
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "the request ended early");
                request.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            asked.push(String::from_utf8_lossy(&request).into_owned());
        }
        asked
    });
    (client(&server), asked)
}

fn client(server: &str) -> Client {
    Client::new(Connection {
        server: address(server).unwrap(),
        token: Some("secret".to_owned()),
        ca: None,
    })
    .unwrap()
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn environment(name: &str) -> String {
    format!(
        r#"{{"name":"{name}","owner":"o","after":[],"promotion":"latest","waves":[],"targets":0,"connected":0}}"#
    )
}

#[tokio::test]
async fn a_list_is_read_page_after_page_with_the_token() {
    let (client, asked) = server(vec![
        answer(
            "200 OK",
            &format!(r#"{{"items":[{}],"continue":"b c"}}"#, environment("a")),
        ),
        answer("200 OK", &format!(r#"{{"items":[{}]}}"#, environment("b"))),
    ])
    .await;
    let query = [("service", Some("we/b".to_owned())), ("environment", None)];
    let items: Vec<Environment> = client
        .items(&["environments", "a/../b"], &query)
        .await
        .unwrap();
    assert_eq!(items.len(), 2);
    let asked = asked.await.unwrap();
    assert!(
        asked[0].starts_with("GET /v1/environments/a%2F..%2Fb?service=we%2Fb HTTP/1.1"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("authorization: Bearer secret"));
    assert!(asked[1].contains("continue=b+c"), "{}", asked[1]);
}

#[tokio::test]
async fn a_problem_becomes_its_exit_code() {
    let problem = r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"the plan is stale","code":"conflict"}"#;
    let (client, _) = server(vec![answer("409 Conflict", problem)]).await;
    let failure = client
        .items::<Environment>(&["environments"], &[])
        .await
        .unwrap_err();
    assert_eq!(
        (failure.exit, failure.message.as_str()),
        (Exit::Conflict, "the plan is stale")
    );
}

#[tokio::test]
async fn an_answer_that_is_no_problem_is_judged_by_its_status() {
    for (status, exit, passing) in [
        ("401 Unauthorized", Exit::NotAllowed, false),
        ("404 Not Found", Exit::NotFound, false),
        ("502 Bad Gateway", Exit::Unreachable, true),
        ("500 Internal Server Error", Exit::Failed, false),
    ] {
        let (client, _) = server(vec![answer(status, "<html>")]).await;
        let failure = client.items::<Environment>(&["x"], &[]).await.unwrap_err();
        assert_eq!((failure.exit, failure.passing), (exit, passing), "{status}");
    }
}

#[tokio::test]
async fn without_a_token_the_help_says_how_to_give_one() {
    let (client, _) = server(vec![answer("401 Unauthorized", "")]).await;
    let failure = client.fetch::<Environment>(&["x"], &[]).await.unwrap_err();
    assert!(failure.help.unwrap().contains("--token-file"));
}

#[tokio::test]
async fn a_coordinator_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = client(&server)
        .fetch::<Environment>(&["x"], &[])
        .await
        .unwrap_err();
    assert_eq!((failure.exit, failure.passing), (Exit::Unreachable, true));
    assert!(failure.help.is_some());
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_answer() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"items\":[".to_owned();
    let (client, _) = server(vec![cut]).await;
    let failure = client.items::<Environment>(&["x"], &[]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
}

#[tokio::test]
async fn an_artifact_that_is_not_there_is_no_failure() {
    let (client, asked) = server(vec![
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(),
    ])
    .await;
    let digest = Digest::of(b"abc");
    assert_eq!(client.has_artifact(digest).await, Ok(false));
    assert_eq!(client.has_artifact(digest).await, Ok(true));
    let asked = asked.await.unwrap();
    assert!(
        asked[0].starts_with("HEAD /v1/artifacts/sha256:ba7816bf"),
        "{}",
        asked[0]
    );
}

#[tokio::test]
async fn lines_are_split_wherever_the_pieces_end() {
    let (client, _) = server(vec![
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none\r\ntwo\n\nlast".to_owned(),
    ])
    .await;
    let mut lines = client
        .lines(&["logs"], &[], "application/x-ndjson")
        .await
        .unwrap();
    let mut all = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        all.push(line);
    }
    assert_eq!(all, ["one", "two", "", "last"]);
}

#[test]
fn a_file_without_a_certificate_is_refused() {
    let failure = Client::new(Connection {
        server: address("https://127.0.0.1:1").unwrap(),
        token: None,
        ca: Some("no certificate".to_owned()),
    })
    .unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
}
