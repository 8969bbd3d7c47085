//! Promise: everything can be asked why it is so, by people and by programs, and the answers have the
//! shape of the interface contract.

use std::collections::BTreeMap;
use std::fs;

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::time::Timestamp;
use holdfast_tests::archive;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::operator::Said;
use holdfast_tests::wait::{PATIENCE, expect, until, wait_for};
use serde_json::Value;

/// Fields with their owner, layer and file, and what is in the line that they come from.
const WRITTEN: [(&str, &str, &str, &str, &str); 3] = [
    (
        "vars.colour",
        "team-web",
        "override",
        "web.yaml",
        "colour: green",
    ),
    (
        "template.command[0]",
        "team-web",
        "service",
        "web.yaml",
        "command:",
    ),
    (
        "rollout.soak",
        "platform",
        "environment",
        "environments.yaml",
        "[1, 100%]",
    ),
];

#[test]
fn every_field_of_a_workload_says_who_set_it_and_where() {
    let mut fleet = Fleet::start();
    let overridden = sleeper("web")
        + "  vars: {colour: blue}\n  environments:\n    production: {vars: {colour: green}}\n";
    fleet.write("deploy/environments.yaml", ENVIRONMENTS);
    let path = fleet.write("deploy/web.yaml", &overridden);
    let folder = path.strip_suffix("/web.yaml").unwrap();
    let _ = fleet.operator(&["apply", "-f", folder]).succeeds();
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);

    let explain = |target: &[&str]| {
        let words = ["explain", "web", "-e", "production", "-o", "json"];
        fleet.operator(&[&words[..], target].concat()).json()
    };
    let told = explain(&[]);
    let fields: BTreeMap<&str, &Value> = told["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["path"].as_str().unwrap(), field))
        .collect();
    for (path, field) in &fields {
        let layer = field["layer"].as_str().unwrap();
        // What is built in belongs to nobody and is written nowhere.
        let written = field["file"].is_string() && field["line"].is_u64();
        let owned = !field["owner"].as_str().unwrap().is_empty();
        assert!(
            layer == "default" || (written && owned),
            "{path} has no place or owner: {field}"
        );
    }
    for (path, owner, layer, file, needle) in WRITTEN {
        let known = fields.keys();
        let field = fields
            .get(path)
            .unwrap_or_else(|| panic!("no {path} in {known:?}"));
        assert_eq!(
            (&field["owner"], &field["layer"]),
            (&owner.into(), &layer.into()),
            "{field}"
        );
        assert!(field["file"].as_str().unwrap().ends_with(file), "{field}");
        let text = fs::read_to_string(fleet.directory().join("deploy").join(file)).unwrap();
        let line = usize::try_from(field["line"].as_u64().unwrap()).unwrap();
        assert!(
            text.lines().nth(line - 1).unwrap().contains(needle),
            "{field}"
        );
    }
    assert!(
        fields["vars.colour"]["value"]
            .as_str()
            .unwrap()
            .contains("green")
    );
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "production", "1.0.0");
    let there = explain(&["--target", "production-1"]);
    assert_eq!(
        (&there["target"], &there["version"]),
        (&"production-1".into(), &"1.0.0".into())
    );
    let rendered = there["fields"].to_string();
    assert!(
        rendered.contains("web-1.0.0"),
        "rendered for the target: {rendered}"
    );
}

