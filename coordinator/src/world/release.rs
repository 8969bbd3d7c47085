//! Registering releases and artifacts.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::api::Code;
use holdfast_protocol::api::release::{NewRelease, Release, ReleaseArtifact};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;

use super::{Round, World};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::write::Write;

/// Most key-value pairs of a release's metadata.
const META_MAX: usize = 64;
/// Longest value of a release's metadata, in bytes.
const META_VALUE_MAX_BYTES: usize = 1_024;

impl Round<'_> {
    /// Registers a release. The same again is answered with the one that is there.
    ///
    /// # Errors
    /// [`Refused`] when the service is not declared, an artifact was not uploaded, or the version is
    /// taken by other content.
    pub fn create_release(
        &mut self,
        service: &ServiceName,
        new: &NewRelease,
        by: &str,
    ) -> Result<Release, Refused> {
        let artifacts = self.world.check_release(service, new)?;
        let there = self.world.releases.entry(service.clone()).or_default();
        if let Some(same) = there.iter().find(|release| release.version == new.version) {
            return answer_repetition(same, new, &artifacts);
        }
        let release = Release {
            service: service.clone(),
            version: new.version.clone(),
            sequence: there.last().map_or(1, |last| last.sequence + 1),
            artifacts,
            commit: new.commit.clone(),
            meta: new.meta.clone(),
            created_at: self.now,
            created_by: by.to_owned(),
        };
        there.push(Arc::new(release.clone()));
        self.writes.push(Write::Release(release.clone()));
        self.record(Entry {
            kind: "release.created",
            actor: Some(by.to_owned()),
            message: format!(
                "{service} {} is release {}",
                release.version, release.sequence
            ),
            service: Some(service.clone()),
            ..Entry::default()
        });
        let tracks = self
            .world
            .tracks
            .keys()
            .filter(|name| name.service == *service);
        self.moved.extend(tracks.cloned());
        Ok(release)
    }

    /// Notes that the content of an artifact is complete and on disk.
    pub fn artifact_stored(&mut self, digest: Digest, size: u64) {
        if self.world.artifacts.insert(digest, size).is_none() {
            self.writes.push(Write::Artifact { digest, size });
        }
    }
}

fn answer_repetition(
    there: &Release,
    new: &NewRelease,
    artifacts: &BTreeMap<holdfast_protocol::name::ArtifactName, ReleaseArtifact>,
) -> Result<Release, Refused> {
    if there.artifacts == *artifacts {
        return Ok(there.clone());
    }
    Err(Refused::new(
        Code::Conflict,
        format!(
            "{} {} exists with other artifacts",
            there.service, new.version
        ),
    )
    .help("releases never change: give the new content a new version"))
}

impl World {
    fn check_release(
        &self,
        service: &ServiceName,
        new: &NewRelease,
    ) -> Result<BTreeMap<holdfast_protocol::name::ArtifactName, ReleaseArtifact>, Refused> {
        let declared = self.compiled.services.get(service).ok_or_else(|| {
            Refused::new(Code::NotFound, format!("no service {service} is declared"))
                .help("apply its manifest first: holdfast apply -f DIR")
        })?;
        let mut texts = new.meta.iter().flat_map(|(key, value)| [key, value]);
        let too_long = |text: &String| text.len() > META_VALUE_MAX_BYTES;
        if new.meta.len() > META_MAX
            || texts.any(too_long)
            || new.commit.as_ref().is_some_and(too_long)
        {
            return Err(Refused::new(
                Code::TooLarge,
                format!(
                    "at most {META_MAX} metadata values, and a commit, of {META_VALUE_MAX_BYTES} \
                     bytes each"
                ),
            ));
        }
        if let Some(stray) = new
            .artifacts
            .keys()
            .find(|name| !declared.artifacts.contains_key(*name))
        {
            return Err(Refused::new(
                Code::BadRequest,
                format!("{service} declares no artifact {stray}"),
            )
            .help("name it under spec.artifacts of the service, or leave it out"));
        }
        if let Some(missing) = declared
            .artifacts
            .keys()
            .find(|name| !new.artifacts.contains_key(*name))
        {
            return Err(Refused::new(
                Code::BadRequest,
                format!(
                    "release {} gives no content for the artifact {missing}",
                    new.version
                ),
            )
            .help(format!("add --file {missing}=PATH")));
        }
        new.artifacts
            .iter()
            .map(|(name, digest)| {
                let size = *self.artifacts.get(digest).ok_or_else(|| {
                    Refused::new(
                        Code::BadRequest,
                        format!("the content of artifact {name} ({digest}) was not uploaded"),
                    )
                    .help("upload it first: PUT /v1/artifacts/DIGEST")
                })?;
                let artifact = ReleaseArtifact {
                    reference: "upload".to_owned(),
                    digest: *digest,
                    size,
                };
                Ok((name.clone(), artifact))
            })
            .collect()
    }
}
