//! Users and roles, against the real program: who may do what, from the next request on.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::program::{MANIFESTS, PATIENCE, Program, manifests, until};

/// Longest time that a stream of somebody who was revoked may go on.
const STREAM_ENDS: Duration = Duration::from_secs(5);

/// A user with roles; its token.
async fn user(program: &Program, name: &str, roles: &[&str]) -> String {
    let made = program
        .post("/v1/users", &json!({"name": name, "roles": roles}))
        .await;
    assert_eq!(made.status(), StatusCode::OK);
    let made: Value = made.json().await.unwrap();
    made["token"].as_str().unwrap().to_owned()
}

async fn role(program: &Program, role: Value) {
    let made = program.post("/v1/roles", &role).await;
    assert_eq!(made.status(), StatusCode::OK, "{role}");
}

fn by(program: &Program, token: &str, method: Method, path: &str) -> RequestBuilder {
    program.anonymous(method, path).bearer_auth(token)
}

async fn post(program: &Program, token: &str, path: &str, body: &Value) -> Response {
    by(program, token, Method::POST, path)
        .json(body)
        .send()
        .await
        .unwrap()
}

/// Refused with 403 and these words.
async fn assert_forbidden(answer: Response, words: &str) {
    let at = answer.url().path().to_owned();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{at}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "forbidden", "{at}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{at}: {detail}");
}

async fn whoami(program: &Program, token: &str) -> StatusCode {
    let asked = by(program, token, Method::GET, "/v1/whoami").send().await;
    asked.unwrap().status()
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() {
    let program = Program::start();
    program.apply().await;
    let viewer = user(&program, "vera", &["viewer"]).await;
    let openapi = program.get("/v1/openapi.json").await;
    let mut refused = 0;
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "web").replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let only_asks = ["/v1/plan", "/v1/simulate"].contains(&path.as_str());
            let asks = method == Method::GET || only_asks;
            let asked = by(&program, &viewer, method.clone(), &path).json(&json!({}));
            let status = asked.send().await.unwrap().status();
            if asks {
                assert_ne!(status, StatusCode::FORBIDDEN, "{method} {path}");
            } else {
                refused += 1;
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
            }
        }
    }
    assert!(refused > 15, "only {refused} writes were tried");
}

#[tokio::test]
async fn an_operator_steers_and_gives_nobody_anything() {
    let program = Program::start();
    program.apply().await;
    let operator = user(&program, "olga", &["operator"]).await;
    let pause = post(
        &program,
        &operator,
        "/v1/tracks/web/production/pause",
        &json!({}),
    )
    .await;
    assert_eq!(pause.status(), StatusCode::OK);
    let me = json!({"name": "olga", "roles": ["admin"]});
    assert_forbidden(
        post(&program, &operator, "/v1/users", &me).await,
        "permission access",
    )
    .await;
    let role = json!({"name": "all", "permissions": ["access"]});
    assert_forbidden(
        post(&program, &operator, "/v1/roles", &role).await,
        "permission access",
    )
    .await;
}

#[tokio::test]
async fn a_role_reaches_as_far_as_it_says() {
    let program = Program::start();
    program.apply().await;
    let limits = json!({"services": ["web*"], "environments": ["staging"]});
    let new = json!({"name": "web-staging", "permissions": ["read", "deploy"], "scope": limits});
    role(&program, new).await;
    role(
        &program,
        json!({"name": "ci", "permissions": ["release"], "scope": {"services": ["api"]}}),
    )
    .await;
    role(
        &program,
        json!({"name": "hosts", "permissions": ["target"], "scope": {"environments": ["staging"]}}),
    )
    .await;
    let dev = user(&program, "dev", &["web-staging", "ci", "hosts"]).await;
    let verb = async |path: &str| post(&program, &dev, path, &json!({})).await;
    assert_eq!(
        verb("/v1/tracks/web/staging/pause").await.status(),
        StatusCode::OK
    );
    let limited = "web-staging is limited to services web*; environments staging";
    assert_forbidden(verb("/v1/tracks/web/production/pause").await, limited).await;
    let release = json!({"version": "1"});
    let released = post(&program, &dev, "/v1/services/web/releases", &release).await;
    assert_forbidden(released, "ci is limited to services api").await;
    let token = async |environment: &str| {
        let wish = json!({"environment": environment});
        post(&program, &dev, "/v1/tokens", &wish).await
    };
    assert_eq!(token("staging").await.status(), StatusCode::OK);
    assert_forbidden(
        token("production").await,
        "hosts is limited to environments staging",
    )
    .await;
    let made = program
        .post("/v1/tokens", &json!({"environment": "production"}))
        .await;
    let made: Value = made.json().await.unwrap();
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    let revoked = by(&program, &dev, Method::DELETE, &path)
        .send()
        .await
        .unwrap();
    assert_forbidden(revoked, "environment production").await;
}

