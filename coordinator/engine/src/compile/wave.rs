//! Whether waves by labels reach the targets that are known, and leave none of them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::observed::Labels;

use crate::compile::{Owned, Report};
use crate::compiled::{Selector, Wave};
use crate::diagnostic::Place;

/// Waves as one layer says them, for the targets that `selector` chooses.
pub(super) struct Waves<'w, 'a> {
    pub(super) environment: &'w EnvironmentName,
    pub(super) selector: &'w Selector,
    pub(super) waves: &'w [Wave],
    /// Where the list stands.
    pub(super) owned: Owned<'a>,
    /// Where each wave stands.
    pub(super) places: Vec<Place>,
}

impl Waves<'_, '_> {
    /// Reports a wave that reaches no target, and targets that no wave reaches. Nothing where the
    /// targets are not known, or there are none yet.
    pub(super) fn check(&self, report: &mut Report<'_>) {
        let known = report.known.targets.as_ref();
        let Some(targets) = known.and_then(|known| known.get(self.environment)) else {
            return;
        };
        let targets: BTreeMap<&TargetName, &Arc<Labels>> = targets
            .iter()
            .filter(|(_, labels)| self.selector.matches(labels))
            .collect();
        if targets.is_empty() {
            return;
        }
        for (wave, place) in self.waves.iter().zip(&self.places) {
            if let Wave::Labels(wanted) = wave
                && !targets.values().any(|labels| wanted.matches(labels))
            {
                let message = format!(
                    "this wave reaches nobody: of {} in {}, none has {}",
                    counted(targets.len()),
                    self.environment,
                    words(wanted)
                );
                let help = "holdfast target label NAME KEY=VALUE, or take the wave out".to_owned();
                report.add(self.owned, *place, message, Some(help));
            }
        }
        self.left_out(&targets, report);
    }

    fn left_out(&self, targets: &BTreeMap<&TargetName, &Arc<Labels>>, report: &mut Report<'_>) {
        let (Some(Wave::Labels(_)), Some(place)) = (self.waves.last(), self.places.last()) else {
            return;
        };
        let reached = |labels: &Labels| {
            self.waves.iter().any(|wave| match wave {
                Wave::Labels(wanted) => wanted.matches(labels),
                Wave::Extent(_) => false,
            })
        };
        let left: Vec<&str> = targets
            .iter()
            .filter(|(_, labels)| !reached(labels))
            .map(|(name, _)| name.as_str())
            .collect();
        if left.is_empty() {
            return;
        }
        let named = left.len().min(NAMED_MAX);
        let more = match left.len() - named {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "no wave reaches {} of {}: {}{more}",
            counted(left.len()),
            self.environment,
            left[..named].join(", ")
        );
        let help = "end the list with 100%, or add a wave with their labels".to_owned();
        report.add(self.owned, *place, message, Some(help));
    }
}

fn counted(targets: usize) -> String {
    match targets {
        1 => "one target".to_owned(),
        count => format!("{count} targets"),
    }
}

fn words(wanted: &Selector) -> String {
    let pairs: Vec<String> = wanted
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(" and ")
}

/// Most targets that a message names.
const NAMED_MAX: usize = 5;
