//! What each layer adds to a track, and who is told to have set it.

use expect_test::{Expect, expect};

use super::{compiled, environment, origins, service, track};

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: holdfast/v1\nkind: {kind}\nmetadata: {{name: {name}, owner: sre}}\nspec: {{{spec}}}\n"
    )
}

fn protection(name: &str, spec: &str) -> String {
    document("Protection", name, spec)
}

/// The checks of a track, in a line each.
#[track_caller]
fn guards(content: &str, service: &str, environment: &str, expected: Expect) {
    let compiled = compiled(content);
    let line = |guard: &crate::compiled::Guard| {
        let when: Vec<_> = guard.when.iter().map(|when| when.name()).collect();
        let protection = &guard.protection;
        format!(
            "{} = {} {when:?} {:?} every {:?} after {} {:?}\n",
            guard.name,
            protection.name,
            guard.parameters,
            protection.interval,
            protection.failure_threshold,
            guard.on_incident
        )
    };
    let guards = &track(&compiled, service, environment).guards;
    expected.assert_eq(&guards.iter().map(line).collect::<String>());
}

#[test]
fn protections_of_all_layers_are_united_and_the_stronger_one_says_how() {
    let content = [
        protection("alerts", "http: 'http://x/{{ parameters.level }}', parameters: {level: {default: page}, limit: {default: 5}}, interval: 1m"),
        protection("people", "approval: {roles: [manager]}"),
        protection("soaked", "expression: 'observed.failed == 0'"),
        environment("a", "protections: [{use: alerts, when: [pre], parameters: {level: ticket}}, {use: people, when: [pre]}]"),
        service("web", "protections: [{use: alerts, when: [post], interval: 5s}], environments: {a: {protections: [{use: alerts, when: [always], onIncident: rollback, parameters: {limit: 7}}]}}"),
        service("api", "environments: {a: {protections: null}}"),
        document("Policy", "watched", "match: {services: [web]}, add: {protections: [{use: soaked, as: soaked-by-policy, when: [post]}, {use: alerts, when: [pre], failureThreshold: 3}]}"),
    ].concat();
    guards(
        &content,
        "web",
        "a",
        expect![[r#"
        alerts = alerts ["pre", "post", "always"] {"level": String("ticket"), "limit": Number(7)} every 5s after 3 Rollback
        people = people ["pre"] {} every 15s after 1 Tell
        soaked-by-policy = soaked ["post"] {} every 15s after 1 Tell
    "#]],
    );
    guards(
        &content,
        "api",
        "a",
        expect![[r#"
        alerts = alerts ["pre"] {"level": String("ticket"), "limit": Number(5)} every 60s after 1 Tell
        people = people ["pre"] {} every 15s after 1 Tell
    "#]],
    );
    let set_by = origins(&content, "web", "a");
    let checks: String = set_by
        .lines()
        .filter(|line| line.starts_with("protections"))
        .map(|line| format!("{line}\n"))
        .collect();
    expect![[r#"
        protections.alerts.failureThreshold = 3 [Policy default.yaml:35 sre]
        protections.alerts.interval = "5s" [Service default.yaml:25 team]
        protections.alerts.onIncident = "rollback" [Override default.yaml:25 team]
        protections.alerts.parameters.level = "ticket" [Environment default.yaml:20 platform]
        protections.alerts.parameters.limit = 7 [Override default.yaml:25 team]
        protections.alerts.use = "alerts" [Service default.yaml:25 team]
        protections.alerts.when.always = "always" [Override default.yaml:25 team]
        protections.alerts.when.post = "post" [Service default.yaml:25 team]
        protections.alerts.when.pre = "pre" [Environment default.yaml:20 platform]
        protections.people.use = "people" [Environment default.yaml:20 platform]
        protections.people.when.pre = "pre" [Environment default.yaml:20 platform]
        protections.soaked-by-policy.use = "soaked" [Policy default.yaml:35 sre]
        protections.soaked-by-policy.when.post = "post" [Policy default.yaml:35 sre]
    "#]]
    .assert_eq(&checks);
}

#[test]
fn a_policy_locks_what_it_sets() {
    let content = [
        environment("staging", ""),
        environment("production", "rollout: {soak: 1m}, after: [staging]"),
        service("web", "environments: {production: {rollout: {soak: 2m}, promotion: every, pin: 1.2.3}}"),
        document("Policy", "slow", "match: {environments: [production]}, set: {rollout: {soak: 5m}, promotion: manual, windows: [{start: '0 22 * * TUE', duration: 4h, timezone: Europe/Berlin}], pin: null}"),
    ].concat();
    let compiled = compiled(&content);
    let spec = track(&compiled, "web", "production");
    assert_eq!(spec.rollout.soak.as_secs(), 300);
    assert_eq!(spec.promotion, crate::compiled::Promotion::Manual);
    assert_eq!(spec.pin, None);
    assert_eq!(spec.windows.len(), 1);
    assert_eq!(track(&compiled, "web", "staging").windows, []);
    let names = crate::track::TrackName {
        service: "web".parse().unwrap(),
        environment: "production".parse().unwrap(),
    };
    let set_by = crate::compile::provenance(&super::sets(&[("default", &content)]), &names, None);
    let locked: Vec<_> = set_by
        .iter()
        .filter(|field| field.locked_by.as_deref() == Some("slow"))
        .map(|field| field.path.as_str())
        .collect();
    assert_eq!(
        locked,
        [
            "promotion",
            "rollout.soak",
            "windows[0].start",
            "windows[0].duration",
            "windows[0].timezone"
        ]
    );
    let policy = compiled.policies.values().next().unwrap();
    expect!["set rollout.soak and promotion and windows and pin"].assert_eq(&policy.summary);
}

#[test]
fn a_saas_has_its_own_cadence_for_each_customer() {
    let quarterly =
        "windows: [{start: '0 20 1 1,4,7,10 *', duration: 7d, timezone: Europe/Berlin}]";
    let content = [
        environment("staging", ""),
        environment("shared", "after: [staging], protections: [{use: agreed, when: [pre]}]"),
        environment("customer-a", "after: [shared], protections: [{use: agreed-by-a, when: [pre]}]"),
        environment("customer-b", "follow: shared"),
        service("web", &format!("releases: {{semver: '^1'}}, environments: {{customer-a: {{{quarterly}, releases: {{semver: '*'}}}}, customer-b: {{pin: 1.4.0}}}}")),
        service("api", "environments: {customer-b: {after: [staging], promotion: every}}"),
        protection("agreed", "approval: {roles: [manager], count: 2, expires: 1d}"),
        protection("agreed-by-a", "approval: {roles: [customer-a]}, skippable: false, notify: {after: 1h, to: chat}"),
        document("Notifier", "chat", "on: [deployment.stable, approval.requested], match: {services: [web]}, webhook: {url: 'https://x/', key: {file: chat.key}}"),
    ].concat();
    let compiled = compiled(&content);
    let line = |spec: &crate::compiled::TrackSpec| {
        format!(
            "{} in {}: after {:?} {:?} follows {:?} pin {:?} admits {:?} windows {:?} guards {:?}\n",
            spec.name.service,
            spec.name.environment,
            spec.after,
            spec.promotion,
            spec.follow,
            spec.pin,
            spec.admits.as_ref().map(|admits| admits.semver.to_string()),
            spec.windows,
            spec.guards
                .iter()
                .map(|guard| guard.name.as_str())
                .collect::<Vec<_>>()
        )
    };
    let tracks: String = compiled.tracks.values().map(|spec| line(spec)).collect();
    expect![[r#"
        api in customer-a: after ["shared"] Latest follows None pin None admits None windows [] guards ["agreed-by-a"]
        api in customer-b: after ["staging"] Every follows None pin None admits None windows [] guards []
        api in shared: after ["staging"] Latest follows None pin None admits None windows [] guards ["agreed"]
        api in staging: after [] Latest follows None pin None admits None windows [] guards []
        web in customer-a: after ["shared"] Latest follows None pin None admits Some("*") windows [Window(0 20 1 1,4,7,10 * for 7d, Europe/Berlin)] guards ["agreed-by-a"]
        web in customer-b: after [] Latest follows Some("shared") pin Some("1.4.0") admits Some("^1") windows [] guards []
        web in shared: after ["staging"] Latest follows None pin None admits Some("^1") windows [] guards ["agreed"]
        web in staging: after [] Latest follows None pin None admits Some("^1") windows [] guards []
    "#]].assert_eq(&tracks);
    expect![[r#"
        Protection {
            name: "agreed-by-a",
            owner: "sre",
            set: "default",
            check: Approval(
                Approval {
                    roles: [
                        "customer-a",
                    ],
                    count: 1,
                    expires: 604800s,
                },
            ),
            parameters: {},
            interval: 15s,
            failure_threshold: 1,
            skippable: Nobody,
            notify: Some(
                Notify {
                    after: 3600s,
                    to: "chat",
                },
            ),
        }"#]]
    .assert_eq(&format!("{:#?}", compiled.protections["agreed-by-a"]));
    expect![[r#"Notifier { name: "chat", owner: "sre", set: "default", on: {"approval.requested", "deployment.stable"}, services: {"web"}, environments: {}, channel: Webhook { url: Plain("https://x/"), key: Some(File("chat.key")) } }"#]].assert_eq(&format!("{:?}", compiled.notifiers["chat"]));
}

#[test]
fn a_job_has_its_terms_in_what_bodies_are_rendered_from() {
    let content = [
        environment("a", ""),
        environment("b", ""),
        service("migrate", "kind: job, once: true, attempts: 3, timeLimit: 10m, environments: {b: {schedule: {start: '0 3 * * *', timezone: UTC}, once: false}}"),
        service("web", "dependsOn: [migrate]"),
    ].concat();
    let compiled = compiled(&content);
    let of = |service, environment| {
        let spec = track(&compiled, service, environment);
        format!("{:?} {:?}", spec.job, spec.configuration.job)
    };
    expect!["Some(Job { once: true, schedule: None, terms: JobTerms { attempts: 3, time_limit_ms: 600000 } }) Some(JobTerms { attempts: 3, time_limit_ms: 600000 })"].assert_eq(&of("migrate", "a"));
    expect!["Some(Job { once: false, schedule: Some(Window(0 3 * * * for 1m, UTC)), terms: JobTerms { attempts: 3, time_limit_ms: 600000 } }) Some(JobTerms { attempts: 3, time_limit_ms: 600000 })"].assert_eq(&of("migrate", "b"));
    assert_eq!(of("web", "a"), "None None");
}

#[test]
fn every_kind_of_check_is_read() {
    let content = [
        environment("a", ""),
        service("db", ""),
        protection("run", "run: {command: [./check.sh, '{{ service }}'], environment: {LEVEL: '1'}, on: coordinator}"),
        protection("http", "http: {url: 'https://x/', expect: 204, contains: ok, timeout: 2s}"),
        protection("prometheus", "prometheus: {url: 'http://p', query: up, expect: {atLeast: 0.5}}, failureThreshold: 3"),
        protection("expression", "expression: \"release.version != '1'\", skippable: {roles: [sre]}"),
        protection("approval", "approval: {roles: [manager]}"),
        protection("stable", "stable: {service: db}"),
        protection("resource", "resource: {run: {command: [true-it-is], timeout: 1s}}"),
    ].concat();
    let protections = compiled(&content).protections;
    let text: String = protections
        .values()
        .map(|p| {
            format!(
                "{:?} {:?} {:?} {}\n",
                p.check, p.skippable, p.interval, p.failure_threshold
            )
        })
        .collect();
    expect![[r#"
        Approval(Approval { roles: ["manager"], count: 1, expires: 604800s }) Anyone 15s 1
        Expression(Expression("release.version != '1'")) Roles(["sre"]) 15s 1
        Http(Http { url: "https://x/", expect: Some(204), contains: Some("ok"), timeout: 2s }) Anyone 15s 1
        Prometheus(Prometheus { url: "http://p", query: "up", expect: Each(AtLeast, 0.5), timeout: 10s }) Anyone 15s 3
        Resource(Run { command: ["true-it-is"], environment: {}, on: Target, timeout: 1s }) Anyone 15s 1
        Run(Run { command: ["./check.sh", "{{ service }}"], environment: {"LEVEL": "1"}, on: Coordinator, timeout: 30s }) Anyone 15s 1
        Stable { service: "db", environment: None } Anyone 15s 1
    "#]].assert_eq(&text);
}

#[test]
fn what_asks_about_a_release_is_kept_for_the_gates() {
    let content = [
        environment("a", ""),
        service("web", "vars: {port: 8080}"),
        document("Policy", "signed", "require: [{expression: \"release.commit != ''\", message: releases name a commit}, {expression: 'workload.vars.port > 1024', message: no low ports}]"),
    ].concat();
    let compiled = compiled(&content);
    let kept: Vec<String> = track(&compiled, "web", "a")
        .requirements
        .iter()
        .map(|r| format!("{}: {} ({})", r.policy.name, r.expression, r.message))
        .collect();
    assert_eq!(
        kept,
        ["signed: release.commit != '' (releases name a commit)"]
    );
}

#[test]
fn what_expressions_see_of_a_workload_is_rendered_as_far_as_it_goes() {
    let content = [
        environment("a", "vars: {region: eu}"),
        service("web", "vars: {port: 80, host: '{{ env.name }}.example'}"),
    ]
    .concat();
    let content = format!(
        "{content}{}",
        service(
            "api",
            "artifacts: {app: {file: a.tar}}, template: {image: 'r/{{ vars.region }}', command: ['{{ target.name }}', '{{ env.name }}']}, health: {tcp: 'h:{{ vars.port }}'}, vars: {port: 7}"
        )
    );
    let compiled = compiled(&content);
    let workload = |service| track(&compiled, service, "a").configuration.workload();
    expect![[r#"
        {
          "artifacts": {
            "app": "a.tar"
          },
          "dependsOn": [],
          "health": {
            "check": "h:7",
            "interval": "2s",
            "kind": "tcp",
            "timeout": "1s"
          },
          "image": "r/eu",
          "runtime": "process",
          "template": {
            "command": [
              "{{ target.name }}",
              "a"
            ],
            "image": "r/eu"
          },
          "vars": {
            "port": 7,
            "region": "eu"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&workload("api")).unwrap());
    assert_eq!(workload("web")["vars"]["host"], "a.example");
    let content = format!(
        "{content}{}",
        service(
            "shop",
            "artifacts: {app: {image: registry.internal/shop}}, template: {image: '{{ artifacts.app.image }}'}"
        )
    );
    let compiled = super::compiled(&content);
    let workload = track(&compiled, "shop", "a").configuration.workload();
    assert_eq!(workload["image"], "registry.internal/shop");
}

/// The manifests of the page for people, without the text around them.
fn documented() -> String {
    let page = include_str!("../../../../../docs/manifests.md");
    let blocks = page.split("```yaml\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .map(|block| format!("---\n{block}"))
        .collect()
}

#[test]
fn the_examples_for_people_compile_together() {
    let compiled = compiled(&documented());
    let counts = [
        compiled.environments.len(),
        compiled.services.len(),
        compiled.protections.len(),
        compiled.policies.len(),
        compiled.notifiers.len(),
        compiled.tracks.len(),
    ];
    assert_eq!(counts, [4, 4, 7, 1, 2, 15]);
    let web = track(&compiled, "web", "production");
    let names: Vec<_> = web.guards.iter().map(|guard| guard.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "alerts-not-firing",
            "change-approval",
            "database-stable",
            "nobody-is-down"
        ]
    );
    assert_eq!(web.requirements.len(), 1);
}
