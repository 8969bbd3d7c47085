//! How this target stands, for `status`: the newest picture, replaced as a whole by the driver.

use std::collections::BTreeMap;

use holdfast_certs::certificate::TargetCertificate;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use holdfast_protocol::observed::{Hold, State, TargetConditionKind};
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer to `status`, as in the interface contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The target's name.
    pub name: TargetName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Whether there is a connection to the coordinator.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Number of the assignment in force.
    pub generation: Option<u64>,
    /// Its epoch.
    pub epoch: Option<u64>,
    /// Digest of the assignment in force.
    pub digest: Option<String>,
    /// Whether everything is as assigned and ready.
    pub converged: bool,
    /// The workloads, by service.
    pub workloads: Vec<WorkloadLine>,
    /// What is wrong with the target itself.
    pub conditions: Vec<ConditionLine>,
    /// Why there is no connection, if there is none.
    pub last_error: Option<String>,
    /// When the certificate ends.
    pub certificate_expires: Timestamp,
    /// Transitions that the coordinator has not stored yet.
    pub journaled: usize,
    /// Set while this target's own site asks for it to be left alone.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// The adapter that has each service.
    #[serde(skip)]
    pub runtimes: BTreeMap<ServiceName, String>,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadLine {
    /// The service.
    pub service: ServiceName,
    /// The release that runs, if one does.
    pub release: Option<Version>,
    /// The adapter.
    pub runtime: Option<String>,
    /// Whether what is wanted runs and is ready.
    pub ready: bool,
    /// How it is doing.
    pub state: State,
    /// Why.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// Restarts since it was first started.
    pub restarts: u32,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionLine {
    /// What kind.
    pub kind: TargetConditionKind,
    /// Why.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

impl Snapshot {
    /// What is known before anything was looked at.
    #[must_use]
    pub fn nothing(certificate: &TargetCertificate) -> Self {
        Self {
            name: certificate.identity.target.clone(),
            environment: certificate.identity.environment.clone(),
            connected: false,
            since: certificate.not_before,
            generation: None,
            epoch: None,
            digest: None,
            converged: false,
            workloads: Vec::new(),
            conditions: Vec::new(),
            last_error: None,
            certificate_expires: certificate.not_after,
            journaled: 0,
            hold: None,
            runtimes: BTreeMap::new(),
        }
    }

    /// The adapter that has a service.
    #[must_use]
    pub fn runtime_of(&self, service: &ServiceName) -> Option<String> {
        self.runtimes.get(service).cloned()
    }
}
