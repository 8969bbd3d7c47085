//! Layers, provenance, input sets, order, differences and the removal guard.

mod bad;
mod layer;
mod login;
mod variant;

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use holdfast_protocol::name::InputSetName;
use proptest::prelude::*;

use super::diff::changes;
use super::removal::removals;
use super::{Asked, Known, TemplateProblem, compile, provenance};
use crate::compiled::{Compiled, Extent, Layer, TrackSpec, Wave};
use crate::diagnostic::render;
use crate::manifest::tests::{EXAMPLE, file};
use crate::manifest::{ManifestSet, parse};
use crate::track::TrackName;

pub(crate) fn set_name(name: &str) -> InputSetName {
    InputSetName::parse(name).unwrap()
}

pub(crate) fn sets(named: &[(&str, &str)]) -> BTreeMap<InputSetName, ManifestSet> {
    let read = |(name, content): &(&str, &str)| {
        let (set, diagnostics) = parse(&[file(&format!("{name}.yaml"), content)]);
        assert_eq!(render(&diagnostics, false), "");
        (set_name(name), set)
    };
    named.iter().map(read).collect()
}

/// The revision of one set.
pub(crate) fn compiled(content: &str) -> Compiled {
    match compile(
        &sets(&[("default", content)]),
        &set_name("default"),
        &Known::default(),
        &|_| Vec::new(),
    ) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("{}", render(&diagnostics, false)),
    }
}

pub(crate) fn track<'c>(compiled: &'c Compiled, service: &str, environment: &str) -> &'c TrackSpec {
    &compiled.tracks[&track_name(service, environment)]
}

fn track_name(service: &str, environment: &str) -> TrackName {
    TrackName {
        service: service.parse().unwrap(),
        environment: environment.parse().unwrap(),
    }
}

/// What is said when `applied` joins the other sets.
fn refused(named: &[(&str, &str)], applied: &str, expected: Expect) {
    let error = compile(&sets(named), &set_name(applied), &Known::default(), &|_| {
        Vec::new()
    })
    .unwrap_err();
    expected.assert_eq(&render(&error, false));
}

fn environment(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: {name}, owner: platform}}\nspec: {{{spec}}}\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: {name}, owner: team}}\nspec: {{runtime: process, {spec}}}\n"
    )
}

fn origins(content: &str, service: &str, environment: &str) -> String {
    let set_by = provenance(
        &sets(&[("default", content)]),
        &track_name(service, environment),
        None,
    );
    set_by.iter().fold(String::new(), |text, p| {
        let place = p.file.as_ref().map_or(String::new(), |file| {
            format!(" {file}:{} {}", p.line.unwrap_or(0), p.owner)
        });
        format!("{text}{} = {} [{:?}{place}]\n", p.path, p.value, p.layer)
    })
}

