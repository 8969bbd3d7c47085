//! How much is under way at once: so many actions of each runtime, fetches, questions for secrets. Pure.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_adapters::adapter_of;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;

use super::{ACTIONS_MAX, ASKS_MAX, Action, Busy, Doing, World};
use crate::desired::Bodies;

/// Actions that wait for each other where there are too many.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// The runtime that they ask something of.
    pub runtime: String,
    /// Whether they bring back what was there and broke.
    pub mends: bool,
}

/// Keeps within the bounds, in the order of the actions; what is left over comes with the next plan.
pub(super) fn bound(actions: &mut Vec<Action>, world: &World<'_>) {
    super::fetch::in_turn(actions, world);
    let mut slots = Slots::besides(world.busy);
    let mut fetches = (world.artifacts.at_once).saturating_sub(world.artifacts.fetching.len());
    let mut fetched = world.artifacts.fetching.clone();
    let mut asks = ASKS_MAX.saturating_sub(world.secrets.asking.len());
    let mut asked = world.secrets.asking.clone();
    let mut acted = BTreeSet::new();
    actions.retain(|action| match action {
        Action::Record { .. } | Action::Cancel { .. } => true,
        Action::Fetch(fetch) => fetched.insert(fetch.artifact) && take(&mut fetches),
        Action::Ask(secret) => asked.insert(secret.clone()) && take(&mut asks),
        Action::Remove { service, .. }
        | Action::Converge { service, .. }
        | Action::Conclude { service, .. } => {
            acted.insert(service.clone())
                && lane(action, world.bodies).is_some_and(|l| slots.take(l))
        }
    });
}

/// Where an action has to wait its turn; none where it asks nothing of a runtime.
fn lane(action: &Action, bodies: &Bodies) -> Option<Lane> {
    let of_body = |body: &Digest, mends: bool| {
        let runtime = adapter_of(&bodies.get(body)?.workload.runtime).to_owned();
        Some(Lane { runtime, mends })
    };
    match action {
        Action::Remove { runtime, .. } => Some(Lane {
            runtime: runtime.clone(),
            mends: false,
        }),
        Action::Converge { body, mends, .. } => of_body(body, *mends),
        Action::Conclude { body, .. } => of_body(body, true),
        Action::Record { .. } | Action::Cancel { .. } | Action::Fetch(_) | Action::Ask(_) => None,
    }
}

/// How many are under way in each lane.
struct Slots(BTreeMap<Lane, usize>);

impl Slots {
    fn besides(busy: &BTreeMap<ServiceName, Busy>) -> Self {
        let mut taken = BTreeMap::new();
        let acting = |busy: &&Busy| match &busy.doing {
            Doing::Converging { .. } | Doing::Removing => true,
            Doing::Settling { .. } => false,
        };
        for busy in busy.values().filter(acting) {
            *taken.entry(busy.lane.clone()).or_default() += 1;
        }
        Self(taken)
    }

    fn take(&mut self, lane: Lane) -> bool {
        let taken = self.0.entry(lane).or_default();
        let free = *taken < ACTIONS_MAX;
        *taken += usize::from(free);
        free
    }
}

fn take(slots: &mut usize) -> bool {
    let free = *slots > 0;
    *slots = slots.saturating_sub(1);
    free
}
