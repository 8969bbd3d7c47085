//! What helm and kubectl print, read: releases, differences, readiness, reasons. Pure.

use std::collections::BTreeSet;

use holdfast_protocol::digest::Digest;
use serde::Deserialize;
use serde_json::Value;

use crate::Failure;

/// Most objects that are named in a message.
const SHOWN_MAX: usize = 5;
/// What helm's errors say where the same chart and values give them again.
const LASTING: &[&str] = &[
    "execution error at",
    "parse error",
    "YAML parse error",
    "error converting YAML",
    "don't meet the specifications of the schema",
    "chart requires kubeVersion",
    "Chart.yaml file is missing",
    "missing in charts/",
    "nil pointer evaluating",
    "error calling",
    "invalid ownership metadata",
    "field is immutable",
    " is invalid: ",
];

/// One release, by the word of `helm list`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    /// Its revision, a number.
    pub(super) revision: String,
    /// As helm calls it.
    pub(super) status: String,
    /// Name and version of its chart.
    pub(super) chart: String,
}

/// What a release does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// All of it was made.
    Deployed,
    /// The last change of it failed.
    Failed,
    /// A first installation has begun, and not ended.
    Installing,
    /// Another change has begun, and not ended.
    Changing,
    /// It is on its way out, or gone.
    Leaving,
}

impl Listed {
    pub(super) fn status(&self) -> Status {
        match self.status.as_str() {
            "deployed" => Status::Deployed,
            "pending-install" => Status::Installing,
            "pending-upgrade" | "pending-rollback" => Status::Changing,
            "uninstalling" | "uninstalled" => Status::Leaving,
            // `failed`, `superseded`, `unknown`, and whatever a later helm may say: not known to be well.
            _ => Status::Failed,
        }
    }
}

/// The one release in what `helm list -o json` printed.
pub(super) fn listed(output: &[u8]) -> Result<Option<Listed>, Failure> {
    let all: Result<Vec<Listed>, _> = serde_json::from_slice(output);
    let all = all.map_err(|error| {
        Failure::Retryable(format!(
            "what `helm list` printed is not understood: {error}"
        ))
    })?;
    Ok(all.into_iter().next())
}

/// A digest as the value of a label, which has at most 63 characters.
pub(super) fn label(digest: &Digest) -> String {
    digest.hex().chars().take(40).collect()
}

