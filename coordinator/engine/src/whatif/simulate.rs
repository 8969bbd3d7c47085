//! Simulation: the clock runs forward, the step decides as ever, and nothing leaves the process.
//!
//! Targets become ready after their usual time, checks pass, people agree after their usual time;
//! what is named to fail fails. What only a person can end otherwise (a pause, a freeze, a promotion)
//! stays as it is and is told at the end.
//!
//! *Guarantees:* deterministic; bounded by [`STEPS_MAX`] and [`MOMENTS_MAX`].

mod clock;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::time::Timestamp;

use self::clock::Clock;
use crate::compiled::Compiled;
use crate::input::{Freeze, Held, ReleaseRef, Seen};
use crate::track::{Track, TrackName};

/// Most steps of one simulation.
pub const STEPS_MAX: usize = 500_000;
/// Most moments that one simulation tells.
pub const MOMENTS_MAX: usize = 5_000;

/// What a simulation begins with.
#[derive(Debug, Clone)]
pub struct Scene {
    /// What is declared, or would be.
    pub compiled: Arc<Compiled>,
    /// Its revision.
    pub revision: u64,
    /// The tracks with their placements, as they stand.
    pub tracks: BTreeMap<TrackName, Track>,
    /// The releases of each track, usable with what is declared, ascending.
    pub releases: BTreeMap<TrackName, Vec<ReleaseRef>>,
    /// The targets.
    pub targets: BTreeMap<TargetName, Member>,
    /// The freezes in force.
    pub freezes: Vec<Freeze>,
    /// The greatest number of a deployment.
    pub last_deployment: u64,
}

/// A target of the scene.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its environment.
    pub environment: EnvironmentName,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Whether it is connected; it stays so.
    pub connected: bool,
    /// Since when.
    pub since: Timestamp,
    /// Set while its own site asks to be left alone.
    pub held: Option<Held>,
    /// How it does with what is placed on it, by service.
    pub seen: BTreeMap<ServiceName, Seen>,
}

/// How long things usually take.
#[derive(Debug, Clone)]
pub struct Pace {
    /// From a placement to ready, by track.
    pub ready: BTreeMap<TrackName, Duration>,
    /// The same where nothing is known of the track.
    pub ready_else: Duration,
    /// One answer of a check.
    pub check: Duration,
    /// From a request to an approval.
    pub approval: Duration,
}

/// One thing that would happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// On which track.
    pub track: TrackName,
    /// What: a kind of event.
    pub kind: &'static str,
    /// In one sentence.
    pub message: String,
}

/// What would happen, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Everything that would be recorded.
    pub moments: Vec<Moment>,
    /// When the simulation ended.
    pub ended_at: Timestamp,
    /// Why.
    pub end: End,
    /// What every track that is not at rest would wait for then.
    pub waiting: Vec<(TrackName, Vec<Wait>)>,
}

/// Why a simulation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing more would happen by itself.
    AtRest,
    /// The time asked for is over.
    Until,
    /// It would go on for longer than a simulation may.
    TooLong,
}

/// Runs the clock from `now` to `until`. Deployments on the tracks in `fail` fail.
#[must_use]
pub fn simulate(
    scene: Scene,
    pace: &Pace,
    fail: &BTreeSet<TrackName>,
    now: Timestamp,
    until: Timestamp,
) -> Timeline {
    Clock::new(scene, pace, fail, now).run(until)
}
