//! The guardrails of a track, from its tree.

use crate::compile::field::{extent, labels, number, span, text};
use crate::compile::merge::Tree;
use crate::compiled::{Disconnected, Extent, OnFailure, OnWindowClose, Rollout, Selector, Wave};
use crate::manifest::node::Node;

/// The guardrails below `rollout`.
pub(super) fn rollout(tree: &Tree<'_>) -> Rollout {
    let leaf = |key: &str| tree.at("rollout").and_then(|r| r.leaf(key));
    let waves = leaf("waves").map_or(&[][..], Node::items);
    Rollout {
        waves: waves.iter().map(wave).collect(),
        max_unavailable: leaf("maxUnavailable").map_or(Extent::Count(1), extent),
        max_failures: leaf("maxFailures").map_or(0, number),
        soak: leaf("soak").map(span).unwrap_or_default(),
        min_ready: leaf("minReady").map(span).unwrap_or_default(),
        progress_deadline: leaf("progressDeadline").map(span).unwrap_or_default(),
        on_failure: match leaf("onFailure").map_or("", text) {
            "halt" => OnFailure::Halt,
            _ => OnFailure::Rollback,
        },
        disconnected: match leaf("disconnected").map_or("", text) {
            "wait" => Disconnected::Wait,
            _ => Disconnected::Skip,
        },
        max_disconnected: leaf("maxDisconnected").map_or(Extent::Percent(100), extent),
        on_window_close: match leaf("onWindowClose").map_or("", text) {
            "hold" => OnWindowClose::Hold,
            "rollback" => OnWindowClose::Rollback,
            _ => OnWindowClose::Finish,
        },
    }
}

fn wave(node: &Node) -> Wave {
    match node.at("matchLabels") {
        Some(wanted) => Wave::Labels(Selector {
            labels: labels(wanted),
        }),
        None => Wave::Extent(extent(node)),
    }
}
