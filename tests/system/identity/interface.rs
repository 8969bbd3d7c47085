//! The HTTP API against those who may not use it, and secrets against those who read what is kept.

use std::path::{Path, PathBuf};

use holdfast_certs::token::Token;
use holdfast_protocol::api::token::CreatedToken;
use holdfast_protocol::api::{Code, Problem};
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest;
use holdfast_tests::wait::{PATIENCE, wait_for};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::{ENVIRONMENTS, memory_kib};

/// A client without a token.
struct Stranger {
    runtime: Runtime,
    client: Client,
    base: String,
    administrator: String,
}

struct Answer {
    status: StatusCode,
    content_type: String,
    text: String,
}

impl Stranger {
    fn at(fleet: &Fleet) -> Self {
        let data = fleet.coordinator_data();
        let pem = std::fs::read(data.join("ca.pem")).unwrap();
        let roots = reqwest::Certificate::from_pem_bundle(&pem).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only(roots).build();
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap();
        Self {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            client: client.unwrap(),
            base: fleet.api.base().to_owned(),
            administrator: token.trim().to_owned(),
        }
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        let request = fill(self.client.request(method, format!("{}{path}", self.base)));
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let content_type = answer.headers().get("content-type");
            let content_type = content_type
                .map_or("", |value| value.to_str().unwrap())
                .to_owned();
            let status = answer.status();
            Answer {
                status,
                content_type,
                text: answer.text().await.unwrap(),
            }
        })
    }

    fn known(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        self.ask(method, path, |request| {
            fill(request.bearer_auth(&self.administrator))
        })
    }
}

impl Answer {
    /// It must be a problem document with this status.
    #[track_caller]
    fn is_problem(&self, status: StatusCode) -> Problem {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(
            self.content_type, "application/problem+json",
            "{}",
            self.text
        );
        let problem: Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, status.as_u16());
        problem
    }
}

#[test]
fn nothing_is_done_for_one_without_a_valid_token() {
    let fleet = Fleet::start();
    let stranger = Stranger::at(&fleet);
    let description = stranger.ask(Method::GET, "/v1/openapi.json", |r| r);
    let description: serde_json::Value = serde_json::from_str(&description.text).unwrap();
    let mut asked = 0;
    // Whatever is described is guarded: what is added later, too.
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = [
            "{name}",
            "{id}",
            "{number}",
            "{digest}",
            "{service}",
            "{environment}",
        ]
        .iter()
        .fold(path.clone(), |path, part| path.replace(part, "x1"));
        let path = path.replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let head = method == Method::HEAD;
            let answers = [
                stranger.ask(method.clone(), &path, |r| r),
                stranger.ask(method.clone(), &path, |r| {
                    r.bearer_auth("hfa_0000000000000000")
                }),
                stranger.ask(method.clone(), &path, |r| {
                    r.basic_auth("admin", Some(&stranger.administrator))
                }),
                stranger.ask(method.clone(), &path, |r| r.bearer_auth("x".repeat(6_000))),
                stranger.ask(method, &path, |r| {
                    r.header("idempotency-key", "k").json(&json!({}))
                }),
            ];
            for answer in answers {
                asked += 1;
                if head {
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
                } else {
                    let problem = answer.is_problem(StatusCode::UNAUTHORIZED);
                    assert_eq!(problem.code, Code::Unauthenticated, "{path}");
                }
            }
        }
    }
    println!("{asked} requests without a right were refused");
    let query = format!(
        "/v1/targets?token={0}&access_token={0}&authorization=Bearer+{0}",
        stranger.administrator
    );
    stranger
        .ask(Method::GET, &query, |r| r)
        .is_problem(StatusCode::UNAUTHORIZED);
    for file in files(fleet.directory())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
    {
        let log = std::fs::read_to_string(&file).unwrap();
        assert!(!log.contains(&stranger.administrator), "{}", file.display());
    }
    let events = fleet.events();
    assert!(
        events.iter().all(|event| event.kind != "token.created"),
        "{events:?}"
    );
}

