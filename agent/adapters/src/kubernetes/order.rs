//! In which order the objects of a set are applied; they are removed the other way round. Pure.

/// Kinds in the order in which they are applied: what others need comes first. Kinds that are not
/// here, custom resources above all, come after all of them but the last.
const ORDER: &[&str] = &[
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "IngressClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "PodDisruptionBudget",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "Ingress",
];
/// Kinds after all others: what they name must be there, and they may refuse what comes later.
const LAST: &[&str] = &[
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// Place of a kind in the order.
pub(super) fn rank(kind: &str) -> usize {
    let at = |kinds: &[&str]| kinds.iter().position(|known| *known == kind);
    at(ORDER)
        .or_else(|| at(LAST).map(|i| ORDER.len() + 1 + i))
        .unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first_and_webhooks_last() {
        let kinds = [
            "Namespace",
            "CustomResourceDefinition",
            "ConfigMap",
            "Deployment",
            "Certificate",
            "ValidatingWebhookConfiguration",
        ];
        assert!(kinds.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert_eq!(rank("Certificate"), rank("Widget"));
    }
}
