//! Bad manifests and what is said about them.

use expect_test::{Expect, expect};
use holdfast_protocol::api::apply::ManifestFile;
use serde_json::Value;

use super::schema::schema;
use super::{parse, validate_only};
use crate::diagnostic::render;

/// The supported part of the example in the design.
pub(crate) const EXAMPLE: &str = include_str!("testdata/example.yaml");

pub(crate) fn file(path: &str, content: &str) -> ManifestFile {
    ManifestFile {
        path: path.to_owned(),
        content: content.to_owned(),
    }
}

/// All that is said about one file that stands alone.
fn said(content: &str) -> String {
    render(
        &validate_only(&[file("web.yaml", content)], &|_| Vec::new()),
        false,
    )
}

fn check(content: &str, expected: Expect) {
    expected.assert_eq(&said(content));
}

/// A service with this below `spec`, beside a runtime.
fn service(rest: &str) -> String {
    format!(
        "apiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  runtime: process\n{rest}"
    )
}

fn environment(rest: &str) -> String {
    format!(
        "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: staging}}\nspec:\n{rest}"
    )
}

#[test]
fn the_example_of_the_design_is_right() {
    check(EXAMPLE, expect![[""]]);
}

#[test]
fn every_unknown_field_of_every_document_is_named_with_the_nearest_word() {
    let content = format!(
        "{}---\n{}",
        service("  tempalte: {}\n  health: {http: 'http://x/', intervall: 2s}\n"),
        environment("  rollout: {waves: [1, 100%], maxUnavailabel: 1}\n  zzz: 1\n"),
    );
    check(
        &content,
        expect![[r#"
            error: unknown field `tempalte` in `spec`
             --> web.yaml:6:3
              |
            6 |   tempalte: {}
              |   ^^^^^^^^
              |
              = help: did you mean `template`?

            error: unknown field `intervall` in `spec.health`
             --> web.yaml:7:31
              |
            7 |   health: {http: 'http://x/', intervall: 2s}
              |                               ^^^^^^^^^
              |
              = help: did you mean `interval`?

            error: unknown field `maxUnavailabel` in `spec.rollout`
              --> web.yaml:13:31
               |
            13 |   rollout: {waves: [1, 100%], maxUnavailabel: 1}
               |                               ^^^^^^^^^^^^^^
               |
               = help: did you mean `maxUnavailable`?

            error: unknown field `zzz` in `spec`
              --> web.yaml:14:3
               |
            14 |   zzz: 1
               |   ^^^
               |
               = help: known are after, promotion, follow, rollout, windows, protections, vars, removalLimit
        "#]],
    );
}

#[test]
fn wrong_types_and_missing_fields_are_named() {
    let content = "\
apiVersion: holdfast/v2
kind: Service
metadata: {name: Web_1, owner: 7}
spec:
  dependsOn: migrate
  targets: {matchLabels: {rack: 7}}
";
    check(
        content,
        expect![[r#"
            error: "holdfast/v2" is not an apiVersion of this program
             --> web.yaml:1:13
              |
            1 | apiVersion: holdfast/v2
              |             ^^^^^^^^^^^
              |
              = help: write holdfast/v1

            error: "Web_1" may hold only lower-case letters, digits and hyphens
             --> web.yaml:3:18
              |
            3 | metadata: {name: Web_1, owner: 7}
              |                  ^^^^^

            error: `metadata.owner` has to be text, not 7
             --> web.yaml:3:32
              |
            3 | metadata: {name: Web_1, owner: 7}
              |                                ^
              |
              = help: write "7"

            error: `spec.runtime` is missing
             --> web.yaml:4:1
              |
            4 | spec:
              | ^^^^
              |
              = help: The adapter that runs it: process, static, systemd, container, and others.

            error: `spec.dependsOn` has to be a list, not "migrate"
             --> web.yaml:5:14
              |
            5 |   dependsOn: migrate
              |              ^^^^^^^
              |
              = help: write [one, another]

            error: `spec.targets.matchLabels.rack` has to be text, not 7
             --> web.yaml:6:33
              |
            6 |   targets: {matchLabels: {rack: 7}}
              |                                 ^
              |
              = help: write "7"
        "#]],
    );
}

#[test]
fn bad_words_spans_and_names_are_named() {
    let content = service(
        "  health: {interval: 2 parsecs, http: 'http://x', tcp: 'y:1'}
  rollback: sometimes
  artifacts: {app: {}, App: {file: ../x}, c: {image: 'nginx:1'}}
  vars: {a-b: 1}
",
    );
    check(
        &content,
        expect![[r#"
        error: "2 parsecs" is not a duration: write a number and a unit, such as 90s, 10m, 1h 30m
         --> web.yaml:6:22
          |
        6 |   health: {interval: 2 parsecs, http: 'http://x', tcp: 'y:1'}
          |                      ^^^^^^^^^

        error: `spec.health` takes only one of: http, tcp, exec
         --> web.yaml:6:51
          |
        6 |   health: {interval: 2 parsecs, http: 'http://x', tcp: 'y:1'}
          |                                                   ^^^

        error: `sometimes` is not a word for `spec.rollback`
         --> web.yaml:7:13
          |
        7 |   rollback: sometimes
          |             ^^^^^^^^^
          |
          = help: known are central, local

        error: `spec.artifacts.app` needs one of: file, image
         --> web.yaml:8:15
          |
        8 |   artifacts: {app: {}, App: {file: ../x}, c: {image: 'nginx:1'}}
          |               ^^^

        error: "App" may hold only lower-case letters, digits and hyphens
         --> web.yaml:8:24
          |
        8 |   artifacts: {app: {}, App: {file: ../x}, c: {image: 'nginx:1'}}
          |                        ^^^

        error: "../x" is not a plain file name: a letter or digit, then letters, digits and . _ + -
         --> web.yaml:8:36
          |
        8 |   artifacts: {app: {}, App: {file: ../x}, c: {image: 'nginx:1'}}
          |                                    ^^^^

        error: "nginx:1" is not a repository: write it in lower case and without a tag, such as registry.example.com/team/web
         --> web.yaml:8:54
          |
        8 |   artifacts: {app: {}, App: {file: ../x}, c: {image: 'nginx:1'}}
          |                                                      ^^^^^^^^^

        error: "a-b" is not the name of a variable: a letter, then letters, digits and underscores
         --> web.yaml:9:10
          |
        9 |   vars: {a-b: 1}
          |          ^^^
    "#]],
    );
}

#[test]
fn what_later_versions_will_know_is_refused_and_not_passed_over() {
    let content = "\
apiVersion: holdfast/v1
kind: Source
metadata: {name: a}
spec: {}
";
    check(
        content,
        expect![[r#"
        error: kind Source is not supported by this version yet
         --> web.yaml:2:7
          |
        2 | kind: Source
          |       ^^^^^^
          |
          = help: known are Environment, Service, Protection, Policy, Notifier
    "#]],
    );
}

#[test]
fn waves_reach_further_each_time_and_end_with_everything() {
    for (waves, what) in [
        ("[]", "the last wave has to reach every target"),
        ("[1, 25%]", "the last wave has to reach every target"),
        ("[2, 1, 100%]", "does not reach further"),
        ("[25%, 3, 100%]", "does not reach further"),
        ("[50%, 50%, 100%]", "does not reach further"),
        ("[0, 100%]", "has to be a number of targets from 1"),
        ("[120%]", "has to be a number of targets from 1"),
        ("[100%]", ""),
        ("[1, 5, 10%, 100%]", ""),
    ] {
        let said = said(&environment(&format!("  rollout: {{waves: {waves}}}\n")));
        assert!(
            said.contains(what) && said.is_empty() == what.is_empty(),
            "{waves}: {said}"
        );
    }
}

#[test]
fn the_text_itself_may_be_wrong() {
    check(
        "a: [1, 2\n---\napiVersion: holdfast/v1\nkind: Servce\n",
        expect![[r#"
            error: unclosed bracket '['
             --> web.yaml:1:4
              |
            1 | a: [1, 2
              |    ^

            error: unknown kind `Servce`
             --> web.yaml:4:7
              |
            4 | kind: Servce
              |       ^^^^^^
              |
              = help: did you mean `Service`?
        "#]],
    );
    check(
        "apiVersion: holdfast/v1\nkind: Service\nmetadata:\n\tname: web\n",
        expect![[r#"
            error: tabs disallowed within this context (block indentation)
             --> web.yaml:4:2
              |
            4 |     name: web
              |     ^
              |
              = help: indent with spaces, not with tabs
        "#]],
    );
    check(
        "apiVersion: holdfast/v1\nkind: Service\nmetadata: {name: web}\n kind: Service\n",
        expect![[r#"
            error: while parsing a block mapping, did not find expected key
             --> web.yaml:4:2
              |
            4 |  kind: Service
              |  ^
              |
              = help: the keys of one mapping begin in the same column
        "#]],
    );
    check(
        &service("  vars: {a: 1, b: 2, a: 3}\n  runtime: static\n"),
        expect![[r#"
            error: duplicate key `a`
             --> web.yaml:6:22
              |
            6 |   vars: {a: 1, b: 2, a: 3}
              |                      ^
              |
              = help: it is first given on line 6

            error: duplicate key `runtime`
             --> web.yaml:7:3
              |
            7 |   runtime: static
              |   ^^^^^^^
              |
              = help: it is first given on line 5
        "#]],
    );
}

#[test]
fn numbers_that_were_meant_as_text_tags_and_reserved_characters_are_refused() {
    check(
        &service("  vars: {a: 1.10, b: 0755, c: !!str 5, d: *x, e: no, f: 1.5}\n"),
        expect![[r#"
            error: 1.10 would be read as the number 1.1
             --> web.yaml:6:13
              |
            6 |   vars: {a: 1.10, b: 0755, c: !!str 5, d: *x, e: no, f: 1.5}
              |             ^^^^
              |
              = help: write "1.10" to keep it as text, or 1.1

            error: 0755 would be read as the number 755
             --> web.yaml:6:22
              |
            6 |   vars: {a: 1.10, b: 0755, c: !!str 5, d: *x, e: no, f: 1.5}
              |                      ^^^^
              |
              = help: write "0755" to keep it as text, or 755

            error: tags are not supported
             --> web.yaml:6:37
              |
            6 |   vars: {a: 1.10, b: 0755, c: !!str 5, d: *x, e: no, f: 1.5}
              |                                     ^
              |
              = help: put text in quotes; nothing else needs a tag

            error: while parsing node, found unknown anchor
             --> web.yaml:6:43
              |
            6 |   vars: {a: 1.10, b: 0755, c: !!str 5, d: *x, e: no, f: 1.5}
              |                                           ^
        "#]],
    );
    check(
        &service("  vars: &v {a: \"\\ue000dir\\ue001\"}\n  template: {<<: *v}\n"),
        expect![[r#"
            error: the characters U+E000 and U+E001 are reserved and may not be used
             --> web.yaml:6:16
              |
            6 |   vars: &v {a: "\ue000dir\ue001"}
              |                ^^^^^^^^^^^^^^^^^

            error: merge keys are not supported
             --> web.yaml:7:14
              |
            7 |   template: {<<: *v}
              |              ^^
              |
              = help: write the fields out, or let `environments` and `vars` say what differs
        "#]],
    );
}

#[test]
fn empty_inputs_are_said_to_be_empty() {
    check(
        "# nothing\n---\n",
        expect![[r#"
        error: this file holds no document
         --> web.yaml:1:1
          |
        1 | # nothing
          | ^
          |
          = help: remove the file if that is meant; an empty input removes nothing
    "#]],
    );
    expect![[r#"
        error: there is no manifest file
         |
         = help: name a file or a folder that holds .yaml, .yml or .json files
    "#]]
    .assert_eq(&render(&parse(&[]).1, false));
    check(
        "just text",
        expect![[r#"
        error: a document has to be an object, not text
         --> web.yaml:1:1
          |
        1 | just text
          | ^^^^^^^^^
          |
          = help: begin with apiVersion and kind
    "#]],
    );
}

#[test]
fn references_that_lead_nowhere_are_named() {
    let content = format!(
        "{}---\n{}",
        service("  dependsOn: [web2]\n  environments: {stagin: {}}\n"),
        environment("  after: [nowhere]\n"),
    );
    check(
        &content,
        expect![[r#"
            error: there is no service `web2`
             --> web.yaml:6:15
              |
            6 |   dependsOn: [web2]
              |               ^^^^
              |
              = help: did you mean `web`?; if another set declares it, pass its files with -f as well

            error: there is no environment `stagin`
             --> web.yaml:7:18
              |
            7 |   environments: {stagin: {}}
              |                  ^^^^^^
              |
              = help: did you mean `staging`?; if another set declares it, pass its files with -f as well

            error: there is no environment `nowhere`
              --> web.yaml:13:11
               |
            13 |   after: [nowhere]
               |           ^^^^^^^
               |
               = help: known are staging; if another set declares it, pass its files with -f as well
        "#]],
    );
}

#[test]
fn expressions_that_lead_nowhere_are_named() {
    let content = format!(
        "{}---\n{}",
        service(
            "  template:
    command: [\"x\", \"--port={{ vars.prot }} {{ vars.port }}\", \"{{ artifacts.ap.path }}\"]
    env: \"{{ target.lables.x }} {{ target.labels.host.os }} {{ foo }} {{ release.x }}\"
  vars: {port: 1, url: \"{{ vars.port }}\"}
"
        ),
        environment("  vars: {}\n"),
    );
    check(
        &content,
        expect![[r#"
            error: there is no variable `prot` in staging
             --> web.yaml:7:31
              |
            7 |     command: ["x", "--port={{ vars.prot }} {{ vars.port }}", "{{ artifacts.ap.path }}"]
              |                               ^^^^^^^^^
              |
              = help: did you mean `port`?

            error: this service has no artifact `ap`
             --> web.yaml:7:66
              |
            7 |     command: ["x", "--port={{ vars.prot }} {{ vars.port }}", "{{ artifacts.ap.path }}"]
              |                                                                  ^^^^^^^^^^^^^^^^^

            error: `target.lables.x` leads nowhere
             --> web.yaml:8:14
              |
            8 |     env: "{{ target.lables.x }} {{ target.labels.host.os }} {{ foo }} {{ release.x }}"
              |              ^^^^^^^^^^^^^^^
              |
              = help: known are target.name, target.labels.KEY

            error: `target.labels.host.os` leads nowhere
             --> web.yaml:8:36
              |
            8 |     env: "{{ target.lables.x }} {{ target.labels.host.os }} {{ foo }} {{ release.x }}"
              |                                    ^^^^^^^^^^^^^^^^^^^^^
              |
              = help: for a key with a dot write target.labels["host.os"]

            error: there is nothing called `foo`
             --> web.yaml:8:64
              |
            8 |     env: "{{ target.lables.x }} {{ target.labels.host.os }} {{ foo }} {{ release.x }}"
              |                                                                ^^^
              |
              = help: known are vars, env, target, release, service, artifacts, workload

            error: `release.x` leads nowhere
             --> web.yaml:8:74
              |
            8 |     env: "{{ target.lables.x }} {{ target.labels.host.os }} {{ foo }} {{ release.x }}"
              |                                                                          ^^^^^^^^^
              |
              = help: known are release.version, release.sequence

            error: a variable may not refer to `vars`
             --> web.yaml:9:28
              |
            9 |   vars: {port: 1, url: "{{ vars.port }}"}
              |                            ^^^^^^^^^
              |
              = help: known are env, target, release, service
        "#]],
    );
}

#[test]
fn calls_are_refused_at_their_place() {
    let content = format!(
        "{}---\n{}",
        service("  template: {call: \"{{ range(9) }}\"}\n"),
        environment("  vars: {}\n"),
    );
    check(
        &content,
        expect![[r#"
        error: `range(` calls something; expressions may only use filters
         --> web.yaml:6:24
          |
        6 |   template: {call: "{{ range(9) }}"}
          |                        ^^^^^^^^
          |
          = help: to write two braces as they are, use {{ "{{" }}
    "#]],
    );
}

#[test]
fn a_place_is_found_in_blocks_of_text_and_below_keys() {
    let content = format!(
        "{}---\n{}",
        service(
            "  dependsOn: [a, a]
  template:
    files:
      app.conf: |
        first = 1
        port = {{ vars.prot }}
  health:
    http:
      url: http://127.0.0.1:{{ vars.port }}/
"
        ),
        environment("  vars: {}\n"),
    );
    check(
        &content,
        expect![[r#"
        error: `a` is in `spec.dependsOn` twice
         --> web.yaml:6:18
          |
        6 |   dependsOn: [a, a]
          |                  ^
    "#]],
    );
    let content = content.replace("[a, a]", "[]");
    check(
        &content,
        expect![[r#"
            error: there is no variable `prot` in staging
              --> web.yaml:11:19
               |
            11 |         port = {{ vars.prot }}
               |                   ^^^^^^^^^

            error: there is no variable `port` in staging
              --> web.yaml:14:32
               |
            14 |       url: http://127.0.0.1:{{ vars.port }}/
               |                                ^^^^^^^^^
        "#]],
    );
}

#[test]
fn circles_are_named() {
    let environments = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: a}
spec: {after: [b]}
---
apiVersion: holdfast/v1
kind: Environment
metadata: {name: b}
spec: {after: [c]}
---
apiVersion: holdfast/v1
kind: Environment
metadata: {name: c}
spec: {after: [a]}
";
    check(
        environments,
        expect![[r#"
            error: environments come after each other in a circle: a -> b -> c -> a
             --> web.yaml:4:16
              |
            4 | spec: {after: [b]}
              |                ^
              |
              = help: take one of these references out, so that one of them comes first
        "#]],
    );
    let services = format!(
        "{}---\n{}---\n{}",
        service("  dependsOn: [api]\n"),
        service("  dependsOn: [web]\n").replace("name: web", "name: api"),
        environment("  vars: {}\n")
    );
    check(
        &services,
        expect![[r#"
            error: services depend on each other in staging: api -> web -> api
              --> web.yaml:13:15
               |
            13 |   dependsOn: [web]
               |               ^^^
               |
               = help: take one of these references out, so that one of them comes first
        "#]],
    );
}

#[test]
fn places_are_right_whatever_the_file_looks_like() {
    let bad = service("  vars: {ü: 1}\n  tpl: {}\n");
    let windows = format!("\u{feff}{}", bad.replace('\n', "\r\n"));
    assert_eq!(said(&bad), said(&windows));
    check(
        &windows,
        expect![[r#"
            error: "ü" is not the name of a variable: a letter, then letters, digits and underscores
             --> web.yaml:6:10
              |
            6 |   vars: {ü: 1}
              |          ^

            error: unknown field `tpl` in `spec`
             --> web.yaml:7:3
              |
            7 |   tpl: {}
              |   ^^^
              |
              = help: known are kind, dependsOn, artifacts, runtime, template, health, vars, targets, rollback, variants, releases, pin, once, schedule, attempts, timeLimit, protections, environments
        "#]],
    );
    check(
        "{\"apiVersion\": \"holdfast/v1\", \"kind\": \"Environment\",\n\t\"metadata\": {\"name\": \"a\", \"名前\": 1}}",
        expect![[r#"
            error: unknown field `名前` in `metadata`
             --> web.yaml:2:28
              |
            2 |     "metadata": {"name": "a", "名前": 1}}
              |                               ^^^^^^
              |
              = help: known are name, owner, labels, annotations
        "#]],
    );
}

#[test]
fn hostile_documents_are_refused_quickly() {
    let bomb: String = (0..9).fold("l0: &l0 [x]\n".to_owned(), |text, n| {
        let next = n + 1;
        let list = vec![format!("*l{n}"); 9].join(", ");
        format!("{text}l{next}: &l{next} [{list}]\n")
    });
    let deep = "[".repeat(100_000);
    let deep_map = (0..300).fold(String::new(), |t, n| format!("{t}{}a:\n", " ".repeat(n)));
    let wide = format!("a: [{}]", "1,".repeat(600_000 / 2 * 2)).replace(",]", "]");
    let large = "x".repeat(2 << 20);
    let keys = (0..100_000)
        .map(|n| format!("{n:05x}x:"))
        .collect::<Vec<_>>()
        .join("\n");
    let aliases = format!("a: &a x\nb: [{}*a]", "*a, ".repeat(5000));
    for (content, what) in [
        (&bomb, "more than 500000 values"),
        (&deep, "nested deeper than 64"),
        (&deep_map, "nested deeper than 64"),
        (&wide, "more than"),
        (&large, "more than the 1048576 of one file"),
        (&aliases, "more than 1000 aliases"),
        (&keys, "`kind` is missing"),
    ] {
        let said = said(content);
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn an_alias_within_itself_is_refused() {
    check(
        "a: &a [*a]\n",
        expect![[r#"
            error: `kind` is missing
             --> web.yaml:1:1
              |
            1 | a: &a [*a]
              | ^
              |
              = help: known are Environment, Service, Protection, Policy, Notifier

            error: an alias may not stand within what it refers to
             --> web.yaml:1:8
              |
            1 | a: &a [*a]
              |        ^^
        "#]],
    );
}

#[test]
fn control_characters_do_not_reach_a_terminal() {
    let said = said("apiVersion: holdfast/v1\nkind: \"\\e[31mService\"\n");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

/// Every object below a schema with its path.
fn objects<'s>(schema: &'s Value, path: &str, into: &mut Vec<(String, &'s Value)>) {
    match schema {
        Value::Object(map) => {
            into.push((path.to_owned(), schema));
            for (key, value) in map {
                objects(value, &format!("{path}/{key}"), into);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{index}"), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_schema_describes_every_field_and_closes_every_object() {
    let schema = schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let mut found = Vec::new();
    objects(&schema, "", &mut found);
    let mut fields = 0;
    for (path, object) in &found {
        let is_field = path.ends_with("properties");
        if let Some(kind) = object.get("type").filter(|_| !is_field) {
            let names = kind
                .as_array()
                .map_or(vec![kind], |kinds| kinds.iter().collect());
            assert!(names.iter().all(|name| name.is_string()), "{path}: {kind}");
        }
        if let Some(properties) = object
            .get("properties")
            .filter(|_| !path.ends_with("properties"))
        {
            assert_eq!(object["additionalProperties"], false, "{path}");
            for (name, field) in properties.as_object().unwrap() {
                let described = field["description"]
                    .as_str()
                    .is_some_and(|d| d.ends_with('.') || d.contains("://") || d.contains(':'));
                assert!(described, "{path}: {name}");
                fields += 1;
            }
        }
    }
    assert!(fields > 150, "{fields}");
    let service = &schema["oneOf"][1]["properties"]["spec"]["properties"];
    assert_eq!(service["rollback"]["default"], "central");
    assert!(
        service.get("rollout").is_none(),
        "what is refused is not offered"
    );
    let exception = &service["environments"]["additionalProperties"];
    assert!(exception.get("required").is_none());
    assert!(exception["properties"]["health"].get("oneOf").is_none());
}

#[test]
fn every_default_of_the_schema_passes_its_own_check() {
    let schema = schema();
    let rollout = |name: &str| {
        let fields = &schema["oneOf"][0]["properties"]["spec"]["properties"]["rollout"];
        fields["properties"][name]["default"].to_string()
    };
    for name in [
        "waves",
        "maxUnavailable",
        "maxFailures",
        "soak",
        "minReady",
        "progressDeadline",
        "onFailure",
        "disconnected",
    ] {
        let content = environment(&format!("  rollout: {{{name}: {}}}\n", rollout(name)));
        assert_eq!(said(&content), "", "{name}");
    }
}
