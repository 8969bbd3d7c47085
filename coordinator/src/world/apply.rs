//! Applying manifests: prepared outside the driver, since compiling takes time, and put into force in
//! one round.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_adapters as adapters;
use holdfast_engine::compile::{
    self as engine, Asked, Known, TemplateProblem, canonical, diff, removal,
};
use holdfast_engine::compiled::Compiled;
use holdfast_engine::manifest::{self, ManifestSet};
use holdfast_engine::track::{Track, TrackName};
use holdfast_engine::wake::Index;
use holdfast_protocol::api::apply::{Applied, ApplyRequest, Change, ManifestFile, PlanBase};
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::api::{Code, Diagnostic};
use holdfast_protocol::name::{ArtifactName, EnvironmentName, InputSetName};
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::Form;

use super::{Round, World};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::row;
use crate::store::write::Write;

/// What an apply is prepared against.
#[derive(Debug, Clone)]
pub struct Base {
    /// The revision in force.
    pub revision: u64,
    /// Its documents.
    pub manifests: Arc<BTreeMap<InputSetName, ManifestSet>>,
    /// Which targets and people there are.
    pub known: Known,
}

/// An apply, parsed and compiled.
#[derive(Debug)]
pub struct Prepared {
    /// The revision it was compiled against.
    pub base: u64,
    /// The set.
    pub set: InputSetName,
    /// The set's files.
    pub files: Vec<ManifestFile>,
    /// All documents with those of this set.
    pub manifests: Arc<BTreeMap<InputSetName, ManifestSet>>,
    /// The revision that would be in force.
    pub compiled: Arc<Compiled>,
    /// What changes, document by document.
    pub changes: Vec<Change>,
    /// Only say what would change.
    pub dry_run: bool,
    /// Removals are confirmed beforehand.
    pub confirm_removal: bool,
    /// The plan that is carried out.
    pub plan: Option<PlanBase>,
}

/// Why a prepared apply was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotApplied {
    /// Another apply came first: the request has to be prepared again.
    MovedOn,
    /// It cannot be done.
    Refused(Refused),
}

impl From<Refused> for NotApplied {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Parses and compiles a request against what is in force.
///
/// # Errors
/// Everything wrong with the manifests.
pub fn prepare(base: &Base, request: ApplyRequest) -> Result<Prepared, Vec<Diagnostic>> {
    let (set, diagnostics) = manifest::parse(&request.files);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let mut manifests = BTreeMap::clone(&base.manifests);
    manifests.insert(request.set.clone(), set);
    let compiled = compile(&manifests, &request.set, &base.known)?;
    let changes = diff::changes(&base.manifests, &manifests);
    Ok(Prepared {
        base: base.revision,
        set: request.set,
        files: request.files,
        manifests: Arc::new(manifests),
        compiled: Arc::new(compiled),
        changes,
        dry_run: request.dry_run,
        confirm_removal: request.confirm_removal,
        plan: request.plan,
    })
}

/// Compiles all sets with the runtimes that this build knows.
///
/// # Errors
/// Everything wrong with how the documents fit together.
pub fn compile(
    manifests: &BTreeMap<InputSetName, ManifestSet>,
    applied: &InputSetName,
    known: &Known,
) -> Result<Compiled, Vec<Diagnostic>> {
    engine::compile(manifests, applied, known, &validate)
}

/// What the adapters say of a template.
fn validate(asked: &Asked<'_>) -> Vec<TemplateProblem> {
    let artifacts: Vec<(ArtifactName, bool)> = asked
        .artifacts
        .iter()
        .map(|(name, file)| (name.clone(), Form::of_file(file) != Form::File))
        .collect();
    let context = adapters::Context {
        artifacts: &artifacts,
    };
    let problems = adapters::validate(asked.runtime, asked.template, &context);
    let job = adapters::refused_job(asked.runtime).filter(|_| asked.is_job);
    problems
        .into_iter()
        .chain(job)
        .map(|problem| TemplateProblem {
            path: problem.path,
            message: problem.message,
        })
        .collect()
}

impl World {
    /// What an apply is prepared against.
    #[must_use]
    pub fn base(&self, now: Timestamp) -> Base {
        let mut targets: BTreeMap<EnvironmentName, BTreeMap<_, _>> = BTreeMap::new();
        for target in self.targets.values() {
            let there = targets.entry(target.kept.environment.clone()).or_default();
            there.insert(target.kept.name.clone(), Arc::clone(&target.labels));
        }
        Base {
            revision: self.revision,
            manifests: Arc::clone(&self.manifests),
            known: Known {
                targets: Some(targets),
                roles: Some(self.roles_with_holders(now)),
            },
        }
    }

    /// The removals that an apply would make and that a person has to confirm.
    pub(super) fn held_removals(&self, prepared: &Prepared) -> Vec<removal::Removal> {
        if prepared.confirm_removal {
            return Vec::new();
        }
        let placed: BTreeMap<TrackName, usize> = self
            .tracks
            .iter()
            .map(|(name, track)| (name.clone(), track.placements.len()))
            .collect();
        removal::removals(&self.compiled, &prepared.compiled, &placed)
    }

