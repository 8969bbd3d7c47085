//! Freezes: nothing starts in an environment, or anywhere.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::EnvironmentName;
use crate::time::Timestamp;

/// A wish to freeze. The same again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewFreeze {
    /// Which environment; all where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// Why; recorded and shown to everybody who waits.
    pub reason: String,
}

/// A freeze in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Which environment; all where none is named.
    pub environment: Option<EnvironmentName>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}
