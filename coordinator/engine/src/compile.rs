//! Input sets to one compiled revision: every service in every environment, with who set each field.
//!
//! Layers, from the weakest: what is built in, the service, the environment, the service's override
//! for that environment. Later wins, maps merge, lists and all else replace, null takes away. Two
//! refinements: an override that names another runtime brings a template of its own, and one that
//! names another health check replaces the check.
//!
//! The engine knows no runtime: what a template may hold is asked of a function ([`Validate`]).

pub mod canonical;
pub mod diff;
pub mod removal;

mod layers;
mod merge;
mod order;
mod reference;
pub(crate) mod template;
mod track;

use std::collections::BTreeMap;

use holdfast_protocol::api::Diagnostic;
use holdfast_protocol::api::apply::default_set;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, EnvironmentName, InputSetName, ServiceName};
use serde_json::Value;

use crate::compiled::{Compiled, Configuration, Provenance};
use crate::diagnostic::{Place, Problems};
use crate::manifest::{Document, ManifestSet};
use crate::track::TrackName;

/// Most services times environments of one installation.
pub const TRACKS_MAX: usize = 100_000;

/// Says what is wrong with a template for a runtime. Strings of the template may hold unrendered
/// `{{ }}`. The artifacts of the service are given with their file names.
pub type Validate<'a> =
    &'a dyn Fn(&str, &Value, &BTreeMap<ArtifactName, String>) -> Vec<TemplateProblem>;

/// One thing wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// Where, as a path below `template`: `restart.policy`, `command[0]`; empty for all of it.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Compiles all input sets together. `applied` is the set that has just changed: where two sets claim
/// the same name, it is the one that is refused.
///
/// # Errors
/// Everything wrong with how the documents fit together.
pub fn compile(
    sets: &BTreeMap<InputSetName, ManifestSet>,
    applied: &InputSetName,
    validate: Validate<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let report = Report {
        applied,
        offline: false,
        problems: Problems::default(),
    };
    compile_into(report, sets, validate)
}

/// Who set each field of one track, by path, without compiling the others; nothing where `sets` do not
/// declare it.
#[must_use]
pub fn provenance(sets: &BTreeMap<InputSetName, ManifestSet>, name: &TrackName) -> Vec<Provenance> {
    let service = sets
        .values()
        .find_map(|set| set.services.get(&name.service));
    let stage = sets
        .values()
        .find_map(|set: &ManifestSet| set.environments.get(&name.environment));
    match (service, stage) {
        (Some(service), Some(stage)) if track::runs_in(service, stage) => {
            track::provenance(&layers::track(service, stage))
        }
        (Some(_) | None, Some(_) | None) => Vec::new(),
    }
}

/// The same for one set without a coordinator, which cannot know what other sets declare.
pub(crate) fn compile_offline(
    set: ManifestSet,
    validate: Validate<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let name = default_set();
    let sets = BTreeMap::from([(name.clone(), set)]);
    let report = Report {
        applied: &name,
        offline: true,
        problems: Problems::default(),
    };
    compile_into(report, &sets, validate)
}

fn compile_into(
    mut report: Report<'_>,
    sets: &BTreeMap<InputSetName, ManifestSet>,
    validate: Validate<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let declared = declared(sets, &mut report);
    bounded(&declared, &mut report);
    order::check(&declared, &mut report);
    if !report.problems.is_empty() {
        return Err(report.problems.finish());
    }
    let compiled = track::compiled(&declared, validate, &mut report);
    if report.problems.is_empty() {
        Ok(compiled)
    } else {
        Err(report.problems.finish())
    }
}

impl Configuration {
    /// The digest of its canonical JSON.
    ///
    /// # Panics
    /// Never: it holds only what JSON can hold.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let json = serde_json::to_value(self).expect("a configuration is plain data");
        Digest::of(canonical::canonical(&json).as_bytes())
    }
}

/// Every document by name, with the set that it belongs to.
struct Declared<'a> {
    environments: BTreeMap<EnvironmentName, Owned<'a>>,
    services: BTreeMap<ServiceName, Owned<'a>>,
}

#[derive(Clone, Copy)]
struct Owned<'a> {
    set: &'a InputSetName,
    document: &'a Document,
}

/// Where problems go: they name the set where it is not the one that was applied.
struct Report<'a> {
    applied: &'a InputSetName,
    /// Whether other sets may declare what is missing here.
    offline: bool,
    problems: Problems,
}

impl Report<'_> {
    fn add(&mut self, owned: Owned<'_>, place: Place, message: String, help: Option<String>) {
        let mut diagnostic = owned.document.file.diagnostic(place, message, help);
        if owned.set != self.applied {
            diagnostic.file = format!("{} (set {})", diagnostic.file, owned.set);
        }
        self.problems.add(diagnostic);
    }
}

fn declared<'a>(
    sets: &'a BTreeMap<InputSetName, ManifestSet>,
    report: &mut Report<'_>,
) -> Declared<'a> {
    let mut declared = Declared {
        environments: BTreeMap::new(),
        services: BTreeMap::new(),
    };
    // The applied set comes last, so that it is the second to claim a name.
    let (applied, others): (Vec<_>, Vec<_>) =
        sets.iter().partition(|(name, _)| *name == report.applied);
    for (set, manifests) in others.into_iter().chain(applied) {
        for (name, document) in &manifests.environments {
            claim(
                &mut declared.environments,
                name,
                Owned { set, document },
                report,
            );
        }
        for (name, document) in &manifests.services {
            claim(
                &mut declared.services,
                name,
                Owned { set, document },
                report,
            );
        }
    }
    declared
}

/// Refuses more tracks than one installation can hold.
fn bounded(declared: &Declared<'_>, report: &mut Report<'_>) {
    let tracks = declared.environments.len() * declared.services.len();
    let last = declared
        .services
        .values()
        .find(|owned| owned.set == report.applied);
    let last = last.or_else(|| declared.services.values().next());
    if let Some(owned) = last.filter(|_| tracks > TRACKS_MAX) {
        let message = format!(
            "{} services in {} environments are more than {TRACKS_MAX} tracks",
            declared.services.len(),
            declared.environments.len(),
        );
        report.add(*owned, owned.document.place, message, None);
    }
}

fn claim<'a, N: Ord + Clone>(
    names: &mut BTreeMap<N, Owned<'a>>,
    name: &N,
    owned: Owned<'a>,
    report: &mut Report<'_>,
) {
    let Some(first) = names.get(name) else {
        names.insert(name.clone(), owned);
        return;
    };
    let owner = match first.document.owner.as_str() {
        "" => "nobody named as its owner".to_owned(),
        owner => format!("owned by {owner}"),
    };
    let document = owned.document;
    let message = format!(
        "{} {} is in input set {} already",
        document.kind.name(),
        document.name,
        first.set
    );
    let help = format!(
        "it is described in {} line {}, {owner}; a document belongs to one set",
        first.document.file.path(),
        first.document.place.line,
    );
    report.add(owned, document.place, message, Some(help));
}

#[cfg(test)]
pub(crate) mod tests;
