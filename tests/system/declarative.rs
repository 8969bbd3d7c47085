//! Promise: what is declared is what is. Applying the same again changes nothing; what is wrong
//! changes nothing either; what somebody else owns is not touched; what goes away is asked about.

use std::time::Duration;

use holdfast_protocol::api::Code;
use holdfast_protocol::api::apply::Revision;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::wait::{PATIENCE, expect, holds_for, wait_for};

#[test]
fn applying_the_same_again_changes_nothing() {
    let mut fleet = Fleet::start();
    fleet.write("deploy/environments.yaml", ENVIRONMENTS);
    let deploy = fleet.write("deploy/web.yaml", &sleeper("web"));
    let deploy = deploy.strip_suffix("/web.yaml").unwrap();
    let first = fleet
        .operator(&["apply", "-f", deploy, "-o", "json"])
        .json();
    assert_eq!(
        (&first["revision"], &first["changed"]),
        (&1.into(), &true.into())
    );
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let process = fleet.agent("staging-1").one("web");
    let generation = fleet.wait_converged("staging-1").generation;

    let again = fleet
        .operator(&["apply", "-f", deploy, "-o", "json"])
        .json();
    assert_eq!(
        (&again["revision"], &again["changed"]),
        (&1.into(), &false.into())
    );
    assert_eq!(again["changes"], serde_json::json!([]));
    assert_eq!(revisions(&fleet), 1);
    // Another order of the same documents is the same.
    fleet.write("deploy/environments.yaml", &sleeper("web"));
    fleet.write("deploy/web.yaml", ENVIRONMENTS);
    let turned = fleet
        .operator(&["apply", "-f", deploy, "-o", "json"])
        .json();
    assert_eq!(turned["revision"], 1, "{turned}");

    holds_for("nothing moves", Duration::from_millis(500), || {
        let target = fleet.target("staging-1")?;
        expect(target.generation == generation && process.lives(), &target)
    });
    let history = fleet.history("web", "staging").unwrap();
    assert_eq!(history.len(), 1, "{history:?}");
}

/// What is wrong, the manifest, and where: line and column, both from 1; nothing where the whole
/// input is meant.
type Wrong = (&'static str, String, Option<(u32, u32)>);

fn wrong_manifests() -> Vec<Wrong> {
    let text = |text: &str| text.to_owned();
    let service =
        "apiVersion: holdfast/v1\nkind: Service\nmetadata: {name: web, owner: a}\nspec:\n";
    let environment = |name: &str, after: &str| {
        format!(
            "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: {name}, owner: a}}\n\
             spec: {{after: [{after}]}}\n---\n"
        )
    };
    let sleep = "  runtime: process\n  template: {command: [/bin/sleep, \"1\"]}\n";
    vec![
        (
            "unknown field",
            format!("{service}  runtme: process\n"),
            Some((5, 3)),
        ),
        (
            "duplicate key",
            format!("{service}  runtime: process\n  runtime: static\n"),
            Some((6, 3)),
        ),
        (
            "wrong type",
            format!("{service}{sleep}  dependsOn: 7\n"),
            Some((7, 14)),
        ),
        (
            "cycle",
            environment("one", "two") + &environment("two", "one"),
            Some((4, 16)),
        ),
        (
            "dangling reference",
            environment("one", "nowhere"),
            Some((4, 16)),
        ),
        (
            "dangling dependency",
            format!("{service}{sleep}  dependsOn: [nothing]\n"),
            Some((7, 15)),
        ),
        (
            "bad template",
            format!("{service}  runtime: process\n  template: {{command: 5}}\n---\n{ENVIRONMENTS}"),
            Some((6, 23)),
        ),
        (
            "tab indentation",
            text("apiVersion: holdfast/v1\nkind: Service\nmetadata:\n\tname: web\n"),
            Some((4, 2)),
        ),
        ("alias bomb", alias_bomb(), None),
        (
            "50 MB",
            format!("# {}\n{ENVIRONMENTS}", "x".repeat(50_000_000)),
            None,
        ),
        ("nothing", String::new(), None),
    ]
}

fn alias_bomb() -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(", "));
    }
    text
}

