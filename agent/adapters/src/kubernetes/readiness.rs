//! Whether an object does what it is for, by the conventions of its kind. Pure.
//!
//! What is not known here counts by its conditions `Ready` and `Available`, as most custom resources
//! have one of them; what has neither is ready once it is there.

use serde_json::Value;

/// What an object's status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It does what it is for.
    Ready,
    /// Not yet: why.
    Coming(String),
    /// It failed, and will not become ready by itself: why.
    Failed(String),
}

/// What the status of a live object says.
pub(super) fn of(live: &Value) -> Readiness {
    let kind = text(live, "/kind");
    let group = text(live, "/apiVersion");
    let group = group.split_once('/').map_or("", |(group, _)| group);
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Readiness::Coming("is being deleted".to_owned());
    }
    match (group, kind) {
        ("apps", "Deployment") => deployment(live),
        ("apps", "StatefulSet") => stateful_set(live),
        ("apps", "DaemonSet") => daemon_set(live),
        ("apps", "ReplicaSet") => replica_set(live),
        ("batch", "Job") => job(live),
        ("", "Pod") => pod(live),
        ("", "Namespace") => phase(live, "Active"),
        ("", "PersistentVolumeClaim") => phase(live, "Bound"),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(live),
        _ => generic(live),
    }
}

/// The value of a condition (`True`, `False`, `Unknown`), with its reason and message in words.
pub(super) fn condition<'v>(live: &'v Value, wanted: &str) -> Option<(&'v str, String)> {
    let all = live.pointer("/status/conditions")?.as_array()?;
    let found = all
        .iter()
        .find(|condition| text(condition, "/type") == wanted)?;
    let (reason, message) = (text(found, "/reason"), text(found, "/message"));
    let said = match (reason, message) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    Some((text(found, "/status"), said))
}

