//! Leaving for good: remove the workloads if asked to, tell the coordinator, forget everything.
//!
//! Telling comes last, because it ends the conversation in which the removals are reported.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::assignment::Held;
use holdfast_protocol::digest::Digest;
use tokio::sync::oneshot;

use super::{Driver, Left};
use crate::clock::Moment;
use crate::desired::Desired;
use crate::event::Leave;

/// Time that the coordinator has to say goodbye.
pub(super) const FAREWELL_LIMIT: Duration = Duration::from_secs(8);
/// Time that removing the workloads may take.
pub(super) const REMOVALS_LIMIT: Duration = Duration::from_secs(120);

/// A target that is on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    remove_workloads: bool,
    removed_by: Moment,
    goodbye: Goodbye,
    done: oneshot::Sender<Option<String>>,
}

/// How far the coordinator is with letting go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    /// Something is to be done before it is told.
    NotYet,
    /// It is, or will be, told; it has until then.
    Until(Moment),
    /// It has said goodbye.
    Said,
    /// It cannot be told.
    Impossible,
}

impl Driver {
    pub(super) fn leave(&mut self, leave: Leave, now: Moment) {
        self.drop_hold();
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
            removed_by: now.after(REMOVALS_LIMIT),
            goodbye: Goodbye::NotYet,
            done: leave.done,
        });
    }

    /// Whether a person has said that nothing is wanted here any more.
    pub(super) fn leaves_nothing(&self) -> bool {
        let leaving = self.leaving.as_ref();
        leaving.is_some_and(|leaving| leaving.remove_workloads)
    }

    /// Whether this target is on its way out, and takes no assignment any more.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Asks to be forgotten once everything else is done, on a connection that may have come just now.
    pub(super) fn say_leave(&mut self) {
        let now = self.parts.clock.now().at;
        let ready = self.removals_are_done(now);
        let Some(leaving) = self.leaving.as_mut().filter(|_| ready) else {
            return;
        };
        if leaving.goodbye == Goodbye::NotYet {
            leaving.goodbye = Goodbye::Until(now.after(FAREWELL_LIMIT));
            self.reporter.leave();
        }
    }

    pub(super) fn farewell(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.goodbye = Goodbye::Said;
        }
    }

    /// There is no connection, so nobody can be told.
    pub(super) fn no_farewell(&mut self) {
        if let Some(leaving) = self.leaving.as_mut().filter(|l| l.goodbye != Goodbye::Said) {
            leaving.goodbye = Goodbye::Impossible;
        }
    }

    pub(super) fn leave_wake(&self) -> Option<Moment> {
        let leaving = self.leaving.as_ref()?;
        match leaving.goodbye {
            Goodbye::Until(by) => Some(by),
            Goodbye::NotYet | Goodbye::Said | Goodbye::Impossible => Some(leaving.removed_by),
        }
    }

    /// How it went, once nothing is left to wait for.
    pub(super) fn left(&mut self) -> Option<Left> {
        self.say_leave();
        let now = self.parts.clock.now().at;
        let removed = self.removals_are_done(now);
        let leaving = self.leaving.take_if(|leaving| {
            let told = match leaving.goodbye {
                Goodbye::NotYet => false,
                Goodbye::Until(by) => now >= by,
                Goodbye::Said | Goodbye::Impossible => true,
            };
            told && removed
        })?;
        let empty = self.nothing_is_there();
        let mut left_over = Vec::new();
        if leaving.goodbye != Goodbye::Said {
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

    fn removals_are_done(&self, now: Moment) -> bool {
        let leaving = self.leaving.as_ref();
        leaving.is_some_and(|l| !l.remove_workloads || now >= l.removed_by)
            || self.nothing_is_there()
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
        self.parts
            .secrets
            .collect(&std::collections::BTreeSet::new());
        self.parts.journal.delete();
    }
}
