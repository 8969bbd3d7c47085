//! Bad input of every kind, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use expect_test::expect_file;

use super::{environment, service, set_name, sets};
use crate::compile::{Known, compile};
use crate::diagnostic::render;

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: holdfast/v1\nkind: {kind}\nmetadata: {{name: {name}, owner: sre}}\nspec: {{{spec}}}\n"
    )
}

fn protection(name: &str, spec: &str) -> String {
    document("Protection", name, spec)
}

fn policy(name: &str, spec: &str) -> String {
    document("Policy", name, spec)
}

/// What is said of documents that are right each by itself.
#[track_caller]
fn refused(documents: &[String], known: &Known, expected: &str) {
    let content = documents.concat();
    let sets = sets(&[("default", &content)]);
    let said = match compile(&sets, &set_name("default"), known, &|_| Vec::new()) {
        Ok(_) => String::new(),
        Err(diagnostics) => render(&diagnostics, false),
    };
    told(&said, expected);
}

/// What is said of documents that are not.
#[track_caller]
fn malformed(documents: &[String], expected: &str) {
    let content = documents.concat();
    let (_, diagnostics) =
        crate::manifest::parse(&[crate::manifest::tests::file("bad.yaml", &content)]);
    told(&render(&diagnostics, false), expected);
}

/// Compares with a file beside this one; with nothing, where it has no name.
#[track_caller]
fn told(said: &str, expected: &str) {
    match expected {
        "" => assert_eq!(said, ""),
        name => expect_file![format!("bad/{name}.txt")].assert_eq(said),
    }
}

#[test]
fn a_window_that_never_opens_or_is_nowhere_is_refused() {
    malformed(
        &[
            environment(
                "a",
                "windows: [{start: '0 22 31 2 *', duration: 4h, timezone: Europe/Berlin}]",
            ),
            environment(
                "b",
                "windows: [{start: '0 25 * * *', duration: 4h, timezone: Europe/Berlin}]",
            ),
            environment(
                "c",
                "windows: [{start: '0 22 * * TUE', duration: 4h, timezone: Europe/Berln}]",
            ),
            environment("d", "windows: [{start: '0 22 * * TUE', duration: 10s}]"),
            service(
                "job",
                "kind: job, schedule: {start: 'every day', timezone: Mars/Olympus}",
            ),
        ],
        "window-1",
    );
}

#[test]
fn an_expression_that_is_none_or_asks_too_much_is_refused_at_its_word() {
    malformed(
        &[
            protection("a", "expression: 'relese.version == \"1\"'"),
            protection("b", "expression: 'service =='"),
            protection("c", "expression: '1 + 2'"),
            protection("d", "expression: 'release.version.startWith(\"1\")'"),
            protection(
                "e",
                "expression: '[1].all(x, [2].all(y, [3].all(z, x + y + z > 0)))'",
            ),
            protection(
                "f",
                &format!("expression: '{}true{}'", "(".repeat(60), ")".repeat(60)),
            ),
            protection("g", "expression: 7"),
            policy(
                "h",
                "require: [{expression: 'observed.ready > 1', message: m}, {expression: 'true'}]",
            ),
        ],
        "expression-1",
    );
}

#[test]
fn a_protection_has_one_kind_and_its_fields() {
    malformed(
        &[
            protection("a", "http: 'ftp://x', stable: {service: web}"),
            protection("b", "interval: 1s"),
            protection("c", "run: {command: []}, skippable: 7"),
            protection(
                "d",
                "prometheus: {url: 'http://p', query: up, expect: emtpy}",
            ),
            protection(
                "e",
                "prometheus: {url: 'http://p', query: up, expect: {lessThan: '5', atMost: 3}}",
            ),
            protection("f", "approval: {roles: [], count: 0}"),
            protection(
                "g",
                "run: {command: [a], on: targets}, parameters: {a-b: {}, c: {defalt: 1}, d: {default: [1]}}",
            ),
        ],
        "protection-1",
    );
}

