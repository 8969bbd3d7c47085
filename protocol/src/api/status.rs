//! How a track stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::deployment::{Phase, TargetCounts};
use crate::api::wait::Wait;
use crate::name::{EnvironmentName, ServiceName, Version};

/// One service in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What has held there.
    pub stable: Option<Stable>,
    /// The newest deployment.
    pub current: Option<Current>,
    /// What it should be.
    pub wanted: Option<Wanted>,
    /// How the targets do.
    pub targets: TargetCounts,
    /// On how many targets it is placed in each runtime, by runtime.
    #[serde(default)]
    pub runtimes: BTreeMap<String, u32>,
    /// Why it does not move.
    pub waits: Vec<Wait>,
    /// Whether a person has paused it.
    #[serde(default)]
    pub paused: bool,
}

/// A release that has held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stable {
    /// The release.
    pub version: Version,
    /// The revision whose configuration it has.
    pub revision: u64,
}

/// The newest deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// Its number.
    pub deployment: u64,
    /// Its release.
    pub version: Version,
    /// Where it stands.
    pub phase: Phase,
}

/// What a track should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// The release.
    pub version: Version,
    /// The rule that says so: `newest`, `after`.
    pub rule: String,
}
