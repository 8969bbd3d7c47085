//! The step: what one track does next. All control flow of the engine is in [`Turn::next`], one
//! match over the phase that calls one file a phase.
//!
//! A step repeats two things until neither changes anything:
//! 1. *converge*: compare what each target should be given with what it is given, and note the
//!    differences as effects ([`place`]);
//! 2. *advance*: ask the phase what comes next, and go there.
//!
//! Nothing hangs on an event having been seen: a step that is repeated, late or first after a restart
//! compares again and comes to the same end.

mod halted;
mod place;
mod removed;
mod resting;
mod rolling;
mod rolling_back;
mod verifying;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_protocol::api::deployment::{TargetCounts, Trigger, TriggerKind, WaveCount};
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use crate::batch;
use crate::check;
use crate::compiled::TrackSpec;
use crate::effect::{Effect, Record};
use crate::gates::presence;
use crate::input::{Declared, Inputs, Seen};
use crate::rollback;
use crate::track::{Asked, Deployment, EARLIER_MAX, PROVEN_MAX, Phase, Point, Track};
use crate::wait::Waits;
use crate::waves;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The track as it is now.
    pub track: Track,
    /// What has to be done, in this order: first what goes, then what comes, then what is kept.
    pub effects: Vec<Effect>,
    /// When time alone could change the answer.
    pub wake_at: Option<Timestamp>,
    /// Why nothing more happens now; the same as in `track`.
    pub waits: Vec<Wait>,
}

/// Decides the next safe step of a track. Goes as far as it can; stepping the outcome again at the
/// same time with what is then observed emits nothing.
///
/// `inputs.targets` must tell of each target how it does with what `track.placements` says, and of
/// nothing older.
#[must_use]
pub fn step(track: &Track, inputs: &Inputs<'_>, now: Timestamp) -> Outcome {
    Turn::new(track.clone(), inputs, now).run(&track.waits)
}

/// How the targets of a track do: of a job that runs once, the elected one alone.
#[must_use]
pub fn counts(track: &Track, inputs: &Inputs<'_>) -> TargetCounts {
    let goal = goal(track);
    let mut counts = TargetCounts::default();
    let elected = track.elected.as_ref();
    let meant = |name: &TargetName| elected.is_none_or(|elected| elected == name);
    for (name, view) in inputs.targets.iter().filter(|(name, _)| meant(name)) {
        counts.total += 1;
        counts.disconnected += u32::from(!view.connected);
        let Some(placement) = track.placements.get(name) else {
            continue;
        };
        counts.updated += u32::from(goal.is_some_and(|goal| placement.point.is(goal)));
        match view.seen {
            Seen::Ready { .. } => counts.ready += 1,
            Seen::Failed { .. } => counts.failed += 1,
            Seen::Unknown | Seen::Progressing { .. } => {}
        }
    }
    counts
}

/// Which wave of how many the newest deployment is in.
#[must_use]
pub fn wave_count(track: &Track, inputs: &Inputs<'_>) -> WaveCount {
    let (Some(deployment), Declared::Runs(spec)) = (&track.current, inputs.declared) else {
        return WaveCount::default();
    };
    let total = u32::try_from(waves::waves(spec, deployment).len()).unwrap_or(u32::MAX);
    let current = match deployment.phase {
        Phase::Rolling { wave, .. } => wave.saturating_add(1).min(total),
        Phase::Verifying { .. } | Phase::Stable => total,
        Phase::Waiting
        | Phase::RollingBack { .. }
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => 0,
    };
    WaveCount { current, total }
}

/// What a phase answers when it is asked what comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing now, for these reasons.
    Stay(Waits),
    /// A new deployment of this point.
    Begin(Point, Trigger),
    /// The deployment goes into this phase, which the history is told of.
    Enter(Phase, &'static str, String),
    /// Something within the phase is noted, which the history need not know.
    Note(Phase),
    /// The deployment has failed.
    Fail(String),
    /// The deployment has held.
    Prove,
    /// The deployment is not let through: its point is passed over.
    Reject(String),
    /// The stable point is put back, and nothing is passed over.
    GoBack(String),
    /// What is stable does not hold any more: the one before is put back.
    SendBack(String),
}