#[tokio::test]
async fn a_set_that_touches_something_outside_the_role_is_refused_whole() {
    let program = Program::start();
    program.apply().await;
    let scope = json!({"services": ["web"], "sets": ["default"]});
    let new = json!({"name": "team-web", "permissions": ["read", "apply"], "scope": scope});
    role(&program, new).await;
    let ada = user(&program, "ada", &["team-web"]).await;
    let apply = async |text: &str, set: &str| {
        let mut body = manifests(text);
        body["set"] = json!(set);
        post(&program, &ada, "/v1/apply", &body).await
    };
    let both = MANIFESTS
        .replace("100000", "100001")
        .replace("{after: [staging]}", "{after: []}");
    let words = "1 document of input set default: Environment production; nothing was changed";
    assert_forbidden(apply(&both, "default").await, words).await;
    let (environments, _) = MANIFESTS.rsplit_once("---\n").unwrap();
    let without = apply(environments, "default").await;
    assert_eq!(
        without.status(),
        StatusCode::OK,
        "web may be removed by whom web is for"
    );
    let nobodys = apply("", "other").await;
    assert_ne!(nobodys.status(), StatusCode::OK);
    let elsewhere = "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {name: x, owner: x}\n";
    assert_forbidden(apply(elsewhere, "other").await, "Environment x").await;
    assert_eq!(
        program.get("/v1/revisions").await["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let own = apply(&MANIFESTS.replace("100000", "100001"), "default").await;
    assert_eq!(own.status(), StatusCode::OK);
    assert_eq!(
        program.get("/v1/environments").await["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

/// Reads a stream until it ends; how long that took.
async fn to_its_end(response: Response) -> Duration {
    let begin = Instant::now();
    let mut chunks = response.bytes_stream();
    loop {
        let next = tokio::time::timeout(PATIENCE, chunks.next()).await;
        match next.expect("the stream goes on") {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return begin.elapsed(),
        }
    }
}

#[tokio::test]
async fn revoking_a_user_counts_from_the_next_request_on_and_ends_open_streams() {
    let program = Program::start();
    program.apply().await;
    let token = user(&program, "ada", &["viewer"]).await;
    let bystander = user(&program, "bob", &["viewer"]).await;
    let open = async |token: &str| {
        let asked = by(&program, token, Method::GET, "/v1/events?follow=true")
            .send()
            .await;
        let asked = asked.unwrap();
        assert_eq!(asked.status(), StatusCode::OK);
        asked
    };
    let (hers, his) = (open(&token).await, open(&bystander).await);
    let gone = program
        .request(Method::DELETE, "/v1/users/ada")
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), StatusCode::OK);
    assert_eq!(whoami(&program, &token).await, StatusCode::UNAUTHORIZED);
    assert!(to_its_end(hers).await < STREAM_ENDS);
    let his_goes_on = tokio::time::timeout(Duration::from_secs(2), to_its_end(his)).await;
    assert!(his_goes_on.is_err(), "somebody else's stream ended, too");
    assert_eq!(whoami(&program, &bystander).await, StatusCode::OK);
    let again = program
        .request(Method::DELETE, "/v1/users/ada")
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::OK, "it is so already");
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_its_streams_with_it() {
    let program = Program::start();
    let wish = json!({"name": "ada", "roles": ["viewer"], "ttl": "2s"});
    let made: Value = program.post("/v1/users", &wish).await.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    let stream = by(&program, token, Method::GET, "/v1/events?follow=true")
        .send()
        .await;
    assert!(to_its_end(stream.unwrap()).await < 2 * STREAM_ENDS);
    assert_eq!(whoami(&program, token).await, StatusCode::UNAUTHORIZED);
    let again: Value = program.post("/v1/users", &wish).await.json().await.unwrap();
    assert!(
        again["token"].is_string(),
        "the name is free again: {again}"
    );
}

#[tokio::test]
async fn making_a_user_again_changes_nothing_and_tells_no_token() {
    let program = Program::start();
    let token = user(&program, "ada", &["viewer"]).await;
    let wish = json!({"name": "ada", "roles": ["viewer"]});
    let again: Value = program.post("/v1/users", &wish).await.json().await.unwrap();
    assert_eq!(again["token"], Value::Null);
    assert_eq!(again["name"], "ada");
    assert_eq!(whoami(&program, &token).await, StatusCode::OK);
    let other = json!({"name": "ada", "roles": ["operator"]});
    let other = program.post("/v1/users", &other).await;
    assert_eq!(other.status(), StatusCode::CONFLICT);
    let path = "/v1/users/ada/roles";
    let assign = program
        .request(Method::PUT, path)
        .json(&json!({"roles": ["operator"]}));
    assert_eq!(assign.send().await.unwrap().status(), StatusCode::OK);
    let whoami = by(&program, &token, Method::GET, "/v1/whoami")
        .send()
        .await
        .unwrap();
    let whoami: Value = whoami.json().await.unwrap();
    assert_eq!(whoami["roles"], json!(["operator"]));
    assert!(
        whoami["permissions"]
            .as_array()
            .unwrap()
            .contains(&json!("deploy"))
    );
}

#[tokio::test]
async fn a_new_token_takes_the_place_of_the_old_one_and_no_answer_keeps_it() {
    let program = Program::start();
    let old = user(&program, "ada", &["viewer"]).await;
    let rotate = async || {
        let asked = program
            .request(Method::POST, "/v1/users/ada/rotate")
            .json(&json!({}));
        let made = asked.header("idempotency-key", "k").send().await.unwrap();
        let made: Value = made.json().await.unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let new = rotate().await;
    assert_eq!(whoami(&program, &old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&program, &new).await, StatusCode::OK);
    let newer = rotate().await;
    assert_ne!(new, newer);
    assert_eq!(whoami(&program, &new).await, StatusCode::UNAUTHORIZED);
    let files = ["holdfast.db", "holdfast.db-wal"];
    for file in files {
        let bytes = std::fs::read(program.data().join(file)).unwrap_or_default();
        for token in [&old, &new, &newer] {
            let found = bytes
                .windows(token.len())
                .any(|part| part == token.as_bytes());
            assert!(!found, "a token is in {file}");
        }
    }
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_in(folder.path());
    let revoke = async |program: &Program, name: &str| {
        let path = format!("/v1/users/{name}");
        program.request(Method::DELETE, &path).send().await.unwrap()
    };
    let refused = revoke(&program, "admin").await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let problem: Value = refused.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("last administrator"), "{problem}");
    assert!(
        problem["help"].as_str().unwrap().contains("user create"),
        "{problem}"
    );
    // One whose token ends is no successor.
    let brief = json!({"name": "brief", "roles": ["admin"], "ttl": "1h"});
    assert_eq!(
        program.post("/v1/users", &brief).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        revoke(&program, "admin").await.status(),
        StatusCode::CONFLICT
    );
    let ada = user(&program, "ada", &["admin"]).await;
    assert_eq!(revoke(&program, "admin").await.status(), StatusCode::OK);
    assert_eq!(
        whoami(&program, program.token()).await,
        StatusCode::UNAUTHORIZED
    );
    drop(program);
    // The file still holds the token; that makes it no more valid.
    let program = Program::start_in(folder.path());
    assert_eq!(
        whoami(&program, program.token()).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(whoami(&program, &ada).await, StatusCode::OK);
    drop(program);
    // Whoever has the host has the installation.
    std::fs::remove_file(folder.path().join("admin.token")).unwrap();
    let program = Program::start_in(folder.path());
    assert_eq!(whoami(&program, program.token()).await, StatusCode::OK);
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have_and_nobody_who_holds_a_role_loses_it_unasked() {
    let program = Program::start();
    role(
        &program,
        json!({"name": "registrar", "permissions": ["read", "access"]}),
    )
    .await;
    role(&program, json!({"name": "release-manager"})).await;
    let registrar = user(&program, "rita", &["registrar"]).await;
    let wish = |roles: &[&str]| json!({"name": "eve", "roles": roles});
    let made = post(&program, &registrar, "/v1/users", &wish(&["admin"])).await;
    assert_forbidden(made, "rita does not have").await;
    let made = post(
        &program,
        &registrar,
        "/v1/users",
        &wish(&["release-manager"]),
    )
    .await;
    assert_eq!(made.status(), StatusCode::OK);
    let taken = by(&program, &registrar, Method::DELETE, "/v1/users/admin");
    assert_forbidden(taken.send().await.unwrap(), "rita does not have").await;
    role(&program, json!({"name": "boss", "permissions": ["deploy"]})).await;
    let less = json!({"name": "boss", "permissions": ["read"], "replace": true});
    let changed = post(&program, &registrar, "/v1/roles", &less).await;
    assert_forbidden(changed, "rita does not have").await;
    let unknown = program
        .post("/v1/users", &json!({"name": "x", "roles": ["nobody"]}))
        .await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let delete = async |name: &str| {
        let path = format!("/v1/roles/{name}");
        program.request(Method::DELETE, &path).send().await.unwrap()
    };
    let held = delete("release-manager").await;
    assert_eq!(held.status(), StatusCode::CONFLICT);
    let problem: Value = held.json().await.unwrap();
    assert!(
        problem["detail"].as_str().unwrap().contains("eve"),
        "{problem}"
    );
    assert_eq!(delete("admin").await.status(), StatusCode::CONFLICT);
    assert_eq!(delete("nothing").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn roles_and_users_outlive_a_restart_and_every_change_is_in_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_in(folder.path());
    let new =
        json!({"name": "web", "permissions": ["read", "deploy"], "scope": {"services": ["web"]}});
    role(&program, new.clone()).await;
    role(&program, new.clone()).await;
    let mut other = new.clone();
    other["scope"] = json!({});
    let refused = program.post("/v1/roles", &other).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    other["replace"] = json!(true);
    role(&program, other).await;
    role(&program, json!({"name": "brief"})).await;
    let token = user(&program, "ada", &["web"]).await;
    let gone = program
        .request(Method::DELETE, "/v1/roles/brief")
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), StatusCode::OK);
    drop(program);
    let program = Program::start_in(folder.path());
    assert_eq!(whoami(&program, &token).await, StatusCode::OK);
    let web = program.get("/v1/roles/web").await;
    assert_eq!(web["permissions"], json!(["read", "deploy"]));
    assert_eq!(web["scope"], json!({}));
    assert_eq!(web["users"], json!(["ada"]));
    let events = program.get("/v1/events").await;
    let told: Vec<(String, String)> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["kind"].to_string(), event["actor"].to_string()))
        .filter(|(kind, _)| kind.contains("user.") || kind.contains("role."))
        .collect();
    let told: Vec<String> = told
        .iter()
        .map(|(k, a)| format!("{k} {a}").replace('"', ""))
        .collect();
    let expected = [
        "user.created coordinator",
        "role.created admin",
        "role.changed admin",
        "role.created admin",
        "user.created admin",
        "role.deleted admin",
    ];
    assert_eq!(told, expected);
    assert_eq!(program.get("/v1/audit").await["valid"], true);
}

/// `staging` wants somebody with the role `release-manager` to agree.
const APPROVED: &str = "\
---
apiVersion: holdfast/v1
kind: Protection
metadata: {name: agreed, owner: platform}
spec: {approval: {roles: [release-manager]}}
";

#[tokio::test]
async fn an_approval_is_for_those_with_the_role_and_those_who_may_approve_whatever_it_asks_for() {
    let program = Program::start();
    let staging = "{name: staging, owner: platform}\n";
    let guarded = format!("{staging}spec: {{protections: [{{use: agreed, when: [pre]}}]}}\n");
    let wanting = MANIFESTS.replacen(staging, &guarded, 1) + APPROVED;
    let apply = async || program.post("/v1/apply", &manifests(&wanting)).await;
    role(&program, json!({"name": "release-manager"})).await;
    let nobody = apply().await;
    assert_eq!(
        nobody.status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "nobody could agree"
    );
    let manager = user(&program, "mia", &["release-manager"]).await;
    assert_eq!(apply().await.status(), StatusCode::OK);
    role(&program, json!({"name": "bystander"})).await;
    let bystander = user(&program, "bob", &["bystander"]).await;
    let operator = user(&program, "olga", &["operator"]).await;
    let viewer = user(&program, "vera", &["viewer"]).await;
    let gone = program.request(Method::DELETE, "/v1/users/mia");
    for (version, token) in [("1", &manager), ("2", &operator)] {
        program.release(version).await;
        let path = "/v1/deployments?service=web&environment=staging";
        let newest = async || program.get(path).await["items"][0].clone();
        let wants = |deployment: &Value| {
            let waits = deployment["waits"].as_array().unwrap();
            waits.iter().any(|wait| wait["kind"] == "approval")
        };
        until("staging waits for an approval", async || {
            let newest = newest().await;
            newest["version"] == version && wants(&newest)
        })
        .await;
        let waiting = newest().await;
        let path = format!("/v1/deployments/{}/approve", waiting["id"]);
        assert_forbidden(post(&program, &viewer, &path, &json!({})).await, "approve").await;
        let asked = post(&program, &bystander, &path, &json!({})).await;
        assert_forbidden(asked, "it is for release-manager").await;
        let agreed = post(&program, token, &path, &json!({})).await;
        assert_eq!(agreed.status(), StatusCode::OK, "{:?}", agreed.text().await);
        until("nobody is asked any more", async || !wants(&newest().await)).await;
    }
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::OK);
    let delete = program.request(Method::DELETE, "/v1/roles/release-manager");
    let refused: Value = delete.send().await.unwrap().json().await.unwrap();
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("protection agreed asks for"), "{refused}");
}

