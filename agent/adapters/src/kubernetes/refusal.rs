//! What can go wrong with a cluster, and whether trying again may help.

use kube::core::Status;

use crate::failure::Failure;

/// A cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// Nobody said where it is.
    #[error(
        "no Kubernetes cluster is known here: name a kubeconfig in [kubernetes] of agent.toml, or run the agent in the cluster"
    )]
    Unnamed,
    /// What says where it is cannot be used.
    #[error("cannot use {what}: {why}")]
    Unusable {
        /// The kubeconfig, or the pod's service account.
        what: String,
        /// Why.
        why: String,
    },
    /// It cannot be reached.
    #[error("cannot {attempt}: the Kubernetes API at {url} cannot be reached: {why}")]
    Away {
        /// What was attempted.
        attempt: String,
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It did not answer.
    #[error("cannot {attempt}: the Kubernetes API at {url} did not answer within {seconds} s")]
    Slow {
        /// What was attempted.
        attempt: String,
        /// Where.
        url: String,
        /// How long it had.
        seconds: u64,
    },
    /// It said no.
    #[error("cannot {attempt}: {}", said(status))]
    Refused {
        /// What was attempted.
        attempt: String,
        /// What it said.
        status: Box<Status>,
    },
}

impl ClusterError {
    /// Whether what was asked for is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether this agent may not do it.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(status.code),
            Self::Unnamed | Self::Unusable { .. } | Self::Away { .. } | Self::Slow { .. } => None,
        }
    }

    /// The fields that others manage, each with who does: `(manager, field)`. Empty where that is not
    /// why it said no.
    pub(super) fn conflicts(&self) -> Vec<(String, String)> {
        let Self::Refused { status, .. } = self else {
            return Vec::new();
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes
            .filter(|cause| cause.reason == "FieldManagerConflict")
            .map(|cause| (holder(&cause.message), cause.field.clone()))
            .collect()
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        let said = error.to_string();
        match &error {
            ClusterError::Unnamed
            | ClusterError::Unusable { .. }
            | ClusterError::Away { .. }
            | ClusterError::Slow { .. } => Self::Retryable(said),
            ClusterError::Refused { status, .. } if may_pass(status) => Self::Retryable(said),
            ClusterError::Refused { status, .. } if status.code == 403 => Self::Permanent(format!(
                "{said}; let the agent do it by a Role, as in deploy/kubernetes"
            )),
            ClusterError::Refused { .. } => Self::Permanent(said),
        }
    }
}

/// Whether a refusal may pass by itself: credentials that are renewed, a quota, something that is
/// missing or is just going, a server that is busy or broken.
fn may_pass(status: &Status) -> bool {
    match status.code {
        400 | 405 | 406 | 413 | 415 | 422 => false,
        403 => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            let terminating = causes
                .map(|cause| cause.reason.as_str())
                .any(|reason| reason == "NamespaceTerminating");
            terminating || status.message.contains("exceeded quota")
        }
        _ => true,
    }
}

/// The server's own words.
fn said(status: &Status) -> String {
    let message = status.message.trim();
    match (message, status.code) {
        ("", code) => format!("the Kubernetes API answered {code}"),
        (message, code) if code >= 500 || code == 429 => {
            format!("the Kubernetes API answered {code}: {message}")
        }
        (message, _) => message.to_owned(),
    }
}

/// The manager's name in `conflict with "NAME" using VERSION`.
fn holder(message: &str) -> String {
    let quoted = message.split('"').nth(1);
    quoted.unwrap_or(message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(status: serde_json::Value) -> ClusterError {
        ClusterError::Refused {
            attempt: "apply ConfigMap shop/a".to_owned(),
            status: Box::new(serde_json::from_value(status).unwrap()),
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for (code, retryable) in [
            (401, true),
            (403, false),
            (404, true),
            (409, true),
            (422, false),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let failure = Failure::from(refused(json!({"code": code, "message": "no"})));
            assert_eq!(failure.is_retryable(), retryable, "{code}");
        }
        let going = json!({"code": 403, "message": "being terminated",
            "details": {"causes": [{"reason": "NamespaceTerminating"}]}});
        assert!(Failure::from(refused(going)).is_retryable());
    }

    #[test]
    fn a_conflict_names_manager_and_field() {
        let error = refused(
            json!({"code": 409, "message": "Apply failed with 1 conflict",
            "details": {"causes": [{"reason": "FieldManagerConflict", "field": ".spec.replicas",
                "message": "conflict with \"kubectl-edit\" using apps/v1"}]}}),
        );
        let expected = ("kubectl-edit".to_owned(), ".spec.replicas".to_owned());
        assert_eq!(error.conflicts(), [expected]);
        assert!(refused(json!({"code": 409})).conflicts().is_empty());
    }
}