#[test]
fn every_wait_says_since_when_and_what_ends_it() {
    let mut fleet = Fleet::start();
    let depends = sleeper("api").replace("  runtime:", "  dependsOn: [web]\n  runtime:");
    let hasty = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 2s");
    let broken = sleeper("bad").replace("exec /bin/sleep 100000", "exit 1");
    let all = [hasty, sleeper("web"), depends, broken, sleeper("idle")].join("---\n");
    fleet.apply(&all);
    fleet.join("staging-1", "staging", &[]);
    fleet.wait_connected("staging-1", true);
    let _ = fleet
        .operator(&["pause", "idle", "-e", "staging", "--reason", "a look"])
        .succeeds();
    for service in ["api", "bad", "idle"] {
        fleet.release(service, "1.0.0", &[]);
    }
    fleet.wait_phase(("bad", "staging"), "1.0.0", Phase::RolledBack);
    let expected = [
        ("api", "staging", "dependency"),
        ("web", "staging", "order"),
        ("bad", "staging", "failed"),
        ("idle", "staging", "pause"),
        ("web", "production", "order"),
    ];
    for (service, environment, kind) in expected {
        wait_for(
            &format!("{service} in {environment} waits: {kind}"),
            PATIENCE,
            || {
                let said = fleet.operator(&["why", service, "-e", environment, "-o", "json"]);
                let waits = said.json();
                let items = waits["items"].as_array().unwrap();
                expect(items.iter().any(|wait| wait["kind"] == kind), &waits)
            },
        );
    }
    let status = fleet.operator(&["status", "-o", "json"]).json();
    let mut seen = 0;
    for track in status["items"].as_array().unwrap() {
        for wait in track["waits"].as_array().unwrap() {
            wait_is_whole(wait);
            seen += 1;
        }
    }
    assert!(seen >= expected.len(), "{status}");
    // For people, the same.
    let told = fleet.operator(&["why", "idle", "-e", "staging"]).succeeds();
    assert!(told.contains("holdfast resume idle -e staging"), "{told}");
}

fn wait_is_whole(wait: &Value) {
    has_keys(wait, "kind subject message since endsBy until");
    let _: Timestamp = serde_json::from_value(wait["since"].clone()).unwrap();
    assert!(!wait["message"].as_str().unwrap().is_empty(), "{wait}");
    assert!(
        !wait["endsBy"].as_array().unwrap().is_empty(),
        "nothing ends it: {wait}"
    );
}

/// Whether there are all these keys; `a.b` is a key of what is at `a`.
#[track_caller]
fn has_keys(value: &Value, keys: &str) {
    let is_there = |path: &&str| {
        let found = path
            .split('.')
            .try_fold(value, |at, key| at.as_object()?.get(key));
        found.is_some()
    };
    let missing: Vec<&str> = keys
        .split_whitespace()
        .filter(|path| !is_there(path))
        .collect();
    assert!(missing.is_empty(), "{missing:?} missing in {value}");
}

/// A command's JSON list, with something in it.
#[track_caller]
fn items(said: Said) -> Vec<Value> {
    let whole = said.json();
    let items = whole["items"]
        .as_array()
        .unwrap_or_else(|| panic!("no list: {whole}"));
    assert!(!items.is_empty(), "an empty list shows no shape");
    items.clone()
}

#[test]
fn programs_read_the_json_of_the_contract() {
    let mut fleet = Fleet::start();
    let site = format!(
        "apiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: site, owner: w}}\nspec:\n  \
         artifacts: {{site: {{file: site.tar.gz}}}}\n  runtime: static\n  \
         template: {{path: \"{}/{{{{ target.name }}}}\"}}\n",
        fleet.directory().join("www").display()
    );
    fleet.apply(&[ENVIRONMENTS, &site].join("---\n"));
    fleet.join("staging-1", "staging", &[("role", "web")]);
    fleet.wait_connected("staging-1", true);
    fleet.release("site", "1.0.0", &[("site", &archive::site("1.0.0"))]);
    fleet.wait_stable("site", "staging", "1.0.0");
    fleet.wait_converged("staging-1");
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().chain(["-o", "json"]).collect();
        items(fleet.operator(&words))
    };

    for (line, keys) in SHAPES {
        read(line).iter().for_each(|item| has_keys(item, keys));
    }
    let target = &read("get targets")[0];
    assert_eq!(
        (&target["labels"]["role"], &target["connected"]),
        (&"web".into(), &true.into())
    );
    assert_eq!(target["generation"], target["convergedGeneration"]);
    let first = &read("history site")[0];
    assert_eq!(
        (&first["phase"], &first["version"]),
        (&"Stable".into(), &"1.0.0".into())
    );
    let place = &read("where site")[0];
    assert_eq!(
        (&place["target"], &place["ready"]),
        (&"staging-1".into(), &true.into())
    );
    let tracks = read("status");
    let waits = tracks
        .iter()
        .flat_map(|track| track["waits"].as_array().unwrap());
    waits.for_each(wait_is_whole);

    let agent = fleet.wait_agent("staging-1");
    has_keys(
        &agent,
        "name environment connected since generation digest workloads",
    );
    has_keys(
        &agent["workloads"][0],
        "service release runtime ready message since",
    );
    for kind in ["environments", "services", "revisions", "tokens"] {
        read(&format!("get {kind}"));
    }
    read("events");
}