/// One step under way: the track as it becomes, and what is to be done.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) now: Timestamp,
    pub(crate) track: Track,
    /// Targets that were given something in this very step. What was observed on them is of what
    /// they had before.
    pub(crate) fresh: BTreeSet<TargetName>,
    /// Why a person wants what begins next.
    pub(crate) asked: Option<Trigger>,
    /// When time alone could change what checks come to.
    pub(crate) checks_wake_at: Option<Timestamp>,
    /// What targets are given, or lose, in this step.
    moves: BTreeMap<TargetName, Option<Point>>,
    /// What is kept and recorded.
    effects: Vec<Effect>,
    /// Whether the current deployment differs from what is kept of it.
    unsaved: bool,
    /// A step makes one deployment at most, since it was given one number.
    begun: bool,
}

impl<'a> Turn<'a> {
    pub(crate) const fn new(track: Track, inputs: &'a Inputs<'a>, now: Timestamp) -> Self {
        Self {
            inputs,
            now,
            track,
            fresh: BTreeSet::new(),
            asked: None,
            checks_wake_at: None,
            moves: BTreeMap::new(),
            effects: Vec::new(),
            unsaved: false,
            begun: false,
        }
    }

    /// Converges and advances until nothing changes. `before` are the waits of the last step.
    pub(crate) fn run(mut self, before: &[Wait]) -> Outcome {
        if let Some(spec) = spec(self.inputs) {
            batch::note(&mut self.track, spec, self.now);
        }
        for _ in 0..MOVES_MAX {
            check::tend(&mut self);
            if let Some(next) = self.next_before_placing() {
                self.take(next);
                continue;
            }
            place::converge(&mut self);
            match self.next() {
                Next::Stay(waits) => return self.finish(waits, before),
                next @ (Next::Begin(..)
                | Next::Enter(..)
                | Next::Note(..)
                | Next::Fail(..)
                | Next::Prove
                | Next::Reject(..)
                | Next::GoBack(..)
                | Next::SendBack(..)) => self.take(next),
            }
        }
        // Only a fault of the engine gets here. The rest happens in the next step.
        let mut waits = Waits::default();
        waits.wake(self.now.after(AGAIN));
        self.finish(waits, before)
    }

    /// What follows whatever targets have. Asked first, so that nothing is placed on the way through
    /// a phase that is left in the same step.
    fn next_before_placing(&self) -> Option<Next> {
        let spec = spec(self.inputs)?;
        if let Some(next) = check::incident::send_back(self, spec) {
            return Some(next);
        }
        let current = self.track.current.as_ref();
        let Some(deployment) = current.filter(|current| !current.is_final()) else {
            return resting::begin(self);
        };
        if deployment.phase != Phase::Waiting {
            return None;
        }
        let next = waiting::next(self, spec, deployment);
        (!matches!(next, Next::Stay(_))).then_some(next)
    }

    fn next(&self) -> Next {
        let spec = match self.inputs.declared {
            Declared::Runs(spec) => spec,
            Declared::Removed { confirmed } => return removed::next(self, confirmed),
        };
        let Some(deployment) = &self.track.current else {
            return Next::Stay(resting::explain(self, spec));
        };
        match deployment.phase {
            Phase::Waiting => waiting::next(self, spec, deployment),
            Phase::Rolling {
                wave,
                since,
                holding_since,
            } => rolling::next(self, spec, (wave, since, holding_since)),
            Phase::Verifying {
                since,
                holding_since,
            } => verifying::next(self, spec, since, holding_since),
            Phase::RollingBack { since } => rolling_back::next(self, spec, since),
            Phase::Halted | Phase::RollbackFailed => {
                Next::Stay(halted::explain(self, spec, deployment))
            }
            Phase::Stable | Phase::RolledBack | Phase::Rejected | Phase::Superseded => {
                Next::Stay(resting::explain(self, spec))
            }
        }
    }

    fn take(&mut self, next: Next) {
        match next {
            Next::Stay(_) => {}
            Next::Begin(point, trigger) => self.begin(point, trigger),
            Next::Enter(phase, kind, reason) => self.enter(phase, kind, reason),
            Next::Note(phase) => self.note(phase),
            Next::Fail(reason) => rollback::fail(self, reason),
            Next::Prove => self.prove(),
            Next::Reject(reason) => rollback::reject(self, reason, None),
            Next::GoBack(reason) => rollback::go_back(self, reason, None),
            Next::SendBack(reason) => rollback::send_back(self, &reason),
        }
    }

