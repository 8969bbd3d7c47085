//! Checks as the coordinator performs them: HTTP, a real Prometheus, real programs; and what happens
//! to them when it is killed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use holdfast_coordinator::store::Store;
use serde_json::{Value, json};

use crate::outside::{Answer, Prometheus, Server, free_port, status};
use crate::program::{Program, manifests, until};

/// One environment with one guard, and a service without artifacts.
fn guarded(when: &str, protection: &str) -> String {
    format!(
        "apiVersion: holdfast/v1\n\
         kind: Environment\n\
         metadata: {{name: staging, owner: platform}}\n\
         spec: {{protections: [{{use: guard, when: {when}}}]}}\n\
         ---\n\
         apiVersion: holdfast/v1\n\
         kind: Protection\n\
         metadata: {{name: guard, owner: sre}}\n\
         spec: {protection}\n\
         ---\n\
         apiVersion: holdfast/v1\n\
         kind: Service\n\
         metadata: {{name: web, owner: team-web}}\n\
         spec:\n  runtime: process\n  template: {{command: [/bin/sleep, \"100000\"]}}\n"
    )
}

async fn applied(program: &Program, manifest: &str) {
    let applied = program.post("/v1/apply", &manifests(manifest)).await;
    let ok = applied.status().is_success();
    let said: Value = applied.json().await.unwrap();
    assert!(ok, "{said:#}\n{manifest}");
}

