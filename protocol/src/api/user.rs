//! Who may use the API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{RoleName, UserName};
use crate::time::Timestamp;

/// A user to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    /// The name.
    pub name: UserName,
    /// The roles, at least one.
    pub roles: Vec<RoleName>,
    /// How long the token is valid: `90d`; without end if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// A user's new token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotate {
    /// How long the new token is valid: `90d`; as long as the one before if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// A user's new roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRoles {
    /// All the roles that the user has from now on, at least one.
    pub roles: Vec<RoleName>,
}

/// A user who was made or whose token was. A token is shown only now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedUser {
    /// The token; none when the user was there already, since a token is shown only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What is known of the user.
    #[serde(flatten)]
    pub about: User,
}

/// The secret stays out of every log.
impl std::fmt::Debug for CreatedUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedUser")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The name.
    pub name: UserName,
    /// The roles.
    pub roles: Vec<RoleName>,
    /// When the token was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When the token ends; never, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether the token is void.
    pub revoked: bool,
}
