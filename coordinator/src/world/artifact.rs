//! Artifacts: which target may have which, and which are needed no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_engine::compiled::Configuration;
use holdfast_engine::track::{Point, TrackName};
use holdfast_protocol::api::Code;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use holdfast_protocol::name::{ArtifactName, ServiceName, TargetName, Version};
use holdfast_protocol::workload::Workload;

use super::login::Told;
use super::{Round, World};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::write::Write;

/// Where the content of an artifact is to be had.
#[derive(Debug, Clone)]
pub enum Place {
    /// In the coordinator's store.
    Stored,
    /// In its own home, which is perhaps told something.
    Home(Home, Option<Told>),
    /// Nowhere any more.
    Gone,
}

/// An artifact that a target may have.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its length in bytes.
    pub size: u64,
    /// Where it is.
    pub place: Place,
}

impl World {
    /// An artifact, if a target's own assignment needs it.
    #[must_use]
    pub fn artifact_for(&self, target: &TargetName, digest: &Digest) -> Option<Content> {
        let entitled = self.targets.get(target)?.entitled();
        let bodies = entitled.filter_map(|body| self.bodies.get(body));
        let (workload, needed) = bodies
            .filter_map(|body| Workload::open(body).ok())
            .filter_map(|workload| {
                let mut artifacts = workload.artifacts.iter();
                let needed = artifacts
                    .find(|artifact| artifact.digest == *digest)?
                    .clone();
                Some((workload, needed))
            })
            // Of two that name one file, the one that can say who asks has a way to it.
            .max_by_key(|(workload, needed)| workload.login_of(&needed.name).is_some())?;
        Some(match (self.artifacts.get(digest), needed.home) {
            (Some(size), _) => Content {
                size: *size,
                place: Place::Stored,
            },
            (None, Some(home)) => Content {
                size: needed.size,
                place: Place::Home(home, self.told(&workload, &needed.name)),
            },
            (None, None) => Content {
                size: needed.size,
                place: Place::Gone,
            },
        })
    }

    /// Whether an artifact is of a release that the target's environment runs, has run or may run: a
    /// target that was away may still look for one that it does not need any more.
    #[must_use]
    pub fn is_artifact_nearby(&self, target: &TargetName, digest: &Digest) -> bool {
        let Some(there) = self.targets.get(target) else {
            return false;
        };
        let here = |service: &ServiceName| {
            self.tracks.contains_key(&TrackName {
                service: service.clone(),
                environment: there.kept.environment.clone(),
            })
        };
        self.releases
            .values()
            .flatten()
            .filter(|release| release.artifacts.values().any(|a| a.digest == *digest))
            .any(|release| here(&release.service))
    }

