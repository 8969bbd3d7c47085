//! Releases: immutable, numbered versions of a service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::home::Home;
use crate::name::{ArtifactName, ServiceName, Version};
use crate::time::Timestamp;

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The service.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// Its place in the order of the service's releases, from 1.
    pub sequence: u64,
    /// Its artifacts.
    pub artifacts: BTreeMap<ArtifactName, ReleaseArtifact>,
    /// The commit it was built from.
    #[serde(default)]
    pub commit: Option<String>,
    /// Whatever else its author said of it.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// One artifact of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseArtifact {
    /// Where it comes from: `upload`, its home (`oci://…@sha256:…`, `https://…`), or an image's
    /// reference.
    #[serde(rename = "ref")]
    pub reference: String,
    /// SHA-256 of its content; of its manifest where it is an image.
    pub digest: Digest,
    /// Length in bytes; 0 of an image, which the coordinator does not keep.
    pub size: u64,
    /// Whether an uploaded file was removed since: the release cannot be deployed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// What [`ReleaseArtifact::reference`] says of an uploaded file.
pub const UPLOAD: &str = "upload";

impl ReleaseArtifact {
    /// Where it stays, where it is neither uploaded nor an image.
    #[must_use]
    pub fn home(&self) -> Option<Home> {
        self.reference.parse().ok()
    }

    /// Whether the coordinator keeps the file.
    #[must_use]
    pub fn is_uploaded(&self) -> bool {
        self.reference == UPLOAD
    }
}

/// A release to be registered. Registering the same again changes nothing; the same version with
/// other content is a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRelease {
    /// Its version.
    pub version: Version,
    /// Digest of each artifact: of an uploaded file's content, of an image's manifest.
    #[serde(default)]
    pub artifacts: BTreeMap<ArtifactName, Digest>,
    /// The repository that an image was named with, where it was. It has to be the one that the
    /// service declares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repositories: BTreeMap<ArtifactName, String>,
    /// Files that stay where they are: `oci://REGISTRY/REPOSITORY@sha256:…` (or `:TAG`, which is
    /// resolved once), `https://HOST/PATH#sha256=…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub homes: BTreeMap<ArtifactName, String>,
    /// The commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whatever else is to be known of it.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}
