//! What Prometheus is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::world::World;

/// All counters and gauges of the coordinator.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connections whose handshake succeeded.
    pub connections: Counter,
    /// Handshakes, joins and requests that were refused.
    pub refusals: Counter,
    /// Rounds that were committed.
    pub commits: Counter,
    /// Commits that failed and were tried again.
    pub commit_failures: Counter,
    /// Bytes of files that were fetched for targets.
    pub relayed: Gauge,
    stored: Gauge,
    targets: Gauge,
    connected: Gauge,
    events: Gauge,
    revision: Gauge,
    tracks: Family<PhaseLabel, Gauge>,
    registry: Arc<Mutex<Registry>>,
}

/// What the gauges show of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    stored: u64,
    targets: usize,
    connected: usize,
    events: u64,
    revision: u64,
    /// Number of tracks by phase of their newest deployment.
    tracks: BTreeMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            connections: Counter::default(),
            refusals: Counter::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            relayed: Gauge::default(),
            stored: Gauge::default(),
            targets: Gauge::default(),
            connected: Gauge::default(),
            events: Gauge::default(),
            revision: Gauge::default(),
            tracks: Family::default(),
            registry: Arc::new(Mutex::new(Registry::with_prefix("holdfast"))),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let Ok(mut registry) = self.registry.lock() else {
            return;
        };
        registry.register(
            "connections",
            "Connections accepted",
            self.connections.clone(),
        );
        registry.register(
            "refusals",
            "Peers and requests refused",
            self.refusals.clone(),
        );
        registry.register("commits", "Rounds committed", self.commits.clone());
        registry.register(
            "commit_failures",
            "Commits that failed",
            self.commit_failures.clone(),
        );
        registry.register(
            "artifact_bytes",
            "Bytes of uploaded files",
            self.stored.clone(),
        );
        registry.register(
            "relay_bytes",
            "Bytes of files that were fetched for targets",
            self.relayed.clone(),
        );
        registry.register("targets", "Targets that joined", self.targets.clone());
        registry.register(
            "targets_connected",
            "Targets connected now",
            self.connected.clone(),
        );
        registry.register(
            "history_entries",
            "Entries of the history",
            self.events.clone(),
        );
        registry.register("revision", "The revision in force", self.revision.clone());
        registry.register(
            "tracks",
            "Tracks by phase of their newest deployment",
            self.tracks.clone(),
        );
    }

    /// Brings the gauges up to date; done when somebody looks.
    pub fn observe(&self, seen: &Seen) {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.targets.set(signed(seen.targets));
        self.stored.set(crate::store::integer(seen.stored));
        self.connected.set(signed(seen.connected));
        self.events.set(crate::store::integer(seen.events));
        self.revision.set(crate::store::integer(seen.revision));
        self.tracks.clear();
        for (phase, count) in &seen.tracks {
            let phase = phase.to_string();
            self.tracks
                .get_or_create(&PhaseLabel { phase })
                .set(signed(*count));
        }
    }

    /// All of it in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock() {
            // Writing into a string does not fail.
            let _ = encode(&mut text, &registry);
        }
        text
    }
}

impl Seen {
    /// The world at this moment.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let mut tracks = BTreeMap::new();
        for track in world.tracks.values() {
            let phase = track.current.as_ref().map(|current| current.phase.name());
            let phase = phase.map_or_else(|| "None".to_owned(), |phase| format!("{phase:?}"));
            *tracks.entry(phase).or_default() += 1;
        }
        Self {
            stored: world.artifacts.values().sum(),
            targets: world.targets.len(),
            connected: world
                .targets
                .values()
                .filter(|target| target.is_connected())
                .count(),
            events: world.head.sequence,
            revision: world.revision,
            tracks,
        }
    }
}
