//! SIGTERM ends everything that is open, in time.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;

use crate::program::{Program, until};

#[tokio::test]
async fn open_streams_and_uploads_do_not_keep_it_from_stopping() {
    let mut program = Program::start();
    program.apply().await;
    let stream = program.request(Method::GET, "/v1/events?follow=true&after=0");
    let mut stream = stream.send().await.unwrap().bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let idle = program.request(Method::GET, "/v1/events?follow=true");
    let idle = idle.send().await.unwrap();
    let log = program.request(
        Method::GET,
        "/v1/logs?service=web&environment=staging&follow=true",
    );
    drop(log.send().await.unwrap());
    let chunks = futures_util::stream::once(async { Ok::<_, std::io::Error>(vec![1_u8; 10]) })
        .chain(futures_util::stream::pending());
    let digest = holdfast_protocol::digest::Digest::of(b"never complete");
    let upload = program.request(Method::PUT, &format!("/v1/artifacts/{digest}"));
    let upload = upload.body(reqwest::Body::wrap_stream(chunks));
    let upload = tokio::spawn(upload.send());
    until("the upload has begun", async || {
        program.artifacts().len() == 1
    })
    .await;

    program.terminate();
    let (status, took) = program.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop((idle, upload));
}

#[tokio::test]
async fn without_an_upload_streams_end_at_once() {
    let mut program = Program::start();
    let stream = program.request(Method::GET, "/v1/events?follow=true");
    let _open = stream.send().await.unwrap();
    program.terminate();
    let (status, took) = program.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(2_500), "{took:?}");
}
