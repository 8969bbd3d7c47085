//! What a person asks of one track.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::name::{ProtectionName, Version};

/// The wish.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Steer {
    /// Why; recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which release: for `deploy` and `pin`; for `rollback` the stable one before where none is
    /// named, for `promote` the newest that may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Past order, windows and checks that may be skipped; only for `deploy`, and with a reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hotfix: bool,
}

/// What a person says of one deployment: `approve`, `reject`, `skip`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judgement {
    /// Why; recorded. `skip` needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which protection, for `skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<ProtectionName>,
    /// For `approve`: digest of what was shown, from the deployment. With one, an approval of what
    /// has changed since is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Digest>,
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
