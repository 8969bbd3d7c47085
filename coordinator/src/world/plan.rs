//! What an apply would do: the same step as ever, and no effect of it performed.

use std::collections::BTreeSet;

use holdfast_engine::track::{Track, TrackName};
use holdfast_engine::whatif;
use holdfast_protocol::api::apply::{ApplyRequest, Plan, PlanBase, PlannedAction, PlannedTrack};
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::time::Timestamp;

use super::World;
use super::apply::Prepared;
use crate::event::Refused;

impl World {
    /// The difference to what is in force, track by track, and the gates that would stand.
    ///
    /// # Errors
    /// [`Refused`] when the world has moved on since the request was prepared.
    pub fn plan(
        &self,
        prepared: &Prepared,
        request: ApplyRequest,
        now: Timestamp,
    ) -> Result<Plan, Refused> {
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
        let context = self.context_with(name, Some(spec));
        let mut inputs = context.inputs();
        inputs.revision = self.revision + 1;
        whatif::plan(track, &inputs, self.changed_fields(name, prepared), now)
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
            waits: held
                .iter()
                .filter(|wait| wait.subject == subject)
                .cloned()
                .collect(),
        })
    }

    /// The fields of a track that differ, by their provenance: `vars.port: 8080 -> 9090`.
    fn changed_fields(&self, name: &TrackName, prepared: &Prepared) -> Vec<String> {
        let fields = |compiled: &holdfast_engine::compiled::Compiled| {
            let spec = compiled.tracks.get(name);
            let fields = spec
                .map(|spec| spec.provenance.as_ref().clone())
                .unwrap_or_default();
            fields
                .into_iter()
                .map(|field| (field.path, field.value))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let (before, after) = (fields(&self.compiled), fields(&prepared.compiled));
        if before.is_empty() {
            return Vec::new();
        }
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differs = |path: &&String| before.get(*path) != after.get(*path);
        let shown = |value: Option<&String>| value.map_or("(none)", String::as_str).to_owned();
        paths
            .into_iter()
            .filter(differs)
            .map(|path| {
                format!(
                    "{path}: {} -> {}",
                    shown(before.get(path)),
                    shown(after.get(path))
                )
            })
            .collect()
    }
}
