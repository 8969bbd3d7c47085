//! A merged tree to a track: every field read into its type, everything checked that needs the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_protocol::api::apply::{ManifestFile, default_set};
use holdfast_protocol::name::{EnvironmentName, ServiceName, VariantName, Version};

use crate::calendar::Window;
use crate::compile::configuration::{check, check_template, configuration, job, selector};
use crate::compile::declaration::{environment, service};
use crate::compile::field::text;
use crate::compile::guard::{self, Protections};
use crate::compile::layers::{self, Clash};
use crate::compile::merge::Tree;
use crate::compile::notifier::notifier;
use crate::compile::policy::{self, Compared, Rule};
use crate::compile::requirement::{self, Demand};
use crate::compile::rollout::rollout;
use crate::compile::upstream::{self, follow, promotion};
use crate::compile::wave::Waves;
use crate::compile::{Declared, Owned, Report, Validate, circle, limit, protection, variant};
use crate::compiled::{
    Admission, Compiled, Environment, Layer, Provenance, Rollout, Selector, TrackSpec, Variant,
};
use crate::diagnostic::Place;
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::{self, Document, read_window};
use crate::track::TrackName;

/// All that is declared. Names and order have been checked.
pub(super) fn compiled(
    declared: &Declared<'_>,
    validate: Validate<'_>,
    report: &mut Report<'_>,
) -> Compiled {
    let asked = protection::protections(declared, report);
    let mut compiling = Compiling::new(declared, validate, Protections::new(asked), report);
    for (name, owned) in &declared.environments {
        compiling.environment(name, *owned);
    }
    compiling.unplaced();
    let waits_oddly = declared.is_ordered_by_more();
    let compiled = compiling.finish();
    if waits_oddly && report.problems.is_empty() {
        circle::of_tracks(declared, &compiled, report);
    }
    compiled
}

/// What is compiled so far.
struct Compiling<'c, 'a, 'r, 'k> {
    declared: &'c Declared<'a>,
    validate: Validate<'c>,
    report: &'r mut Report<'k>,
    protections: Protections,
    rules: Vec<Rule<'a>>,
    demands: Vec<Vec<Demand>>,
    compared: Compared,
    windows: Windows,
    compiled: Compiled,
}

impl<'c, 'a, 'r, 'k> Compiling<'c, 'a, 'r, 'k> {
    fn new(
        declared: &'c Declared<'a>,
        validate: Validate<'c>,
        protections: Protections,
        report: &'r mut Report<'k>,
    ) -> Self {
        let rules = policy::rules(declared);
        let services = declared.services.iter();
        let notifiers = declared.notifiers.iter();
        let policies = rules.iter().map(|rule| Arc::clone(&rule.policy));
        let compiled = Compiled {
            services: services
                .map(|(name, owned)| (name.clone(), service(name, *owned)))
                .collect(),
            protections: protections.declared(),
            policies: policies
                .map(|policy| (policy.name.clone(), policy))
                .collect(),
            notifiers: notifiers
                .filter_map(|(name, owned)| Some((name.clone(), Arc::new(notifier(name, *owned)?))))
                .collect(),
            ..Compiled::default()
        };
        Self {
            declared,
            validate,
            protections,
            demands: requirement::demands(&rules),
            rules,
            report,
            compared: Compared::default(),
            windows: Windows::default(),
            compiled,
        }
    }

    fn finish(self) -> Compiled {
        self.compiled
    }

    /// An environment and its tracks.
    fn environment(&mut self, name: &EnvironmentName, stage: Owned<'a>) {
        let environment = environment(name, stage);
        self.waves_of(&environment, stage);
        self.compiled.environments.insert(name.clone(), environment);
        let mut depends_on = BTreeMap::new();
        for (service, owned) in &self.declared.services {
            if !runs_in(owned.document, stage.document) {
                continue;
            }
            let matching: Vec<usize> = (0..self.rules.len())
                .filter(|at| self.rules[*at].matches(owned.document, stage.document))
                .collect();
            let (merged, clashes) = self.merged(*owned, stage, &matching);
            guard::clashes(&clashes, self.report);
            let wanted = dependencies(&merged, name, self.declared, self.report);
            depends_on.insert(service.clone(), wanted);
            let track = TrackName {
                service: service.clone(),
                environment: name.clone(),
            };
            let spec = self.track(track, &merged, &matching);
            self.compiled
                .tracks
                .insert(spec.name.clone(), Arc::new(spec));
        }
        circle::of_services(name, &depends_on, self.report);
    }

    fn merged(
        &self,
        service: Owned<'a>,
        environment: Owned<'a>,
        matching: &[usize],
    ) -> (Merged<'a>, Vec<Clash<'a>>) {
        let rules: Vec<&Rule<'a>> = matching.iter().map(|at| &self.rules[*at]).collect();
        let layered = layers::track(service, environment, &rules);
        let merged = Merged {
            tree: layered.tree,
            service,
            environment,
        };
        (merged, layered.clashes)
    }