/// The objects that `kubectl diff` found different: `apps.v1.Deployment.shop.web`.
pub(super) fn differing(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let names = text.lines().filter_map(|line| {
        let path = line.strip_prefix("+++ ")?.split('\t').next()?;
        path.rsplit('/').next().map(str::to_owned)
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Names for people, the first few.
pub(super) fn named(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let shown = shown.join(", ");
    if names.len() > SHOWN_MAX {
        return format!("{shown} and {} more", names.len() - SHOWN_MAX);
    }
    shown
}

/// Whether a chart made no object at all, of which kubectl would make an error.
pub(super) fn is_empty(manifest: &[u8]) -> bool {
    let says_nothing =
        |line: &[u8]| line.is_empty() || line.starts_with(b"---") || line.starts_with(b"#");
    manifest
        .split(|byte| *byte == b'\n')
        .all(|line| says_nothing(line.trim_ascii()))
}

/// The objects that are not ready, in what `kubectl get -o json` printed, each with why. Of objects
/// that are not there nothing is printed.
pub(super) fn unready(output: &[u8]) -> Result<Vec<String>, Failure> {
    if output.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = serde_json::from_slice(output).map_err(|error| {
        Failure::Retryable(format!(
            "what `kubectl get` printed is not understood: {error}"
        ))
    })?;
    let items = match value.get("items") {
        Some(Value::Array(items)) => items.as_slice(),
        Some(_) | None => std::slice::from_ref(&value),
    };
    Ok(items.iter().filter_map(waits).collect())
}

/// Why a workload is not ready: fewer of its pods are than it asks for.
fn waits(object: &Value) -> Option<String> {
    let number = |path: &str| object.pointer(path).and_then(Value::as_u64);
    let kind = object.get("kind")?.as_str()?;
    let (ready, wanted) = match kind {
        "Deployment" => (
            number("/status/availableReplicas"),
            number("/spec/replicas"),
        ),
        "StatefulSet" => (number("/status/readyReplicas"), number("/spec/replicas")),
        "DaemonSet" => (
            number("/status/numberReady"),
            number("/status/desiredNumberScheduled"),
        ),
        _ => return None,
    };
    let (ready, wanted) = (ready.unwrap_or(0), wanted.unwrap_or(1));
    let seen = number("/status/observedGeneration") >= number("/metadata/generation");
    let name = object.pointer("/metadata/name")?.as_str()?;
    let said = format!("{kind} {name}: {ready} of {wanted} ready");
    (ready < wanted || !seen).then_some(said)
}

/// A failure of helm, by its last words.
pub(super) fn failure(why: String) -> Failure {
    if LASTING.iter().any(|part| why.contains(part)) {
        return Failure::Permanent(why);
    }
    Failure::Retryable(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_release_is_read() {
        // As helm 3.17 prints it.
        let output = br#"[{"name":"web","namespace":"shop","revision":"2","updated":"2026-11-21 15:41:17.76 +0000 UTC","status":"pending-upgrade","chart":"web-1.0.0","app_version":""}]"#;
        let found = listed(output).unwrap().unwrap();
        assert_eq!(
            (found.revision.as_str(), found.status()),
            ("2", Status::Changing)
        );
        assert_eq!(listed(b"[]").unwrap(), None);
        assert!(listed(b"no").unwrap_err().is_retryable());
    }

    #[test]
    fn differing_objects_are_named_and_their_content_is_not() {
        let output = b"diff -u -N /tmp/LIVE-1/v1.Secret.shop.key /tmp/MERGED-2/v1.Secret.shop.key\n\
            --- /tmp/LIVE-1/v1.Secret.shop.key\t2026-11-21\n+++ /tmp/MERGED-2/v1.Secret.shop.key\t2026-11-21\n\
            -  word: b2xk\n+  word: bmV3\n";
        assert_eq!(differing(output), ["v1.Secret.shop.key"]);
        let many: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(named(&many), "0, 1, 2, 3, 4 and 2 more");
    }

    #[test]
    fn a_deployment_waits_for_its_pods() {
        let object = |available: u64, observed: u64| {
            json!({"kind": "Deployment", "metadata": {"name": "web", "generation": 2},
                "spec": {"replicas": 3},
                "status": {"availableReplicas": available, "observedGeneration": observed}})
        };
        let said = |object: &Value| unready(object.to_string().as_bytes()).unwrap();
        assert_eq!(said(&object(1, 2)), ["Deployment web: 1 of 3 ready"]);
        assert!(said(&object(3, 2)).is_empty());
        assert_eq!(said(&object(3, 1)).len(), 1);
        let list = json!({"kind": "List", "items": [object(0, 2), {"kind": "ConfigMap"}]});
        assert_eq!(said(&list).len(), 1);
        assert_eq!(unready(b"\n").unwrap(), [""; 0]);
        assert!(unready(b"panic").unwrap_err().is_retryable());
    }

    #[test]
    fn a_chart_of_comments_alone_makes_nothing() {
        assert!(is_empty(b"---\n# Source: web/templates/x.yaml\n\n"));
        assert!(!is_empty(b"---\n# Source\nkind: ConfigMap\n"));
    }

    #[test]
    fn a_template_that_cannot_be_rendered_is_not_tried_again() {
        let lasting = "helm ended with exit code 1: Error: UPGRADE FAILED: execution error at (web/templates/x.yaml:1:4): no size";
        assert!(!failure(lasting.to_owned()).is_retryable());
        assert!(failure("Error: Kubernetes cluster unreachable".to_owned()).is_retryable());
    }
}