#[test]
fn a_use_leads_somewhere_and_gives_what_is_asked_for() {
    let alerts = protection(
        "alerts",
        "prometheus: {url: 'http://p', query: 'up{job=\"{{ service }}\"} < {{ parameters.limit }}', expect: empty}, \
         parameters: {limit: {}, level: {default: page}}",
    );
    let people = protection("people", "approval: {roles: [manager]}");
    refused(
        &[
            alerts.clone(),
            people,
            environment(
                "a",
                "protections: [{use: alert, when: [pre]}, {use: alerts, when: [pre], parameters: {limt: 1}}, \
                 {use: people, when: [pre, post]}]",
            ),
            policy("p", "add: {protections: [{use: nothing, when: [pre]}]}"),
        ],
        &Known::default(),
        "use-1",
    );
    refused(
        &[
            alerts,
            environment(
                "a",
                "protections: [{use: alerts, when: [pre]}, {use: alerts, as: two, when: [post], onIncident: rollback, parameters: {limit: 1}}]",
            ),
            service(
                "web",
                "protections: [{use: other, as: alerts, when: [pre]}]",
            ),
            protection("other", "http: 'http://{{ vars.host }}/'"),
            service(
                "db",
                "protections: [{use: other, when: [pre]}], vars: {hots: x}",
            ),
        ],
        &Known::default(),
        "use-2",
    );
}

#[test]
fn texts_of_checks_know_what_they_may_refer_to() {
    refused(
        &[
            protection(
                "a",
                "run: {command: ['{{ service.name }}', '{{ target.name }}', '{{ release.verson }}', '{{ parameters.x }}', '{{ vars }}', '{{ 1 + }}']}",
            ),
            protection("b", "http: 'http://x/{{ environments }}'"),
        ],
        &Known::default(),
        "text-1",
    );
}

#[test]
fn names_in_protections_policies_and_notifiers_lead_somewhere() {
    refused(
        &[
            environment("production", ""),
            service("web", ""),
            protection(
                "a",
                "stable: {service: wbe, environment: prod}, notify: {after: 15m, to: dba}",
            ),
            policy(
                "b",
                "match: {environments: [prodution], services: [api]}, set: {follow: prod, dependsOn: [x]}",
            ),
            policy("c", "match: {environments: [production]}"),
            document(
                "Notifier",
                "dba-chat",
                "slack: {url: 'https://x/'}, match: {services: [web2]}",
            ),
        ],
        &Known::default(),
        "name-1",
    );
    malformed(
        &[
            document(
                "Notifier",
                "a",
                "on: [deployment.stabel], slack: {url: 'x'}",
            ),
            document(
                "Notifier",
                "b",
                "on: [], webhook: {url: {file: ../key}, key: {secret: X y}}",
            ),
            document(
                "Notifier",
                "c",
                "webhook: {url: 'https://x/'}, teams: {url: 'https://x/'}",
            ),
        ],
        "name-2",
    );
}

#[test]
fn which_value_of_a_secret_is_used_is_not_for_a_manifest_to_choose() {
    let chosen = "template: {command: [x], environment: {A: {secret: db-password, version: 3}}}";
    refused(
        &[environment("a", ""), service("web", chosen)],
        &Known::default(),
        "secret-1",
    );
}

#[test]
fn a_secret_of_a_notifier_is_of_an_environment_that_is_there() {
    let webhook = "webhook: {url: {secret: url}, key: {secret: key, environment: stagin}}";
    refused(
        &[
            environment("staging", ""),
            document("Notifier", "a", webhook),
        ],
        &Known::default(),
        "secret-2",
    );
}

#[test]
fn circles_of_every_kind_are_told_in_full() {
    refused(
        &[
            environment("a", "follow: b"),
            environment("b", "after: [c]"),
            environment("c", "after: [a]"),
        ],
        &Known::default(),
        "circle-1",
    );
    refused(
        &[environment("a", "follow: a")],
        &Known::default(),
        "circle-2",
    );
    let web_first = protection(
        "web-first",
        "stable: {service: web, environment: production}",
    );
    refused(
        &[
            environment("staging", ""),
            environment("production", "after: [staging]"),
            service("web", ""),
            service(
                "api",
                "environments: {staging: {protections: [{use: web-first, when: [pre]}]}}",
            ),
            service("db", ""),
            web_first.clone(),
            policy(
                "p",
                "match: {services: [web], environments: [staging]}, set: {dependsOn: [api]}",
            ),
        ],
        &Known::default(),
        "circle-3",
    );
    refused(
        &[
            environment("a", ""),
            environment("b", "after: [a]"),
            service("web", "environments: {a: {after: [b]}}"),
        ],
        &Known::default(),
        "circle-4",
    );
}

