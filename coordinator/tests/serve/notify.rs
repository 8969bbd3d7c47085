//! Notifiers: what is recorded is told to a real receiver, signed, again where it failed, and in the
//! end given up with an event.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::outside::{Answer, Seen, Server, status};
use crate::program::{MANIFESTS, Program, manifests, until};

/// The key of the signatures, as people write it.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// [`MANIFESTS`] with a notifier of paused tracks.
fn with(channel: &str) -> String {
    format!(
        "{MANIFESTS}---\n\
         apiVersion: holdfast/v1\n\
         kind: Notifier\n\
         metadata: {{name: chat, owner: team-web}}\n\
         spec: {{on: [track.paused], match: {{environments: [staging]}}, {channel}}}\n"
    )
}

/// A coordinator that may send messages to this machine.
fn start(folder: &Path) -> Program {
    Program::start_configured(folder, "[notifiers]\nallow = [\"127.0.0.0/8\"]\n")
}

async fn applied(program: &Program, manifest: &str) {
    let applied = program.post("/v1/apply", &manifests(manifest)).await;
    let ok = applied.status().is_success();
    let said: Value = applied.json().await.unwrap();
    assert!(ok, "{said:#}\n{manifest}");
}

/// Records one event that the notifier listens to, and one that it does not.
async fn pause(program: &Program, reason: &str) {
    for environment in ["production", "staging"] {
        for verb in ["resume", "pause"] {
            let path = format!("/v1/tracks/web/{environment}/{verb}");
            let done = program.post(&path, &json!({ "reason": reason })).await;
            assert!(done.status().is_success());
        }
    }
}

fn header<'s>(seen: &'s Seen, name: &str) -> &'s str {
    seen.headers[name].to_str().unwrap()
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

/// How many entries of the history are of this kind.
async fn events(program: &Program, kind: &str) -> usize {
    let events = program.get("/v1/events?limit=1000").await;
    let items = events["items"].as_array().unwrap();
    items.iter().filter(|event| event["kind"] == kind).count()
}

