//! Workloads for the tests of this crate.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, ServiceName, Version};
use holdfast_protocol::workload::{Rollback, Workload};

/// A workload of runtime `process` without artifacts or checks.
pub(crate) fn workload(service: &str, version: &str) -> Workload {
    Workload {
        service: ServiceName::parse(service).unwrap(),
        environment: EnvironmentName::parse("staging").unwrap(),
        version: Version::parse(version).unwrap(),
        sequence: 1,
        configuration: Digest::of(b"configuration"),
        runtime: "process".to_owned(),
        template: r#"{"command":["/bin/sleep","1000"]}"#.to_owned(),
        artifacts: Vec::new(),
        health: None,
        depends_on: Vec::new(),
        rollback: Rollback::Central,
        progress_deadline_ms: 60_000,
        job: None,
        logins: Vec::new(),
    }
}