    fn track(&mut self, name: TrackName, merged: &Merged<'a>, matching: &[usize]) -> TrackSpec {
        let tree = &merged.tree;
        let rollout = rollout(tree);
        let mut configuration = configuration(&name, tree, &rollout);
        check(&configuration, merged, self.validate, self.report);
        let guards =
            self.protections
                .guards((&name, &configuration), merged, self.declared, self.report);
        self.policies(&name, merged, matching);
        let demands = matching.iter().flat_map(|at| &self.demands[*at]);
        let requirements = requirement::judged(demands, &configuration, merged, self.report);
        configuration.variants = self.variants((&name, &rollout), merged, matching);
        upstream::check(&name.service, merged, self.declared, self.report);
        let spec = TrackSpec {
            after: upstream::after(merged, self.declared),
            promotion: promotion(tree),
            follow: follow(tree),
            pin: tree
                .leaf("pin")
                .and_then(|node| Version::parse(text(node)).ok()),
            admits: tree.at("releases").and_then(admission),
            windows: self.windows.of(tree.leaf("windows")),
            guards,
            requirements,
            job: job(tree),
            selector: selector(tree, "targets"),
            rollout,
            ..TrackSpec::plain(name, configuration)
        };
        merged.check_pin(&spec, self.report);
        self.own_waves(&spec, merged);
        spec
    }

    /// What it is on targets of other kinds, checked like the rest.
    fn variants(
        &mut self,
        (name, rollout): (&TrackName, &Rollout),
        merged: &Merged<'a>,
        matching: &[usize],
    ) -> BTreeMap<VariantName, Variant> {
        let rules: Vec<&Rule<'a>> = matching.iter().map(|at| &self.rules[*at]).collect();
        let variants = variant::of(merged, &rules, (name, rollout), self.report);
        for (merged, _, there) in &variants {
            let demands = matching.iter().flat_map(|at| &self.demands[*at]);
            check(&there.configuration, merged, self.validate, self.report);
            limit::check(merged, &rules, self.report);
            requirement::judged(demands, &there.configuration, merged, self.report);
        }
        let variants = variants.into_iter();
        variants.map(|(_, name, there)| (name, there)).collect()
    }

    /// What the matching policies say of each other and of the result.
    fn policies(&mut self, name: &TrackName, merged: &Merged<'_>, matching: &[usize]) {
        if matching.is_empty() {
            return;
        }
        let rules: Vec<&Rule<'_>> = matching.iter().map(|at| &self.rules[*at]).collect();
        if rules.len() > 1 {
            let track = format!("{} in {}", name.service, name.environment);
            self.compared.check(&rules, &track, self.report);
        }
        limit::check(merged, &rules, self.report);
    }

    /// Whether the waves of an environment reach its targets.
    fn waves_of(&mut self, environment: &Environment, stage: Owned<'_>) {
        let rollout = stage.document.spec().and_then(|spec| spec.at("rollout"));
        if let Some(waves) = rollout.and_then(|rollout| rollout.at("waves")) {
            let waves = Waves {
                environment: &environment.name,
                selector: &Selector::default(),
                waves: &environment.rollout.waves,
                owned: stage,
                places: waves.items().iter().map(|wave| wave.place).collect(),
            };
            waves.check(self.report);
        }
    }

    /// Whether waves that this track alone has reach its targets.
    fn own_waves(&mut self, spec: &TrackSpec, merged: &Merged<'_>) {
        let Some((node, source)) = merged.tree.leaf_at("rollout.waves") else {
            return;
        };
        let Some(owned) = source.owned.filter(|_| source.layer > Layer::Environment) else {
            return;
        };
        let waves = Waves {
            environment: &spec.name.environment,
            selector: &spec.selector,
            waves: &spec.rollout.waves,
            owned,
            places: node.items().iter().map(|wave| wave.place).collect(),
        };
        waves.check(self.report);
    }

    /// Checks the templates of services that run nowhere yet: what is wrong with one must not wait for
    /// somebody else's environment. What only an environment can give, such as a variable, is not
    /// missed.
    fn unplaced(&mut self) {
        let placed: BTreeSet<&ServiceName> = self
            .compiled
            .tracks
            .keys()
            .map(|name| &name.service)
            .collect();
        let (stand_in, set) = (manifest::parse(&[stand_in()]).0, default_set());
        let Some((environment, document)) = stand_in.environments.first_key_value() else {
            return;
        };
        let stage = Owned {
            set: &set,
            document,
        };
        for (name, owned) in &self.declared.services {
            if placed.contains(name) {
                continue;
            }
            let merged = Merged {
                tree: layers::track(*owned, stage, &[]).tree,
                service: *owned,
                environment: stage,
            };
            let name = TrackName {
                service: name.clone(),
                environment: environment.clone(),
            };
            let configuration = configuration(&name, &merged.tree, &rollout(&merged.tree));
            check_template(&configuration, &merged, self.validate, self.report);
        }
    }
}