#[test]
fn what_is_wrong_with_manifests_is_said_with_its_place_and_nothing_changes() {
    let fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &sleeper("web")].join("---\n"));
    let before = fleet.operator(&["status", "-o", "json"]).json();
    let mut silent = Vec::new();
    for (what, text, place) in wrong_manifests() {
        let path = fleet.write("wrong.yaml", &text);
        let said = fleet.operator(&["apply", "-f", &path]);
        println!("{what}: {:?}\n{}", said.code, said.stderr);
        let place = place.map(|(line, column)| format!("wrong.yaml:{line}:{column}: "));
        let placed = place.is_none_or(|place| said.complaint().contains(&place));
        let helped = said.complaint().contains("help: ");
        let offline = fleet.run("holdfast", &["validate", "-f", &path], &[]);
        if said.code != Some(65) || !placed || !helped || offline.code != Some(65) {
            silent.push((what, said.code, offline.code, said.stderr));
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
    std::fs::create_dir(fleet.directory().join("empty")).unwrap();
    let empty = fleet.directory().join("empty").display().to_string();
    let _ = fleet.operator(&["apply", "-f", &empty]).ends_with(65);
    assert_eq!(revisions(&fleet), 1);
    assert_eq!(fleet.operator(&["status", "-o", "json"]).json(), before);
}

#[test]
fn all_errors_of_all_files_are_told_at_once() {
    let fleet = Fleet::start();
    let bad = |name: &str| {
        format!(
            "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: {name}, owner: a}}\nspec: {{aftr: []}}\n"
        )
    };
    fleet.write("deploy/a.yaml", &bad("one"));
    let path = fleet.write("deploy/b.yaml", &bad("two"));
    let said = fleet.operator(&["apply", "-f", path.strip_suffix("/b.yaml").unwrap()]);
    let said = said.ends_with(65).stderr;
    assert!(
        said.contains("a.yaml:4:8: ") && said.contains("b.yaml:4:8: "),
        "{said}"
    );
    assert!(
        said.contains("after"),
        "the right word is suggested: {said}"
    );
}

#[test]
fn two_teams_apply_apart_and_neither_can_take_what_the_other_owns() {
    let fleet = Fleet::start();
    fleet.try_apply("platform", ENVIRONMENTS).unwrap();
    fleet.try_apply("team-web", &sleeper("web")).unwrap();
    fleet.try_apply("team-api", &sleeper("api")).unwrap();
    let names = || {
        let all = fleet.operator(&["get", "services", "-o", "json"]).json();
        let all = all["items"].as_array().unwrap().clone();
        all.iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["api", "web"]);
    let before = revisions(&fleet);

    let claimed = [sleeper("api"), sleeper("web")].join("---\n");
    let path = fleet.write("claim.yaml", &claimed);
    let said = fleet.operator(&["apply", "--set", "team-api", "-f", &path]);
    assert!(matches!(said.code, Some(8 | 65)), "{said:?}");
    assert!(
        said.complaint().contains("team-web"),
        "the owner is named: {}",
        said.stderr
    );
    assert_eq!(
        revisions(&fleet),
        before,
        "nothing of a refused apply is kept"
    );

    // What a set no longer holds goes; the other sets stay.
    fleet.try_apply("team-api", &sleeper("search")).unwrap();
    assert_eq!(names(), ["search", "web"]);
}

#[test]
fn more_than_a_little_is_removed_only_when_a_person_confirms() {
    let mut fleet = Fleet::start();
    let services = ["one", "two", "three", "four"];
    let all = services.map(sleeper).join("---\n");
    fleet.apply(&[ENVIRONMENTS, &all].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    for service in services {
        fleet.release(service, "1.0.0", &[]);
    }
    for service in services {
        fleet.wait_stable(service, "staging", "1.0.0");
    }
    let processes = services.map(|service| fleet.agent("staging-1").one(service));

    let applied = fleet.apply(&[ENVIRONMENTS, &sleeper("one")].join("---\n"));
    assert_eq!(applied.held.len(), 1, "{applied:?}");
    assert_eq!(applied.held[0].kind, WaitKind::Removal);
    let command = applied.held[0].ends_by[0].clone();
    holds_for("nothing goes unasked", Duration::from_secs(1), || {
        expect(
            processes
                .iter()
                .all(holdfast_tests::process::Process::lives),
            processes,
        )
    });
    let why = fleet
        .operator(&["why", "two", "-e", "staging", "-o", "json"])
        .json();
    assert_eq!(why["items"][0]["kind"], "removal", "{why}");

    // The wait says how it ends.
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let _ = fleet.operator(&words).succeeds();
    wait_for("three services are gone", PATIENCE, || {
        let left: Vec<bool> = processes.iter().map(|one| one.lives()).collect();
        expect(left == [true, false, false, false], left)
    });
    assert_eq!(
        fleet.agent("staging-1").one("one"),
        processes[0],
        "untouched"
    );
}

#[test]
fn a_plan_tells_what_would_change_and_is_refused_when_stale() {
    let fleet = Fleet::start();
    let web = [ENVIRONMENTS, &sleeper("web")].join("---\n");
    let path = fleet.write("deploy.yaml", &web);
    let plan = |extra: &[&str]| {
        let words: Vec<&str> = ["plan", "-f", &path].iter().chain(extra).copied().collect();
        fleet.operator(&words)
    };
    let _ = plan(&["--detailed-exitcode"]).ends_with(2);
    let _ = plan(&[]).ends_with(0);
    assert_eq!(revisions(&fleet), 0, "a plan changes nothing");
    let saved = fleet.directory().join("plan.json").display().to_string();
    let _ = plan(&["--out", &saved]).ends_with(0);
    let _ = fleet.operator(&["apply", &saved]).succeeds();
    let _ = plan(&["--detailed-exitcode"]).ends_with(0);

    fleet.write("deploy.yaml", &web.replace("100000", "100001"));
    let told = plan(&["--detailed-exitcode", "--out", &saved]).ends_with(2);
    assert!(told.stdout.contains("template.command"), "{}", told.stdout);
    fleet.apply(
        &[&web, &sleeper("api")]
            .map(|text| text.as_str())
            .join("---\n"),
    );
    let stale = fleet.operator(&["apply", &saved]).ends_with(8);
    assert!(stale.complaint().contains("help: "), "{}", stale.stderr);
    assert_eq!(revisions(&fleet), 2);
}

#[test]
fn a_version_means_one_content_for_ever() {
    let fleet = Fleet::start();
    let site = "\
apiVersion: holdfast/v1
kind: Service
metadata: {name: site, owner: web}
spec:
  artifacts: {site: {file: site.tar.gz}}
  runtime: static
  template: {path: \"/nowhere/{{ target.name }}\"}
";
    fleet.apply(&[ENVIRONMENTS, site].join("---\n"));
    let release = |content: &str| {
        let file = fleet.write("site.tar.gz", content);
        let file = format!("site={file}");
        fleet.operator(&[
            "release",
            "create",
            "site",
            "--version",
            "1.0.0",
            "--file",
            &file,
        ])
    };
    let _ = release("one").succeeds();
    let _ = release("one").succeeds();
    let refused = release("other").ends_with(8);
    assert!(refused.complaint().contains("1.0.0"), "{}", refused.stderr);
    let all = fleet
        .operator(&["get", "releases", "site", "-o", "json"])
        .json();
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    // The same by HTTP.
    let digest = fleet.api.put_bytes(
        &format!(
            "/v1/artifacts/{}",
            holdfast_protocol::digest::Digest::of(b"third")
        ),
        b"third".to_vec(),
    );
    assert!(digest.unwrap().is_success());
    let new = serde_json::json!({
        "version": "1.0.0",
        "artifacts": {"site": holdfast_protocol::digest::Digest::of(b"third")},
    });
    let refused = fleet
        .api
        .post::<serde_json::Value>("/v1/services/site/releases", &new);
    assert_eq!(refused.unwrap_err().problem().code, Code::Conflict);
}

fn revisions(fleet: &Fleet) -> usize {
    fleet.api.list::<Revision>("/v1/revisions").unwrap().len()
}
