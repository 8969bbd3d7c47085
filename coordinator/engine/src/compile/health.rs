//! The health check of a track, from its tree.

use holdfast_protocol::time::millis;

use crate::compile::field::{number, span, text};
use crate::compile::merge::Tree;
use crate::compiled::{CheckSpec, HealthSpec};
use crate::manifest::node::Node;

/// The check below `health`; none where no layer says what is asked.
pub(super) fn health(tree: &Tree<'_>) -> Option<HealthSpec> {
    let span_ms = |key: &str| tree.leaf(key).map_or(0, |node| millis(span(node)));
    Some(HealthSpec {
        check: health_check(tree)?,
        interval_ms: span_ms("interval"),
        timeout_ms: span_ms("timeout"),
        success_threshold: tree.leaf("successThreshold").map_or(1, number),
        failure_threshold: tree.leaf("failureThreshold").map_or(1, number),
        start_period_ms: span_ms("startPeriod"),
    })
}

fn health_check(tree: &Tree<'_>) -> Option<CheckSpec> {
    if let Some(http) = tree.at("http") {
        let expect = http.leaf("expect").and_then(Node::number);
        let url = match http {
            Tree::Leaf { node, .. } => text(node),
            Tree::Map { .. } => http.leaf("url").map_or("", text),
        };
        let expect = expect.and_then(|status| u16::try_from(status).ok());
        return Some(CheckSpec::Http {
            url: url.to_owned(),
            expect,
        });
    }
    if let Some(tcp) = tree.leaf("tcp") {
        return Some(CheckSpec::Tcp {
            address: text(tcp).to_owned(),
        });
    }
    let command = tree
        .leaf("exec")?
        .items()
        .iter()
        .map(|n| text(n).to_owned())
        .collect();
    Some(CheckSpec::Exec { command })
}
