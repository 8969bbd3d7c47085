//! `Idempotency-Key`: done once, answered as often as it is asked.

use futures_util::future::join_all;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::program::{MANIFESTS, Program, manifests, until};

async fn apply(program: &Program, key: &str, body: &Value) -> Response {
    let request = program.request(Method::POST, "/v1/apply");
    let request = request.header("idempotency-key", key).json(body);
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_repetition_is_answered_as_the_first_and_another_request_is_refused() {
    let program = Program::start();
    let body = manifests(MANIFESTS);
    let first: Value = apply(&program, "k", &body).await.json().await.unwrap();
    assert_eq!(first["changed"], true);
    let again: Value = apply(&program, "k", &body).await.json().await.unwrap();
    assert_eq!(again, first);
    let mut other = body.clone();
    other["dryRun"] = json!(true);
    assert_eq!(
        apply(&program, "k", &other).await.status(),
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn many_at_once_with_one_key_are_done_once() {
    let program = Program::start();
    let body = manifests(MANIFESTS);
    let answers = join_all((0..8).map(|_| apply(&program, "k", &body))).await;
    let mut done = 0;
    for answer in answers {
        match answer.status() {
            StatusCode::OK => {
                done += 1;
                let applied: Value = answer.json().await.unwrap();
                assert_eq!(applied["changed"], true);
            }
            other => assert_eq!(other, StatusCode::CONFLICT),
        }
    }
    assert!(done > 0);
    let revisions = program.get("/v1/revisions").await;
    assert_eq!(revisions["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_hangs_up_and_asks_again_finds_the_answer() {
    let program = Program::start();
    let mut content = MANIFESTS.to_owned();
    // Enough that it takes longer than the caller waits.
    for n in 0..400 {
        content.push_str(&format!(
            "---\napiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: s{n}, owner: x}}\n\
             spec: {{runtime: process, template: {{command: [/bin/true]}}}}\n"
        ));
    }
    let body = manifests(&content);
    let send = || {
        let request = program.request(Method::POST, "/v1/apply");
        tokio::spawn(request.header("idempotency-key", "k").json(&body).send())
    };
    let mut sent = send();
    until("the key is taken", async || {
        if sent.is_finished() {
            // The probe below had the key at that moment.
            sent = send();
        }
        // Nothing is done or kept for a body that cannot be read.
        let probe = program.request(Method::POST, "/v1/apply");
        let probe = probe.header("idempotency-key", "k").body("{");
        probe.send().await.unwrap().status() == StatusCode::CONFLICT
    })
    .await;
    sent.abort();
    until("it is answered", async || {
        let answer = apply(&program, "k", &body).await;
        if answer.status() == StatusCode::CONFLICT {
            return false;
        }
        let applied: Value = answer.json().await.unwrap();
        assert_eq!(applied["changed"], true, "{applied}");
        true
    })
    .await;
    let revisions = program.get("/v1/revisions").await;
    assert_eq!(revisions["items"].as_array().unwrap().len(), 1);
    let kept: Value = apply(&program, "k", &body).await.json().await.unwrap();
    assert_eq!(kept["changed"], true, "done a second time: {kept}");
}