/// The phase of the newest deployment of `web`.
pub(crate) async fn phase(program: &Program) -> String {
    let all = program.get("/v1/deployments").await;
    all["items"][0]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until the guard does not hold the deployment any more.
async fn passes(program: &Program) {
    until("the guard passes", async || {
        !why(program).await.contains("guard")
    })
    .await;
}

/// Why nothing moves, as one text.
async fn why(program: &Program) -> String {
    let why = program.get("/v1/why?service=web&environment=staging").await;
    why["items"].to_string()
}

/// Waits until the reason holds all of these words.
async fn waits_for(program: &Program, words: &[&str]) {
    let begin = std::time::Instant::now();
    loop {
        let why = why(program).await;
        if words.iter().all(|word| why.contains(word)) {
            return;
        }
        assert!(
            begin.elapsed() < crate::program::PATIENCE,
            "{words:?} is not in {why}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A coordinator where programs may run, as whom the test runs as or as nobody.
fn with_programs(data: &Path) -> Program {
    let own = rustix::process::geteuid();
    let user = match own.is_root() {
        true => String::new(),
        false => format!("user = \"{}\"\n", own.as_raw()),
    };
    Program::start_configured(data, &format!("[checks]\nprograms = true\n{user}"))
}

#[tokio::test]
async fn a_deployment_waits_for_a_page_and_goes_on_when_it_is_as_expected() {
    let server = Server::start(&[status(503, "down for \x1b[31mmaintenance\x1b[0m\x07")]).await;
    let program = Program::start();
    let url = server.url("/{{ service }}/{{ environment }}/{{ release.version }}");
    let check = format!("{{http: {{url: \"{url}\", contains: up}}, interval: 1s}}");
    applied(&program, &guarded("[pre]", &check)).await;
    program.release("1.4.0").await;
    waits_for(
        &program,
        &["guard", "503 Service Unavailable", "down for maintenance"],
    )
    .await;
    assert!(!why(&program).await.contains("u001b"));
    assert_eq!(phase(&program).await, "Waiting");
    server.answers(&[status(200, "down")]);
    waits_for(&program, &["without \\\"up\\\""]).await;
    server.answers(&[status(200, "all is up")]);
    passes(&program).await;
    assert_eq!(server.seen()[0].path, "/web/staging/1.4.0");
}

#[tokio::test]
async fn so_many_checks_are_under_way_at_once_and_no_more() {
    let slow = Answer {
        after: Duration::from_secs(1),
        ..status(200, "")
    };
    let server = Server::start(&[slow]).await;
    let program = Program::start();
    let check = format!(
        "{{http: \"{}\", interval: 10m}}",
        server.url("/{{ service }}")
    );
    let guarded = guarded("[pre]", &check);
    let (rest, service) = guarded.rsplit_once("---\n").unwrap();
    let mut all = rest.to_owned();
    for number in 0..150 {
        let name = format!("name: web-{number},");
        all.push_str("---\n");
        all.push_str(&service.replace("name: web,", &name));
    }
    applied(&program, &all).await;
    for number in 0..150 {
        let path = format!("/v1/services/web-{number}/releases");
        let made = program.post(&path, &json!({"version": "1"})).await;
        assert!(made.status().is_success());
    }
    until("all are asked", async || server.seen().len() == 150).await;
    assert!((32..=64).contains(&server.peak()), "{}", server.peak());
    until("none is held", async || {
        let all = program.get("/v1/status").await.to_string();
        !all.contains("guard")
    })
    .await;
}

#[tokio::test]
async fn another_host_is_not_followed_to_and_a_slow_or_huge_page_is_bounded() {
    let elsewhere = Server::start(&[status(200, "fine")]).await;
    let there = Answer {
        header: Some(("location", elsewhere.url("/"))),
        ..status(302, "")
    };
    let server = Server::start(&[there]).await;
    let program = Program::start();
    let check = format!(
        "{{http: {{url: \"{}\", timeout: 1s}}, interval: 1s}}",
        server.url("/")
    );
    applied(&program, &guarded("[pre]", &check)).await;
    program.release("1").await;
    waits_for(&program, &["302 Found, expected 200 to 299"]).await;
    assert!(elsewhere.seen().is_empty());
    let slow = Answer {
        after: Duration::from_secs(3),
        ..status(200, "")
    };
    server.answers(&[slow]);
    waits_for(&program, &["no answer within 1s"]).await;
    server.answers(&[status(500, vec![b'x'; 10 << 20])]);
    waits_for(&program, &["500 Internal Server Error"]).await;
    assert!(why(&program).await.len() < 8_000);
}

#[tokio::test]
async fn addresses_that_nothing_is_sent_to_are_said_so() {
    let program = Program::start();
    for (url, words) in [
        (
            "http://169.254.169.254/latest/meta-data/",
            "which nothing is sent to",
        ),
        (program.base(), "does not ask its own API"),
    ] {
        let check = format!("{{http: {{url: \"{url}\"}}, interval: 1s}}");
        applied(&program, &guarded("[pre]", &check)).await;
        program.release(words.split(' ').next().unwrap()).await;
        waits_for(&program, &[words]).await;
    }
}

#[tokio::test]
async fn a_deployment_waits_while_a_real_alert_fires() {
    let metrics = Server::start(&[status(200, "broken 1\n")]).await;
    let prometheus = Prometheus::start(metrics.address);
    until("the alert fires", async || {
        let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await;
        firing.is_some_and(|samples| !samples.is_empty())
    })
    .await;
    let program = Program::start();
    let check = format!(
        "{{prometheus: {{url: \"{}\", expect: empty, \
         query: 'ALERTS{{alertstate=\"firing\",service=\"{{{{ service }}}}\"}}'}}, interval: 1s}}",
        prometheus.url
    );
    applied(&program, &guarded("[pre]", &check)).await;
    program.release("1").await;
    waits_for(
        &program,
        &[
            "guard",
            "1 sample: Broken{instance=127.0.0.1:",
            "service=web}=1; expected no sample",
        ],
    )
    .await;
    metrics.answers(&[status(200, "broken 0\n")]);
    passes(&program).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_or_refuses_the_query_says_nothing() {
    let program = Program::start();
    let asking = |url: &str, query: &str| {
        let check = format!(
            "{{prometheus: {{url: \"{url}\", expect: some, query: '{query}'}}, interval: 1s}}"
        );
        guarded("[pre]", &check)
    };
    let nobody = format!("http://127.0.0.1:{}", free_port());
    applied(&program, &asking(&nobody, "up")).await;
    program.release("1").await;
    waits_for(&program, &["could not be asked", "no answer"]).await;
    let metrics = Server::start(&[status(200, "")]).await;
    let prometheus = Prometheus::start(metrics.address);
    until("it answers", async || {
        prometheus.query("up").await.is_some()
    })
    .await;
    applied(&program, &asking(&prometheus.url, "sum(")).await;
    waits_for(&program, &["the server refuses the query", "parse error"]).await;
    applied(&program, &asking(&metrics.url(""), "up")).await;
    waits_for(&program, &["no answer of a Prometheus server"]).await;
}

#[tokio::test]
async fn programs_run_here_only_where_the_operator_allows_it() {
    let program = Program::start();
    let check = "{run: {command: [/bin/true], on: coordinator}, interval: 1s}";
    applied(&program, &guarded("[pre]", check)).await;
    program.release("1").await;
    waits_for(&program, &["programs = true", "[checks]"]).await;
    assert_eq!(phase(&program).await, "Waiting");
}

/// An executable script that anybody may run.
fn script(folder: &Path, name: &str, text: &str) -> String {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_program_runs_with_nothing_of_the_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let look = script(
        folder.path(),
        "look",
        "echo \"user $(id -u)\"; env | sort | tr '\\n' ' '; echo; pwd; ls -A | wc -l\n\
         touch mine; echo \"session $(ps -o sid= -p $$ | tr -d ' ') is $$\"\n\
         echo \"files $(ulimit -n)\"; cat /proc/self/status | grep -E 'NoNewPrivs|Groups'\n\
         printf 'bell\\007 red\\033[31m\\n'; exit 3",
    );
    let data = tempfile::tempdir().unwrap();
    let program = with_programs(data.path());
    let check = format!(
        "{{run: {{command: [{look}], on: coordinator, environment: {{LEVEL: \"{{{{ service }}}}\"}}}}, \
         interval: 1s}}"
    );
    applied(&program, &guarded("[pre]", &check)).await;
    program.release("1.4.0").await;
    waits_for(&program, &["exit code 3"]).await;
    let deployment = program.get("/v1/deployments/1").await;
    let output = output_of(&deployment);
    let nobody = rustix::process::geteuid().is_root();
    assert_eq!(output.contains("user 65534"), nobody, "{output}");
    for line in [
        "HOLDFAST_DEPLOYMENT=1 HOLDFAST_ENVIRONMENT=staging HOLDFAST_SERVICE=web \
         HOLDFAST_VERSION=1.4.0 HOME=/tmp/holdfast-check-",
        " LEVEL=web PATH=/usr/local/sbin:",
        "files 256",
        "NoNewPrivs:\t1",
        "bell red",
    ] {
        assert!(output.contains(line), "{line} is not in\n{output}");
    }
    assert!(
        !output.contains("HOLDFAST_TOKEN") && !output.contains("CARGO"),
        "{output}"
    );
    assert!(!output.contains(['\u{7}', '\u{1b}']), "{output}");
    let words: Vec<&str> = output
        .lines()
        .find_map(|line| line.strip_prefix("session "))
        .unwrap()
        .split(' ')
        .collect();
    assert_eq!(words[0], words[2], "it leads a session of its own");
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap();
    let own = format!("holdfast-check-{}-", program.id());
    until("its directory is gone", async || {
        let left = std::fs::read_dir(std::env::temp_dir()).unwrap();
        let mut names = left.map(|entry| entry.unwrap().file_name());
        !names.any(|name| name.to_string_lossy().starts_with(&own))
    })
    .await;
    drop(left);
}

/// The newest output that the deployment's record keeps.
fn output_of(deployment: &Value) -> String {
    let text = deployment.to_string();
    let kept = ["results", "protections", "checks"]
        .iter()
        .find_map(|key| deployment[*key].as_array().filter(|list| !list.is_empty()));
    let last = kept
        .unwrap_or_else(|| panic!("no results in {text}"))
        .last()
        .unwrap();
    let output = last["output"]
        .as_str()
        .or(last["verdict"]["output"].as_str());
    output
        .unwrap_or_else(|| panic!("no output in {text}"))
        .to_owned()
}

#[tokio::test]
async fn what_a_program_says_is_bounded_and_what_hangs_is_ended_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let talk = script(
        folder.path(),
        "talk",
        "echo begin; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo end; exit 1",
    );
    let mark = format!("100{}", free_port());
    let hang = script(
        folder.path(),
        "hang",
        &format!("sleep {mark} & sleep {mark}"),
    );
    let missing = folder.path().join("none").display().to_string();
    let data = tempfile::tempdir().unwrap();
    let program = with_programs(data.path());
    let running = |command: &str| {
        let run = format!("{{command: [\"{command}\"], on: coordinator, timeout: 1s}}");
        guarded("[pre]", &format!("{{run: {run}, interval: 1s}}"))
    };
    applied(&program, &running(&talk)).await;
    program.release("1").await;
    waits_for(&program, &["exit code 1"]).await;
    let said = output_of(&program.get("/v1/deployments/1").await);
    assert!(
        said.contains("begin\nxxx") && said.ends_with("xxx\nend"),
        "{said}"
    );
    assert!(
        said.contains("bytes left out]") && said.len() < 4_200,
        "{}",
        said.len()
    );
    applied(&program, &running(&hang)).await;
    waits_for(&program, &["no answer within 1s"]).await;
    until("nothing of it is left", async || !runs(&mark)).await;
    applied(&program, &running(&missing)).await;
    waits_for(&program, &["could not be asked", "cannot execute"]).await;
}

/// Whether a process has this argument.
fn runs(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    })
}

#[tokio::test]
async fn a_check_that_ran_when_the_coordinator_was_killed_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let runs_of = folder.path().join("runs");
    std::fs::create_dir(&runs_of).unwrap();
    std::fs::set_permissions(&runs_of, std::fs::Permissions::from_mode(0o777)).unwrap();
    let first = script(
        folder.path(),
        "first",
        &format!(
            "cd {0}; touch run-$$; [ $(ls {0} | wc -l) -gt 1 ] || exec sleep 1000",
            runs_of.display()
        ),
    );
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let count = || std::fs::read_dir(&runs_of).unwrap().count();
    let data = tempfile::tempdir().unwrap();
    let program = with_programs(data.path());
    let run = format!("{{command: [{first}], on: coordinator, timeout: 10m}}");
    let check = format!("{{run: {run}, interval: 10m}}");
    applied(&program, &guarded("[pre]", &check)).await;
    program.release("1").await;
    until("it runs", async || count() == 1).await;
    assert_eq!(phase(&program).await, "Waiting");
    drop(program);
    let again = with_programs(data.path());
    passes(&again).await;
    assert_eq!(count(), 2);
}

#[tokio::test]
async fn a_target_that_is_not_connected_says_nothing() {
    let program = Program::start();
    let check = "{run: {command: [/bin/true]}, interval: 1s}";
    applied(&program, &guarded("[pre]", check)).await;
    program.release("1").await;
    waits_for(
        &program,
        &[
            "could not be asked",
            "no target of web@staging is connected",
        ],
    )
    .await;
}

/// Rounds that were committed since it began.
async fn commits(program: &Program) -> u64 {
    let request = program.anonymous(reqwest::Method::GET, "/metrics");
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("holdfast_commits_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_check_that_answers_as_before_writes_nothing() {
    let server = Server::start(&[status(503, "")]).await;
    let program = Program::start();
    let check = format!("{{http: \"{}\", interval: 1s}}", server.url("/"));
    applied(&program, &guarded("[pre]", &check)).await;
    program.release("1").await;
    for answer in [503, 200] {
        server.answers(&[status(answer, "")]);
        let settled = server.seen().len() + 3;
        let asked = async |times| server.seen().len() >= times;
        until("it is asked", async || asked(settled).await).await;
        let before = commits(&program).await;
        until("it is asked again", async || asked(settled + 4).await).await;
        assert_eq!(commits(&program).await, before, "{answer}");
    }
}

#[tokio::test]
async fn freezes_and_notices_are_kept() {
    use holdfast_coordinator::store::write::Write;
    use holdfast_protocol::api::freeze::Freeze;
    use holdfast_protocol::time::Timestamp;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("a.db")).await.unwrap();
    let freeze = |environment: Option<&str>| Freeze {
        environment: environment.map(|name| name.parse().unwrap()),
        by: "ada".to_owned(),
        reason: "holidays".to_owned(),
        since: Timestamp::from_millis(7),
    };
    let (one, all) = (freeze(Some("staging")), freeze(None));
    let writes = [&one, &all].map(|freeze| Write::Freeze(Box::new(freeze.clone())));
    store.commit(&writes).await.unwrap();
    assert_eq!(store.load().await.unwrap().freezes.len(), 2);
    store.commit(&[Write::DropFreeze(None)]).await.unwrap();
    assert_eq!(store.load().await.unwrap().freezes, [one]);
    assert_eq!(json!(all)["environment"], Value::Null);
}
