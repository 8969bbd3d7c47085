//! One service in several runtimes: by environment, and by the labels of targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::observed::Labels;

use super::{compiled, environment, sets, track, track_name};
use crate::assign::{RenderRelease, RenderTarget, render};
use crate::compile::provenance;
use crate::compiled::Layer;

/// A process in staging; in production containers where the label says so, and units of systemd
/// elsewhere.
const WEB: &str = "---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  artifacts: {app: {file: web.tar.gz}, image: {image: registry.example/web}}
  runtime: process
  template: {command: [/bin/web], environment: {LEVEL: low}}
  health: {http: 'http://127.0.0.1:80/'}
  vars: {port: 80}
  variants:
    engine:
      when: {matchLabels: {kind: engine}}
      runtime: container
      artifacts: {app: null}
      template: {image: '{{ artifacts.image.image }}', ports: ['{{ vars.port }}:80']}
      health: null
      vars: {port: 8080}
    quiet:
      when: {matchLabels: {kind: quiet}}
      template: {environment: {LEVEL: high}}
  environments:
    production:
      runtime: systemd
      template: {command: [/bin/web, --strict]}
      variants:
        engine: {vars: {port: 9090}}
        quiet: null
";

fn content() -> String {
    format!(
        "{}{}{WEB}",
        environment("staging", ""),
        environment("production", "")
    )
}

fn labels(kind: &str) -> Labels {
    let pair = |value: &str| ("kind".parse().unwrap(), value.parse().unwrap());
    [kind]
        .into_iter()
        .filter(|kind| !kind.is_empty())
        .map(pair)
        .collect()
}

#[test]
fn each_target_runs_what_its_labels_say_and_the_rest_what_is_said_first() {
    let compiled = compiled(&content());
    let on = |environment: &str, kind: &str| {
        let spec = track(&compiled, "web", environment);
        let labels = labels(kind);
        let (name, there) = spec.configuration.on(&labels);
        (
            name.map(ToString::to_string),
            there.runtime.clone(),
            there.template.to_string(),
        )
    };
    let process = r#"{"command":["/bin/web"],"environment":{"LEVEL":"low"}}"#;
    assert_eq!(
        on("staging", ""),
        (None, "process".to_owned(), process.to_owned())
    );
    let quiet = process.replace("low", "high");
    assert_eq!(
        on("staging", "quiet"),
        (Some("quiet".to_owned()), "process".to_owned(), quiet)
    );
    let systemd = r#"{"command":["/bin/web","--strict"]}"#.to_owned();
    assert_eq!(
        on("production", "quiet"),
        (None, "systemd".to_owned(), systemd)
    );
    let (name, runtime, template) = on("production", "engine");
    assert_eq!(
        (name.as_deref(), runtime.as_str()),
        (Some("engine"), "container")
    );
    assert!(
        !template.contains("command"),
        "another runtime has a template of its own: {template}"
    );
}

#[test]
fn a_body_is_rendered_as_the_target_s_variant_says_and_knows_the_whole_configuration() {
    let compiled = compiled(&content());
    let configuration = &track(&compiled, "web", "production").configuration;
    let artifact = |name: &str| (name.parse().unwrap(), (Digest::of(name.as_bytes()), 7));
    let release = RenderRelease {
        version: "1".parse().unwrap(),
        sequence: 1,
        artifacts: [artifact("app"), artifact("image")].into(),
        homes: BTreeMap::new(),
        run: None,
    };
    let body = |kind: &str| {
        let target = RenderTarget {
            name: "p1".parse().unwrap(),
            environment: "production".parse().unwrap(),
            labels: labels(kind),
        };
        render(configuration, &release, &target).unwrap()
    };
    let (unit, container) = (body(""), body("engine"));
    assert_eq!(unit.runtime, "systemd");
    assert_eq!(container.runtime, "container");
    assert!(
        container.template.contains(r#""9090:80""#),
        "{}",
        container.template
    );
    assert!(container.artifacts.is_empty(), "{:?}", container.artifacts);
    assert_eq!(unit.artifacts.len(), 1);
    assert!(container.health.is_none());
    assert!(unit.health.is_some());
    assert_eq!(container.configuration, unit.configuration);
    assert_eq!(unit.configuration, configuration.digest());
}

#[test]
fn every_field_of_a_variant_knows_who_set_it() {
    let content = content();
    let sets = sets(&[("default", &content)]);
    let name = track_name("web", "production");
    let by_path = |variant: Option<&str>| -> BTreeMap<String, (String, Layer)> {
        let variant = variant.map(|name| name.parse().unwrap());
        let fields = provenance(&sets, &name, variant.as_ref()).into_iter();
        fields
            .map(|one| (one.path, (one.value, one.layer)))
            .collect()
    };
    let there = by_path(Some("engine"));
    assert_eq!(
        there["runtime"],
        (r#""container""#.to_owned(), Layer::Variant)
    );
    assert_eq!(there["vars.port"], ("9090".to_owned(), Layer::Variant));
    assert!(!there.contains_key("health.interval"), "{there:?}");
    let all = by_path(None);
    assert_eq!(all["runtime"], (r#""systemd""#.to_owned(), Layer::Override));
    assert_eq!(all["variants.engine.runtime"], there["runtime"]);
    assert!(
        all.keys().all(|path| !path.starts_with("variants.quiet")),
        "{all:?}"
    );
}

#[test]
fn a_policy_is_stronger_than_a_variant_and_requires_of_each() {
    let policy = "---
apiVersion: holdfast/v1
kind: Policy
metadata: {name: ports, owner: security}
spec: {set: {vars: {port: 443}, variants: {engine: {vars: {port: 8443}}}}}
";
    let compiled = compiled(&(content() + policy));
    let configuration = &track(&compiled, "web", "staging").configuration;
    let port = |kind: &str| configuration.on(&labels(kind)).1.vars["port"].to_string();
    assert_eq!(
        [port(""), port("quiet"), port("engine")],
        ["443", "443", "8443"]
    );
}

#[test]
fn a_change_of_a_variant_is_a_change_of_the_configuration() {
    let before = compiled(&content());
    let after = compiled(&content().replace("9090", "9191"));
    let digest = |compiled: &crate::compiled::Compiled| {
        let spec = track(compiled, "web", "production");
        Arc::clone(&spec.configuration).digest()
    };
    assert_ne!(digest(&before), digest(&after));
}