#[tokio::test]
async fn the_approval_of_somebody_who_is_gone_counts_no_longer() {
    let program = Program::start();
    let staging = "{name: staging, owner: platform}\n";
    let guarded = format!("{staging}spec: {{protections: [{{use: agreed, when: [pre]}}]}}\n");
    let two = APPROVED.replace("[release-manager]", "[release-manager], count: 2");
    role(&program, json!({"name": "release-manager"})).await;
    let mia = user(&program, "mia", &["release-manager"]).await;
    let max = user(&program, "max", &["release-manager"]).await;
    let wanting = MANIFESTS.replacen(staging, &guarded, 1) + &two;
    let applied = program.post("/v1/apply", &manifests(&wanting)).await;
    assert_eq!(applied.status(), StatusCode::OK);
    program.release("1").await;
    let newest = async || {
        let path = "/v1/deployments?service=web&environment=staging";
        program.get(path).await["items"][0].clone()
    };
    let asked = async || {
        let newest = newest().await;
        let waits = newest["waits"].as_array().cloned().unwrap_or_default();
        let wait = waits.into_iter().find(|wait| wait["kind"] == "approval");
        wait.map(|wait| wait["message"].as_str().unwrap().to_owned())
    };
    until("both are asked", async || asked().await.is_some()).await;
    let path = format!("/v1/deployments/{}/approve", newest().await["id"]);
    let agreed = post(&program, &mia, &path, &json!({})).await;
    assert_eq!(agreed.status(), StatusCode::OK);
    let says = async |text: &str| asked().await.is_some_and(|asked| asked.contains(text));
    until("one has agreed", async || says("approved by mia").await).await;
    let gone = program.request(Method::DELETE, "/v1/users/mia");
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::OK);
    until("nobody has agreed", async || says("none of 2").await).await;
    let agreed = post(&program, &max, &path, &json!({})).await;
    assert_eq!(agreed.status(), StatusCode::OK);
    until("only one has agreed", async || {
        says("approved by max").await
    })
    .await;
    let events = program.get("/v1/events").await.to_string();
    assert!(events.contains("approval.void"), "{events}");
}