/// An environment that says nothing.
fn stand_in() -> ManifestFile {
    ManifestFile {
        path: String::new(),
        content: "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {name: any}\n".to_owned(),
    }
}

/// Windows that were read, each once: most tracks of an environment have the same.
#[derive(Default)]
struct Windows {
    read: Vec<(Node, Vec<Window>)>,
}

impl Windows {
    fn of(&mut self, list: Option<&Node>) -> Vec<Window> {
        let Some(list) = list else {
            return Vec::new();
        };
        if let Some((_, windows)) = self.read.iter().find(|(known, _)| known == list) {
            return windows.clone();
        }
        let windows: Vec<Window> = list
            .items()
            .iter()
            .filter_map(|item| read_window(item).ok())
            .collect();
        if self.read.len() < WINDOWS_KEPT_MAX {
            self.read.push((list.clone(), windows.clone()));
        }
        windows
    }
}

fn admission(tree: &Tree<'_>) -> Option<Admission> {
    let semver = semver::VersionReq::parse(text(tree.leaf("semver")?)).ok()?;
    Some(Admission { semver })
}

/// The layers of one track and the documents that they come from.
pub(super) struct Merged<'a> {
    pub(super) tree: Tree<'a>,
    pub(super) service: Owned<'a>,
    pub(super) environment: Owned<'a>,
}

impl<'a> Merged<'a> {
    /// The document and place of a path.
    pub(super) fn place_of(&self, path: &str) -> (Owned<'a>, Place) {
        let (source, place) = self.tree.place_of(path);
        match source.owned {
            Some(owned) => (owned, place),
            None => (self.service, self.service.document.place),
        }
    }

    /// Which track, for people.
    pub(super) fn words(&self) -> String {
        let (service, environment) = (&self.service.document.name, &self.environment.document.name);
        format!("{service} in {environment}")
    }

    fn check_pin(&self, spec: &TrackSpec, report: &mut Report<'_>) {
        let (Some(pin), Some(admits)) = (&spec.pin, &spec.admits) else {
            return;
        };
        if !admits.admits(pin) {
            let (owned, place) = self.place_of("pin");
            let semver = &admits.semver;
            let message = format!("version {pin} is pinned, and `releases.semver` admits {semver}");
            let help = format!(
                "it counts for {}; pin a version that is admitted, or widen the range",
                self.words()
            );
            report.add(owned, place, message, Some(help));
        }
    }
}

/// Whether the service is not left out of the environment.
pub(super) fn runs_in(service: &Document, stage: &Document) -> bool {
    let enabled = layers::exception(service, stage).and_then(|e| e.at("enabled"));
    !matches!(
        enabled.map(|node| &node.value),
        Some(NodeValue::Flag(false))
    )
}

/// What it depends on, each with where that is said.
fn dependencies<'a>(
    merged: &Merged<'a>,
    environment: &EnvironmentName,
    declared: &Declared<'a>,
    report: &mut Report<'_>,
) -> Vec<(ServiceName, Owned<'a>, Place)> {
    let mut found = Vec::new();
    for (index, node) in merged
        .tree
        .leaf("dependsOn")
        .map_or(&[][..], Node::items)
        .iter()
        .enumerate()
    {
        let Some((name, other)) = declared.services.get_key_value(text(node)) else {
            continue;
        };
        let (owned, place) = merged.place_of(&format!("dependsOn[{index}]"));
        if runs_in(other.document, merged.environment.document) {
            found.push((name.clone(), owned, place));
        } else {
            let message =
                format!("{name} does not run in {environment}, so nothing there can depend on it");
            let help = format!("override dependsOn below environments.{environment}");
            report.add(owned, place, message, Some(help));
        }
    }
    found
}

/// Every field of a track with who set it, by path: as it is on the targets that a variant means, where
/// one is named, and else with what its variants say apart.
pub(super) fn fields<'a>(
    track: (Owned<'a>, Owned<'a>),
    rules: &[&Rule<'a>],
    named: Option<&str>,
) -> Vec<Provenance> {
    if let Some(name) = named {
        return provenance(&layers::variant(track, rules, name).tree);
    }
    let mut fields = provenance(&layers::track(track.0, track.1, rules).tree);
    for name in layers::variants(track, rules) {
        let there = provenance(&layers::variant(track, rules, name).tree);
        let own = there.into_iter().filter(|one| !fields.contains(one));
        let own: Vec<Provenance> = own
            .map(|one| Provenance {
                path: format!("variants.{name}.{}", one.path),
                ..one
            })
            .collect();
        fields.extend(own);
    }
    fields
}

/// Every field of a tree with who set it, by path.
fn provenance(tree: &Tree<'_>) -> Vec<Provenance> {
    let mut provenance = Vec::new();
    for (key, value) in tree.entries() {
        value.provenance(key, &mut provenance);
    }
    // Kept for every track as long as the revision is in force.
    provenance.shrink_to_fit();
    provenance
}

/// Most lists of windows that are kept while a revision is compiled.
const WINDOWS_KEPT_MAX: usize = 256;
