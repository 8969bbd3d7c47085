//! Applies objects, polite to other field managers, and asks beforehand whether that would be taken.

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::cluster::Manner;
use super::converge::{LOOKS_MAX, Placed, Step, Way};
use super::definition::{needs_kind, needs_others};
use super::field;
use super::record::Left;
use super::refusal::ClusterError;
use crate::failure::Failure;

/// Why an object was not applied.
pub(super) enum Trouble {
    /// The server cannot say before something else is there.
    Untried,
    /// It was refused, or the cluster is away.
    Failed(Failure),
}

impl Trouble {
    fn of(error: ClusterError, trial: bool) -> Self {
        let said = error.to_string();
        if trial && said.contains("does not support dry run") {
            return Self::Untried;
        }
        Self::Failed(error.into())
    }
}

impl Way<'_> {
    /// Asks the server whether it would take everything, before anything is touched.
    pub(super) async fn try_all(&self, placed: &[Placed]) -> Result<(), Failure> {
        let trial = |placed| async move {
            match self.apply(placed, true).await {
                Err(Trouble::Untried) | Ok(_) => Ok(()),
                Err(Trouble::Failed(failure)) => Err(failure),
            }
        };
        let can_be_tried = |p: &&Placed| match p.step {
            Step::Keep(_) => false,
            Step::Again | Step::Apply { .. } => true,
        };
        let tried = placed.iter().filter(can_be_tried);
        futures_util::stream::iter(tried.filter(|p| !needs_others(p, placed)))
            .map(trial)
            .buffered(LOOKS_MAX)
            .try_collect()
            .await
    }

    /// Applies one object, or asks whether it would be. Fields that somebody took from this agent are
    /// taken back; fields that were never its own are left, and named.
    pub(super) async fn apply(&self, placed: &Placed, trial: bool) -> Result<Value, Trouble> {
        let given = match &placed.step {
            Step::Apply { given } => given.as_ref(),
            Step::Keep(_) | Step::Again => None,
        };
        let same = given.is_some_and(|left| left.manifest == placed.manifest);
        let manner = |forced: bool| match (forced, trial) {
            (true, true) => Manner::ForcedTrial,
            (true, false) => Manner::Forced,
            (false, true) => Manner::Trial,
            (false, false) => Manner::Polite,
        };
        let forced = self.template.force || same;
        let again = trial && placed.step == Step::Again;
        let body = &placed.object.body;
        let refused = match self
            .cluster
            .apply(&placed.place, body, manner(forced))
            .await
        {
            Ok(live) => return Ok(live),
            Err(error) => error,
        };
        let conflicts = refused.conflicts();
        if refused.is_absent() && !trial && placed.live.is_none() && needs_kind(placed) {
            return Err(Trouble::Untried);
        }
        if again {
            // What runs cannot be changed: the one that takes its place is judged when it is made.
            return Err(Trouble::Untried);
        }
        if conflicts.is_empty() || forced {
            return Err(Trouble::of(refused, trial));
        }
        let theirs = theirs(&conflicts, given);
        if theirs.is_empty() {
            let answer = self.cluster.apply(&placed.place, body, manner(true)).await;
            return answer.map_err(|error| Trouble::of(error, trial));
        }
        Err(Trouble::Failed(Failure::Permanent(format!(
            "{}: {}; leave that out, or take it over with force: true",
            placed.place.name,
            theirs.join(", ")
        ))))
    }
}

/// The fields in conflict, each with its holder, that were never this agent's, in words.
fn theirs(conflicts: &[(String, String)], given: Option<&Left>) -> Vec<String> {
    let own = given.and_then(|left| left.fields.as_ref());
    let own = own.map(field::paths).unwrap_or_default();
    let others = conflicts.iter().filter(|(_, field)| !own.contains(field));
    others
        .map(|(holder, field)| format!("{field} is managed by {holder}"))
        .collect()
}