/// Waits until one message is given up.
async fn given_up(program: &Program) {
    until("it is given up", async || {
        events(program, "notifier.failed").await == 1
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_fails_twice_is_told_a_third_time_under_the_same_number() {
    let server = Server::start(&[status(500, ""), status(500, ""), status(204, "")]).await;
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let url = server.url("/hook");
    applied(
        &program,
        &with(&format!("webhook: {{url: \"{url}\", key: {KEY}}}")),
    )
    .await;
    pause(&program, "a look at it").await;
    until("it is told", async || server.seen().len() == 3).await;
    let seen = server.seen();
    let numbers: BTreeSet<&str> = seen.iter().map(|seen| header(seen, "webhook-id")).collect();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    let last = &seen[2];
    let type_ = header(last, "content-type");
    assert!(type_.starts_with("application/cloudevents+json"), "{type_}");
    let event = body(last);
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "holdfast.track.paused");
    assert_eq!(event["subject"], "web@staging");
    assert!(event["source"].as_str().unwrap().starts_with("spiffe://"));
    let text = std::str::from_utf8(&last.body).unwrap();
    let (id, at) = (
        header(last, "webhook-id"),
        header(last, "webhook-timestamp"),
    );
    let key = STANDARD.decode(&KEY["whsec_".len()..]).unwrap();
    let code = holdfast_certs::webhook::code(&key, format!("{id}.{at}.{text}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(code));
    assert_eq!(header(last, "webhook-signature"), signature);
    assert!(!last.headers.contains_key("authorization"));
    // Nothing is told twice, and nothing else is told.
    pause(&program, "another look").await;
    until("the next is told", async || server.seen().len() == 4).await;
    assert_ne!(header(&server.seen()[3], "webhook-id"), id);
    assert_eq!(events(&program, "notifier.failed").await, 0);
}

#[tokio::test]
async fn what_was_not_told_when_it_was_killed_is_told_after_the_next_start() {
    let slow = Answer {
        after: std::time::Duration::from_secs(8),
        ..status(200, "")
    };
    let server = Server::start(&[slow]).await;
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let url = server.url("/hook");
    applied(&program, &with(&format!("webhook: {{url: \"{url}\"}}"))).await;
    pause(&program, "killed").await;
    until("it is on its way", async || server.seen().len() == 1).await;
    drop(program);
    server.answers(&[status(200, "")]);
    let program = start(folder.path());
    until("it is told again", async || server.seen().len() == 2).await;
    let seen = server.seen();
    assert_eq!(
        header(&seen[0], "webhook-id"),
        header(&seen[1], "webhook-id")
    );
    assert!(!seen[1].headers.contains_key("webhook-signature"));
    drop(program);
    // What was told is not told at the start after that.
    let program = start(folder.path());
    pause(&program, "once more").await;
    until("the next is told", async || server.seen().len() == 3).await;
    assert_ne!(
        header(&server.seen()[2], "webhook-id"),
        header(&seen[1], "webhook-id")
    );
}

#[tokio::test]
async fn chats_are_told_by_addresses_from_files_that_only_the_coordinator_reads() {
    let server = Server::start(&[status(200, "ok")]).await;
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let secrets = folder.path().join("data/notifiers");
    std::fs::create_dir(&secrets).unwrap();
    let path = secrets.join("team");
    std::fs::write(&path, format!("{}\n", server.url("/T0/secret"))).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    applied(&program, &with("slack: {url: {file: team}}")).await;
    pause(&program, "<!channel> & more").await;
    until("Slack is told", async || server.seen().len() == 1).await;
    let slack = &server.seen()[0];
    assert_eq!(slack.path, "/T0/secret");
    let text = body(slack)["blocks"][0]["text"]["text"].to_string();
    assert!(text.contains("&lt;!channel&gt; &amp; more"), "{text}");
    applied(&program, &with("teams: {url: {file: team}}")).await;
    pause(&program, "a card").await;
    until("Teams is told", async || server.seen().len() == 2).await;
    let card = body(&server.seen()[1]);
    let content = &card["attachments"][0]["content"];
    assert_eq!(content["type"], "AdaptiveCard");
    assert_eq!(content["body"][0]["text"], "track.paused");
}

#[tokio::test]
async fn an_address_that_is_a_secret_is_the_newest_one_and_is_shown_nowhere() {
    let at_once = ("retry-after", "0".to_owned());
    let refusing = Server::start(&[Answer {
        header: Some(at_once),
        ..status(500, "no such chat")
    }])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let channel = "slack: {url: {secret: chat, environment: staging}}";
    applied(&program, &with(channel)).await;
    let set = async |value: &str| {
        let secret = json!({"environment": "staging", "name": "chat", "value": value});
        let set = program.post("/v1/secrets", &secret).await;
        assert!(set.status().is_success());
    };
    let told = Server::start(&[status(200, "ok")]).await;
    set(&refusing.url("/T0/canary-old")).await;
    pause(&program, "nobody there").await;
    given_up(&program).await;
    assert_eq!(refusing.seen()[0].path, "/T0/canary-old");
    set(&told.url("/T0/canary-new")).await;
    pause(&program, "somebody there").await;
    until("the newest address is told", async || {
        told.seen().len() == 1
    })
    .await;
    assert_eq!(told.seen()[0].path, "/T0/canary-new");
    for path in ["/v1/events?limit=1000", "/v1/secrets", "/v1/revisions"] {
        let said = program.get(path).await.to_string();
        assert!(!said.contains("canary"), "{path}: {said}");
    }
    // What a notifier uses is not deleted under it.
    let delete = program.request(Method::DELETE, "/v1/secrets/staging/chat");
    assert_eq!(delete.send().await.unwrap().status(), 409);
    for entry in std::fs::read_dir(folder.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap_or_default();
        let holds = content.windows(6).any(|window| window == b"canary");
        assert!(!holds, "{}", path.display());
    }
}

#[tokio::test]
async fn a_message_that_nobody_takes_is_given_up_with_an_event_that_names_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let at_once = ("retry-after", "0".to_owned());
    let refusing = Server::start(&[Answer {
        header: Some(at_once),
        ..status(500, "no \x1b[31mroom")
    }])
    .await;
    let url = refusing.url("/T0/secret");
    let mut manifest = with(&format!("webhook: {{url: \"{url}\"}}"));
    let server = Server::start(&[status(204, "")]).await;
    manifest.push_str(&format!(
        "---\n\
         apiVersion: holdfast/v1\n\
         kind: Notifier\n\
         metadata: {{name: failures, owner: sre}}\n\
         spec: {{on: [notifier.failed], webhook: {{url: \"{}\"}}}}\n",
        server.url("/")
    ));
    applied(&program, &manifest).await;
    pause(&program, "nobody listens").await;
    given_up(&program).await;
    assert_eq!(refusing.seen().len(), 5);
    let all = program.get("/v1/events?limit=1000").await;
    let text = all["items"].to_string();
    assert!(
        text.contains("notifier chat could not tell track.paused")
            && text.contains("no room (5 tries)"),
        "{text}"
    );
    assert!(!text.contains("T0/secret"), "{text}");
    until("others are told of it", async || !server.seen().is_empty()).await;
    assert_eq!(body(&server.seen()[0])["type"], "holdfast.notifier.failed");
}

#[tokio::test]
async fn messages_to_machines_that_are_not_public_need_the_operator() {
    let server = Server::start(&[status(200, "")]).await;
    let program = Program::start();
    let url = server.url("/");
    applied(&program, &with(&format!("webhook: {{url: \"{url}\"}}"))).await;
    pause(&program, "quiet").await;
    given_up(&program).await;
    let all = program.get("/v1/events?limit=1000").await;
    assert!(
        all["items"]
            .to_string()
            .contains("under [notifiers] in coordinator.toml")
    );
    assert!(server.seen().is_empty());
}