    /// A removal that waits, as people are shown it before its track says so itself.
    pub(super) fn removal_wait(
        &self,
        removal: &removal::Removal,
        revision: u64,
        now: Timestamp,
    ) -> Wait {
        Wait {
            kind: WaitKind::Removal,
            subject: removal.environment.to_string(),
            message: removal.message.clone(),
            since: now,
            ends_by: vec![format!("holdfast confirm {revision}")],
            until: None,
        }
    }

    /// Whether the request still fits the world.
    pub(super) fn check_base(&self, prepared: &Prepared) -> Result<(), NotApplied> {
        let planned = prepared.plan.as_ref().map(|plan| plan.revision);
        if planned.is_some_and(|planned| planned != self.revision) {
            return Err(Refused::new(
                Code::Conflict,
                format!(
                    "the plan was made for revision {}, and revision {} is in force",
                    planned.unwrap_or_default(),
                    self.revision
                ),
            )
            .help("make a new plan: holdfast plan -f PATH --out FILE")
            .into());
        }
        if prepared.base == self.revision {
            Ok(())
        } else {
            Err(NotApplied::MovedOn)
        }
    }
}

impl Round<'_> {
    /// Puts a prepared apply into force, and everything that follows from it.
    ///
    /// # Errors
    /// [`NotApplied`] when the world has moved on or a new environment cannot have its keys.
    pub fn apply(&mut self, mut prepared: Prepared, by: &str) -> Result<Applied, NotApplied> {
        self.world.check_base(&prepared)?;
        self.world.stamp(&mut prepared.compiled);
        let next = self.world.revision + 1;
        let removals = self.world.held_removals(&prepared);
        let now = self.now;
        let waits = removals
            .iter()
            .map(|r| self.world.removal_wait(r, next, now))
            .collect();
        let mut applied = Applied {
            revision: self.world.revision,
            set: prepared.set.clone(),
            changed: false,
            changes: prepared.changes.clone(),
            held: waits,
            deployments: Vec::new(),
            dry_run: prepared.dry_run,
        };
        if prepared.dry_run || prepared.changes.is_empty() {
            return Ok(applied);
        }
        for environment in prepared.compiled.environments.keys() {
            self.ensure_environment(environment)?;
        }
        let first_new = self.world.last_deployment + 1;
        self.put_revision(prepared, next, &removals, by);
        self.settle();
        applied.revision = next;
        applied.changed = true;
        applied.deployments = self.world.current_since(first_new);
        Ok(applied)
    }

    fn put_revision(
        &mut self,
        prepared: Prepared,
        number: u64,
        held: &[removal::Removal],
        by: &str,
    ) {
        let files = serde_json::to_string(&prepared.files).expect("our own types serialise");
        self.writes.push(Write::Revision(row::Revision {
            number,
            set: prepared.set.clone(),
            files,
            changes: prepared.changes.clone(),
            created_at: self.now,
            created_by: by.to_owned(),
        }));
        self.record(Entry {
            kind: "revision.applied",
            actor: Some(by.to_owned()),
            message: format!(
                "revision {number}: {} of input set {} changed",
                plural(prepared.changes.len(), "document"),
                prepared.set
            ),
            ..Entry::default()
        });
        self.world.revision = number;
        self.world.manifests = prepared.manifests;
        self.world.index = Index::of(&prepared.compiled);
        self.world.compiled = prepared.compiled;
        self.keep_configurations();
        self.add_tracks();
        self.mark_removals(number, held);
        self.moved.extend(self.world.tracks.keys().cloned());
    }

    pub(super) fn keep_configurations(&mut self) {
        let compiled = Arc::clone(&self.world.compiled);
        for spec in compiled.tracks.values() {
            if self.world.configurations.contains_key(&spec.digest) {
                continue;
            }
            self.world
                .configurations
                .insert(spec.digest, Arc::clone(&spec.configuration));
            let json = serde_json::to_value(&*spec.configuration).expect("plain data");
            self.writes.push(Write::Configuration {
                digest: spec.digest,
                body: canonical::canonical(&json),
            });
        }
    }

    fn add_tracks(&mut self) {
        let compiled = Arc::clone(&self.world.compiled);
        for name in compiled.tracks.keys() {
            if self.world.removals.remove(name).is_some() {
                self.writes.push(Write::Removal(name.clone(), None));
            }
            if !self.world.tracks.contains_key(name) {
                self.world
                    .tracks
                    .insert(name.clone(), Track::new(name.clone()));
                self.keep_track(name);
            }
        }
    }

    /// Tracks that are declared no more go, unless a person has to confirm it.
    fn mark_removals(&mut self, revision: u64, held: &[removal::Removal]) {
        let declared = &self.world.compiled.tracks;
        let gone: Vec<TrackName> = self
            .world
            .tracks
            .keys()
            .filter(|name| !declared.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if self.world.removals.contains_key(&name) {
                continue;
            }
            let confirmed = !held.iter().any(|removal| removal.tracks.contains(&name));
            let removal = row::Removal {
                revision,
                confirmed,
            };
            self.world.removals.insert(name.clone(), removal);
            self.writes.push(Write::Removal(name, Some(removal)));
        }
    }
}

impl World {
    /// Numbers of the newest deployments of tracks, from `first` on.
    fn current_since(&self, first: u64) -> Vec<u64> {
        let current = self
            .tracks
            .values()
            .filter_map(|track| track.current.as_ref());
        let mut ids: Vec<u64> = current
            .map(|current| current.id)
            .filter(|id| *id >= first)
            .collect();
        ids.sort_unstable();
        ids
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