    /// The uploaded file of a release that was removed since, if there is one.
    #[must_use]
    pub fn gone_of<'r>(&self, release: &'r Release) -> Option<&'r ArtifactName> {
        let mut artifacts = release.artifacts.iter();
        let gone = |digest| !self.artifacts.contains_key(digest);
        let found = artifacts.find(|(_, a)| a.is_uploaded() && gone(&a.digest));
        found.map(|(name, _)| name)
    }

    /// Whether a release can be deployed with a configuration: it gives every artifact, and none of
    /// them was removed.
    #[must_use]
    pub fn is_usable(&self, release: &Release, configuration: &Configuration) -> bool {
        let here = |name: &ArtifactName| {
            let artifact = release.artifacts.get(name)?;
            Some(!artifact.is_uploaded() || self.artifacts.contains_key(&artifact.digest))
        };
        configuration.each().all(|one| {
            let mut images = one.images.keys();
            let mut files = one.artifacts.keys();
            images.all(|name| release.artifacts.contains_key(name))
                && files.all(|name| here(name) == Some(true))
        })
    }

    /// Refuses a release whose files were removed.
    ///
    /// # Errors
    /// [`Refused`], with what brings it back.
    pub fn check_complete(&self, service: &ServiceName, version: &Version) -> Result<(), Refused> {
        let releases = self.releases.get(service);
        let mut releases = releases.into_iter().flatten();
        let release = releases.find(|release| release.version == *version);
        let Some(name) = release.and_then(|release| self.gone_of(release)) else {
            return Ok(());
        };
        Err(Refused::new(
            Code::Conflict,
            format!(
                "{service} {version} cannot be deployed: the file of its artifact {name} was removed, \
                 as no track needed it and newer releases came"
            ),
        )
        .help(format!(
            "upload the same file again: holdfast release create {service} --version {version} \
             --file {name}=PATH"
        )))
    }

    /// A release as people see it: with the files that were removed.
    #[must_use]
    pub fn shown(&self, release: &Release) -> Release {
        let mut shown = release.clone();
        for artifact in shown.artifacts.values_mut() {
            artifact.gone =
                artifact.is_uploaded() && !self.artifacts.contains_key(&artifact.digest);
        }
        shown
    }

    /// The uploads that stay: of releases that are deployed, wanted or what a track would go back to,
    /// of the newest `keep` of each service, and whatever an assignment names.
    fn needed_artifacts(&self, keep: usize) -> BTreeSet<Digest> {
        let points = self.needed_points();
        let mut needed = self.assigned_artifacts();
        for (service, releases) in &self.releases {
            let newest = releases.len().saturating_sub(keep);
            for (index, release) in releases.iter().enumerate() {
                let place = (service, release.sequence);
                if index >= newest || points.contains(&place) {
                    needed.extend(release.artifacts.values().map(|a| a.digest));
                }
            }
        }
        needed
    }

    /// Which releases lost a file by the removal of these uploads, in words.
    fn without(&self, removed: &BTreeSet<Digest>) -> String {
        let lost = |release: &&Arc<Release>| {
            let mut artifacts = release.artifacts.values();
            artifacts.any(|a| a.is_uploaded() && removed.contains(&a.digest))
        };
        let counts = self
            .releases
            .iter()
            .map(|(service, releases)| (service, releases.iter().filter(lost).count()));
        let of: Vec<String> = counts
            .filter(|(_, count)| *count > 0)
            .map(|(service, count)| format!("{count} of {service}"))
            .collect();
        match of.as_slice() {
            [] => "no release had them".to_owned(),
            some => format!("releases without files now: {}", some.join(", ")),
        }
    }

    /// Service and place in order of every release that a track has or wants.
    fn needed_points(&self) -> BTreeSet<(&ServiceName, u64)> {
        let mut points = BTreeSet::new();
        for (name, track) in &self.tracks {
            let current = track.current.as_ref().map(|current| &current.point);
            let kept = [track.stable.as_ref(), track.earlier.last(), current];
            let placed = track.placements.values().map(|placement| &placement.point);
            let kept = kept.into_iter().flatten().chain(placed);
            points.extend(kept.map(|point: &Point| (&name.service, point.sequence)));
            points.extend(
                track
                    .asked
                    .iter()
                    .map(|asked| (&name.service, asked.sequence)),
            );
            points.extend(self.pinned(name, track.pinned.as_ref().map(|p| &p.version)));
        }
        points
    }

    fn pinned<'w>(
        &'w self,
        track: &'w TrackName,
        by_person: Option<&'w Version>,
    ) -> impl Iterator<Item = (&'w ServiceName, u64)> {
        let spec = self.compiled.tracks.get(track);
        let by_manifest = spec.and_then(|spec| spec.pin.as_ref());
        let versions: Vec<_> = by_person.into_iter().chain(by_manifest).collect();
        let releases = self.releases.get(&track.service).into_iter().flatten();
        releases
            .filter(move |release| versions.contains(&&release.version))
            .map(|release| (&track.service, release.sequence))
    }

    fn assigned_artifacts(&self) -> BTreeSet<Digest> {
        let assigned = self.targets.values().filter_map(|t| t.assigned.as_ref());
        let lines = assigned.flat_map(|assigned| &assigned.assignment.workloads);
        let named: BTreeSet<&Digest> = lines.map(|line| &line.body).collect();
        let bodies = named.into_iter().filter_map(|body| self.bodies.get(body));
        bodies
            .filter_map(|body| Workload::open(body).ok())
            .flat_map(|workload| workload.artifacts)
            .map(|artifact| artifact.digest)
            .collect()
    }
}

impl Round<'_> {
    /// Notes that the content of an artifact is complete and on disk.
    ///
    /// # Errors
    /// [`Refused`] while an earlier upload of the same is being removed.
    pub fn artifact_stored(&mut self, digest: Digest, size: u64) -> Result<(), Refused> {
        if self.world.removing.contains(&digest) {
            let message = format!("{digest} is just being removed");
            return Err(Refused::new(Code::Unavailable, message).help("upload it again"));
        }
        if self.world.artifacts.insert(digest, size).is_none() {
            self.writes.push(Write::Artifact { digest, size });
            // A release that had lost its file may be wanted.
            let had =
                |release: &Arc<Release>| release.artifacts.values().any(|a| a.digest == digest);
            let releases = self.world.releases.iter();
            let lost = releases.filter(|(_, of)| of.iter().any(had));
            let lost: BTreeSet<&ServiceName> = lost.map(|(service, _)| service).collect();
            let tracks = self.world.tracks.keys();
            let waiting = tracks.filter(|track| lost.contains(&track.service));
            self.moved.extend(waiting.cloned());
        }
        Ok(())
    }

    /// Forgets those of `old` that nothing needs, and says which files may be removed. They are not
    /// taken again before [`Self::artifacts_removed`].
    pub fn forget_artifacts(&mut self, old: &BTreeSet<Digest>, keep: usize) -> Vec<Digest> {
        let needed = self.world.needed_artifacts(keep);
        let unneeded: Vec<Digest> = old.difference(&needed).copied().collect();
        let mut bytes = 0;
        let mut known = BTreeSet::new();
        for digest in &unneeded {
            self.world.removing.insert(*digest);
            let Some(size) = self.world.artifacts.remove(digest) else {
                continue;
            };
            bytes += size;
            known.insert(*digest);
            self.writes.push(Write::DropArtifact(*digest));
        }
        if !known.is_empty() {
            let (count, without) = (known.len(), self.world.without(&known));
            let message = format!("uploads removed: {count}, {bytes} bytes; {without}");
            self.record(Entry {
                kind: "artifacts.removed",
                message,
                ..Entry::default()
            });
        }
        unneeded
    }

    /// Notes that the files are gone: the same may be uploaded again.
    pub fn artifacts_removed(&mut self, digests: &[Digest]) {
        for digest in digests {
            self.world.removing.remove(digest);
        }
    }
}