#[test]
fn a_stranger_cannot_make_the_coordinator_read_a_large_body() {
    let fleet = Fleet::start();
    let stranger = Stranger::at(&fleet);
    let pid = fleet.coordinator.pid().unwrap();
    let before = memory_kib(pid).1;
    let body = vec![b' '; 48 * 1024 * 1024];
    for path in ["/v1/apply", "/v1/tokens", "/v1/services/web/releases"] {
        let sent = stranger.runtime.block_on(async {
            let request = stranger.client.post(format!("{}{path}", stranger.base));
            let request = request
                .header("idempotency-key", "k")
                .header("content-type", "application/json");
            request
                .body(body.clone())
                .send()
                .await
                .map(|answer| answer.status())
        });
        // The answer may come before the body was sent; the connection is then closed under it.
        assert!(
            sent.as_ref()
                .map_or(true, |status| *status == StatusCode::UNAUTHORIZED),
            "{path}: {sent:?}"
        );
    }
    let after = memory_kib(pid).1;
    println!("coordinator: {before} KiB at most before, {after} KiB after 144 MiB from a stranger");
    assert!(after < before + 24 * 1024);
}

#[test]
fn what_is_malformed_is_refused_as_a_problem_and_changes_nothing() {
    let fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    let before = fleet.events().len();
    let stranger = Stranger::at(&fleet);
    let bad = StatusCode::BAD_REQUEST;
    let post =
        |path: &str, body: serde_json::Value| stranger.known(Method::POST, path, |r| r.json(&body));

    // The refusal comes before all is sent; whoever goes on sending may not get to see it.
    let large = wait_for("it is told that its body is too large", PATIENCE, || {
        let request = stranger.client.post(format!("{}/v1/tokens", stranger.base));
        let request = request.bearer_auth(&stranger.administrator);
        let request = request.header("content-type", "application/json");
        let request = request.body(vec![b'['; 1024 * 1024 + 1]);
        let sent = stranger.runtime.block_on(request.send());
        sent.map(|answer| answer.status())
            .map_err(|e| e.to_string())
    });
    assert_eq!(large, StatusCode::PAYLOAD_TOO_LARGE);
    let plain = stranger.known(Method::POST, "/v1/tokens", |r| {
        r.body("environment=staging")
    });
    assert!(plain.status.is_client_error());
    plain.is_problem(plain.status);
    let deep = "[".repeat(100_000);
    let deep = stranger.known(Method::POST, "/v1/apply", |r| {
        r.header("content-type", "application/json").body(deep)
    });
    deep.is_problem(bad);
    post("/v1/tokens", json!({"environment": "staging", "usess": 7})).is_problem(bad);
    post(
        "/v1/tokens",
        json!({"environment": "staging", "ttl": "25h"}),
    )
    .is_problem(bad);
    post("/v1/tokens", json!({"environment": "staging", "ttl": "0s"})).is_problem(bad);
    post("/v1/tokens", json!({"environment": "staging", "uses": 0})).is_problem(bad);
    post("/v1/tokens", json!({"environment": "staging", "uses": -1})).is_problem(bad);
    stranger
        .known(Method::GET, "/v1/targets?environmment=staging", |r| r)
        .is_problem(bad);
    for name in [
        "--privileged",
        "$(id)",
        "a;reboot",
        "A",
        "we%0Ab",
        "..",
        "%2e%2e%2f%2e%2e%2fetc",
        "аdmin",
        &"x".repeat(10_000),
    ] {
        let encoded: String = name
            .bytes()
            .map(|b| {
                if b == b'%' {
                    "%".to_owned()
                } else if b.is_ascii_alphanumeric() {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
        let answer = post(
            &format!("/v1/services/{encoded}/releases"),
            json!({"version": "1.0.0"}),
        );
        assert!(answer.status.is_client_error(), "{name}: {}", answer.status);
        let token = post("/v1/tokens", json!({"environment": name}));
        token.is_problem(bad);
        let answer = post(&format!("/v1/targets/{encoded}/revoke"), json!({}));
        assert!(answer.status.is_client_error(), "{name}: {}", answer.status);
    }
    let digests = [
        "..%2Fadmin.token",
        "%2Fetc%2Fpasswd",
        "sha256:..",
        "sha256%3A..%2F..%2Fadmin.token",
    ];
    for digest in digests.into_iter().map(str::to_owned).chain([
        "A".repeat(64),
        "0".repeat(63),
        "0".repeat(65),
    ]) {
        let path = format!("/v1/artifacts/{digest}");
        let put = stranger.known(Method::PUT, &path, |r| r.body("x"));
        assert!(put.status.is_client_error(), "{digest}: {}", put.status);
    }
    let there = holdfast_protocol::digest::Digest::of(b"one thing");
    let other = stranger.known(Method::PUT, &format!("/v1/artifacts/{there}"), |r| {
        r.body("another")
    });
    other.is_problem(bad);
    let artifacts = std::fs::read_dir(fleet.coordinator_data().join("artifacts")).unwrap();
    assert_eq!(artifacts.count(), 0, "nothing is left behind");
    stranger
        .known(Method::GET, "/v1/nothing", |r| r)
        .is_problem(StatusCode::NOT_FOUND);
    stranger
        .known(Method::DELETE, "/v1/targets", |r| r)
        .is_problem(StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(fleet.events().len(), before);
}

#[test]
fn no_secret_is_in_a_log_an_event_or_a_file_that_is_not_its_own() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    let plain = fleet.token("staging", &[]);
    let stranger = Stranger::at(&fleet);
    let body = json!({"environment": "staging"});
    // Asked for twice under one key, as a nervous program would.
    let keyed = || -> CreatedToken {
        let answer = stranger.known(Method::POST, "/v1/tokens", |r| {
            r.header("idempotency-key", "again").json(&body)
        });
        serde_json::from_str(&answer.text).unwrap()
    };
    let (first, second) = (keyed(), keyed());
    let agent = fleet.agent_with(fleet.address(), "staging-1", &plain);
    agent.program.start();
    fleet.wait_connected("staging-1", true);
    fleet.join("staging-2", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    // One that is refused after its secret was seen.
    let late = fleet.agent_with(fleet.address(), "staging-3", &plain);
    let arguments = [
        "join",
        "--coordinator",
        fleet.address(),
        "--token",
        &plain,
        "--name",
        "staging-3",
        "--data",
        late.data.to_str().unwrap(),
    ];
    assert_ne!(fleet.run("holdfast-agent", &arguments, &[]).code, Some(0));
    agent.program.kill9();
    assert!(fleet.coordinator.terminate().success());

    let mut secrets: Vec<(String, Vec<u8>)> = vec![(
        "the administrator's token".to_owned(),
        stranger.administrator.clone().into_bytes(),
    )];
    for token in [&plain, &first.token, &second.token] {
        let parsed: Token = token.parse().unwrap();
        let text = token.split('.').nth(2).unwrap();
        secrets.push((
            format!("the secret of {} as text", parsed.id()),
            text.as_bytes().to_vec(),
        ));
        secrets.push((
            format!("the secret of {} as bytes", parsed.id()),
            parsed.secret().to_vec(),
        ));
    }
    let own = fleet.coordinator_data().join("admin.token");
    let mut searched = 0;
    for file in files(fleet.directory())
        .into_iter()
        .filter(|file| *file != own)
    {
        let content = std::fs::read(&file).unwrap();
        searched += content.len();
        for (what, secret) in &secrets {
            let found = content.windows(secret.len()).any(|part| part == secret);
            assert!(!found, "{what} is in {}", file.display());
        }
    }
    println!(
        "{searched} bytes of files hold none of {} secrets",
        secrets.len()
    );
    assert!(searched > 100_000, "the database is among them");
    for private in [
        "admin.token",
        "ca/root.key",
        "ca/env/staging.key",
        "ca/env/staging.sign.key",
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(fleet.coordinator_data().join(private))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}