#[test]
fn every_field_knows_who_set_it() {
    expect![[r#"
        artifacts.app.file = "web.tar.gz" [Service default.yaml:36 team-web]
        dependsOn[0] = "migrate" [Service default.yaml:34 team-web]
        health.failureThreshold = 3 [Default]
        health.http = "http://127.0.0.1:{{ vars.port }}/healthz" [Service default.yaml:41 team-web]
        health.interval = "2s" [Service default.yaml:41 team-web]
        health.startPeriod = "0s" [Default]
        health.successThreshold = 1 [Default]
        health.timeout = "1s" [Default]
        promotion = "latest" [Default]
        rollback = "central" [Default]
        rollout.disconnected = "skip" [Default]
        rollout.maxDisconnected = "100%" [Default]
        rollout.maxFailures = 0 [Default]
        rollout.maxUnavailable = "25%" [Default]
        rollout.minReady = "0s" [Default]
        rollout.onFailure = "rollback" [Default]
        rollout.onWindowClose = "finish" [Default]
        rollout.progressDeadline = "10m" [Default]
        rollout.soak = "30s" [Default]
        rollout.waves[0] = 1 [Default]
        rollout.waves[1] = "25%" [Default]
        rollout.waves[2] = "100%" [Default]
        runtime = "process" [Service default.yaml:37 team-web]
        targets.matchLabels.role = "web" [Service default.yaml:43 team-web]
        template.command[0] = "./bin/web" [Service default.yaml:39 team-web]
        template.command[1] = "--port" [Service default.yaml:39 team-web]
        template.command[2] = "{{ vars.port }}" [Service default.yaml:39 team-web]
        template.environment.REGION = "{{ vars.region }}" [Service default.yaml:40 team-web]
        vars.port = 18080 [Override default.yaml:45 team-web]
        vars.region = "eu-central" [Environment default.yaml:5 platform]
    "#]]
    .assert_eq(&origins(EXAMPLE, "web", "staging"));
    expect![[r#"
        after[0] = "staging" [Environment default.yaml:11 platform]
        artifacts.app.file = "web.tar.gz" [Service default.yaml:36 team-web]
        dependsOn[0] = "migrate" [Service default.yaml:34 team-web]
        health.failureThreshold = 3 [Default]
        health.http = "http://127.0.0.1:{{ vars.port }}/healthz" [Service default.yaml:41 team-web]
        health.interval = "2s" [Service default.yaml:41 team-web]
        health.startPeriod = "0s" [Default]
        health.successThreshold = 1 [Default]
        health.timeout = "1s" [Default]
        promotion = "latest" [Environment default.yaml:12 platform]
        rollback = "central" [Default]
        rollout.disconnected = "skip" [Environment default.yaml:20 platform]
        rollout.maxDisconnected = "100%" [Default]
        rollout.maxFailures = 0 [Environment default.yaml:16 platform]
        rollout.maxUnavailable = 1 [Environment default.yaml:15 platform]
        rollout.minReady = "0s" [Default]
        rollout.onFailure = "rollback" [Environment default.yaml:19 platform]
        rollout.onWindowClose = "finish" [Default]
        rollout.progressDeadline = "10m" [Environment default.yaml:18 platform]
        rollout.soak = "10m" [Environment default.yaml:17 platform]
        rollout.waves[0] = 1 [Environment default.yaml:14 platform]
        rollout.waves[1] = "25%" [Environment default.yaml:14 platform]
        rollout.waves[2] = "100%" [Environment default.yaml:14 platform]
        runtime = "process" [Service default.yaml:37 team-web]
        targets.matchLabels.role = "web" [Service default.yaml:43 team-web]
        template.command[0] = "./bin/web" [Service default.yaml:39 team-web]
        template.command[1] = "--port" [Service default.yaml:39 team-web]
        template.command[2] = "{{ vars.port }}" [Service default.yaml:39 team-web]
        template.environment.REGION = "{{ vars.region }}" [Service default.yaml:40 team-web]
        vars.port = 8080 [Service default.yaml:42 team-web]
        vars.region = "eu-central" [Environment default.yaml:21 platform]
    "#]]
    .assert_eq(&origins(EXAMPLE, "web", "production"));
}

#[test]
fn what_is_not_declared_was_set_by_nobody() {
    let sets = sets(&[("default", EXAMPLE)]);
    assert_eq!(provenance(&sets, &track_name("web", "nowhere"), None), []);
}

#[test]
fn defaults_are_those_of_the_schema() {
    let content = format!(
        "{}{}",
        environment("e", ""),
        service("s", "health: {tcp: 'h:1'}")
    );
    let compiled = compiled(&content);
    let spec = track(&compiled, "s", "e");
    expect![[r#"
        Rollout {
            waves: [
                Extent(
                    Count(
                        1,
                    ),
                ),
                Extent(
                    Percent(
                        25,
                    ),
                ),
                Extent(
                    Percent(
                        100,
                    ),
                ),
            ],
            max_unavailable: Percent(
                25,
            ),
            max_failures: 0,
            soak: 30s,
            min_ready: 0ns,
            progress_deadline: 600s,
            on_failure: Rollback,
            disconnected: Skip,
            max_disconnected: Percent(
                100,
            ),
            on_window_close: Finish,
        }
        Some(
            HealthSpec {
                check: Tcp {
                    address: "h:1",
                },
                interval_ms: 2000,
                timeout_ms: 1000,
                success_threshold: 1,
                failure_threshold: 3,
                start_period_ms: 0,
            },
        )"#]]
    .assert_eq(&format!(
        "{:#?}\n{:#?}",
        spec.rollout, spec.configuration.health
    ));
}

#[test]
fn an_override_takes_away_with_null_and_replaces_lists_checks_and_foreign_templates() {
    let content = format!(
        "{}{}{}",
        environment("e", "vars: {a: 2, b: 2}"),
        environment("f", ""),
        service(
            "s",
            "vars: {a: 1, b: 1, c: 1}, template: {command: [x, y], limits: {cpu: 1, memory: 2}}, \
             health: {http: 'http://x', interval: 7s}, environments: {\
               e: {vars: {b: null, d: 4}, template: {command: [z], limits: {cpu: null}}, \
                   health: {tcp: 'h:1'}}, \
               f: {runtime: static, template: {path: /srv}}}"
        )
    );
    let compiled = compiled(&content);
    let of = |environment| {
        let spec = track(&compiled, "s", environment);
        let c = &spec.configuration;
        format!(
            "{} {:?} {} {:?}",
            c.runtime,
            c.vars,
            c.template,
            c.health.as_ref().map(|h| (&h.check, h.interval_ms))
        )
    };
    expect![[r#"process {"a": Number(2), "c": Number(1), "d": Number(4)} {"command":["z"],"limits":{"memory":2}} Some((Tcp { address: "h:1" }, 7000))"#]].assert_eq(&of("e"));
    expect![[r#"static {"a": Number(1), "b": Number(1), "c": Number(1)} {"path":"/srv"} Some((Http { url: "http://x", expect: None }, 7000))"#]].assert_eq(&of("f"));
}

#[test]
fn a_second_set_that_claims_a_name_is_refused_with_the_first_owner_named() {
    let mine = format!("{}{}", environment("e", ""), service("web", "vars: {}"));
    let theirs = service("web", "vars: {}");
    refused(
        &[("a-mine", &mine), ("b-theirs", &theirs)],
        "b-theirs",
        expect![[r#"
            error: Service web is in input set a-mine already
             --> b-theirs.yaml:4:18
              |
            4 | metadata: {name: web, owner: team}
              |                  ^^^
              |
              = help: it is described in a-mine.yaml line 9, owned by team; a document belongs to one set
        "#]],
    );
    refused(
        &[("a-mine", &mine), ("b-theirs", &theirs)],
        "a-mine",
        expect![[r#"
            error: Service web is in input set b-theirs already
             --> a-mine.yaml:9:18
              |
            9 | metadata: {name: web, owner: team}
              |                  ^^^
              |
              = help: it is described in b-theirs.yaml line 4, owned by team; a document belongs to one set
        "#]],
    );
}

#[test]
fn a_set_that_takes_away_what_another_one_needs_is_told_where() {
    let mine = service("web", "dependsOn: [db]");
    refused(
        &[("mine", &mine), ("theirs", &environment("e", ""))],
        "theirs",
        expect![[r#"
            error: there is no service `db`
             --> mine.yaml (set mine):5:38
              |
            5 | spec: {runtime: process, dependsOn: [db]}
              |                                      ^^
              |
              = help: known are web
        "#]],
    );
}

#[test]
fn a_protection_that_another_set_uses_cannot_be_taken_away_unnoticed() {
    let mine = format!(
        "{}{}",
        environment("e", "protections: [{use: alerts, when: [pre]}]"),
        service("web", "vars: {}")
    );
    let policy = "---\napiVersion: holdfast/v1\nkind: Policy\nmetadata: {name: calm, owner: sre}\n\
                  spec: {set: {vars: {calm: true}}}\n";
    refused(
        &[("mine", &mine), ("theirs", policy)],
        "theirs",
        expect![[r#"
            error: there is no protection `alerts`
             --> mine.yaml (set mine):5:28
              |
            5 | spec: {protections: [{use: alerts, when: [pre]}]}
              |                            ^^^^^^
        "#]],
    );
    refused(
        &[("a-theirs", policy), ("mine", policy)],
        "mine",
        expect![[r#"
            error: Policy calm is in input set a-theirs already
             --> mine.yaml:4:18
              |
            4 | metadata: {name: calm, owner: sre}
              |                  ^^^^
              |
              = help: it is described in a-theirs.yaml line 4, owned by sre; a document belongs to one set
        "#]],
    );
}

#[test]
fn a_service_that_leaves_an_environment_out_is_promoted_past_it() {
    let content = format!(
        "{}{}{}{}{}",
        environment("dev", ""),
        environment("test", "after: [dev]"),
        environment("prod", "after: [test]"),
        service("all", "vars: {}"),
        service("some", "environments: {test: {enabled: false}}"),
    );
    let compiled = compiled(&content);
    assert_eq!(
        track(&compiled, "all", "prod").after,
        ["test".parse().unwrap()]
    );
    assert_eq!(
        track(&compiled, "some", "prod").after,
        ["dev".parse().unwrap()]
    );
    assert!(!compiled.tracks.contains_key(&track_name("some", "test")));
    let needs = format!("{content}{}", service("needs", "dependsOn: [some]"));
    refused(
        &[("default", &needs)],
        "default",
        expect![[r#"
        error: some does not run in test, so nothing there can depend on it
          --> default.yaml:30:38
           |
        30 | spec: {runtime: process, dependsOn: [some]}
           |                                      ^^^^
           |
           = help: override dependsOn below environments.test
    "#]],
    );
}

#[test]
fn what_an_adapter_says_is_shown_at_the_field() {
    let content = format!(
        "{}{}",
        environment("e", ""),
        service(
            "s",
            "\n  template: {restart: {policy: often},\n   files: {conf/app.toml: x}}"
        )
    );
    let validate = |asked: &Asked<'_>| {
        assert_eq!((asked.runtime, asked.is_job), ("process", false));
        let problem = |path: &str, message: &str| TemplateProblem {
            path: path.to_owned(),
            message: message.to_owned(),
        };
        vec![
            problem("restart.policy", "is not a policy"),
            problem("files.conf/app.toml", "is no file"),
            problem("command", "is missing"),
            problem("", "everything is wrong"),
        ]
    };
    let sets = sets(&[("default", &content)]);
    let error = compile(&sets, &set_name("default"), &Known::default(), &validate).unwrap_err();
    expect![[r#"
        error: everything is wrong
          --> default.yaml:10:17
           |
        10 | spec: {runtime: process, 
           |                 ^^^^^^^
           |
           = help: docs/adapters.md tells what `process` takes

        error: `template.command`: is missing
          --> default.yaml:11:3
           |
        11 |   template: {restart: {policy: often},
           |   ^^^^^^^^
           |
           = help: docs/adapters.md tells what `process` takes

        error: `template.restart.policy`: is not a policy
          --> default.yaml:11:32
           |
        11 |   template: {restart: {policy: often},
           |                                ^^^^^
           |
           = help: docs/adapters.md tells what `process` takes

        error: `template.files.conf/app.toml`: is no file
          --> default.yaml:12:27
           |
        12 |    files: {conf/app.toml: x}}}
           |                           ^
           |
           = help: docs/adapters.md tells what `process` takes
    "#]]
    .assert_eq(&render(&error, false));
}

#[test]
fn the_order_of_files_documents_and_keys_changes_nothing() {
    let documents: Vec<&str> = EXAMPLE.split("---\n").collect();
    let forward = compiled(EXAMPLE);
    let files: Vec<_> = documents
        .iter()
        .rev()
        .enumerate()
        .map(|(n, d)| file(&format!("{n}.yaml"), d))
        .collect();
    let set = BTreeMap::from([(set_name("default"), parse(&files).0)]);
    let backward = compile(&set, &set_name("default"), &Known::default(), &|_| {
        Vec::new()
    })
    .unwrap();
    for (name, spec) in &forward.tracks {
        assert_eq!(spec.digest, backward.tracks[name].digest, "{name}");
    }
    assert_eq!(forward, compiled(EXAMPLE));
    assert_eq!(changes(&sets(&[("default", EXAMPLE)]), &set), []);
    let turned = service("s", "vars: {a: 1, b: {c: 1, d: 2}}");
    let other = service("s", "vars: {b: {d: 2, c: 1}, a: 1}");
    let digest =
        |s: &str| track(&compiled(&format!("{}{s}", environment("e", ""))), "s", "e").digest;
    assert_eq!(digest(&turned), digest(&other));
    // The digest names stored configurations: it must not change from version to version.
    expect!["sha256:d7cb0113120eb3200f117d63bf9eb91c63bf9a5f1f1d7151895c3f0105dc3add"]
        .assert_eq(&digest(&turned).to_string());
}

#[test]
fn differences_are_told_by_document_and_field() {
    let before = format!(
        "{}{}",
        environment("e", "vars: {a: 1}"),
        service("s", "vars: {port: 8080, gone: x}")
    );
    let after = format!(
        "{}{}",
        service("s", "vars: {port: 9090, list: [1]}"),
        environment("f", "")
    );
    let rule = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: holdfast/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    let before = [
        before,
        rule("Protection", "p", "approval: {roles: [a], count: 1}"),
        rule("Policy", "q", "set: {pin: '1'}"),
    ]
    .concat();
    let after = [
        after,
        rule("Protection", "p", "approval: {roles: [a, b], count: 2}"),
        rule("Notifier", "n", "slack: {url: 'https://x/'}"),
    ]
    .concat();
    let changes = changes(
        &sets(&[("default", &before)]),
        &sets(&[("default", &after)]),
    );
    let text: String = changes
        .iter()
        .map(|c| format!("{:?} {} {} {:?}\n", c.action, c.kind, c.name, c.fields))
        .collect();
    expect![[r#"
        Removed Environment e []
        Added Environment f []
        Added Notifier n []
        Removed Policy q []
        Changed Protection p ["spec.approval.count: 1 -> 2", "spec.approval.roles[1]: (none) -> \"b\""]
        Changed Service s ["spec.vars.gone: \"x\" -> (none)", "spec.vars.list[0]: (none) -> 1", "spec.vars.port: 8080 -> 9090"]
    "#]].assert_eq(&text);
}

#[test]
fn more_than_the_limit_is_held_until_a_person_confirms_it() {
    let of = |names: &[&str], limit: &str| {
        let services: String = names.iter().map(|n| service(n, "vars: {}")).collect();
        compiled(&format!(
            "{}{}{services}",
            environment("e", limit),
            environment("f", "")
        ))
    };
    let placed = |workloads: &[(&str, usize)]| -> BTreeMap<TrackName, usize> {
        workloads
            .iter()
            .map(|(s, n)| (track_name(s, "e"), *n))
            .collect()
    };
    let before = of(&["a", "b", "c"], "");
    let one = removals(
        &before,
        &of(&["a", "b"], ""),
        &placed(&[("a", 1), ("c", 9)]),
    );
    assert_eq!(one, [], "one service may always go");
    let few = placed(&[("a", 98), ("b", 1), ("c", 1)]);
    assert_eq!(
        removals(&before, &of(&["a"], ""), &few),
        [],
        "2 of 100 workloads may go"
    );
    let unplaced = removals(&before, &of(&[], ""), &placed(&[]));
    assert_eq!(unplaced, [], "what runs nowhere goes freely");
    let many = placed(&[("a", 8), ("b", 1), ("c", 1)]);
    let held = removals(&before, &of(&["a"], ""), &many);
    assert_eq!(held[0].tracks, [track_name("b", "e"), track_name("c", "e")]);
    expect!["2 services with 2 of 10 workloads would go from e: b, c; without confirmation at most 1 or 10 % may"].assert_eq(&held[0].message);
    let strict = of(
        &["a", "b", "c"],
        "removalLimit: {services: 0, workloads: 0%}",
    );
    let loosened = of(&["b", "c"], "removalLimit: {services: 9, workloads: 100%}");
    assert_eq!(
        removals(&strict, &loosened, &many).len(),
        1,
        "the limit before counts"
    );
}

/// A layer that sets some of three variables, takes some away, and maybe a wave and a deadline.
fn layer() -> impl Strategy<Value = [Option<Option<u32>>; 3]> {
    prop::array::uniform3(prop::option::of(prop::option::of(0u32..5)))
}

fn written(layer: &[Option<Option<u32>>; 3]) -> String {
    let fields = ["a", "b", "c"]
        .iter()
        .zip(layer)
        .filter_map(|(name, value)| {
            let value = (*value)?.map_or("null".to_owned(), |n| n.to_string());
            Some(format!("{name}: {value}"))
        });
    fields.collect::<Vec<_>>().join(", ")
}

proptest! {
    #[test]
    fn the_later_layer_wins_and_provenance_names_it(
        own in layer(), stage in layer(), exception in layer(), soaks in prop::array::uniform2(prop::option::of(1u64..99)),
    ) {
        let rollout = |soak: Option<u64>| soak.map_or("{}".to_owned(), |s| format!("{{soak: {s}s}}"));
        let content = format!(
            "{}{}",
            environment("e", &format!("vars: {{{}}}, rollout: {}", written(&stage), rollout(soaks[0]))),
            service("s", &format!(
                "vars: {{{}}}, environments: {{e: {{vars: {{{}}}, rollout: {}}}}}",
                written(&own), written(&exception), rollout(soaks[1]),
            )),
        );
        let compiled = compiled(&content);
        let spec = track(&compiled, "s", "e");
        let set_by = provenance(&sets(&[("default", &content)]), &track_name("s", "e"), None);
        for (index, name) in ["a", "b", "c"].iter().enumerate() {
            let layers = [
                (Layer::Service, own[index]),
                (Layer::Environment, stage[index]),
                (Layer::Override, exception[index]),
            ];
            let last = layers.iter().rev().find(|(_, value)| value.is_some());
            let expected = last.and_then(|(layer, value)| Some((*layer, (*value)??)));
            let set = set_by.iter().find(|p| p.path == format!("vars.{name}"));
            prop_assert_eq!(set.map(|p| (p.layer, p.value.clone())), expected.map(|(l, v)| (l, v.to_string())));
            let value = spec.configuration.vars.get(*name).and_then(serde_json::Value::as_u64);
            prop_assert_eq!(value, expected.map(|(_, v)| u64::from(v)));
        }
        let soak = soaks[1].or(soaks[0]).unwrap_or(30);
        prop_assert_eq!(spec.rollout.soak.as_secs(), soak);
        prop_assert_eq!(spec.rollout.waves.last(), Some(&Wave::Extent(Extent::Percent(100))));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:{}\\[\\]&*!|>'\"%@`#,? \n\t\u{e000}-]{0,200}") {
        let (set, diagnostics) = parse(&[file("f", &text)]);
        prop_assert!(!diagnostics.is_empty() || !set.services.is_empty());
        let _ = render(&diagnostics, true);
    }
}

#[test]
fn a_template_is_checked_though_the_service_runs_nowhere_yet() {
    let content = service(
        "web",
        "template: {comand: [a, '{{ vars.of_some_environment }}']}",
    );
    let complain = |asked: &Asked<'_>| {
        assert_eq!(asked.runtime, "process");
        let keys = asked
            .template
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys());
        let problem = |path: &String| TemplateProblem {
            path: path.clone(),
            message: "unknown field".to_owned(),
        };
        keys.map(problem).collect()
    };
    let name = set_name("default");
    let error = compile(
        &sets(&[("default", &content)]),
        &name,
        &Known::default(),
        &complain,
    )
    .unwrap_err();
    expect![[r#"
        error: `template.comand`: unknown field
         --> default.yaml:5:45
          |
        5 | spec: {runtime: process, template: {comand: [a, '{{ vars.of_some_environment }}']}}
          |                                             ^
          |
          = help: docs/adapters.md tells what `process` takes
    "#]]
    .assert_eq(&render(&error, false));
}
