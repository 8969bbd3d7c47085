//! What is wrong with the target itself, each since when.

use std::collections::BTreeMap;

use holdfast_protocol::observed::{TargetCondition, TargetConditionKind, cut_message};
use holdfast_protocol::time::Timestamp;

/// What is wrong with the target, each since when.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<TargetConditionKind, TargetCondition>);

impl Conditions {
    /// Notes a condition; whether it is new.
    pub(super) fn set(
        &mut self,
        kind: TargetConditionKind,
        message: String,
        now: Timestamp,
    ) -> bool {
        let message = cut_message(message);
        match self.0.get_mut(&kind) {
            Some(known) => {
                known.message = message;
                false
            }
            None => {
                self.0.insert(
                    kind,
                    TargetCondition {
                        kind,
                        message,
                        since: now,
                    },
                );
                true
            }
        }
    }

    pub(super) fn clear(&mut self, kind: TargetConditionKind) {
        self.0.remove(&kind);
    }

    pub(super) fn has(&self, kind: TargetConditionKind) -> bool {
        self.0.contains_key(&kind)
    }

    /// Of `kinds`, exactly those in `found` hold.
    pub(super) fn judge(
        &mut self,
        kinds: &[TargetConditionKind],
        found: Vec<(TargetConditionKind, String)>,
        now: Timestamp,
    ) {
        for kind in kinds {
            if !found.iter().any(|(other, _)| other == kind) {
                self.clear(*kind);
            }
        }
        for (kind, message) in found {
            self.set(kind, message, now);
        }
    }

    pub(super) fn list(&self) -> Vec<TargetCondition> {
        self.0.values().cloned().collect()
    }
}
