//! The driver: steps tracks, keeps what they decide, wakes those that this touches, lets time pass.

use std::time::Duration;

use holdfast_engine::effect::{Ask, Effect};
use holdfast_engine::input::{Inputs, Seen};
use holdfast_engine::steer::{Refusal, Wish, steer};
use holdfast_engine::step::{Outcome, step};
use holdfast_engine::track::kept::{differs, same_wait};
use holdfast_engine::track::{Deployment, Track, TrackName};
use holdfast_engine::wake::Change;
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use super::tell::{effect_text, placed, wait_text};
use super::{STEPS_MAX, Stepped, World};

impl World {
    pub(super) fn wish(&mut self, name: &TrackName, wish: &Wish) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        let reason = match wish {
            Wish::Deploy { hotfix: true, .. } => "it is on fire",
            _ => "",
        };
        match steer(&track, wish, "alice", reason, &inputs, self.now) {
            Ok(steered) => {
                self.watched(&track, &inputs, &steered.outcome, Some(wish));
                let changed = if steered.changed { "" } else { " (already so)" };
                self.said
                    .push(format!("{name}: {}{changed}", steered.message));
                self.commit(name, steered.outcome);
                self.move_track(name);
            }
            Err(refusal) => self.said.push(refused(name, &refusal)),
        }
    }

    /// Time passes, stopping wherever time alone may move a track. Agents are at work all the while,
    /// or silent.
    pub(super) fn pass(&mut self, millis: u64, at_work: bool) {
        let end = self.now.after(Duration::from_millis(millis));
        for _ in 0..STEPS_MAX {
            self.settle_tracks();
            if at_work {
                self.settle_agents();
            }
            let next = self.wakes.values().min().copied().filter(|at| *at <= end);
            let Some(at) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            let due: Vec<TrackName> = self
                .wakes
                .iter()
                .filter(|(_, at)| **at <= self.now)
                .map(|(n, _)| n.clone())
                .collect();
            for name in due {
                self.wakes.remove(&name);
                self.move_track(&name);
            }
        }
        self.object("time alone kept tracks moving");
    }

    /// The clock shows something else, and every track is looked at again.
    pub(super) fn clock(&mut self, millis: u64) {
        self.now = Timestamp::from_millis(millis);
        self.everything();
    }

    /// Everything that is not in the store is forgotten, then agents come back.
    pub(super) fn restart(&mut self) {
        for (name, track) in &mut self.tracks {
            let kept = self.stored.get(name).unwrap_or(track);
            let text = serde_json::to_string(kept).expect("tracks are plain values");
            let mut stored: Track = serde_json::from_str(&text).expect("what was written");
            stored.placements = std::mem::take(&mut track.placements);
            *track = stored;
        }
        self.answered.clear();
        self.wakes.clear();
        self.ask_again();
        let now = self.now;
        let mut back = Vec::new();
        for (name, target) in &mut self.targets {
            if target.connected {
                (target.connected, target.since) = (false, now);
                back.push(name.clone());
            }
        }
        self.everything();
        self.settle_tracks();
        for name in back {
            self.link(&name, true);
            self.settle_tracks();
        }
    }

    /// Steps every track once more.
    pub(crate) fn everything(&mut self) {
        for name in self.tracks.keys().cloned().collect::<Vec<_>>() {
            self.move_track(&name);
        }
    }

    pub(super) fn touch(&mut self, change: Change<'_>) {
        let names: Vec<TrackName> = self.index.touched(change).into_iter().cloned().collect();
        for name in names {
            self.move_track(&name);
        }
        if let Change::Targets(environment) = change {
            let removed = self
                .removed
                .keys()
                .filter(|name| name.environment == *environment);
            for name in removed.cloned().collect::<Vec<_>>() {
                self.move_track(&name);
            }
        }
    }

    pub(super) fn move_track(&mut self, name: &TrackName) {
        self.moved.insert((self.index.place(name), name.clone()));
    }

    pub(super) fn settle_tracks(&mut self) {
        for _ in 0..STEPS_MAX {
            if let Some((_, name)) = self.moved.pop_first() {
                self.step(&name);
            } else if !self.answer_one() {
                return;
            }
        }
        self.object("tracks kept moving each other");
    }

    pub(super) fn step(&mut self, name: &TrackName) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        let outcome = step(&track, &inputs, self.now);
        if std::mem::take(&mut self.lose) {
            return self.restart();
        }
        self.watched(&track, &inputs, &outcome, None);
        let placed: Vec<TargetName> = outcome.effects.iter().filter_map(placed).collect();
        // Only one deployment is made in a step; one that ended in it is followed in the next.
        let over =
            |current: &Deployment| current.id >= inputs.next_deployment && current.is_final();
        let ended = outcome.track.current.as_ref().is_some_and(over);
        self.commit(name, outcome);
        if self.repeats && !ended {
            self.repeat(name, &placed);
        }
    }

    /// What was just stepped, stepped again before anything was heard of what it did, has nothing
    /// left to do and waits for the same.
    pub(super) fn repeat(&mut self, name: &TrackName, placed: &[TargetName]) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let mut parts = self.parts(name);
        for target in placed {
            if let Some(view) = parts.targets.get_mut(target) {
                view.seen = Seen::Unknown;
            }
        }
        let again = step(&track, &parts.inputs(self, name), self.now);
        if !again.effects.is_empty() || again.track != track {
            let waits = (&track.waits, &again.waits);
            self.object(&format!("{name}: repeated: {:?}, {waits:?}", again.effects));
        }
    }

    pub(super) fn watched(
        &mut self,
        before: &Track,
        inputs: &Inputs<'_>,
        outcome: &Outcome,
        wish: Option<&Wish>,
    ) {
        let Some(watch) = self.watch.clone() else {
            return;
        };
        let now = self.now;
        let stepped = Stepped {
            before,
            inputs,
            outcome,
            now,
            wish,
        };
        let objection = watch.lock().expect("no watch panics")(&stepped).err();
        if let Some(objection) = objection {
            self.object(&format!("{}: {objection}", before.name));
        }
    }

    pub(crate) fn object(&mut self, objection: &str) {
        self.objection.get_or_insert_with(|| objection.to_owned());
    }

    /// One transaction: the track, its placements, what is kept.
    pub(super) fn commit(&mut self, name: &TrackName, outcome: Outcome) {
        let before = &self.tracks[name];
        let seen_by_others = |track: &Track| {
            let current = track
                .current
                .as_ref()
                .map(|d| (d.phase.name(), d.point.version.clone()));
            (track.stable.clone(), track.proven.clone(), current)
        };
        let progress = seen_by_others(before) != seen_by_others(&outcome.track);
        let same = before.waits.len() == outcome.waits.len()
            && before
                .waits
                .iter()
                .zip(&outcome.waits)
                .all(|(before, after)| same_said(before, after));
        if !same && self.tells {
            for wait in &outcome.waits {
                self.said
                    .push(format!("{name} waits: {}", wait_text(wait, self.now)));
            }
            if outcome.waits.is_empty() {
                self.said.push(format!("{name} waits for nothing"));
            }
        }
        let asks = |effect: &Effect| matches!(effect, Effect::Check(_));
        self.moves += u64::from(!outcome.effects.iter().all(asks));
        for effect in &outcome.effects {
            if let Effect::Save(deployment) = effect {
                self.last_deployment = self.last_deployment.max(deployment.id);
            }
            if let Effect::Check(ask) = effect {
                let same = |(track, old): &(TrackName, Ask)| {
                    track == name && old.guard == ask.guard && old.when == ask.when
                };
                self.asks.retain(|old| !same(old));
                self.asks.push((name.clone(), ask.clone()));
            }
            if self.tells {
                self.said.extend(effect_text(name, effect));
            }
        }
        match outcome.wake_at {
            Some(at) => self.wakes.insert(name.clone(), at),
            None => self.wakes.remove(name),
        };
        self.store(name, &outcome.track);
        self.tracks.insert(name.clone(), outcome.track);
        if progress {
            self.touch(Change::Progress(name));
        }
        let gone = self.removed.get(name) == Some(&true) && self.tracks[name].placements.is_empty();
        if gone {
            self.tracks.remove(name);
            self.stored.remove(name);
            self.removed.remove(name);
            self.wakes.remove(name);
        }
    }
}

impl World {
    /// Writes what is worth a write, as the coordinator does; placements have rows of their own.
    fn store(&mut self, name: &TrackName, track: &Track) {
        let kept = self.stored.get(name);
        if kept.is_none_or(|kept| differs(kept, track)) {
            self.stored.insert(name.clone(), track.clone());
            self.writes += 1;
        }
    }
}

/// A refusal as one line.
pub(super) fn refused(name: &TrackName, refusal: &Refusal) -> String {
    format!("{name}: refused: {}; {}", refusal.message, refusal.help)
}

/// Whether two waits say the same. When a check is asked next changes all the time.
fn same_said(before: &Wait, after: &Wait) -> bool {
    let asked = before.kind == WaitKind::Protection && before.subject != "soak";
    before == after || asked && same_wait(before, after)
}
