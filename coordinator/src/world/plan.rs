//! What an apply would do: the same step as ever, and no effect of it performed.

use std::collections::BTreeSet;

use holdfast_engine::compile::diff;
use holdfast_engine::compiled::TrackSpec;
use holdfast_engine::track::{Track, TrackName};
use holdfast_engine::whatif;
use holdfast_protocol::api::apply::{ApplyRequest, Plan, PlanBase, PlannedAction, PlannedTrack};
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::time::Timestamp;

use super::World;
use super::apply::{NotApplied, Prepared};

impl World {
    /// The difference to what is in force, track by track, and the gates that would stand.
    ///
    /// # Errors
    /// [`NotApplied`] when the world has moved on since the request was prepared.
    pub fn plan(
        &self,
        prepared: &Prepared,
        request: ApplyRequest,
        now: Timestamp,
    ) -> Result<Plan, NotApplied> {
        self.check_base(prepared)?;
        let removals = self.held_removals(prepared);
        let next = self.revision + 1;
        let held: Vec<Wait> = removals
            .iter()
            .map(|removal| self.removal_wait(removal, next, now))
            .collect();
        let names: BTreeSet<&TrackName> = self
            .tracks
            .keys()
            .chain(prepared.compiled.tracks.keys())
            .collect();
        let tracks = names
            .into_iter()
            .filter_map(|name| self.planned(name, prepared, &held, now))
            .collect();
        let base = PlanBase {
            revision: self.revision,
        };
        let request = ApplyRequest {
            plan: Some(base.clone()),
            dry_run: false,
            ..request
        };
        Ok(Plan {
            base,
            request,
            changes: prepared.changes.clone(),
            tracks,
            held,
        })
    }

    fn planned(
        &self,
        name: &TrackName,
        prepared: &Prepared,
        held: &[Wait],
        now: Timestamp,
    ) -> Option<PlannedTrack> {
        let fresh = Track::new(name.clone());
        let track = self.tracks.get(name).unwrap_or(&fresh);
        let Some(spec) = prepared.compiled.tracks.get(name) else {
            return self.planned_removal(track, held);
        };
        let in_force = self.compiled.tracks.get(name);
        if in_force == Some(spec) {
            // It may be about to move all the same, and not because of this apply.
            return None;
        }
        let mut context = self.context_under(name, &prepared.compiled);
        let mut inputs = context.inputs();
        inputs.revision = self.revision + 1;
        whatif::plan(track, &inputs, self.changed_fields(name, spec), now)
    }

    fn planned_removal(&self, track: &Track, held: &[Wait]) -> Option<PlannedTrack> {
        if self.removals.contains_key(&track.name) {
            return None;
        }
        let subject = track.name.environment.to_string();
        Some(PlannedTrack {
            service: track.name.service.clone(),
            environment: track.name.environment.clone(),
            action: PlannedAction::Remove,
            from: track.stable.as_ref().map(|point| point.version.clone()),
            to: None,
            fields: Vec::new(),
            targets: track.placements.keys().cloned().collect(),
            runtimes: self.placed_in(&track.name),
            waits: held
                .iter()
                .filter(|wait| wait.subject == subject)
                .cloned()
                .collect(),
        })
    }

    /// The fields of a track's configuration that differ: `vars.port: 8080 -> 9090`.
    fn changed_fields(&self, name: &TrackName, spec: &TrackSpec) -> Vec<String> {
        let before = self.compiled.tracks.get(name);
        before.map_or_else(Vec::new, |before| {
            diff::configuration_changes(&before.configuration, &spec.configuration)
        })
    }
}
