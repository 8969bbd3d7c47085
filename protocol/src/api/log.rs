//! Output of workloads.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ServiceName, TargetName};
use crate::time::Timestamp;

/// One line, or why there are none from a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// Where.
    pub target: TargetName,
    /// Whose.
    pub service: ServiceName,
    /// When, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Why this target gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}
