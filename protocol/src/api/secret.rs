//! Secrets: set, and never read.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::name::{EnvironmentName, SecretName, ServiceName};
use crate::time::Timestamp;

/// A value to be kept. Exactly one of `value` and `base64` is there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSecret {
    /// The secret.
    pub name: SecretName,
    /// The environment that it is for, and no other.
    pub environment: EnvironmentName,
    /// The value, where it is text.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub value: Option<String>,
    /// The value in base64 (RFC 4648, section 4), where it is not.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub base64: Option<String>,
    /// Whether there has to be a value already.
    #[serde(default)]
    pub rotate: bool,
}

/// The value stays out of every log.
impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSecret")
            .field("name", &self.name)
            .field("environment", &self.environment)
            .field("rotate", &self.rotate)
            .finish_non_exhaustive()
    }
}

/// A text. Where it is none, the message does not repeat what it is.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(D::Error::custom("the value of a secret is a text"))
        }
    }
}

/// What is told of a secret: everything but its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// The environment that it is for.
    pub environment: EnvironmentName,
    /// The number of its newest value, from 1.
    pub version: u64,
    /// When that was set.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
    /// The services whose manifests name it in this environment.
    pub used_by: Vec<ServiceName>,
    /// Numbers of the values that are kept, since something may still go back to them; ascending.
    pub kept: Vec<u64>,
}
