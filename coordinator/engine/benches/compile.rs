//! Parses, compiles, compares and renders 1,000 services in 20 environments, with windows, checks and
//! policies for each, and prints what it cost as one JSON object, in milliseconds of processor time. `cargo bench -p holdfast-engine --bench compile`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_engine::assign::{RenderRelease, RenderTarget, Renderer};
use holdfast_engine::compile::diff::changes;
use holdfast_engine::compile::{Known, compile};
use holdfast_engine::manifest::parse;
use holdfast_protocol::api::apply::{ManifestFile, default_set};
use holdfast_protocol::digest::Digest;

const SERVICES: usize = 1000;
const ENVIRONMENTS: usize = 20;

#[expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]
fn main() {
    let files = manifests(8080);
    let bytes: usize = files.iter().map(|f| f.content.len()).sum();
    let (events, bare) = timed(|| bare_events(&files));
    let ((set, diagnostics), parsing) = timed(|| parse(&files));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let before = BTreeMap::from([(default_set(), set)]);
    let resident = resident_kib();
    let (compiled, compiling) = timed(|| {
        compile(&before, &default_set(), &Known::default(), &|_| Vec::new()).expect("compiles")
    });
    assert_eq!(compiled.tracks.len(), SERVICES * ENVIRONMENTS);
    let compiled_kib = resident_kib().saturating_sub(resident);
    let after = BTreeMap::from([(default_set(), parse(&manifests(9090)).0)]);
    let (changed, comparing) = timed(|| changes(&before, &after));
    assert_eq!(changed.len(), SERVICES);
    let (rendered, rendering) = timed(|| {
        let bodies = compiled.tracks.values().map(|spec| {
            let renderer = Renderer::new(Arc::clone(&spec.configuration)).expect("compiled");
            let body = renderer.render(&release(), &target(spec.name.environment.as_str()));
            body.expect("renders").seal().1.len()
        });
        bodies.sum::<usize>()
    });
    let result = serde_json::json!({
        "bench": "compile",
        "services": SERVICES,
        "environments": ENVIRONMENTS,
        "manifestBytes": bytes,
        "yamlEvents": events,
        "bareYamlMs": millis(bare),
        "parseMs": millis(parsing),
        "parseToBareRatio": (parsing.as_secs_f64() / bare.as_secs_f64() * 100.0).round() / 100.0,
        "compileMs": millis(compiling),
        "compiledKib": compiled_kib,
        "diffMs": millis(comparing),
        "parseCompileDiffMs": millis(parsing + compiling + comparing),
        "budgetMs": 2000,
        "renderMs": millis(rendering),
        "renderMicrosEach": millis(rendering) * 1000.0 / (SERVICES * ENVIRONMENTS) as f64,
        "bodyBytes": rendered,
    });
    println!("{result}");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let before = on_processor();
    let start = Instant::now();
    let result = act();
    let elapsed = start.elapsed();
    let span = before.and_then(|before| on_processor()?.checked_sub(before));
    (result, span.unwrap_or(elapsed))
}

/// Time that this thread has spent on a processor, where the system tells: the machine may be busy.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Resident memory; 0 where the system does not tell.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0)
}

/// What reading the same files costs without making anything of them.
fn bare_events(files: &[ManifestFile]) -> usize {
    let events = |f: &ManifestFile| granit_parser::Parser::new_from_str(&f.content).count();
    files.iter().map(events).sum()
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e4).round() / 10.0
}