fn deployment(live: &Value) -> Readiness {
    if let Some(behind) = behind(live) {
        return behind;
    }
    if let Some(("False", said)) = condition(live, "Progressing")
        && said.starts_with("ProgressDeadlineExceeded")
    {
        return Readiness::Failed(said);
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let [updated, all, available] = ["updatedReplicas", "replicas", "availableReplicas"]
        .map(|key| number(live, &format!("/status/{key}")).unwrap_or(0));
    let failure = condition(live, "ReplicaFailure").filter(|(status, _)| *status == "True");
    if let (Some((_, said)), true) = (failure, available < wanted) {
        return coming(format!("its pods cannot be made: {said}"));
    }
    if updated < wanted {
        return coming(format!("{updated} of {wanted} pods are updated"));
    }
    if all > updated {
        return coming(format!("{} old pods are still there", all - updated));
    }
    if available < updated {
        return coming(format!("{available} of {updated} pods are available"));
    }
    Readiness::Ready
}

fn stateful_set(live: &Value) -> Readiness {
    if let Some(behind) = behind(live) {
        return behind;
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let status = |key: &str| number(live, &format!("/status/{key}")).unwrap_or(0);
    let ready = status("readyReplicas");
    if ready < wanted {
        return coming(format!("{ready} of {wanted} pods are ready"));
    }
    if text(live, "/spec/updateStrategy/type") == "OnDelete" {
        return Readiness::Ready;
    }
    let kept = number(live, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let due = (wanted - kept).max(0);
    let updated = status("updatedReplicas");
    // Once all are updated, the revisions are one and the count may be left out.
    let same = text(live, "/status/currentRevision") == text(live, "/status/updateRevision");
    if updated < due && !same {
        return coming(format!("{updated} of {due} pods are updated"));
    }
    Readiness::Ready
}

fn daemon_set(live: &Value) -> Readiness {
    if let Some(behind) = behind(live) {
        return behind;
    }
    let status = |key: &str| number(live, &format!("/status/{key}")).unwrap_or(0);
    let wanted = status("desiredNumberScheduled");
    let updated = status("updatedNumberScheduled");
    if updated < wanted && text(live, "/spec/updateStrategy/type") != "OnDelete" {
        return coming(format!("{updated} of {wanted} pods are updated"));
    }
    let available = status("numberAvailable");
    if available < wanted {
        return coming(format!("{available} of {wanted} pods are available"));
    }
    Readiness::Ready
}

fn replica_set(live: &Value) -> Readiness {
    if let Some(behind) = behind(live) {
        return behind;
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let available = number(live, "/status/availableReplicas").unwrap_or(0);
    if available < wanted {
        return coming(format!("{available} of {wanted} pods are available"));
    }
    Readiness::Ready
}

fn job(live: &Value) -> Readiness {
    if let Some(("True", _)) = condition(live, "Complete") {
        return Readiness::Ready;
    }
    if let Some(("True", said)) = condition(live, "Failed") {
        return Readiness::Failed(said);
    }
    let active = number(live, "/status/active").unwrap_or(0);
    coming(format!("it has not completed; {active} of its pods run"))
}

fn pod(live: &Value) -> Readiness {
    match text(live, "/status/phase") {
        "Succeeded" => Readiness::Ready,
        "Failed" => Readiness::Failed(match text(live, "/status/message") {
            "" => "its containers ended with a failure".to_owned(),
            message => message.to_owned(),
        }),
        "Running" => by_condition(live, "Ready").unwrap_or(Readiness::Ready),
        "" => coming("it is not scheduled yet".to_owned()),
        other => coming(format!("its phase is {other}")),
    }
}

fn phase(live: &Value, good: &str) -> Readiness {
    match text(live, "/status/phase") {
        phase if phase == good => Readiness::Ready,
        "Lost" => Readiness::Failed("its volume is lost".to_owned()),
        "" => coming("it has no phase yet".to_owned()),
        other => coming(format!("its phase is {other}")),
    }
}

fn definition(live: &Value) -> Readiness {
    if let Some(("False", said)) = condition(live, "NamesAccepted") {
        return Readiness::Failed(format!("its names are not accepted: {said}"));
    }
    by_condition(live, "Established")
        .unwrap_or_else(|| coming("it is not established yet".to_owned()))
}

fn generic(live: &Value) -> Readiness {
    if let Some(behind) = behind(live) {
        return behind;
    }
    if let Some(("True", said)) = condition(live, "Stalled") {
        return Readiness::Failed(said);
    }
    by_condition(live, "Ready")
        .or_else(|| by_condition(live, "Available"))
        .unwrap_or(Readiness::Ready)
}

fn by_condition(live: &Value, wanted: &str) -> Option<Readiness> {
    let (status, said) = condition(live, wanted)?;
    Some(match (status, said.as_str()) {
        ("True", _) => Readiness::Ready,
        (_, "") => coming(format!("its condition {wanted} is {status}")),
        (_, said) => coming(said.to_owned()),
    })
}

/// A status that is of an earlier specification says nothing of this one.
fn behind(live: &Value) -> Option<Readiness> {
    let generation = number(live, "/metadata/generation")?;
    let observed = number(live, "/status/observedGeneration");
    let controlled = text(live, "/apiVersion").starts_with("apps/");
    match observed {
        Some(observed) if observed >= generation => None,
        None if !controlled => None,
        Some(_) | None => Some(coming(
            "its controller has not seen the newest change".to_owned(),
        )),
    }
}

const fn coming(why: String) -> Readiness {
    Readiness::Coming(why)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ready(live: &Value) -> bool {
        of(live) == Readiness::Ready
    }

    fn why(live: &Value) -> String {
        match of(live) {
            Readiness::Coming(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn deployment_at(status: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status,
        })
    }

    #[test]
    fn a_deployment_is_ready_when_every_pod_of_the_newest_release_is() {
        let status = |observed: u32, updated: u32, all: u32, available: u32| {
            deployment_at(&json!({
                "observedGeneration": observed, "updatedReplicas": updated, "replicas": all,
                "availableReplicas": available,
            }))
        };
        assert!(why(&status(1, 3, 3, 3)).contains("newest change"));
        assert!(why(&deployment_at(&json!({}))).contains("newest change"));
        assert_eq!(why(&status(2, 1, 4, 3)), "1 of 3 pods are updated");
        assert_eq!(why(&status(2, 3, 4, 3)), "1 old pods are still there");
        assert_eq!(why(&status(2, 3, 3, 2)), "2 of 3 pods are available");
        assert!(ready(&status(2, 3, 3, 3)));
    }

    #[test]
    fn a_deployment_past_its_deadline_has_failed() {
        let late = json!({"type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"web-1\" has timed out"});
        let live = deployment_at(&json!({"observedGeneration": 2, "conditions": [late]}));
        let Readiness::Failed(said) = of(&live) else {
            panic!("{:?}", of(&live));
        };
        assert!(said.contains("web-1"), "{said}");
    }

    #[test]
    fn a_stateful_set_counts_only_the_pods_that_are_to_be_updated() {
        let live = |strategy: &Value, updated: u32| {
            json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"generation": 1},
                "spec": {"replicas": 3, "updateStrategy": strategy},
                "status": {"observedGeneration": 1, "readyReplicas": 3, "updatedReplicas": updated,
                    "currentRevision": "a", "updateRevision": "b"},
            })
        };
        let rolling =
            |kept: u32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": kept}});
        assert_eq!(why(&live(&rolling(0), 2)), "2 of 3 pods are updated");
        assert!(ready(&live(&rolling(2), 1)));
        assert!(ready(&live(&json!({"type": "OnDelete"}), 0)));
    }

    #[test]
    fn other_kinds_are_ready_by_their_own_conventions() {
        let job = |kind: &str| {
            let done = json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded"});
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {},
                "status": {"conditions": [done]}})
        };
        assert!(ready(&job("Complete")));
        assert!(matches!(of(&job("Failed")), Readiness::Failed(_)));
        assert!(why(&json!({"apiVersion": "batch/v1", "kind": "Job"})).contains("not completed"));
        let daemons = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"generation": 1},
            "status": {"observedGeneration": 1, "desiredNumberScheduled": 2,
                "updatedNumberScheduled": 2, "numberAvailable": 1},
        });
        assert_eq!(why(&daemons), "1 of 2 pods are available");
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "status": {"phase": "Pending"}});
        assert_eq!(why(&claim), "its phase is Pending");
        assert!(ready(&json!({"apiVersion": "v1", "kind": "ConfigMap"})));
    }

    #[test]
    fn a_custom_resource_is_ready_by_its_condition_or_by_being_there() {
        let live = |conditions: &Value, observed: u32| {
            json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"generation": 2},
                "status": {"observedGeneration": observed, "conditions": conditions}})
        };
        let ready_is = |status: &str| json!([{"type": "Ready", "status": status, "reason": "Why"}]);
        assert!(ready(&live(&ready_is("True"), 2)));
        assert_eq!(why(&live(&ready_is("False"), 2)), "Why");
        assert!(why(&live(&ready_is("True"), 1)).contains("newest change"));
        let available = json!([{"type": "Available", "status": "False"}]);
        assert!(why(&live(&available, 2)).contains("Available is False"));
        let bare = json!({"apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"generation": 1}});
        assert!(ready(&bare));
    }
}
