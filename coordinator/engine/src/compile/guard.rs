//! The checks in force on a track, from its tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_protocol::name::ProtectionName;
use serde_json::Value;

use crate::compile::field::{number, span, text};
use crate::compile::layers::Clash;
use crate::compile::merge::Tree;
use crate::compile::protection::Asked;
use crate::compile::track::{Merged, runs_in};
use crate::compile::{Declared, Report};
use crate::compiled::protection::{OnIncident, When};
use crate::compiled::{Configuration, Guard, Protection};
use crate::diagnostic::suggestion;
use crate::track::TrackName;

/// Every protection, and those of them that some use has changed, each once.
pub(super) struct Protections {
    by_name: BTreeMap<ProtectionName, Asked>,
    changed: Vec<Arc<Protection>>,
}

impl Protections {
    pub(super) const fn new(by_name: BTreeMap<ProtectionName, Asked>) -> Self {
        Self {
            by_name,
            changed: Vec::new(),
        }
    }

    /// Each as it was declared.
    pub(super) fn declared(&self) -> BTreeMap<ProtectionName, Arc<Protection>> {
        let all = self.by_name.iter();
        all.map(|(name, asked)| (name.clone(), Arc::clone(&asked.protection)))
            .collect()
    }

    /// The checks of a track, by the name that each has there. One that asks whether this same track
    /// is stable stands before others only.
    pub(super) fn guards(
        &mut self,
        (track, configuration): (&TrackName, &Configuration),
        merged: &Merged<'_>,
        declared: &Declared<'_>,
        report: &mut Report<'_>,
    ) -> Vec<Guard> {
        let uses = merged.tree.at("protections");
        let mut guards = Vec::new();
        for (name, tree) in uses.into_iter().flat_map(Tree::entries) {
            let Some(guard) = self.guard(name, tree) else {
                continue;
            };
            let asks_itself = guard.protection.check.stable_elsewhere(track)
                == Some((&track.service, &track.environment));
            if asks_itself {
                continue;
            }
            let missing = Missing {
                guard: &guard,
                merged,
            };
            missing.parameters(report);
            missing.incident(report);
            missing.variables(&self.by_name, configuration, report);
            missing.elsewhere(track, declared, report);
            guards.push(guard);
        }
        guards
    }

    fn guard(&mut self, name: &str, tree: &Tree<'_>) -> Option<Guard> {
        let declared = &self.by_name.get(text(tree.leaf("use")?))?.protection;
        let mut protection = Arc::clone(declared);
        if tree.at("interval").is_some() || tree.at("failureThreshold").is_some() {
            protection = self.changed(Protection {
                interval: tree.leaf("interval").map_or(protection.interval, span),
                failure_threshold: tree
                    .leaf("failureThreshold")
                    .map_or(protection.failure_threshold, number),
                ..Protection::clone(&protection)
            });
        }
        let has = |when: &When| {
            tree.at("when")
                .is_some_and(|words| words.at(when.name()).is_some())
        };
        let on_incident = tree.leaf("onIncident").map_or("", text);
        Some(Guard {
            name: ProtectionName::parse(name).ok()?,
            parameters: parameters(&protection, tree),
            protection,
            when: [When::Pre, When::Post, When::Always]
                .into_iter()
                .filter(has)
                .collect(),
            on_incident: match on_incident {
                "rollback" => OnIncident::Rollback,
                _ => OnIncident::Tell,
            },
        })
    }

    fn changed(&mut self, protection: Protection) -> Arc<Protection> {
        if let Some(known) = self.changed.iter().find(|known| ***known == protection) {
            return Arc::clone(known);
        }
        let protection = Arc::new(protection);
        self.changed.push(Arc::clone(&protection));
        protection
    }
}

/// Those that a use gives, and the defaults of the others.
fn parameters(protection: &Protection, tree: &Tree<'_>) -> BTreeMap<String, Value> {
    let given = tree.at("parameters");
    let one = |(name, default): (&String, &Option<Value>)| {
        let value = given.and_then(|given| given.at(name)).map(Tree::json);
        Some((name.clone(), value.or_else(|| default.clone())?))
    };
    protection.parameters.iter().filter_map(one).collect()
}

/// Reports names that two layers give to different protections.
pub(super) fn clashes(clashes: &[Clash<'_>], report: &mut Report<'_>) {
    for clash in clashes {
        let Clash {
            name,
            protection,
            first,
            ..
        } = clash;
        let layer = clash.layer.name();
        let message = format!(
            "`{name}` is what the {layer} calls protection {first}; here it would be {protection}"
        );
        let help = format!("give it a name of its own: {{use: {protection}, as: …}}");
        report.add(clash.owned, clash.place, message, Some(help));
    }
}

/// What one use lacks.
struct Missing<'m, 'a> {
    guard: &'m Guard,
    merged: &'m Merged<'a>,
}

impl Missing<'_, '_> {
    fn add(&self, below: &str, message: String, help: Option<String>, report: &mut Report<'_>) {
        let path = format!("protections.{}{below}", self.guard.name);
        let (owned, place) = self.merged.place_of(&path);
        report.add(owned, place, message, help);
    }

    fn parameters(&self, report: &mut Report<'_>) {
        let protection = &self.guard.protection;
        let missing = protection.parameters.keys();
        for name in missing.filter(|name| !self.guard.parameters.contains_key(*name)) {
            let message = format!("protection {} needs parameter `{name}`", protection.name);
            let help = format!("write parameters: {{{name}: …}}");
            self.add(".use", message, Some(help), report);
        }
    }

    fn incident(&self, report: &mut Report<'_>) {
        let is_watched = self.guard.when.contains(&When::Always);
        if self.guard.on_incident == OnIncident::Rollback && !is_watched {
            let message = "`onIncident` says what a failure under `always` does, and this is not \
                           asked then"
                .to_owned();
            let help = Some("add always to `when`".to_owned());
            self.add(".onIncident", message, help, report);
        }
    }

    fn variables(
        &self,
        asked: &BTreeMap<ProtectionName, Asked>,
        configuration: &Configuration,
        report: &mut Report<'_>,
    ) {
        let none = BTreeSet::new();
        let name = &self.guard.protection.name;
        let wanted = asked.get(name).map_or(&none, |asked| &asked.vars);
        let Configuration {
            service,
            environment,
            vars,
            ..
        } = configuration;
        for wanted in wanted.iter().filter(|wanted| !vars.contains_key(*wanted)) {
            let message = format!(
                "protection {name} asks for variable `{wanted}`, which {service} does not have in \
                 {environment}"
            );
            let help = suggestion(wanted, vars.keys().map(String::as_str));
            self.add(".use", message, help, report);
        }
    }

    /// Whether the track that is asked about is there.
    fn elsewhere(&self, track: &TrackName, declared: &Declared<'_>, report: &mut Report<'_>) {
        let protection = &self.guard.protection;
        let Some((service, environment)) = protection.check.stable_elsewhere(track) else {
            return;
        };
        let documents = declared.services.get(service);
        let documents = documents.zip(declared.environments.get(environment));
        if documents.is_some_and(|(service, stage)| !runs_in(service.document, stage.document)) {
            let message = format!(
                "protection {} asks whether {service} is stable in {environment}, where it does \
                 not run",
                protection.name
            );
            self.add(".use", message, None, report);
        }
    }
}
