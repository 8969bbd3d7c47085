//! Which of several ways to one artifact is taken next.
//!
//! Workloads may name one artifact with different homes. They take turns, failure by failure, so that a
//! service whose home gives nothing, or something else, keeps the artifact from no other.

use std::collections::BTreeMap;

use super::{Action, Fetch, World};

/// Leaves one way to each artifact.
pub(super) fn in_turn(actions: &mut Vec<Action>, world: &World<'_>) {
    let mut ways: BTreeMap<_, Vec<Fetch>> = BTreeMap::new();
    for action in actions.iter() {
        if let Action::Fetch(fetch) = action {
            let known = ways.entry(fetch.artifact).or_default();
            if !known.contains(fetch) {
                known.push(fetch.clone());
            }
        }
    }
    let taken = |fetch: &Fetch| {
        let known = ways.get(&fetch.artifact).map_or(&[][..], Vec::as_slice);
        let tried = world.attempts.fetches.get(&fetch.artifact);
        let turn = tried.map_or(0, |tried| tried.failures as usize);
        known.get(turn % known.len().max(1)) == Some(fetch)
    };
    actions.retain(|action| match action {
        Action::Fetch(fetch) => taken(fetch),
        Action::Record { .. }
        | Action::Cancel { .. }
        | Action::Ask(_)
        | Action::Remove { .. }
        | Action::Converge { .. }
        | Action::Conclude { .. } => true,
    });
}