#[test]
fn a_check_that_asks_about_the_track_itself_stands_before_others_only() {
    let documents = [
        environment("a", "protections: [{use: db-first, when: [pre]}]"),
        protection("db-first", "stable: {service: db}"),
        service("db", ""),
        service("web", ""),
    ];
    let compiled = super::compiled(&documents.concat());
    let guards = |service| super::track(&compiled, service, "a").guards.len();
    assert_eq!((guards("db"), guards("web")), (0, 1));
}

#[test]
fn what_is_followed_has_neither_order_nor_promotion() {
    refused(
        &[
            environment("a", ""),
            environment("b", "follow: a, after: [a], promotion: every"),
            service("web", "environments: {b: {follow: a, promotion: manual}}"),
            policy("p", "set: {after: [a], follow: a}"),
        ],
        &Known::default(),
        "follow-1",
    );
    refused(
        &[
            environment("a", ""),
            environment("b", "follow: a"),
            service("web", "environments: {b: {promotion: every}}"),
            service("edge", "environments: {a: {enabled: false}}"),
        ],
        &Known::default(),
        "follow-2",
    );
}

#[test]
fn what_belongs_to_jobs_is_refused_for_services() {
    refused(
        &[
            environment("a", ""),
            service(
                "web",
                "once: true, environments: {a: {schedule: {start: '0 3 * * *', timezone: UTC}}}",
            ),
        ],
        &Known::default(),
        "job-1",
    );
}

#[test]
fn versions_are_texts_and_a_pin_is_admitted() {
    malformed(
        &[
            service("web", "pin: 1.4, releases: {semver: 1}"),
            service("api", "releases: {semver: ^x}, pin: 'a b'"),
        ],
        "version-1",
    );
    refused(
        &[
            environment("a", ""),
            service(
                "web",
                "releases: {semver: ^1.2}, environments: {a: {pin: '2.0.0'}}",
            ),
            service("api", "releases: {semver: ^1.2}, pin: 1.9.0"),
        ],
        &Known::default(),
        "version-2",
    );
}

fn known(targets: &[(&str, &str)], roles: &[(&str, &[&str])]) -> Known {
    let labels = |text: &str| {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        Arc::new(
            pairs
                .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
                .collect(),
        )
    };
    let targets = targets
        .iter()
        .map(|(name, text)| (name.parse().unwrap(), labels(text)));
    let people = |names: &[&str]| {
        names
            .iter()
            .map(|name| name.parse().unwrap())
            .collect::<BTreeSet<_>>()
    };
    Known {
        targets: Some(BTreeMap::from([("a".parse().unwrap(), targets.collect())])),
        roles: Some(
            roles
                .iter()
                .map(|(role, names)| (role.parse().unwrap(), people(names)))
                .collect(),
        ),
    }
}

#[test]
fn a_wave_that_reaches_nobody_and_a_target_that_no_wave_reaches_are_refused() {
    let shops = [
        ("shop-1", "region=north role=web"),
        ("shop-2", "region=south"),
        ("lab", ""),
    ];
    let known = known(&shops, &[]);
    let waves = "rollout: {waves: [{matchLabels: {region: north}}, {matchLabels: {region: west}}, {matchLabels: {region: south}}]}";
    refused(
        &[environment("a", waves), service("web", "")],
        &known,
        "wave-1",
    );
    let own = "targets: {matchLabels: {role: web}}, environments: {a: {rollout: {waves: [{matchLabels: {region: south}}, 100%]}}}";
    refused(
        &[environment("a", ""), service("web", own)],
        &known,
        "wave-2",
    );
    let fine = "rollout: {waves: [{matchLabels: {region: north}}, 50%, {matchLabels: {region: south}}, 100%]}";
    refused(&[environment("a", fine), service("web", "")], &known, "");
    refused(
        &[environment("a", waves), service("web", "")],
        &Known::default(),
        "",
    );
    malformed(
        &[
            environment("b", "rollout: {waves: [100%, {matchLabels: {a: b}}]}"),
            environment("c", "rollout: {waves: [{matchLabels: {a: b}}, 1]}"),
            environment(
                "d",
                "rollout: {waves: [{labels: {a: b}}, {matchLabels: {}}]}",
            ),
        ],
        "wave-3",
    );
}

