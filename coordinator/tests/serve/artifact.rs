//! Uploads: all of the content under its own name, or nothing.

use std::io::Write as _;

use futures_util::future::join_all;
use holdfast_protocol::digest::Digest;
use reqwest::{Method, StatusCode};

use crate::program::{Program, until};

async fn put(program: &Program, digest: Digest, content: Vec<u8>) -> StatusCode {
    let path = format!("/v1/artifacts/{digest}");
    let request = program.request(Method::PUT, &path).body(content);
    request.send().await.unwrap().status()
}

async fn is_there(program: &Program, digest: Digest) -> bool {
    let path = format!("/v1/artifacts/{digest}");
    let answer = program.request(Method::HEAD, &path).send().await.unwrap();
    answer.status() == StatusCode::OK
}

#[tokio::test]
async fn content_of_another_digest_leaves_nothing() {
    let program = Program::start();
    let digest = Digest::of(b"what was promised");
    let status = put(&program, digest, b"something else".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!is_there(&program, digest).await);
    assert_eq!(program.artifacts(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_content_from_many_at_once_is_there_once_and_so_is_an_empty_one() {
    let program = Program::start();
    let content = vec![7_u8; 3 * 1024 * 1024];
    let digest = Digest::of(&content);
    let uploads = (0..8).map(|_| put(&program, digest, content.clone()));
    let answers = join_all(uploads).await;
    assert!(
        answers.iter().all(|status| *status == StatusCode::CREATED),
        "{answers:?}"
    );
    assert_eq!(program.artifacts(), [digest.hex()]);
    let path = program.data().join("artifacts").join(digest.hex());
    assert_eq!(Digest::of(&std::fs::read(path).unwrap()), digest);

    let empty = Digest::of(b"");
    assert_eq!(put(&program, empty, Vec::new()).await, StatusCode::CREATED);
    assert!(is_there(&program, empty).await);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let program = Program::start();
    let digest = Digest::of(b"all of it");
    let (mut pipe, body) = body_by_hand(&program, digest);
    pipe.write_all(b"half").unwrap();
    until("the upload has begun", async || {
        program.artifacts().len() == 1
    })
    .await;
    drop(pipe);
    drop(body);
    until("nothing is left", async || program.artifacts().is_empty()).await;
    assert!(!is_there(&program, digest).await);
}

/// An upload whose body is what is written into the pipe.
fn body_by_hand(program: &Program, digest: Digest) -> (Pipe, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let chunks = futures_util::stream::unfold(receiver, |mut receiver| async {
        let chunk = receiver.recv().await?;
        if chunk.is_empty() {
            return Some((Err(std::io::Error::other("broken off")), receiver));
        }
        Some((Ok(chunk), receiver))
    });
    let path = format!("/v1/artifacts/{digest}");
    let request = program.request(Method::PUT, &path);
    let request = request.body(reqwest::Body::wrap_stream(chunks));
    let sending = tokio::spawn(async move { drop(request.send().await) });
    (Pipe(sender), sending)
}

struct Pipe(tokio::sync::mpsc::Sender<Vec<u8>>);

impl std::io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .try_send(bytes.to_vec())
            .map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // An empty chunk is the error that breaks the upload off.
        drop(self.0.try_send(Vec::new()));
    }
}