    /// Makes a deployment, in `Waiting`.
    pub(crate) fn begin(&mut self, point: Point, trigger: Trigger) {
        self.save();
        let message = format!(
            "deployment of {} on {} began",
            point.version, self.track.name
        );
        let by = trigger.by.clone();
        let asked = self.track.asked.as_ref();
        let hotfix = asked.is_some_and(|asked| asked.sequence == point.sequence && asked.hotfix);
        self.track.current = Some(Deployment {
            id: self.inputs.next_deployment,
            previous: self.track.stable.clone(),
            point,
            trigger,
            phase: Phase::Waiting,
            reason: "waiting for its gates".to_owned(),
            started_at: self.now,
            finished_at: None,
            hotfix,
            checks: Vec::new(),
            results: Vec::new(),
            approvals: Vec::new(),
            skipped: Vec::new(),
        });
        self.begun = true;
        self.unsaved = true;
        self.record("deployment.started", message, by);
    }

    /// Turns a deployment of this release that waits into what a person asked for.
    pub(crate) fn raise(&mut self, sequence: u64, trigger: &Trigger, hotfix: bool) {
        let current = self.track.current.as_mut();
        let waiting = current.filter(|current| {
            current.phase == Phase::Waiting && current.point.sequence == sequence
        });
        if let Some(waiting) = waiting {
            waiting.trigger = trigger.clone();
            waiting.hotfix |= hotfix;
            self.unsaved = true;
        }
    }

    /// Whether a deployment may be made in this step.
    pub(crate) const fn may_begin(&self) -> bool {
        !self.begun
    }

    /// Moves the current deployment into a phase.
    pub(crate) fn enter(&mut self, phase: Phase, kind: &'static str, reason: String) {
        self.enter_for(phase, kind, reason, None);
    }

    /// The same, because a person asked for it.
    pub(crate) fn enter_for(
        &mut self,
        phase: Phase,
        kind: &'static str,
        reason: String,
        by: Option<String>,
    ) {
        let Some(deployment) = &mut self.track.current else {
            return;
        };
        if phase.name().is_final() {
            deployment.finished_at = Some(self.now);
        }
        deployment.phase = phase;
        let message = format!(
            "{} on {}: {reason}",
            deployment.point.version, self.track.name
        );
        deployment.reason = reason;
        let came_to_its_end = phase_ends(deployment);
        let sequence = deployment.point.sequence;
        self.track
            .asked
            .take_if(|asked| came_to_its_end && asked.sequence == sequence);
        self.unsaved = true;
        self.record(kind, message, by);
    }

    fn note(&mut self, phase: Phase) {
        if let Some(deployment) = &mut self.track.current {
            deployment.phase = phase;
            self.unsaved = true;
        }
    }

    fn prove(&mut self) {
        let Some(deployment) = &self.track.current else {
            return;
        };
        let point = deployment.point.clone();
        let reason = format!(
            "ready on {} and held",
            crate::wait::targets(ready(self, &point))
        );
        let before = self.track.stable.take();
        remember(&mut self.track, &point, before);
        self.track.sent_back = deployment_sent_back(&self.track);
        // What was asked for meanwhile and is older now would be a way back that nobody asked for.
        let overtaken = |asked: &mut Asked| asked.sequence < point.sequence;
        self.track.asked.take_if(overtaken);
        self.track.stable = Some(point);
        check::incident::forget(self);
        self.enter(Phase::Stable, "deployment.stable", reason);
    }

    /// Notes that the current deployment differs from what is kept of it.
    pub(crate) const fn unsaved(&mut self) {
        self.unsaved = true;
    }

    /// Wants something done besides moving targets.
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Notes when time alone could change what a check comes to.
    pub(crate) fn check_wakes(&mut self, at: Timestamp) {
        let earlier = self.checks_wake_at.unwrap_or(at);
        self.checks_wake_at = Some(earlier.min(at));
    }

    pub(crate) fn displace(&mut self, target: TargetName) {
        self.track.placements.remove(&target);
        self.fresh.remove(&target);
        self.moves.insert(target, None);
    }

    pub(crate) fn place(&mut self, target: TargetName, point: Point) {
        let placement = crate::track::Placement {
            point: point.clone(),
            since: self.now,
        };
        self.track.placements.insert(target.clone(), placement);
        self.fresh.insert(target.clone());
        self.moves.insert(target, Some(point));
    }

    pub(crate) fn record(&mut self, kind: &'static str, message: String, by: Option<String>) {
        self.effects.push(Effect::Record(Record {
            kind,
            message,
            deployment: self.track.current.as_ref().map(|current| current.id),
            by,
            notify: None,
        }));
    }

    fn save(&mut self) {
        if let (true, Some(deployment)) = (self.unsaved, &self.track.current) {
            self.effects.push(Effect::Save(deployment.clone()));
        }
        self.unsaved = false;
    }

