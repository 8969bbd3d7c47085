//! Environments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::EnvironmentName;

/// One environment as declared, with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// Who owns it.
    pub owner: String,
    /// The environments that come before it.
    pub after: Vec<EnvironmentName>,
    /// `latest`.
    pub promotion: String,
    /// The waves, as declared: `1`, `25%`.
    pub waves: Vec<String>,
    /// Targets that joined it.
    pub targets: u32,
    /// Targets connected now.
    pub connected: u32,
}
