//! Secrets before a start: what is not here is asked for, as artifacts are.

use std::collections::BTreeSet;

use holdfast_protocol::observed::State;
use holdfast_protocol::secret::SecretRef;

use super::{Decision, Step, Subject};
use crate::desired::Intent;

/// What is known of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    /// Sealed, on disk.
    pub present: BTreeSet<SecretRef>,
    /// Being asked for.
    pub asking: BTreeSet<SecretRef>,
    /// Whom they can be asked of.
    pub source: Source,
}

/// Whom secrets can be asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The coordinator is away.
    #[default]
    Away,
    /// The coordinator, which knows of no secrets yet.
    Unaware,
    /// The coordinator.
    Here,
}

impl Subject<'_> {
    /// The secrets that a body names and that are not here.
    pub(super) fn missing_secrets(&self, intent: &Intent) -> Vec<SecretRef> {
        let absent = |secret: &&SecretRef| !self.world.secrets.present.contains(*secret);
        intent.secrets.iter().filter(absent).cloned().collect()
    }

    pub(super) fn decide_ask(&self, missing: Vec<SecretRef>) -> Decision {
        let now = self.world.now.at;
        let attempts = &self.world.attempts.secrets;
        let state = self.unready(State::Pending);
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        match self.world.secrets.source {
            Source::Away => {
                let message = format!("secret {names} is not here and the coordinator is away");
                return self.still(state, message, None);
            }
            Source::Unaware => {
                let message =
                    format!("secret {names} is not here: the coordinator is of an earlier release");
                return self.still(state, message, None);
            }
            Source::Here => {}
        }
        let failed = missing.iter().find_map(|secret| attempts.get(secret));
        let message = failed.map_or_else(
            || format!("asking for secret {names}"),
            |failed| format!("secret {names} did not come: {}", failed.message),
        );
        let later = missing.iter().filter_map(|secret| attempts.get(secret));
        let wake_at = later.map(|a| a.not_before).filter(|at| *at > now).min();
        let due = |secret: &SecretRef| attempts.get(secret).is_none_or(|a| a.not_before <= now);
        Decision {
            status: self.status(state, message),
            step: Step::Ask(missing.into_iter().filter(due).collect()),
            wake_at,
        }
    }
}
