//! Input sets to one compiled revision: every service in every environment, with who set each field.
//!
//! Layers, from the weakest: what is built in, the service, the environment, the service's override
//! for that environment, what policies set. Later wins, maps merge, lists and all else replace, null
//! takes away. Some refinements: an override that names another runtime brings a template of its own,
//! one that names another health check replaces the check, one that says what a track follows takes
//! away the order and the other way round. Protections are united: no layer takes away another's.
//!
//! What policies require and limit is checked on the result.
//!
//! The engine knows no runtime: what a template may hold is asked of a function ([`Validate`]).

pub mod canonical;
pub mod diff;
pub mod removal;

mod circle;
mod configuration;
mod declaration;
mod field;
mod guard;
mod health;
mod layers;
mod limit;
mod merge;
mod notifier;
mod order;
mod policy;
mod protection;
mod reference;
mod requirement;
mod rollout;
pub(crate) mod template;
mod track;
mod upstream;
mod variant;
mod wave;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_protocol::api::Diagnostic;
use holdfast_protocol::api::apply::default_set;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{
    ArtifactName, EnvironmentName, InputSetName, NotifierName, PolicyName, ProtectionName,
    RoleName, ServiceName, TargetName, UserName, VariantName,
};
use holdfast_protocol::observed::Labels;
use serde_json::Value;

use crate::compiled::{Compiled, Configuration, Provenance};
use crate::diagnostic::{Place, Problems};
use crate::manifest::node::Node;
use crate::manifest::{Document, ManifestSet};
use crate::track::TrackName;

/// Most services times environments of one installation.
pub const TRACKS_MAX: usize = 100_000;

/// Says what is wrong with what is asked of a runtime.
pub type Validate<'a> = &'a dyn Fn(&Asked<'_>) -> Vec<TemplateProblem>;

/// What is asked of a runtime.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The runtime.
    pub runtime: &'a str,
    /// How it is to run there; strings may hold unrendered `{{ }}`.
    pub template: &'a Value,
    /// The artifacts of the service, with their file names.
    pub artifacts: &'a BTreeMap<ArtifactName, String>,
    /// Whether it is a job, which ends.
    pub is_job: bool,
}

/// One thing wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// Where, as a path below `template`: `restart.policy`, `command[0]`; empty for all of it.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// What is known of the installation beside its manifests. What would need a part that is not known
/// is not checked: a revision in force compiles again, whatever has become of targets and roles.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The targets of each environment, with their labels.
    pub targets: Option<BTreeMap<EnvironmentName, BTreeMap<TargetName, Arc<Labels>>>>,
    /// Every role, with the people who have it.
    pub roles: Option<BTreeMap<RoleName, BTreeSet<UserName>>>,
}

/// Compiles all input sets together. `applied` is the set that has just changed: where two sets claim
/// the same name, it is the one that is refused.
///
/// # Errors
/// Everything wrong with how the documents fit together.
pub fn compile(
    sets: &BTreeMap<InputSetName, ManifestSet>,
    applied: &InputSetName,
    known: &Known,
    validate: Validate<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let report = Report {
        applied,
        known,
        offline: false,
        problems: Problems::default(),
    };
    compile_into(report, sets, validate)
}

