//! Desired against observed, compared by digest: what differs. Pure.

use std::collections::BTreeMap;

use holdfast_adapters::adapter_of;
use holdfast_adapters::run::{Exit, Live, Observed};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;

use crate::desired::Bodies;

/// What one adapter last said of everything it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Nothing yet, or it could not say: why.
    Unknown(String),
    /// Everything it owns.
    Known(BTreeMap<ServiceName, Observed>),
}

/// What every adapter of this target last said, by runtime.
pub type Sights = BTreeMap<String, Sight>;

/// How a wanted service differs from what is seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Whether it is there is not known.
    Unknown(String),
    /// This agent has no adapter of that name.
    NoAdapter(String),
    /// It is not there.
    Missing,
    /// It is there in another body.
    Other {
        /// The body that is there, where its marker could be read.
        body: Option<Digest>,
        /// Whether it runs.
        running: bool,
    },
    /// It is there in the right body and has ended.
    Ended(Exit),
    /// It is there in the right body and was changed by somebody else: what differs.
    Altered(String),
    /// It is there in the right body and runs.
    Running(Run),
    /// It is there in the right body and runs, and its runtime says that it is not ready.
    Unready {
        /// The run.
        run: Run,
        /// Why, in the runtime's words.
        why: String,
        /// Whether it failed its runtime's checks, and has not just begun.
        failing: bool,
    },
}

/// One uninterrupted run of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Since when.
    pub since: Timestamp,
    /// The main process, if it has one.
    pub pid: Option<u32>,
}

/// Something that is there and not wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unwanted {
    /// The service.
    pub service: ServiceName,
    /// The adapter that owns it.
    pub runtime: String,
}

/// How each service of `selected` differs from what is seen.
#[must_use]
pub fn differences(
    selected: &BTreeMap<ServiceName, Digest>,
    bodies: &Bodies,
    sights: &Sights,
) -> BTreeMap<ServiceName, Difference> {
    selected
        .iter()
        .map(|(service, body)| {
            let difference = match bodies.get(body) {
                Some(intent) => {
                    difference(service, *body, adapter_of(&intent.workload.runtime), sights)
                }
                None => Difference::Unknown("its body is not at hand".to_owned()),
            };
            (service.clone(), difference)
        })
        .collect()
}

/// Everything that is seen and not selected, with the adapter that owns it. A service that moved to
/// another runtime is unwanted in the one it left.
#[must_use]
pub fn unwanted(
    selected: &BTreeMap<ServiceName, Digest>,
    bodies: &Bodies,
    sights: &Sights,
) -> Vec<Unwanted> {
    let runtime_of = |service: &ServiceName| {
        let body = selected.get(service)?;
        Some(
            bodies
                .get(body)
                .map(|intent| adapter_of(&intent.workload.runtime)),
        )
    };
    let mut found = Vec::new();
    for (runtime, sight) in sights {
        let Sight::Known(services) = sight else {
            continue;
        };
        for service in services.keys() {
            // A service whose body is not at hand might be meant to be right here.
            let wanted_here = runtime_of(service).is_some_and(|r| r.is_none_or(|r| r == runtime));
            if !wanted_here {
                found.push(Unwanted {
                    service: service.clone(),
                    runtime: runtime.clone(),
                });
            }
        }
    }
    found
}

fn difference(service: &ServiceName, body: Digest, runtime: &str, sights: &Sights) -> Difference {
    let services = match sights.get(runtime) {
        None => return Difference::NoAdapter(runtime.to_owned()),
        Some(Sight::Unknown(why)) => return Difference::Unknown(why.clone()),
        Some(Sight::Known(services)) => services,
    };
    let Some(seen) = services.get(service) else {
        return Difference::Missing;
    };
    if seen.body != Some(body) {
        return Difference::Other {
            body: seen.body,
            running: is_running(&seen.live),
        };
    }
    match &seen.live {
        Live::Running { since, pid } => Difference::Running(Run {
            since: *since,
            pid: *pid,
        }),
        Live::Unready {
            since,
            pid,
            why,
            failing,
        } => Difference::Unready {
            run: Run {
                since: *since,
                pid: *pid,
            },
            why: why.clone(),
            failing: *failing,
        },
        Live::Ended { exit, .. } => Difference::Ended(*exit),
        Live::Altered { what } => Difference::Altered(what.clone()),
    }
}

const fn is_running(live: &Live) -> bool {
    match live {
        Live::Running { .. } | Live::Unready { .. } | Live::Altered { .. } => true,
        Live::Ended { .. } => false,
    }
}
