//! What a person asks of one track.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::Version;

/// The wish.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Steer {
    /// Why; recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which release, for `rollback`; the stable one before otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Steered {
    /// What was done, or that it was so already.
    pub message: String,
    /// Whether anything changed.
    pub changed: bool,
    /// The deployment that it made or touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
}
