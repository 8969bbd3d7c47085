//! Stepping every track that may move until none does.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use holdfast_engine::effect::Effect;
use holdfast_engine::step::{self, Outcome};
use holdfast_engine::track::kept;
use holdfast_engine::track::{Deployment, Placement, Track, TrackName};
use holdfast_protocol::api;
use holdfast_protocol::name::{ServiceName, TargetName};

use super::view::Progress;
use super::{After, Round, forget, last};
use crate::history::Entry;
use crate::store::row;
use crate::store::write::Write;

/// Most steps in one round. A step that has nothing to do emits nothing, so rounds end long before;
/// what is left at the bound goes into the next round.
const STEPS_MAX: usize = 100_000;

impl Round<'_> {
    /// Steps every moved track, and every track that these move, until all are at rest. What others
    /// wait for comes first, so that each is stepped once.
    pub fn settle(&mut self) {
        self.wake_due();
        let mut queue: BTreeSet<(usize, TrackName)> = BTreeSet::new();
        for _ in 0..STEPS_MAX {
            let index = &self.world.index;
            queue.extend(
                std::mem::take(&mut self.moved)
                    .into_iter()
                    .map(|n| (index.place(&n), n)),
            );
            let Some((_, name)) = queue.pop_first() else {
                return;
            };
            self.step(&name);
        }
        tracing::warn!(left = queue.len(), "stopped stepping for this round");
        self.world
            .wakes
            .extend(queue.into_iter().map(|(_, name)| (name, self.now)));
    }

    fn wake_due(&mut self) {
        let now = self.now;
        if self.world.forget_at <= now {
            self.forget();
            self.world.forget_at = now.after(forget::INTERVAL);
        }
        let due = self.world.wakes.iter().filter(|(_, at)| **at <= now);
        self.moved.extend(due.map(|(name, _)| name.clone()));
    }

    fn step(&mut self, name: &TrackName) {
        let Some(track) = self.world.tracks.get(name) else {
            return;
        };
        let mut context = self.world.context(name);
        let inputs = context.inputs();
        // A fault of the engine must not stop any other track.
        let outcome = catch_unwind(AssertUnwindSafe(|| step::step(track, &inputs, self.now)));
        match outcome {
            Ok(outcome) => self.take_outcome(name, outcome),
            Err(_) => self.fault(name),
        }
    }

    pub(super) fn fault(&mut self, name: &TrackName) {
        tracing::error!(track = %name, "the engine panicked on this track; it is left alone");
        self.world.wakes.remove(name);
        self.record(Entry {
            kind: "engine.fault",
            message: format!("the engine failed on {name}; please report this"),
            service: Some(name.service.clone()),
            environment: Some(name.environment.clone()),
            ..Entry::default()
        });
    }

    /// Puts the outcome of a step, or of a person's wish, into force.
    pub fn take_outcome(&mut self, name: &TrackName, outcome: Outcome) {
        let Outcome {
            track,
            effects,
            wake_at,
            waits: _,
        } = outcome;
        match wake_at {
            Some(at) => self.world.wakes.insert(name.clone(), at),
            None => self.world.wakes.remove(name),
        };
        let Some(before) = self.world.tracks.get(name) else {
            return;
        };
        let kept_differs = kept::differs(before, &track);
        let seen_differs = seen_by_others(before) != seen_by_others(&track);
        let newest = |track: &Track| track.current.as_ref().map(|current| current.id);
        // A deployment that gives way to the next one at once is remembered as it stood.
        let left = newest(before).filter(|_| newest(before) != newest(&track));
        let left = left.map(|id| (id, self.world.progress(before)));
        if last::turns_bad(before, &track) {
            self.ask_unready(name);
        }
        self.world.tracks.insert(name.clone(), track);
        for effect in effects {
            self.take_effect(name, effect, left);
        }
        if kept_differs {
            self.keep_track(name);
        }
        if seen_differs {
            self.moved.extend(self.world.touched_by(name));
        }
        self.forget_finished_removal(name);
    }

    fn take_effect(&mut self, name: &TrackName, effect: Effect, left: Option<(u64, Progress)>) {
        match effect {
            Effect::Place { target, point } => self.place(name, &target, point),
            Effect::Displace { target } => self.displace(&name.service, &target),
            Effect::Save(deployment) => self.save(name, &deployment, left),
            Effect::Check(ask) => self.after.push(After::Check {
                track: name.clone(),
                ask,
            }),
            Effect::Record(record) => self.record(Entry {
                kind: record.kind,
                actor: record.by,
                message: record.message,
                service: Some(name.service.clone()),
                environment: Some(name.environment.clone()),
                deployment: record.deployment,
                notify: record.notify,
                ..Entry::default()
            }),
        }
    }

    fn save(&mut self, name: &TrackName, deployment: &Deployment, left: Option<(u64, Progress)>) {
        self.world.last_deployment = self.world.last_deployment.max(deployment.id);
        let mut body = self.world.deployment(name, deployment);
        if let Some((_, progress)) = left.filter(|(id, _)| *id == deployment.id) {
            (body.targets, body.waves) = progress;
        }
        self.writes.push(Write::Deployment(Box::new(body)));
    }

    fn place(
        &mut self,
        name: &TrackName,
        target: &TargetName,
        point: holdfast_engine::track::Point,
    ) {
        let body = self.render(&name.service, target, &point);
        let placed = row::Placed {
            point,
            since: self.now,
            body,
        };
        let Some(there) = self.world.targets.get_mut(target) else {
            return;
        };
        there.placed.insert(name.service.clone(), placed.clone());
        if let Some(track) = self.world.tracks.get_mut(name) {
            track
                .placements
                .insert(target.clone(), Placement::from(&placed));
        }
        self.placed(target, &name.service, Some(placed));
    }

    fn displace(&mut self, service: &ServiceName, target: &TargetName) {
        if let Some(there) = self.world.targets.get_mut(target) {
            there.placed.remove(service);
        }
        self.placed(target, service, None);
    }

    fn placed(&mut self, target: &TargetName, service: &ServiceName, placed: Option<row::Placed>) {
        self.reassign.insert(target.clone());
        self.writes.push(Write::Placement {
            target: target.clone(),
            service: service.clone(),
            placed,
        });
    }

    /// Keeps a track as it is now.
    pub fn keep_track(&mut self, name: &TrackName) {
        if let Some(track) = self.world.tracks.get(name) {
            self.writes.push(Write::Track(Box::new(track.clone())));
        }
    }

    /// A track that is declared no more is forgotten once nothing of it is left anywhere.
    fn forget_finished_removal(&mut self, name: &TrackName) {
        let confirmed = self
            .world
            .removals
            .get(name)
            .is_some_and(|removal| removal.confirmed);
        let empty = self
            .world
            .tracks
            .get(name)
            .is_some_and(|track| track.placements.is_empty());
        if !confirmed || !empty {
            return;
        }
        self.world.tracks.remove(name);
        self.world.removals.remove(name);
        self.world.asked.forget(name);
        self.world.wakes.remove(name);
        self.writes.push(Write::DropTrack(name.clone()));
        self.writes.push(Write::Removal(name.clone(), None));
        self.record(Entry {
            kind: "track.removed",
            message: format!("{name} is declared no more and was removed"),
            service: Some(name.service.clone()),
            environment: Some(name.environment.clone()),
            ..Entry::default()
        });
    }
}

/// What other tracks may read of a track.
fn seen_by_others(track: &Track) -> impl PartialEq + '_ {
    let current = track.current.as_ref();
    let phase: Option<api::deployment::Phase> = current.map(|current| current.phase.name());
    (
        &track.stable,
        &track.proven,
        phase,
        current.map(|current| &current.point.version),
    )
}
