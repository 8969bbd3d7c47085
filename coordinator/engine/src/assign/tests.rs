//! Bodies, rendered.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::expect;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, LabelKey, LabelValue};
use holdfast_protocol::workload::{Form, PLACEHOLDER_OPEN, Placeholder, Workload};

use super::{RenderError, RenderRelease, RenderTarget, Renderer, render};
use crate::compile::tests::{compiled, track};
use crate::compiled::Configuration;
use crate::manifest::tests::EXAMPLE;

fn configuration(spec: &str) -> Arc<Configuration> {
    let content = format!(
        "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: e}}\n---\n\
         apiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{runtime: process, {spec}}}\n"
    );
    Arc::clone(&track(&compiled(&content), "s", "e").configuration)
}

fn release(artifacts: &[&str]) -> RenderRelease {
    let of = |name: &&str| (name.parse().unwrap(), (Digest::of(name.as_bytes()), 7));
    RenderRelease {
        version: "1.4.0".parse().unwrap(),
        sequence: 3,
        artifacts: artifacts.iter().map(of).collect(),
        homes: BTreeMap::new(),
        run: None,
    }
}

fn target(labels: &[(&str, &str)]) -> RenderTarget {
    let label =
        |(k, v): &(&str, &str)| (LabelKey::parse(k).unwrap(), LabelValue::parse(v).unwrap());
    RenderTarget {
        name: "web-1".parse().unwrap(),
        environment: "e".parse().unwrap(),
        labels: labels.iter().map(label).collect(),
    }
}

fn rendered(spec: &str, labels: &[(&str, &str)]) -> Result<Workload, RenderError> {
    render(
        &configuration(spec),
        &release(&["app", "my-app"]),
        &target(labels),
    )
}

fn template(spec: &str, labels: &[(&str, &str)]) -> String {
    rendered(spec, labels)
        .unwrap()
        .template
        .replace(PLACEHOLDER_OPEN, "<")
        .replace('\u{e001}', ">")
}