/// Who set each field of one track, by path, without compiling the others; nothing where `sets` do not
/// declare it.
/// With a variant, as it is on the targets that this one means.
#[must_use]
pub fn provenance(
    sets: &BTreeMap<InputSetName, ManifestSet>,
    name: &TrackName,
    variant: Option<&VariantName>,
) -> Vec<Provenance> {
    let declared = Declared::first_of(sets);
    let service = declared.services.get(&name.service);
    let stage = declared.environments.get(&name.environment);
    match (service, stage) {
        (Some(service), Some(stage)) if track::runs_in(service.document, stage.document) => {
            let rules = policy::matching(&declared, *service, *stage);
            let rules: Vec<_> = rules.iter().collect();
            let variant = variant.map(VariantName::as_str);
            track::fields((*service, *stage), &rules, variant)
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
        known: &Known::default(),
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
#[derive(Default)]
struct Declared<'a> {
    environments: BTreeMap<EnvironmentName, Owned<'a>>,
    services: BTreeMap<ServiceName, Owned<'a>>,
    protections: BTreeMap<ProtectionName, Owned<'a>>,
    policies: BTreeMap<PolicyName, Owned<'a>>,
    notifiers: BTreeMap<NotifierName, Owned<'a>>,
}

/// A document and the set that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned<'a> {
    set: &'a InputSetName,
    document: &'a Document,
}

impl<'a> Declared<'a> {
    /// Takes the documents of a set in, those whose name is taken excepted.
    fn take(&mut self, set: &'a InputSetName, manifests: &'a ManifestSet, report: &mut Report<'_>) {
        let mut claims = Claims { set, report };
        claims.all(&mut self.environments, &manifests.environments);
        claims.all(&mut self.services, &manifests.services);
        claims.all(&mut self.protections, &manifests.protections);
        claims.all(&mut self.policies, &manifests.policies);
        claims.all(&mut self.notifiers, &manifests.notifiers);
    }

    /// Whether tracks may wait for each other by more than the order of environments and the services
    /// that they depend on there.
    fn is_ordered_by_more(&self) -> bool {
        let says = |node: &Node| node.at("after").is_some() || node.at("follow").is_some();
        let spec = |owned: &Owned<'a>| owned.document.spec();
        let exceptions = |owned: &Owned<'a>| {
            let all = spec(owned).and_then(|spec| spec.at("environments"));
            all.is_some_and(|all| all.entries().iter().any(|entry| says(&entry.node)))
        };
        let sets = |owned: &Owned<'a>| spec(owned).and_then(|s| s.at("set")).is_some_and(says);
        let asks = |owned: &Owned<'a>| spec(owned).is_some_and(|s| s.at("stable").is_some());
        self.protections.values().any(asks)
            || self.services.values().any(exceptions)
            || self.policies.values().any(sets)
    }

    /// Of every name the first document. The sets were compiled before: there is no second one.
    fn first_of(sets: &'a BTreeMap<InputSetName, ManifestSet>) -> Self {
        let mut declared = Self::default();
        let (applied, known) = (default_set(), Known::default());
        let mut unheard = Report {
            applied: &applied,
            known: &known,
            offline: false,
            problems: Problems::default(),
        };
        for (set, manifests) in sets {
            declared.take(set, manifests, &mut unheard);
        }
        declared
    }
}

/// Where problems go: they name the set where it is not the one that was applied.
struct Report<'a> {
    applied: &'a InputSetName,
    known: &'a Known,
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
    let mut declared = Declared::default();
    // The applied set comes last, so that it is the second to claim a name.
    let (applied, others): (Vec<_>, Vec<_>) =
        sets.iter().partition(|(name, _)| *name == report.applied);
    for (set, manifests) in others.into_iter().chain(applied) {
        declared.take(set, manifests, report);
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

/// One set's claims to names.
struct Claims<'a, 'r, 'k> {
    set: &'a InputSetName,
    report: &'r mut Report<'k>,
}

impl<'a> Claims<'a, '_, '_> {
    fn all<N: Ord + Clone>(
        &mut self,
        names: &mut BTreeMap<N, Owned<'a>>,
        documents: &'a BTreeMap<N, Document>,
    ) {
        for (name, document) in documents {
            let owned = Owned {
                set: self.set,
                document,
            };
            match names.get(name) {
                Some(first) => self.refuse(owned, *first),
                None => {
                    names.insert(name.clone(), owned);
                }
            }
        }
    }

    fn refuse(&mut self, owned: Owned<'_>, first: Owned<'_>) {
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
            "it is described in {}, {owner}; a document belongs to one set",
            first.document.described_in(),
        );
        self.report.add(owned, document.place, message, Some(help));
    }
}

#[cfg(test)]
pub(crate) mod tests;