#[test]
fn an_approval_by_nobody_who_exists_is_refused() {
    let known = known(
        &[],
        &[
            ("manager", &["ada"]),
            ("owner", &["ada", "bob"]),
            ("auditor", &[]),
        ],
    );
    let documents = [
        protection(
            "a",
            "approval: {roles: [manger]}, skippable: {roles: [sre]}",
        ),
        protection("b", "approval: {roles: [auditor]}"),
        protection("c", "approval: {roles: [manager, owner], count: 3}"),
        protection("d", "approval: {roles: [manager, owner], count: 2}"),
        environment("a", ""),
    ];
    refused(&documents, &known, "approval-1");
    refused(&documents, &Known::default(), "");
}

#[test]
fn policies_are_checked_on_the_result_where_the_value_stands() {
    refused(
        &[
            environment("staging", ""),
            environment("production", "rollout: {soak: 1m, maxUnavailable: 3}"),
            service(
                "web",
                "environments: {production: {rollout: {progressDeadline: 2h}}}",
            ),
            policy(
                "careful",
                "match: {environments: [production]}, limit: {rollout.soak: {atLeast: 5m}, \
                 rollout.maxUnavailable: {atMost: 25%}, rollout.progressDeadline: {atMost: 1h}, \
                 rollout.minReady: {atLeast: 10s}}",
            ),
        ],
        &Known::default(),
        "limit-1",
    );
    malformed(
        &[policy(
            "p",
            "limit: {rollout.soke: {atLeast: 5m}, rollout.soak: {least: 5m}, rollout.maxFailures: {atMost: 1h}, rollout.minReady: {}}",
        )],
        "limit-2",
    );
}

#[test]
fn two_policies_that_set_one_field_differently_are_refused_with_both_named() {
    refused(
        &[
            environment("production", ""),
            service("web", ""),
            protection("alerts", "http: 'http://x/'"),
            policy(
                "first",
                "set: {rollout: {soak: 5m}, vars: {a: 1}, promotion: every}, add: {protections: [{use: alerts, when: [pre], interval: 1m}]}",
            ),
            policy(
                "second",
                "match: {services: [web]}, set: {rollout: {soak: 10m}, vars: {a: 1}, follow: production}, add: {protections: [{use: alerts, when: [post], interval: 2m}]}",
            ),
        ],
        &Known::default(),
        "contradiction-1",
    );
}

#[test]
fn what_a_policy_requires_is_judged_at_the_service_that_violates_it() {
    let image = "require: [{expression: \"workload.image.startsWith('registry.internal/')\", message: production runs images from the internal registry only}]";
    refused(
        &[
            environment("production", "vars: {registry: registry.internal}"),
            service("bad", "template: {image: 'docker.io/x'}"),
            service("good", "template: {image: '{{ vars.registry }}/x'}"),
            service("none", ""),
            policy(
                "internal-images-only",
                &format!("match: {{environments: [production]}}, {image}"),
            ),
        ],
        &Known::default(),
        "requirement-1",
    );
}

#[test]
fn variants_that_mean_the_same_target_or_none_are_refused_where_they_stand() {
    let variants = "runtime: process, template: {command: [/bin/true]}, variants: {\n\
                    \x20 engine: {when: {matchLabels: {kind: engine}}, runtime: container},\n\
                    \x20 north: {when: {matchLabels: {region: north}}, runtime: static},\n\
                    \x20 nobody: {runtime: static}}";
    refused(
        &[environment("e", ""), document("Service", "web", variants)],
        &Known::default(),
        "variant-1",
    );
    let policy = policy(
        "no-processes",
        "require: [{expression: \"workload.runtime != 'static'\", message: no static}]",
    );
    let variants = variants
        .replace("kind: engine", "region: south")
        .replace(",\n  nobody: {runtime: static}", "");
    refused(
        &[
            environment("e", ""),
            document("Service", "web", &variants),
            policy,
        ],
        &Known::default(),
        "variant-2",
    );
}
