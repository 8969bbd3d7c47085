//! The settings of an environment, read from the words of a script.

use std::time::Duration;

use holdfast_engine::compiled::{Disconnected, Extent, OnFailure, Rollout, Wave};
use holdfast_protocol::time::parse_span;

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
            "waves" => rollout.waves = value.split(',').map(extent).map(Wave::Extent).collect(),
            "maxUnavailable" => rollout.max_unavailable = extent(value),
            "maxFailures" => rollout.max_failures = value.parse().expect("a number"),
            "soak" => rollout.soak = span(value),
            "minReady" => rollout.min_ready = span(value),
            "progressDeadline" => rollout.progress_deadline = span(value),
            "onFailure" if value == "halt" => rollout.on_failure = OnFailure::Halt,
            "disconnected" if value == "wait" => rollout.disconnected = Disconnected::Wait,
            _ => unreachable!("no such setting: {key}={value}"),
        }
    }
    shape
}

fn extent(text: &str) -> Extent {
    match text.strip_suffix('%') {
        Some(share) => Extent::Percent(share.parse().expect("a share")),
        None => Extent::Count(text.parse().expect("a number")),
    }
}