    fn finish(mut self, mut waits: Waits, before: &[Wait]) -> Outcome {
        self.save();
        if self.begun || !self.fresh.is_empty() {
            // A body that did not change is ready already, and one that cannot be rendered has
            // failed already: nobody reports either, so look again. And only one deployment is made
            // in a step.
            waits.wake(self.now.after(AGAIN));
        }
        self.checks_wake_at
            .into_iter()
            .for_each(|at| waits.wake(at));
        let views = self.inputs.targets.values();
        let held = views.filter_map(|view| presence::hold(view, self.now));
        held.for_each(|held| waits.wake(held.until));
        if let Some(due) = batch::next_due(&self) {
            waits.wake(due);
        }
        let (waits, wake_at) = waits.finish(before, self.now);
        self.track.waits.clone_from(&waits);
        let effects = effects(self.moves, self.effects);
        Outcome {
            track: self.track,
            effects,
            wake_at,
            waits,
        }
    }
}

/// The point that the track is on its way to, or rests on.
pub(crate) fn goal(track: &Track) -> Option<&Point> {
    match &track.current {
        Some(deployment) if brings(deployment) => Some(&deployment.point),
        Some(_) | None => track.stable.as_ref(),
    }
}

/// Whether targets are being given what the deployment brings, or have kept it.
fn brings(deployment: &Deployment) -> bool {
    match deployment.phase {
        Phase::Waiting | Phase::Rolling { .. } | Phase::Verifying { .. } | Phase::Halted => true,
        Phase::RollbackFailed
        | Phase::Stable
        | Phase::RollingBack { .. }
        | Phase::RolledBack
        | Phase::Rejected
        | Phase::Superseded => false,
    }
}

/// Whether a deployment is at its end, and not only replaced by one that brings the same in another
/// way.
fn phase_ends(deployment: &Deployment) -> bool {
    deployment.is_final() && deployment.phase != Phase::Superseded
}

/// The specification in force, if the track is declared.
pub(crate) const fn spec<'a>(inputs: &Inputs<'a>) -> Option<&'a TrackSpec> {
    match inputs.declared {
        Declared::Runs(spec) => Some(spec),
        Declared::Removed { .. } => None,
    }
}

/// What goes, then what comes, then what is kept.
fn effects(moves: BTreeMap<TargetName, Option<Point>>, kept: Vec<Effect>) -> Vec<Effect> {
    let (comes, goes): (Vec<_>, Vec<_>) = moves.into_iter().partition(|(_, point)| point.is_some());
    let goes = goes
        .into_iter()
        .map(|(target, _)| Effect::Displace { target });
    let place =
        |(target, point): (_, Option<Point>)| point.map(|point| Effect::Place { target, point });
    goes.chain(comes.into_iter().filter_map(place))
        .chain(kept)
        .collect()
}

fn ready<'t>(turn: &'t Turn<'_>, point: &Point) -> Vec<&'t TargetName> {
    let of = |name: &TargetName| turn.track.placements.get(name);
    let views = turn.inputs.targets.iter();
    views
        .filter(|(name, view)| {
            matches!(view.seen, Seen::Ready { .. }) && of(name).is_some_and(|p| p.point.is(point))
        })
        .map(|(name, _)| name)
        .collect()
}

/// Whether a check is what brought the current deployment.
fn deployment_sent_back(track: &Track) -> bool {
    let kind = track.current.as_ref().map(|current| current.trigger.kind);
    kind == Some(TriggerKind::Protection)
}

/// Notes what was stable before `point`, and that `point` is proven.
fn remember(track: &mut Track, point: &Point, before: Option<Point>) {
    if let Some(before) = before.filter(|before| !before.is(point)) {
        track
            .earlier
            .retain(|earlier| earlier.sequence != before.sequence);
        track.earlier.push(before);
    }
    let surplus = track.earlier.len().saturating_sub(EARLIER_MAX);
    track.earlier.drain(..surplus);
    if let Err(place) = track.proven.binary_search(&point.sequence) {
        track.proven.insert(place, point.sequence);
    }
    let surplus = track.proven.len().saturating_sub(PROVEN_MAX);
    track.proven.drain(..surplus);
}

/// Most phases that one step goes through. A wave takes two, and those that reach nobody are left
/// out, so a step that gets here has a fault.
const MOVES_MAX: usize = 64;
/// How soon to look again at what was just placed.
const AGAIN: Duration = Duration::from_millis(1);
