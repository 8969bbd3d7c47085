//! Registering releases and artifacts.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_engine::compiled::Service;
use holdfast_homes::resolve::Found;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::release::{NewRelease, Release, ReleaseArtifact, UPLOAD};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::image::Repository;
use holdfast_protocol::name::{ArtifactName, ServiceName};

use super::{Round, World};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::write::Write;

/// Most key-value pairs of a release's metadata.
const META_MAX: usize = 64;
/// Longest value of a release's metadata, in bytes.
const META_VALUE_MAX_BYTES: usize = 1_024;

impl Round<'_> {
    /// Registers a release; `found` is what its homes lead to. The same again is answered with the one
    /// that is there.
    ///
    /// # Errors
    /// [`Refused`] when the service is not declared, an artifact was not uploaded, or the version is
    /// taken by other content.
    pub fn create_release(
        &mut self,
        service: &ServiceName,
        (new, found): (&NewRelease, &BTreeMap<ArtifactName, Found>),
        by: &str,
    ) -> Result<Release, Refused> {
        let artifacts = self.world.check_release(service, new, found)?;
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
}

fn answer_repetition(
    there: &Release,
    new: &NewRelease,
    artifacts: &BTreeMap<ArtifactName, ReleaseArtifact>,
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
        found: &BTreeMap<ArtifactName, Found>,
    ) -> Result<BTreeMap<ArtifactName, ReleaseArtifact>, Refused> {
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
        check_names(declared, new)?;
        let homes = found.iter().map(|(name, found)| {
            let artifact = ReleaseArtifact {
                reference: found.home.to_string(),
                digest: found.digest,
                size: found.size,
                gone: false,
            };
            Ok((name.clone(), artifact))
        });
        let artifact = |(name, digest): (&ArtifactName, &Digest)| {
            let artifact = match declared.images.get(name) {
                Some(repository) => image(name, repository, *digest, new)?,
                None => self.uploaded(name, *digest)?,
            };
            Ok((name.clone(), artifact))
        };
        new.artifacts.iter().map(artifact).chain(homes).collect()
    }

    fn uploaded(&self, name: &ArtifactName, digest: Digest) -> Result<ReleaseArtifact, Refused> {
        let size = *self.artifacts.get(&digest).ok_or_else(|| {
            Refused::new(
                Code::BadRequest,
                format!("the content of artifact {name} ({digest}) was not uploaded"),
            )
            .help("upload it first: PUT /v1/artifacts/DIGEST")
        })?;
        Ok(ReleaseArtifact {
            reference: UPLOAD.to_owned(),
            digest,
            size,
            gone: false,
        })
    }
}

/// A release gives every artifact that its service declares, and no other.
fn check_names(declared: &Service, new: &NewRelease) -> Result<(), Refused> {
    let declares = |name: &&ArtifactName| {
        declared.artifacts.contains_key(*name) || declared.images.contains_key(*name)
    };
    let mut given = new.artifacts.keys().chain(new.homes.keys());
    if let Some(twice) = new.homes.keys().find(|n| new.artifacts.contains_key(*n)) {
        let message = format!("artifact {twice} is given twice: by digest and by its home");
        return Err(Refused::new(Code::BadRequest, message));
    }
    let image = |name: &&ArtifactName| declared.images.contains_key(*name);
    if let Some(image) = new.homes.keys().find(image) {
        let message = format!("artifact {image} is an image, which its engine pulls by itself");
        return Err(Refused::new(Code::BadRequest, message).help(format!(
            "name it without oci://: --artifact {image}=REPOSITORY@sha256:DIGEST"
        )));
    }
    if let Some(stray) = given.find(|name| !declares(name)) {
        let message = format!("{} declares no artifact {stray}", declared.name);
        return Err(Refused::new(Code::BadRequest, message)
            .help("name it under spec.artifacts of the service, or leave it out"));
    }
    let missing =
        |name: &&ArtifactName| !new.artifacts.contains_key(*name) && !new.homes.contains_key(*name);
    let refused = |name: &ArtifactName, what: &str, help: String| {
        let message = format!("release {} gives no {what} {name}", new.version);
        Refused::new(Code::BadRequest, message).help(help)
    };
    if let Some(file) = declared.artifacts.keys().find(missing) {
        let help = format!("add --file {file}=PATH, or --artifact {file}=oci://… or https://…");
        return Err(refused(file, "content for the artifact", help));
    }
    match declared.images.iter().find(|(name, _)| missing(name)) {
        None => Ok(()),
        Some((name, repository)) => {
            let help = format!("add --artifact {name}={repository}@sha256:DIGEST");
            Err(refused(name, "image for the artifact", help))
        }
    }
}

/// An image is kept by its registry; it has to be the one that the service names.
fn image(
    name: &ArtifactName,
    repository: &str,
    digest: Digest,
    new: &NewRelease,
) -> Result<ReleaseArtifact, Refused> {
    let declared = Repository::parse(repository).ok();
    let given = new.repositories.get(name);
    if let Some(given) = given.filter(|given| Repository::parse(given).ok() != declared) {
        let message = format!("artifact {name} is an image of {repository}, not of {given}");
        return Err(Refused::new(Code::BadRequest, message)
            .help("change spec.artifacts of the service first, if it has moved"));
    }
    Ok(ReleaseArtifact {
        reference: format!("{repository}@{digest}"),
        digest,
        size: 0,
        gone: false,
    })
}
