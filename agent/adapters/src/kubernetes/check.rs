//! Whether something that is to be deleted would take what others made with it: a namespace, or the
//! definition of a kind.

use holdfast_protocol::name::ServiceName;
use kube::core::params::GetParams;
use kube::core::request::Request;
use serde::Deserialize;
use serde_json::Value;

use super::cluster::{Cluster, Place};
use super::kind::Kind;
use super::record::{AGENT_LABEL, SERVICE_LABEL};
use super::refusal::ClusterError;
use crate::failure::Failure;

/// Kinds that the cluster itself fills, and that say nothing of others.
const OF_THE_CLUSTER: &[&str] = &["Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics"];

/// All groups of a cluster.
#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    preferred_version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

/// Refuses where something of others would go, too.
pub(super) async fn holds_nothing_of_others(
    cluster: &Cluster,
    place: &Place,
    live: &Value,
    agent: &str,
    service: &ServiceName,
) -> Result<(), Failure> {
    let (kinds, namespace) = match place.name.kind.as_str() {
        "Namespace" => (all_kinds(cluster).await?, Some(place.name.name.as_str())),
        "CustomResourceDefinition" => (defined(live).into_iter().collect(), None),
        _ => return Ok(()),
    };
    let others = [
        format!("{AGENT_LABEL}!={agent}"),
        format!("{AGENT_LABEL}={agent},{SERVICE_LABEL}!={service}"),
    ];
    for kind in &kinds {
        for labels in &others {
            let found = match cluster.list(kind, namespace, labels).await {
                Ok(found) => found,
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(other) = found.iter().find(|object| is_somebodys(&kind.kind, object)) {
                let name = other.pointer("/metadata/name").and_then(Value::as_str);
                return Err(Failure::Retryable(format!(
                    "{} is left, since it holds {} {} of others: delete or move that first",
                    place.name,
                    kind.kind,
                    name.unwrap_or_default()
                )));
            }
        }
    }
    Ok(())
}

/// Whether somebody made an object: not the cluster for every namespace, nor another object.
fn is_somebodys(kind: &str, object: &Value) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let owned = object.pointer("/metadata/ownerReferences").is_some();
    let name = text("/metadata/name").unwrap_or_default();
    let given = match kind {
        "ServiceAccount" => name == "default",
        "ConfigMap" => name == "kube-root-ca.crt",
        "Secret" => text("/type") == Some("kubernetes.io/service-account-token"),
        other => OF_THE_CLUSTER.contains(&other),
    };
    !owned && !given
}

/// Every kind that is in namespaces.
async fn all_kinds(cluster: &Cluster) -> Result<Vec<Kind>, ClusterError> {
    let attempt = "list all kinds";
    // A list of groups is got like any one thing of a path.
    let request = Request::new("").get("apis", &GetParams::default());
    let request = request.map_err(super::cluster::unbuilt(attempt))?;
    let groups: Groups = cluster
        .ask(attempt, cluster.client().request_text(request))
        .await?;
    let mut kinds = cluster.kinds_of("v1").await?.unwrap_or_default();
    for group in groups.groups {
        let api = group.preferred_version.group_version;
        kinds.extend(cluster.kinds_of(&api).await?.unwrap_or_default());
    }
    kinds.retain(|kind| kind.namespaced);
    Ok(kinds)
}

/// The kind that a definition serves.
fn defined(live: &Value) -> Option<Kind> {
    let text = |pointer: &str| live.pointer(pointer)?.as_str();
    let versions = live.pointer("/spec/versions")?.as_array()?;
    let served = |version: &&Value| version.get("served") == Some(&Value::Bool(true));
    let version = versions.iter().find(served)?.get("name")?.as_str()?;
    Some(Kind {
        api: format!("{}/{version}", text("/spec/group")?),
        kind: text("/spec/names/kind")?.to_owned(),
        plural: text("/spec/names/plural")?.to_owned(),
        namespaced: text("/spec/scope") == Some("Namespaced"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_cluster_puts_into_every_namespace_is_nobodys() {
        let named = |name: &str| json!({"metadata": {"name": name}});
        assert!(!is_somebodys("ServiceAccount", &named("default")));
        assert!(!is_somebodys("ConfigMap", &named("kube-root-ca.crt")));
        assert!(!is_somebodys("Event", &named("web.17")));
        let token =
            json!({"metadata": {"name": "t"}, "type": "kubernetes.io/service-account-token"});
        assert!(!is_somebodys("Secret", &token));
        let pod = json!({"metadata": {"name": "web-1", "ownerReferences": [{}]}});
        assert!(!is_somebodys("Pod", &pod));
        assert!(is_somebodys("ConfigMap", &named("mine")));
        assert!(is_somebodys("Pod", &named("mine")));
    }
}