#[test]
fn the_example_of_the_design_becomes_a_body() {
    let compiled = compiled(EXAMPLE);
    let spec = track(&compiled, "web", "staging");
    let body = render(&spec.configuration, &release(&["app"]), &target(&[])).unwrap();
    assert_eq!(
        body.template,
        r#"{"command":["./bin/web","--port","18080"],"environment":{"REGION":"eu-central"}}"#
    );
    assert_eq!(body.configuration, spec.digest);
    assert_eq!(
        (body.artifacts[0].file.as_str(), body.artifacts[0].form),
        ("web.tar.gz", Form::TarGz)
    );
    expect![[r#"
        Some(
            Health {
                check: Http {
                    url: "http://127.0.0.1:18080/healthz",
                    expect: None,
                },
                interval_ms: 2000,
                timeout_ms: 1000,
                success_threshold: 1,
                failure_threshold: 3,
                start_period_ms: 0,
            },
        )
    "#]]
    .assert_debug_eq(&body.health);
    let (digest, bytes) = body.clone().seal();
    assert_eq!(Workload::open(&bytes).unwrap(), body);
    let again = Renderer::new(Arc::clone(&spec.configuration)).unwrap();
    assert_eq!(
        again
            .render(&release(&["app"]), &target(&[]))
            .unwrap()
            .seal()
            .0,
        digest
    );
}

#[test]
fn all_that_a_text_may_refer_to_is_there() {
    let spec = r#"
        artifacts: {app: {file: a.tar}, my-app: {file: b}},
        vars: {n: 8080, f: 1.5, yes: true, of: "{{ target.name }}.{{ env.name }}", list: [a, b]},
        template: {t: [
            "{{ vars.n }} {{ vars.f }} {{ vars.yes }} {{ vars.of }} {{ vars.list | join('+') }}",
            "{{ env.name }} {{ target.name }} {{ service.name }} {{ release.version }} {{ release.sequence }}",
            "{{ artifacts.app.path }}/bin {{ artifacts['my-app'].path }} {{ workload.dir }}/x",
            "{{ target.labels.role }} {{ target.labels[\"example.com/rack\"] }}",
            "{{ target.labels.zone | default('none') }} {{ vars.n + 1 }}",
            "{{ 'a' if env.name == 'e' else 'b' }} {{ '{{' }} x }}",
            8080, true]}"#;
    let spec = spec.replace('\n', " ");
    let labels = [("role", "web"), ("example.com/rack", "r7")];
    expect![[r#"{"t":["8080 1.5 true web-1.e a+b","e web-1 s 1.4.0 3","<artifact:app>/bin <artifact:my-app> <dir>/x","web r7","none 8081","a {{ x }}",8080,true]}"#]].assert_eq(&template(&spec, &labels));
}

#[test]
fn what_a_value_holds_is_never_a_template_again() {
    let spec = r#"vars: {evil: "a{{ '{{' }} target.name }}b", raw: "{% for x in y %}${#z}"}, template: {t: "{{ vars.evil }}", u: "{{ vars.raw }}"}"#;
    assert_eq!(
        template(spec, &[]),
        r#"{"t":"a{{ target.name }}b","u":"{% for x in y %}${#z}"}"#
    );
    // Labels, names and versions cannot hold braces or placeholder characters at all.
    assert!(LabelValue::parse("{{x}}").is_err());
    assert!(LabelValue::parse("\u{e000}dir\u{e001}").is_err());
    assert!(LabelKey::parse("a\"]").is_err());
}

#[test]
fn an_expression_cannot_spell_a_placeholder() {
    for expression in [r"'\ue000dir\ue001'", r"'\xee\x80\x80'", r"'\' ~ 'ue000'"] {
        let template = serde_json::json!({ "t": format!("{{{{ {expression} }}}}") });
        let written = Configuration {
            template,
            ..(*configuration("vars: {}")).clone()
        };
        let body = render(&Arc::new(written), &release(&[]), &target(&[]));
        let made = body
            .as_ref()
            .is_ok_and(|b| b.template.contains(PLACEHOLDER_OPEN));
        assert!(!made, "{body:?}");
    }
}

#[test]
fn an_image_is_named_by_its_repository_and_the_digest_of_its_release() {
    let given = release(&[]);
    let digest = Digest::of(b"manifest");
    let name = ArtifactName::parse("web").unwrap();
    let given = RenderRelease {
        artifacts: [(name, (digest, 0))].into(),
        ..given
    };
    let spec = "artifacts: {web: {image: 'r.example:5000/web'}}, \
                template: {image: '{{ artifacts.web.image }}', only: '{{ artifacts.web.digest }}'}";
    let body = render(&configuration(spec), &given, &target(&[])).unwrap();
    assert_eq!(
        body.template,
        format!("{{\"image\":\"r.example:5000/web@{digest}\",\"only\":\"{digest}\"}}")
    );
    assert_eq!(body.artifacts, [], "the agent fetches nothing");
}

#[test]
fn what_is_lacking_is_named_with_what_to_do() {
    let message = |spec: &str| {
        let error = rendered(spec, &[("role", "web")]).unwrap_err();
        format!("{error}\n{}", error.help.clone().unwrap_or_default())
    };
    expect![[r#"
        template.a[1]: target web-1 has no label `port`
        holdfast target label web-1 port=VALUE"#]]
    .assert_eq(&message(
        r#"template: {a: [x, "{{ target.labels.port }}"]}"#,
    ));
    expect![[r#"
        health.tcp: target web-1 has no label `a/b`
        holdfast target label web-1 a/b=VALUE"#]]
    .assert_eq(&message(r#"health: {tcp: "{{ target.labels['a/b'] }}:1"}"#));
    expect![[r#"
        artifacts.other: release 1.4.0 does not give artifact other
        make a release with --file other=o.zip"#]]
    .assert_eq(&message("artifacts: {other: {file: o.zip}}"));
    expect![[r#"
        artifacts.web: release 1.4.0 does not give image web
        make a release with --artifact web=r.example/web@sha256:DIGEST"#]]
    .assert_eq(&message("artifacts: {web: {image: r.example/web}}"));
    expect![[r#"
        template.a: `vars.l` is sequence, which cannot stand in a text
    "#]]
    .assert_eq(&message(r#"vars: {l: [1]}, template: {a: "{{ vars.l }}"}"#));
    expect![[r#"
        template.a: `vars.l + 1`: tried to use + operator on unsupported types string and number
    "#]]
    .assert_eq(&message(
        r#"vars: {l: a}, template: {a: "{{ vars.l + 1 }}"}"#,
    ));
    expect![[r#"
        template.a: `vars.m.b` is undefined
    "#]]
    .assert_eq(&message(
        r#"vars: {m: {a: 1}}, template: {a: "{{ vars.m.b }}"}"#,
    ));
}

#[test]
fn a_body_stays_within_its_bound() {
    let big = "x".repeat(100_000);
    let spec = format!(
        "vars: {{big: {big}}}, template: {{a: \"{}\"}}",
        "{{ vars.big }}".repeat(1000)
    );
    let error = rendered(&spec, &[]).unwrap_err();
    assert!(error.message.contains("too large"), "{error}");
    let repeated = rendered("template: {a: \"{{ 'x' * 1000000000 }}\"}", &[]).unwrap_err();
    assert!(repeated.message.contains("too large"), "{repeated}");
    let fits = format!("vars: {{big: {big}}}, template: {{a: \"{{{{ vars.big }}}}\"}}");
    let body = rendered(&fits, &[]).unwrap();
    assert!(body.seal().1.len() < holdfast_protocol::workload::BODY_MAX_BYTES);
}

#[test]
fn placeholders_are_filled_on_the_target() {
    let body = rendered(
        "artifacts: {app: {file: a.tar}}, template: {c: \"{{ artifacts.app.path }}:{{ workload.dir }}\"}",
        &[],
    )
    .unwrap();
    let value: BTreeMap<String, String> = serde_json::from_str(&body.template).unwrap();
    let filled = Placeholder::fill(&value["c"], &|p| {
        Some(match p {
            Placeholder::ArtifactPath(name) => format!("/store/{name}"),
            Placeholder::WorkloadDir => "/w".to_owned(),
        })
    });
    assert_eq!(filled.unwrap(), "/store/app:/w");
}
