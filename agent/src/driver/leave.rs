//! Leaving for good: tell the coordinator, remove the workloads if asked to, forget everything.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::assignment::Held;
use holdfast_protocol::digest::Digest;
use tokio::sync::oneshot;

use super::{Driver, Left};
use crate::clock::Moment;
use crate::desired::Desired;
use crate::event::Leave;
use crate::link::Command;

/// Time that the coordinator has to say goodbye.
pub(super) const FAREWELL_LIMIT: Duration = Duration::from_secs(8);
/// Time that removing the workloads may take.
pub(super) const REMOVALS_LIMIT: Duration = Duration::from_secs(120);

/// A target that is on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    remove_workloads: bool,
    farewell: bool,
    farewell_by: Moment,
    removed_by: Moment,
    done: oneshot::Sender<Option<String>>,
}

impl Driver {
    pub(super) fn leave(&mut self, leave: Leave, now: Moment) {
        if leave.remove_workloads {
            // Nothing is wanted any more: the plan removes what there is.
            let generation = self.held().map(|held| held.generation).unwrap_or_default();
            let held = Held {
                generation,
                digest: Digest::of(b""),
            };
            self.desired = Desired::Known {
                held,
                wanted: BTreeMap::new(),
            };
        }
        self.leaving = Some(Leaving {
            remove_workloads: leave.remove_workloads,
            farewell: false,
            farewell_by: now.after(FAREWELL_LIMIT),
            removed_by: now.after(REMOVALS_LIMIT),
            done: leave.done,
        });
        self.say_leave();
    }

    /// Asks to be forgotten, on a connection that may have come just now.
    pub(super) fn say_leave(&mut self) {
        if self.leaving.is_some() {
            self.reporter.say(Command::Leave);
        }
    }

    pub(super) fn farewell(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.farewell = true;
        }
    }

    pub(super) fn leave_wake(&self) -> Option<Moment> {
        let leaving = self.leaving.as_ref()?;
        let farewell = (!leaving.farewell).then_some(leaving.farewell_by);
        // Once told, a second wake-up soon after sees the removals through.
        Some(farewell.map_or(leaving.removed_by, |by| by.min(leaving.removed_by)))
    }

    /// How it went, once nothing is left to wait for.
    pub(super) fn left(&mut self) -> Option<Left> {
        let now = self.parts.clock.now().at;
        let empty = self.nothing_is_there();
        let leaving = self.leaving.as_ref()?;
        let told = leaving.farewell || now >= leaving.farewell_by;
        let removed = !leaving.remove_workloads || empty || now >= leaving.removed_by;
        if !told || !removed {
            return None;
        }
        let leaving = self.leaving.take()?;
        let mut left_over = Vec::new();
        if !leaving.farewell {
            left_over.push("the coordinator could not be told; run `holdfast target revoke` there");
        }
        if leaving.remove_workloads && !empty {
            left_over.push("some workloads could not be removed");
        }
        Some(Left {
            workloads_removed: leaving.remove_workloads && empty,
            warning: (!left_over.is_empty()).then(|| left_over.join("; ")),
            done: leaving.done,
        })
    }

    fn nothing_is_there(&self) -> bool {
        self.busy.is_empty()
            && self.sights.values().all(|sight| match sight {
                crate::diff::Sight::Known(services) => services.is_empty(),
                crate::diff::Sight::Unknown(_) => false,
            })
    }

    /// Deletes what this target knew. Who it was is deleted by `run`, which read it.
    pub(super) fn forget_everything(&self) {
        self.parts.cache.forget();
        self.parts.store.collect(&std::collections::BTreeSet::new());
        self.parts.journal.delete();
    }
}
