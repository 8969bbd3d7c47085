//! The API is what `protocol::api` and the interface contract say.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::program::{Program, manifests};

/// The source of the table of routes.
const TABLE: &str = include_str!("../../../protocol/src/api.rs");

/// `METHOD path` of each route of the table: methods apart, and with and without what is optional.
fn declared() -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    let rows = TABLE
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"));
    for row in rows {
        let cell = row.split(" | ").next().unwrap();
        for route in cell.split("`, `") {
            let (methods, path) = route.trim_matches('`').split_once(" /").unwrap();
            let path = format!("/{}", path.split('?').next().unwrap());
            let paths = match path.split_once('[') {
                Some((list, one)) => {
                    vec![list.to_owned(), format!("{list}{}", &one[..one.len() - 1])]
                }
                None => vec![path],
            };
            for method in methods.split(", ") {
                routes.extend(paths.iter().map(|path| format!("{method} {path}")));
            }
        }
    }
    routes
}

fn described(openapi: &Value) -> BTreeSet<String> {
    let paths = openapi["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[tokio::test]
async fn every_route_of_the_table_is_described_and_no_other() {
    let program = Program::start();
    let openapi = program.get("/v1/openapi.json").await;
    assert!(declared().len() > 30, "{:?}", declared());
    assert_eq!(described(&openapi), declared());
}

#[tokio::test]
async fn the_description_says_where_parameters_go_and_how_refusals_look() {
    let program = Program::start();
    let openapi = program.get("/v1/openapi.json").await;
    assert!(openapi["components"]["schemas"]["Problem"].is_object());
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let refusal = &operation["responses"]["default"]["content"];
            assert!(
                refusal["application/problem+json"].is_object(),
                "{method} {path}"
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let place = if path.contains(&format!("{{{name}}}")) {
                    "path"
                } else {
                    "query"
                };
                assert_eq!(parameter["in"], place, "{name} of {method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn no_described_route_is_open_to_strangers() {
    let program = Program::start();
    let openapi = program.get("/v1/openapi.json").await;
    for route in described(&openapi) {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace(['{', '}'], "");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = program.anonymous(method, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{route}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{route}");
    }
}

/// Refused, whatever it is, in the form of RFC 9457.
async fn assert_problem(request: reqwest::RequestBuilder, status: u16, code: &str) {
    let answer = request.send().await.unwrap();
    let at = answer.url().path().to_owned();
    let content = answer.headers()["content-type"].clone();
    assert_eq!(answer.status().as_u16(), status, "{at}");
    assert_eq!(content, "application/problem+json", "{at}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], status, "{at}");
    assert_eq!(problem["code"], code, "{at}: {problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{at}");
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let program = Program::start();
    let get = |path: &str| program.request(Method::GET, path);
    let post = |path: &str| program.request(Method::POST, path);
    let json = |path: &str, text: &'static str| {
        post(path)
            .header("content-type", "application/json")
            .body(text)
    };
    assert_problem(json("/v1/apply", "{"), 400, "badRequest").await;
    assert_problem(
        json("/v1/apply", r#"{"files":[],"x":1}"#),
        400,
        "badRequest",
    )
    .await;
    assert_problem(json("/v1/apply", "[]"), 400, "badRequest").await;
    assert_problem(post("/v1/tokens").body("{}"), 400, "badRequest").await;
    assert_problem(
        post("/v1/apply").json(&manifests("kind: Nonsense")),
        422,
        "invalidManifest",
    )
    .await;
    assert_problem(get("/v1/nothing"), 404, "notFound").await;
    assert_problem(get("/nothing"), 404, "notFound").await;
    assert_problem(post("/v1/status"), 405, "badRequest").await;
    assert_problem(get("/v1/targets/%ff"), 400, "badRequest").await;
    assert_problem(get("/v1/targets/Not_A_Name"), 400, "badRequest").await;
    assert_problem(get("/v1/targets/nobody"), 404, "notFound").await;
    assert_problem(get("/v1/status?colour=red"), 400, "badRequest").await;
    assert_problem(get("/v1/events?limit=-1"), 400, "badRequest").await;
    assert_problem(get("/v1/releases?continue=x"), 400, "badRequest").await;
    assert_problem(get("/v1/deployments/99"), 404, "notFound").await;
    assert_problem(get("/v1/deployments/x"), 400, "badRequest").await;
    let large = "x".repeat(2 * 1024 * 1024);
    assert_problem(post("/v1/tokens").json(&large), 413, "tooLarge").await;
    let wrong = program
        .request(Method::PUT, "/v1/artifacts/sha256:12")
        .body("x");
    assert_problem(wrong, 400, "badRequest").await;
    let forged = program
        .anonymous(Method::GET, "/v1/status")
        .bearer_auth("hf_no");
    assert_problem(forged, 401, "unauthenticated").await;
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn assert_keys(value: &Value, expected: &str) {
    let expected: BTreeSet<&str> = expected.split(", ").collect();
    let missing: Vec<_> = expected.difference(&keys(value)).copied().collect();
    assert!(missing.is_empty(), "without {missing:?}: {value}");
}

#[tokio::test]
async fn keys_are_those_of_the_contract() {
    let program = Program::start();
    program.apply().await;
    program.release("1").await;
    let first = |list: &Value| list["items"][0].clone();

    let release = first(&program.get("/v1/releases").await);
    let all = "service, version, sequence, artifacts, commit, createdAt, createdBy";
    assert_keys(&release, all);
    let deployment = first(&program.get("/v1/deployments").await);
    let all = "id, service, environment, version, revision, phase, reason, startedAt, finishedAt, \
               targets, waits, waves";
    assert_keys(&deployment, all);
    assert_keys(
        &deployment["targets"],
        "total, updated, ready, failed, disconnected",
    );
    assert_keys(&deployment["waves"], "current, total");
    let past = first(&program.get("/v1/history").await);
    assert_keys(&past, all);
    assert_keys(&past, "trigger, previous, protections, skipped");
    assert_keys(&past["trigger"], "kind, by, reason");
    let status = program.get("/v1/status").await;
    for status in status["items"].as_array().unwrap() {
        let all = "service, environment, stable, current, wanted, targets, waits";
        assert_keys(status, all);
    }
    // Without targets there is nothing to wait for in staging; production follows at once.
    let staging = first(&status);
    assert_keys(&staging["wanted"], "version, rule");
    assert_keys(&staging["current"], "deployment, version, phase");
    let halted = program
        .post("/v1/tracks/web/production/pause", &json!({}))
        .await;
    assert_eq!(halted.status(), StatusCode::OK);
    program.release("2").await;
    let why = program
        .get("/v1/why?service=web&environment=production")
        .await;
    let all = "kind, subject, message, since, endsBy, until";
    assert_keys(&first(&why), all);
}

#[tokio::test]
async fn lists_come_in_pages_that_follow_each_other() {
    let program = Program::start();
    program.apply().await;
    for version in ["1", "2", "3", "4", "5"] {
        program.release(version).await;
    }
    for set in ["a", "b"] {
        let content = format!(
            "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: {set}, owner: x}}\n"
        );
        let mut body = manifests(&content);
        body["set"] = json!(set);
        assert_eq!(
            program.post("/v1/apply", &body).await.status(),
            StatusCode::OK
        );
    }
    for (path, key) in [
        ("/v1/releases", "version"),
        ("/v1/revisions", "number"),
        ("/v1/deployments", "id"),
        ("/v1/events", "sequence"),
    ] {
        let whole = program.get(path).await;
        let whole: Vec<String> = column(&whole, key);
        assert!(whole.len() > 2, "{path}: {whole:?}");
        let mut paged = Vec::new();
        let mut next = String::new();
        loop {
            let page = program
                .get(&format!("{path}?limit=2&continue={next}"))
                .await;
            paged.extend(column(&page, key));
            match page["continue"].as_str() {
                Some(more) => more.clone_into(&mut next),
                None => break,
            }
        }
        assert_eq!(paged, whole, "{path}");
    }
}

fn column(list: &Value, key: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item[key].to_string()).collect()
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let program = Program::start();
    program.apply().await;
    let request = program.anonymous(Method::GET, "/metrics");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut described = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let name = rest.split(' ').nth(1).unwrap();
            described.insert(name.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(described.contains(family), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(text.contains("holdfast_revision 1\n"), "{text}");
    assert!(text.contains("holdfast_tracks{"), "{text}");
}
