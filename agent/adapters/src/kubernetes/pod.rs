//! The pods of a set: found by what selects them, and how their containers fared. Pure but for the
//! asking.

use serde_json::Value;

use super::cluster::{Cluster, Place};
use super::kind::Kind;
use super::object::Name;
use super::record::Set;
use super::refusal::ClusterError;
use crate::run::Exit;

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Container {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) container: String,
    /// How often it was started again.
    pub(super) restarts: u64,
    /// Whether it has begun, so that it may have said something.
    pub(super) begun: bool,
    /// Whether its pod has others beside it.
    pub(super) several: bool,
}

/// Most containers whose output is read at a time.
pub(super) const CONTAINERS_MAX: usize = 32;

/// The containers of every pod of a set, oldest pod first; nothing where it has no kind of object that
/// makes pods.
pub(super) async fn containers(
    cluster: &Cluster,
    set: &Set,
) -> Result<Option<Vec<Container>>, ClusterError> {
    let makers = set.objects.iter().filter(|entry| makes_pods(&entry.name));
    let mut pods: Vec<Value> = Vec::new();
    let mut any = false;
    for entry in makers {
        any = true;
        pods.extend(pods_of(cluster, &entry.name).await?);
    }
    let time = |pod: &Value| text(pod, "/metadata/creationTimestamp").to_owned();
    pods.sort_by_key(|pod| (time(pod), text(pod, "/metadata/name").to_owned()));
    let mut all: Vec<Container> = pods.iter().flat_map(of_pod).collect();
    // The newest matter most.
    let surplus = all.len().saturating_sub(CONTAINERS_MAX);
    all.drain(..surplus);
    Ok(any.then_some(all))
}

/// How the pods of a failed job ended: the exit code of the one that failed last.
pub(super) async fn exit(cluster: &Cluster, name: &Name) -> Result<Exit, ClusterError> {
    let mut pods = pods_of(cluster, name).await?;
    pods.sort_by_key(|pod| text(pod, "/metadata/creationTimestamp").to_owned());
    let codes = pods.iter().rev().filter_map(exit_code);
    Ok(codes
        .filter(|code| *code != 0)
        .map(Exit::Code)
        .next()
        .unwrap_or(Exit::Unknown))
}

fn makes_pods(name: &Name) -> bool {
    match (name.group(), name.kind.as_str()) {
        ("", "Pod") => true,
        ("apps", kind) => ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"].contains(&kind),
        ("batch", kind) => kind == "Job",
        _ => false,
    }
}

async fn pods_of(cluster: &Cluster, name: &Name) -> Result<Vec<Value>, ClusterError> {
    let Some(kind) = cluster.kind(name).await? else {
        return Ok(Vec::new());
    };
    let place = Place {
        kind,
        name: name.clone(),
    };
    let Some(live) = cluster.get(&place).await? else {
        return Ok(Vec::new());
    };
    if name.kind == "Pod" {
        return Ok(vec![live]);
    }
    let Some(labels) = selector(&live) else {
        return Ok(Vec::new());
    };
    cluster
        .list(&Kind::pod(), name.namespace.as_deref(), &labels)
        .await
}

/// What an object selects its pods by; expressions beside labels only narrow that down.
fn selector(live: &Value) -> Option<String> {
    let labels = live.pointer("/spec/selector/matchLabels")?.as_object()?;
    let pairs = labels.iter().map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        format!("{key}={value}")
    });
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

fn of_pod(pod: &Value) -> Vec<Container> {
    let names = pod.pointer("/spec/containers").and_then(Value::as_array);
    let names: Vec<&str> = names
        .into_iter()
        .flatten()
        .filter_map(|container| container.get("name")?.as_str())
        .collect();
    let status = |name: &str| {
        let all = pod.pointer("/status/containerStatuses")?.as_array()?;
        all.iter().find(|status| text(status, "/name") == name)
    };
    let container = |name: &&str| {
        let status = status(name);
        let begun = status.is_some_and(|status| status.pointer("/state/waiting").is_none());
        let restarts = status.and_then(|status| status.get("restartCount")?.as_u64());
        Container {
            namespace: text(pod, "/metadata/namespace").to_owned(),
            pod: text(pod, "/metadata/name").to_owned(),
            uid: text(pod, "/metadata/uid").to_owned(),
            container: (*name).to_owned(),
            restarts: restarts.unwrap_or(0),
            begun: begun || restarts.is_some_and(|restarts| restarts > 0),
            several: names.len() > 1,
        }
    };
    names.iter().map(container).collect()
}

fn exit_code(pod: &Value) -> Option<i32> {
    let all = pod.pointer("/status/containerStatuses")?.as_array()?;
    let code = |status: &Value| status.pointer("/state/terminated/exitCode")?.as_i64();
    let codes = all.iter().filter_map(code);
    codes.max().and_then(|code| i32::try_from(code).ok())
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_tells_of_each_of_its_containers() {
        let pod = json!({
            "metadata": {"namespace": "shop", "name": "web-1", "uid": "7"},
            "spec": {"containers": [{"name": "web"}, {"name": "log"}]},
            "status": {"containerStatuses": [
                {"name": "web", "restartCount": 2, "state": {"terminated": {"exitCode": 3}}},
                {"name": "log", "restartCount": 0, "state": {"waiting": {}}},
            ]},
        });
        let found = of_pod(&pod);
        assert_eq!((found[0].restarts, found[0].begun), (2, true));
        assert!(!found[1].begun && found[1].several);
        assert_eq!(exit_code(&pod), Some(3));
    }

    #[test]
    fn a_selector_is_written_as_labels() {
        let live = json!({"spec": {"selector": {"matchLabels": {"app": "web", "tier": "x"}}}});
        assert_eq!(selector(&live).unwrap(), "app=web,tier=x");
        let empty = json!({"spec": {"selector": {"matchLabels": {}}}});
        assert_eq!(selector(&empty), None, "it would select every pod");
    }
}