/// Commands, and the keys that each item of what they print has, as the contract writes them.
const SHAPES: [(&str, &str); 6] = [
    (
        "get targets",
        "name environment labels connected since generation convergedGeneration agentVersion \
         certificateExpires conditions",
    ),
    (
        "get releases site",
        "service version sequence artifacts.site.ref artifacts.site.digest commit createdAt createdBy",
    ),
    (
        "get deployments",
        "id service environment version revision phase reason startedAt finishedAt targets.total \
         targets.updated targets.ready targets.failed targets.disconnected waits waves.current \
         waves.total",
    ),
    (
        "status -e staging",
        "service environment stable.version stable.revision current.deployment current.version \
         current.phase wanted.version wanted.rule targets.total targets.updated targets.ready \
         targets.failed targets.disconnected waits",
    ),
    (
        "where site",
        "service version environment target ready since",
    ),
    (
        "history site",
        "id service environment version revision phase reason startedAt finishedAt targets.total \
         waits waves.current trigger.kind trigger.by trigger.reason previous protections skipped",
    ),
];

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let mut fleet = Fleet::start();
    let hasty = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 2s");
    let broken = sleeper("bad").replace(
        "exec /bin/sleep",
        "[ $RELEASE = 1.0.0 ] || { echo it cannot be; exit 1; }; exec /bin/sleep",
    );
    fleet.apply(&[hasty, sleeper("web"), broken].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.wait_connected("staging-1", true);
    let ends = |code: i32, line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let said = fleet.operator(&words).ends_with(code);
        assert!(
            code == 0 || said.complaint().contains("error: ") || code == 64,
            "{said:?}"
        );
        said
    };
    let _ = ends(0, "whoami");
    let _ = ends(3, "describe service nothing");
    let _ = ends(3, "why nothing -e staging");
    let _ = ends(3, "show 4711");
    let _ = ends(64, "frobnicate");
    let _ = ends(64, "why web");
    let wrong = fleet.write("wrong.yaml", "kind: Service\n");
    let _ = ends(65, &format!("apply -f {wrong}"));

    // 4: a token that nobody has; in JSON, too.
    let token = fleet.write("token", "hfa.nobody");
    let _ = ends(4, &format!("status --token-file {token}"));
    let words = ["status", "--token-file", &token, "-o", "json"];
    let said = fleet.operator(&words).ends_with(4);
    let error: Value = serde_json::from_str(&said.stderr).unwrap();
    has_keys(&error["error"], "code message details");

    // 6: production has no target, so nobody makes it stable in time.
    fleet.release("web", "1.0.0", &[]);
    let late = "release create web --version 1.0.1 --wait --timeout 2s";
    let said = ends(6, late);
    assert!(
        said.complaint().contains("production"),
        "it says why it waits: {}",
        said.stderr
    );

    // 7: rolled back, with the end of what the workload said.
    let line = "release create bad --version 1.0.0 -e staging --wait --timeout 60s";
    let _ = ends(0, line);
    let said = ends(7, &line.replace("1.0.0", "1.1.0"));
    assert!(
        said.complaint().contains("it cannot be"),
        "the log's tail is shown: {}",
        said.stderr
    );
    let _ = ends(0, "status web -e staging --wait --timeout 60s");

    // 8: what is asked contradicts what is.
    let _ = ends(8, "halt web -e staging");

    fleet.coordinator.kill9();
    let _ = ends(5, "status");
}

