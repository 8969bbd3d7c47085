//! The settings of an environment, read from the words of a script.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_engine::calendar::Window;
use holdfast_engine::compiled::{
    Admission, Configuration, Disconnected, Extent, Job, JobTerms, OnFailure, OnWindowClose,
    Promotion, Rollout, Selector, TrackSpec, Wave,
};
use holdfast_engine::track::TrackName;
use holdfast_protocol::time::parse_span;
use holdfast_protocol::workload::Rollback;

use super::Shape;

pub(super) fn shape(settings: &[(String, String)]) -> Shape {
    let mut shape = Shape {
        after: Vec::new(),
        rollout: Rollout {
            waves: vec![Wave::Extent(Extent::Percent(100))],
            max_unavailable: Extent::Count(1),
            max_failures: 0,
            soak: Duration::ZERO,
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(60),
            on_failure: OnFailure::Rollback,
            ..Rollout::default()
        },
        gates: no_gates(),
    };
    let span = |text: &str| parse_span(text).expect("a span");
    for (key, value) in settings {
        let rollout = &mut shape.rollout;
        match key.as_str() {
            "after" => {
                shape.after = value
                    .split(',')
                    .map(|name| name.parse().expect("a name"))
                    .collect();
            }
            "waves" => rollout.waves = value.split(',').map(wave).collect(),
            "promotion" if value == "every" => shape.gates.promotion = Promotion::Every,
            "promotion" => shape.gates.promotion = Promotion::Manual,
            "follow" => shape.gates.follow = Some(value.parse().expect("a name")),
            "pin" => shape.gates.pin = Some(value.parse().expect("a version")),
            "admits" => {
                let semver = value.replace('_', " ").parse().expect("a range");
                shape.gates.admits = Some(Admission { semver });
            }
            "maxUnavailable" => rollout.max_unavailable = extent(value),
            "maxFailures" => rollout.max_failures = value.parse().expect("a number"),
            "soak" => rollout.soak = span(value),
            "minReady" => rollout.min_ready = span(value),
            "progressDeadline" => rollout.progress_deadline = span(value),
            "onFailure" if value == "halt" => rollout.on_failure = OnFailure::Halt,
            "maxDisconnected" => rollout.max_disconnected = extent(value),
            "onWindowClose" if value == "hold" => rollout.on_window_close = OnWindowClose::Hold,
            "onWindowClose" => rollout.on_window_close = OnWindowClose::Rollback,
            "window" => shape.gates.windows.push(window(value)),
            "disconnected" if value == "wait" => rollout.disconnected = Disconnected::Wait,
            _ => unreachable!("no such setting: {key}={value}"),
        }
    }
    shape
}

/// A wave by count or share, or `KEY=VALUE` for those with that label.
fn wave(text: &str) -> Wave {
    match text.split_once('=') {
        None => Wave::Extent(extent(text)),
        Some((key, value)) => {
            let label = (key.parse().expect("a key"), value.parse().expect("a value"));
            Wave::Labels(Selector {
                labels: [label].into(),
            })
        }
    }
}

/// `0_22_*_*_TUE/4h`: a start with `_` for spaces, how long, in Berlin.
fn window(text: &str) -> Window {
    let (start, duration) = text.rsplit_once('/').expect("START/DURATION");
    let duration = parse_span(duration).expect("a span");
    Window::parse(&start.replace('_', " "), duration, "Europe/Berlin").expect("a window")
}

/// A job from its words: `once`, `schedule=0_3_*_*_*`.
pub(super) fn job(settings: &[(String, String)]) -> Job {
    let mut job = Job {
        terms: JobTerms {
            attempts: 2,
            time_limit_ms: 60_000,
        },
        ..Job::default()
    };
    for (key, value) in settings {
        match key.as_str() {
            "once" => job.once = value == "true",
            "schedule" => job.schedule = Some(window(&format!("{value}/1m"))),
            _ => unreachable!("no such setting: {key}={value}"),
        }
    }
    job
}

fn no_gates() -> TrackSpec {
    let name = TrackName {
        service: "none".parse().expect("a name"),
        environment: "none".parse().expect("a name"),
    };
    let configuration = Configuration {
        service: name.service.clone(),
        environment: name.environment.clone(),
        runtime: "process".to_owned(),
        template: serde_json::Value::Null,
        vars: BTreeMap::new(),
        artifacts: BTreeMap::new(),
        images: BTreeMap::new(),
        secrets: BTreeMap::new(),
        credentials: BTreeMap::new(),
        health: None,
        depends_on: Vec::new(),
        rollback: Rollback::Central,
        progress_deadline_ms: 0,
        job: None,
        variants: BTreeMap::new(),
    };
    TrackSpec::plain(name, configuration)
}

fn extent(text: &str) -> Extent {
    match text.strip_suffix('%') {
        Some(share) => Extent::Percent(share.parse().expect("a share")),
        None => Extent::Count(text.parse().expect("a number")),
    }
}