#[tokio::test]
async fn a_freeze_is_changed_only_by_whoever_placed_it_and_those_who_may_as_much() {
    let program = Program::start();
    let applied = program.post("/v1/apply", &manifests(MANIFESTS)).await;
    assert_eq!(applied.status(), StatusCode::OK);
    let operator = user(&program, "olga", &["operator"]).await;
    let deployer = json!({"name": "deployer", "permissions": ["read", "deploy"],
        "scope": {"environments": ["staging"]}});
    role(&program, deployer).await;
    let dan = user(&program, "dan", &["deployer"]).await;
    let (path, end) = ("/v1/freezes", "/v1/freezes/staging/end");
    let wish = |reason: &str| json!({"environment": "staging", "reason": reason});
    let placed = post(&program, program.token(), path, &wish("audit")).await;
    assert_eq!(placed.status(), StatusCode::OK);
    for token in [&operator, &dan] {
        let why = "staging was frozen by admin, who has the role admin: audit";
        assert_forbidden(post(&program, token, path, &wish("mine")).await, why).await;
        assert_forbidden(post(&program, token, end, &json!({})).await, why).await;
        // What changes nothing is refused to nobody.
        let same = post(&program, token, path, &wish("audit")).await;
        assert_eq!(same.status(), StatusCode::OK);
    }
    let freezes = program.get(path).await;
    assert_eq!(freezes["items"][0]["by"], "admin");
    let ended = post(&program, program.token(), end, &json!({})).await;
    assert_eq!(ended.status(), StatusCode::OK);
    // Of one who may less, and then of one who is the same.
    for (token, reason) in [(&dan, "first"), (&operator, "second")] {
        let placed = post(&program, token, path, &wish(reason)).await;
        assert_eq!(placed.status(), StatusCode::OK, "{reason}");
    }
    let refused = post(&program, &dan, path, &wish("third")).await;
    assert_forbidden(refused, "frozen by olga, who has the role operator: second").await;
    let ended = post(&program, &operator, end, &json!({})).await;
    assert_eq!(ended.status(), StatusCode::OK);
}

