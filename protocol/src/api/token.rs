//! Join tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::EnvironmentName;
use crate::time::Timestamp;

/// A join token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// The environment that its bearers join.
    pub environment: EnvironmentName,
    /// How long it may be used: `1h`; at most `24h`.
    #[serde(default = "default_ttl")]
    pub ttl: String,
    /// How many targets may use it.
    #[serde(default = "default_uses")]
    pub uses: u32,
    /// Labels of the targets that join with it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn default_ttl() -> String {
    "1h".to_owned()
}

const fn default_uses() -> u32 {
    1
}

/// A token just made: the only time that its secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    /// The token, complete.
    pub token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub about: Token,
}

/// The secret stays out of every log.
impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its public part.
    pub id: String,
    /// The environment that its bearers join.
    pub environment: EnvironmentName,
    /// Labels of the targets that join with it.
    pub labels: BTreeMap<String, String>,
    /// How many targets may use it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether a person has revoked it.
    pub revoked: bool,
}
