//! The event stream has every entry once, in order, however it is interrupted.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;

use crate::program::{PATIENCE, Program};

/// Entries written while the stream is read.
const WRITES: usize = 60;

/// Numbers of the entries after `after`, until `count` have come.
async fn follow(program: &Program, after: u64, count: usize) -> Vec<u64> {
    let request = program.request(Method::GET, "/v1/events");
    let request = request
        .header("accept", "text/event-stream")
        .header("last-event-id", after.to_string());
    let mut chunks = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    let ids = |text: &str| -> Vec<u64> {
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        let ids = whole.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.map(|id| id.parse().unwrap()).collect()
    };
    while ids(&text).len() < count {
        let chunk = tokio::time::timeout(PATIENCE, chunks.next()).await;
        let chunk = chunk.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let mut ids = ids(&text);
    ids.truncate(count);
    ids
}

#[tokio::test]
async fn a_stream_that_is_resumed_misses_nothing_while_entries_are_written() {
    let program = Program::start();
    program.apply().await;
    let begin = program.get("/v1/audit").await["entries"].as_u64().unwrap();
    let writing = async {
        for _ in 0..WRITES {
            let body = json!({"environment": "staging"});
            let made = program.post("/v1/tokens", &body).await;
            assert!(made.status().is_success());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < WRITES {
            let last = seen.last().copied().unwrap_or(begin);
            seen.extend(follow(&program, last, 7.min(WRITES - seen.len())).await);
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    let expected: Vec<u64> = (begin + 1..=begin + WRITES as u64).collect();
    assert_eq!(seen, expected);
}