#[tokio::test]
async fn users_come_in_pages() {
    let program = Program::start();
    for name in ["carl", "ada", "bob"] {
        user(&program, name, &["viewer"]).await;
    }
    let mut names = Vec::new();
    let mut next = String::new();
    loop {
        let page = program
            .get(&format!("/v1/users?limit=2&continue={next}"))
            .await;
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["token"].is_null()));
        names.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        match page["continue"].as_str() {
            Some(more) => more.clone_into(&mut next),
            None => break,
        }
    }
    assert_eq!(names, ["ada", "admin", "bob", "carl"]);
}

#[tokio::test]
async fn a_database_of_the_first_schema_keeps_its_administrator() {
    let folder = tempfile::tempdir().unwrap();
    drop(Program::start_in(folder.path()));
    let path = folder.path().join("holdfast.db");
    let pool = sqlx::SqlitePool::connect(path.to_str().unwrap())
        .await
        .unwrap();
    for sql in [
        "DROP TABLE roles",
        "DELETE FROM _sqlx_migrations WHERE description = 'roles'",
        "UPDATE users SET body = json_remove(body, '$.createdBy', '$.expiresAt', '$.revokedAt')",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let program = Program::start_in(folder.path());
    assert_eq!(whoami(&program, program.token()).await, StatusCode::OK);
    let ada = user(&program, "ada", &["viewer"]).await;
    until("ada is known", async || {
        whoami(&program, &ada).await == StatusCode::OK
    })
    .await;
    assert_eq!(
        program.get("/v1/users/admin").await["createdBy"],
        "coordinator"
    );
}