fn manifests(port: u32) -> Vec<ManifestFile> {
    let mut environments = String::new();
    for n in 0..ENVIRONMENTS {
        let after = if n == 0 {
            String::new()
        } else {
            format!("env-{}", n - 1)
        };
        write!(
            environments,
            "---\napiVersion: holdfast/v1\nkind: Environment\nmetadata: {{name: env-{n}, owner: platform}}\n\
             spec:\n  after: [{after}]\n  rollout: {{soak: {n}m, maxUnavailable: 2}}\n  vars: {{region: r{n}}}\n  \
             windows: [{{start: \"0 22 * * TUE\", duration: 4h, timezone: Europe/Berlin}}]\n  \
             protections:\n    - {{use: alerts, when: [pre, post], parameters: {{level: page}}}}\n    \
             - {{use: agreed, when: [pre]}}\n"
        )
        .expect("writes to memory");
    }
    let service = |n: usize| ManifestFile {
        path: format!("service-{n}.yaml"),
        content: format!(
            "apiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: service-{n}, owner: team-{}}}\nspec:\n  \
             artifacts:\n    app: {{file: app.tar.gz}}\n  runtime: process\n  template:\n    command: \
             [\"{{{{ artifacts.app.path }}}}/bin/server\", \"--port\", \"{{{{ vars.port }}}}\"]\n    \
             environment: {{REGION: \"{{{{ vars.region }}}}\", HOST: \"{{{{ target.name }}}}\"}}\n    \
             stop: {{signal: SIGTERM, grace: 20s}}\n  health: {{http: \"http://127.0.0.1:{{{{ vars.port }}}}/healthz\"}}\n  \
             vars: {{port: {port}, level: info}}\n  environments:\n    env-1: {{vars: {{level: debug}}}}\n    \
             env-7: {{rollout: {{soak: 1h}}, protections: [{{use: ready, when: [post], interval: 5s}}]}}\n",
            n % 50
        ),
    };
    let mut files = vec![
        ManifestFile {
            path: "environments.yaml".to_owned(),
            content: environments,
        },
        ManifestFile {
            path: "rules.yaml".to_owned(),
            content: RULES.to_owned(),
        },
    ];
    files.extend((0..SERVICES).map(service));
    files
}

/// Checks that every environment uses, and policies that match every track.
const RULES: &str = r#"
apiVersion: holdfast/v1
kind: Protection
metadata: {name: alerts, owner: sre}
spec:
  prometheus: {url: "http://prometheus:9090", query: 'ALERTS{service="{{ service }}",level="{{ parameters.level }}"}', expect: empty}
  parameters: {level: {}}
---
apiVersion: holdfast/v1
kind: Protection
metadata: {name: agreed, owner: sre}
spec: {approval: {roles: [release-manager]}}
---
apiVersion: holdfast/v1
kind: Protection
metadata: {name: ready, owner: sre}
spec: {http: "http://{{ service }}.example:{{ vars.port }}/"}
---
apiVersion: holdfast/v1
kind: Protection
metadata: {name: database, owner: dba}
spec: {stable: {service: service-0}}
---
apiVersion: holdfast/v1
kind: Policy
metadata: {name: ports, owner: security}
spec:
  require:
    - {expression: "workload.vars.port > 1024 && workload.runtime == 'process'", message: no low ports}
    - {expression: "release.commit != ''", message: releases name a commit}
  limit: {rollout.maxUnavailable: {atMost: 2}, rollout.progressDeadline: {atMost: 1h}}
---
apiVersion: holdfast/v1
kind: Policy
metadata: {name: careful, owner: security}
spec:
  match: {environments: [env-18, env-19]}
  set: {rollout: {maxFailures: 0, onFailure: rollback}}
  add: {protections: [{use: database, when: [pre]}]}
"#;

fn release() -> RenderRelease {
    let digest = Digest::of(b"content");
    RenderRelease {
        version: "1.0.0".parse().expect("a version"),
        sequence: 1,
        artifacts: BTreeMap::from([("app".parse().expect("a name"), (digest, 7))]),
        homes: BTreeMap::new(),
        run: None,
    }
}

fn target(environment: &str) -> RenderTarget {
    RenderTarget {
        name: "target-1".parse().expect("a name"),
        environment: environment.parse().expect("a name"),
        labels: BTreeMap::new(),
    }
}