#[test]
fn what_workloads_say_is_read_through_the_coordinator() {
    let mut fleet = Fleet::start();
    let talking = sleeper("web").replace("exec /bin", "echo $RELEASE speaks; exec /bin");
    fleet.apply(&[ENVIRONMENTS, &talking].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let logs = || fleet.operator(&["logs", "web", "-e", "staging"]).succeeds();
    assert!(logs().contains("1.0.0 speaks"), "{}", logs());
    fleet.release("web", "2.0.0", &[]);
    fleet.wait_stable("web", "staging", "2.0.0");
    assert!(logs().contains("2.0.0 speaks"), "{}", logs());
    let data = fleet.agent("staging-1").data.display().to_string();
    let own = fleet
        .run("holdfast-agent", &["logs", "web", "--data", &data], &[])
        .succeeds();
    assert!(own.contains("2.0.0 speaks"), "{own}");
}

#[test]
fn what_a_workload_said_is_kept_when_its_deployment_is_over() {
    let mut fleet = Fleet::start();
    let talking = sleeper("web").replace("exec /bin", "echo $RELEASE speaks; exec /bin");
    let other = sleeper("other");
    fleet.apply(&[ENVIRONMENTS, &talking, &other].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    for release in ["1.0.0", "2.0.0"] {
        fleet.release("web", release, &[]);
        fleet.wait_stable("web", "staging", release);
    }
    let items = fleet
        .operator(&["history", "web", "-e", "staging", "-o", "json"])
        .json();
    let ids: Vec<String> = items["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].to_string())
        .collect();
    let of = |id: &str| fleet.operator(&["logs", "web", "-e", "staging", "--deployment", id]);
    let (first, second) = (of(&ids[0]).succeeds(), of(&ids[1]).succeeds());
    assert!(
        first.contains("1.0.0 speaks") && !first.contains("2.0.0 speaks"),
        "{first}"
    );
    assert!(
        second.contains("2.0.0 speaks") && !second.contains("1.0.0 speaks"),
        "{second}"
    );
    // It is the same deployment's after the agent was started again, and nobody else's.
    let foreign = fleet.operator(&["logs", "other", "-e", "staging", "--deployment", &ids[0]]);
    assert!(
        foreign
            .ends_with(1)
            .complaint()
            .contains("is of web in staging")
    );
    let _ = fleet
        .operator(&["logs", "web", "-e", "staging", "--deployment", "4711"])
        .ends_with(3);
}

#[test]
fn the_last_lines_of_what_failed_are_read_while_its_target_is_away() {
    let mut fleet = Fleet::start();
    let hasty = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 2s");
    let broken = sleeper("web").replace(
        "exec /bin/sleep",
        "[ $RELEASE = 1.0.0 ] || { echo the till is broken; exit 1; }; exec /bin/sleep",
    );
    fleet.apply(&[hasty, broken].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    fleet.release("web", "1.1.0", &[]);
    let failed = until("its last lines are kept", || {
        let line = ["history", "web", "-e", "staging", "-o", "json"];
        let id = fleet.operator(&line).json()["items"][1]["id"].to_string();
        let shown = fleet.operator(&["show", &id, "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).ok()?;
        let last = &shown["lastLines"][0];
        let says = last["lines"].to_string().contains("the till is broken");
        (says && last["target"] == "staging-1").then_some(id)
    });
    let shown = fleet.operator(&["show", &failed]).succeeds();
    assert!(shown.contains("last lines of web on staging-1"), "{shown}");
    fleet.agent("staging-1").program.kill9();
    until("they are read while the target is away", || {
        let line = ["logs", "web", "-e", "staging", "--deployment", &failed];
        let read = fleet.operator(&line);
        let away = read.code == Some(0) && read.complaint().contains("not connected");
        (away && read.stdout.contains("the till is broken")).then_some(())
    });
}
