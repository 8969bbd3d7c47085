//! Who asks, and who vouches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::role::{Permission, Scope};
use crate::name::{EnvironmentName, RoleName, TargetName};
use crate::time::Timestamp;

/// Who the bearer of a token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Whoami {
    /// The user.
    pub user: String,
    /// The user's roles.
    pub roles: Vec<RoleName>,
    /// What the roles together let the user do, within what each of them is limited to.
    #[serde(default)]
    pub permissions: Vec<Permission>,
    /// The same, role by role, with what each is limited to.
    #[serde(default)]
    pub grants: Vec<Granted>,
    /// When the token ends; never, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The coordinator's release.
    pub coordinator_version: String,
    /// Name of the installation's trust domain.
    pub trust_domain: String,
}

/// What one role lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// The role.
    pub role: RoleName,
    /// What it allows.
    pub permissions: Vec<Permission>,
    /// What it is limited to.
    pub scope: Scope,
}

/// The state of the certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// Name of the trust domain.
    pub trust_domain: String,
    /// The root.
    pub root: Authority,
    /// One intermediate for each environment.
    pub environments: Vec<EnvironmentAuthority>,
}

/// One certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// The authority of one environment and the certificates that it issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentAuthority {
    /// The environment.
    pub environment: EnvironmentName,
    /// Its intermediate.
    #[serde(flatten)]
    pub authority: Authority,
    /// Certificates in force.
    pub certificates: u64,
    /// Targets whose certificate has expired.
    pub expired: Vec<TargetName>,
    /// Targets that were revoked.
    pub revoked: Vec<TargetName>,
}
