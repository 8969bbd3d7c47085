//! Why a track does not move, down to the root.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::wait::Wait;
use crate::name::{EnvironmentName, ServiceName};

/// One wait of the chain. Those of the track that was asked about come with `depth` 0; each is
/// followed by the waits of the track that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The wait.
    #[serde(flatten)]
    pub wait: Wait,
    /// The service that waits.
    pub service: ServiceName,
    /// The environment that it waits in.
    pub environment: EnvironmentName,
    /// How many tracks away from the one that was asked about.
    pub depth: u32,
    /// Whether nothing that waits is behind it: this is what somebody has to end.
    pub root: bool,
}
