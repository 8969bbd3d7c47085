//! Which targets next: waves, counts and shares, how many may be unavailable, who is away.
//!
//! A wave says how many targets may have the new point, or which by their labels. Targets take their
//! places in the order of the waves by label that they belong to, then of their names, so that a
//! person can tell who is next. A place that was taken is kept; a target that
//! leaves, or is away for longer than [`RETURN_GRACE`](crate::verify::RETURN_GRACE), gives it up. With
//! `disconnected: skip` shares are of the targets that are here or may be back any moment, so that a
//! wave always holds targets that can prove something; those that are away for longer converge when
//! the deployment is stable. A target that its own site holds has no place: it converges when that ends.

use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

use crate::batch;
use crate::compiled::{Disconnected, Extent, Rollout, TrackSpec, Wave};
use crate::gates::presence;
use crate::input::{Seen, View};
use crate::step::Turn;
use crate::track::Deployment;
use crate::verify::{Standing, Terms, returning_until, standing};

/// The targets of a deployment that is being brought to them.
#[derive(Debug)]
pub(crate) struct Survey<'t> {
    /// Those that have the new point, by name.
    pub(crate) holders: Vec<Holder<'t>>,
    /// Those that may be given it, in their order.
    pub(crate) candidates: Vec<Candidate<'t>>,
    /// Those that do not have it and may be back any moment.
    pub(crate) returning: Vec<Returning<'t>>,
    /// How many count, for a wave's share.
    pub(crate) members: usize,
    /// How many of the holders count.
    pub(crate) places_taken: usize,
    /// Connected targets that are not ready.
    pub(crate) unavailable: usize,
    /// Holders that are not done, those included that may come back and start.
    pub(crate) in_flight: usize,
    /// Targets that may be unavailable at a time.
    pub(crate) budget: usize,
    /// Whether targets that are away hold a wave.
    pub(crate) waits_for_away: bool,
}

/// A target that has the new point.
#[derive(Debug)]
pub(crate) struct Holder<'t> {
    /// Its name.
    pub(crate) name: &'t TargetName,
    /// How it does.
    pub(crate) standing: Standing,
    /// Since when it is connected and has the point, both.
    pub(crate) since: Timestamp,
}

/// A target that does not have the new point yet.
#[derive(Debug)]
pub(crate) struct Candidate<'t> {
    /// Its name.
    pub(crate) name: &'t TargetName,
    /// Whether it serves nobody now, so that it loses nothing.
    unavailable: bool,
    /// Whether it has nothing at all of this track.
    empty: bool,
    /// The first wave by label that it belongs to; past the last one where there is none.
    rank: usize,
}

/// A target that does not have the new point and may be back any moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Returning<'t> {
    /// Its name.
    pub(crate) name: &'t TargetName,
    /// Until when it is taken to be on its way back.
    pub(crate) until: Timestamp,
    /// The first wave by label that it belongs to.
    rank: usize,
}

/// The waves of a deployment. A rollback by hand is urgent and has one.
pub(crate) fn waves<'s>(spec: &'s TrackSpec, deployment: &Deployment) -> &'s [Wave] {
    if deployment.is_urgent() || spec.rollout.waves.is_empty() {
        &EVERY_TARGET
    } else {
        &spec.rollout.waves
    }
}

/// Looks at every target of a deployment under way.
pub(crate) fn survey<'t>(
    turn: &'t Turn<'_>,
    rollout: &Rollout,
    deployment: &Deployment,
    since: Timestamp,
) -> Survey<'t> {
    let terms = Terms::of(rollout, deployment, since);
    let terms = Terms {
        progress_deadline: batch::patience(turn, terms.progress_deadline),
        ..terms
    };
    let connected = turn
        .inputs
        .targets
        .values()
        .filter(|view| view.connected)
        .count();
    let waits_for_away = rollout.disconnected == Disconnected::Wait || batch::is_once(turn);
    let mut survey = Survey {
        holders: Vec::new(),
        candidates: Vec::new(),
        returning: Vec::new(),
        members: 0,
        places_taken: 0,
        unavailable: 0,
        in_flight: 0,
        budget: budget(rollout, deployment, connected),
        waits_for_away,
    };
    let everyone = waits_for_away || deployment.is_urgent();
    let members = turn.inputs.targets.iter();
    for (name, view) in members.filter(|(name, _)| batch::takes_part(turn, name)) {
        let placement = turn.track.placements.get(name);
        let has = |placement: &&_| batch::has(turn, name, view, placement, &deployment.point);
        match placement.filter(has) {
            Some(placement) => {
                let ready = matches!(view.seen, Seen::Ready { .. });
                let holder = Holder {
                    name,
                    standing: standing(turn, name, view, placement, terms),
                    since: placement.since.max(view.since),
                };
                survey.hold(holder, ready && !turn.fresh.contains(name));
            }
            None if presence::hold(view, turn.now).is_some() => {}
            None if view.connected || everyone => {
                let rank = rank(rollout, view);
                survey.consider((name, rank), view, placement.is_none());
            }
            None => survey.expect((name, rank(rollout, view)), view, turn.now),
        }
    }
    // By name already, and the sort keeps that.
    survey.candidates.sort_by_key(|candidate| candidate.rank);
    survey
}

/// The first wave by label that a target belongs to; past the last one where there is none.
fn rank(rollout: &Rollout, view: &View) -> usize {
    let mut waves = rollout.waves.iter();
    let first = waves.position(|wave| match wave {
        Wave::Labels(selector) => selector.matches(&view.labels),
        Wave::Extent(_) => false,
    });
    first.unwrap_or(rollout.waves.len())
}

impl<'t> Survey<'t> {
    /// How many targets may still be given the new point in this wave.
    pub(crate) fn room(&self, waves: &[Wave], wave: u32) -> usize {
        let wave = wave as usize;
        let reach = match waves.get(wave) {
            Some(Wave::Extent(extent)) if wave + 1 < waves.len() => extent.of(self.members).max(1),
            Some(Wave::Labels(_)) if wave + 1 < waves.len() => return self.up_to_rank(wave),
            // The last one reaches every target, whatever it is called.
            Some(_) | None => self.members,
        };
        reach.saturating_sub(self.places_taken)
    }

    /// How many that do not have the new point belong to this wave by label, or to one before it.
    fn up_to_rank(&self, wave: usize) -> usize {
        let candidates = self.candidates.iter().map(|candidate| candidate.rank);
        let returning = self.returning.iter().map(|returning| returning.rank);
        candidates
            .chain(returning)
            .filter(|rank| *rank <= wave)
            .count()
    }

    /// The next wave that reaches somebody new, if there is one.
    pub(crate) fn next_wave(&self, waves: &[Wave], wave: u32) -> Option<u32> {
        let last = u32::try_from(waves.len()).unwrap_or(u32::MAX);
        (wave.saturating_add(1)..last).find(|next| self.room(waves, *next) > 0)
    }

    /// The targets that are to be given the new point now. `joiners_wait` where a target that has
    /// nothing has to take its turn like all others, because nothing else can be given to it.
    pub(crate) fn picks(
        &self,
        (waves, wave): (&[Wave], u32),
        joiners_wait: bool,
    ) -> Vec<&'t TargetName> {
        let mut room = self.room(waves, wave);
        let last_rank = last_rank(waves, wave);
        let (mut in_flight, mut unavailable) = (self.in_flight, self.unavailable);
        let mut picks = Vec::new();
        // The place of one who may be back any moment is nobody's of a later wave.
        let reached = |candidate: &&Candidate<'t>| candidate.rank <= last_rank;
        for candidate in self.candidates.iter().filter(reached) {
            let free = candidate.empty && !joiners_wait;
            let affordable = candidate.unavailable || unavailable < self.budget;
            if room == 0 || !(free || (in_flight < self.budget && affordable)) {
                continue;
            }
            room -= 1;
            in_flight += 1;
            unavailable += usize::from(!candidate.unavailable || candidate.empty);
            picks.push(candidate.name);
        }
        picks
    }

    /// The holders that failed.
    pub(crate) fn failures(&self) -> Vec<(&'t TargetName, &str)> {
        let failed = |holder: &'_ Holder<'t>| matches!(holder.standing, Standing::Failed { .. });
        let mut failures = Vec::new();
        for holder in self.holders.iter().filter(|holder| failed(holder)) {
            if let Standing::Failed { message } = &holder.standing {
                failures.push((holder.name, message.as_str()));
            }
        }
        failures
    }

    /// Whether a holder is connected and done.
    pub(crate) fn any_done(&self) -> bool {
        self.holders
            .iter()
            .any(|holder| holder.standing == Standing::Done)
    }

    /// Whether nobody holds the wave: every holder is done, tolerated, or excused. Who came after
    /// `holding_since` is: it takes its place without starting the wave again.
    pub(crate) fn holds(&self, holding_since: Option<Timestamp>) -> bool {
        self.holders.iter().all(|holder| match holder.standing {
            Standing::Done | Standing::Failed { .. } => true,
            Standing::Away { .. } => !self.waits_for_away,
            Standing::UnderWay { .. } | Standing::Settling { .. } => {
                holding_since.is_some_and(|since| holder.since > since)
            }
        })
    }

    /// Whether a holder that is away may be back any moment.
    pub(crate) fn any_returning(&self) -> bool {
        self.holders.iter().any(|holder| {
            matches!(
                holder.standing,
                Standing::Away {
                    returning_until: Some(_)
                }
            )
        })
    }

    /// When time alone changes how a target stands.
    pub(crate) fn next_changes(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let holders = self
            .holders
            .iter()
            .filter_map(|holder| match holder.standing {
                Standing::UnderWay { until, .. } | Standing::Settling { until } => Some(until),
                Standing::Away { returning_until } => returning_until,
                Standing::Done | Standing::Failed { .. } => None,
            });
        holders.chain(self.returning.iter().map(|returning| returning.until))
    }

    fn hold(&mut self, holder: Holder<'t>, was_ready: bool) {
        let (here, not_done) = match holder.standing {
            Standing::Away { returning_until } => {
                let here = self.waits_for_away || returning_until.is_some();
                (here, here && !was_ready)
            }
            Standing::UnderWay { .. } | Standing::Settling { .. } => (true, true),
            // A failure that is tolerated must not use up what may be unavailable, or the rollout
            // that tolerates it could never go on.
            Standing::Done | Standing::Failed { .. } => (true, false),
        };
        self.members += usize::from(here);
        self.places_taken += usize::from(here);
        self.in_flight += usize::from(not_done);
        self.unavailable += usize::from(not_done);
        self.holders.push(holder);
    }

    /// A target that went away a moment ago holds the wave that reaches it, or a coordinator that was
    /// started again would take the first targets to come back for all.
    fn expect(&mut self, (name, rank): (&'t TargetName, usize), view: &View, now: Timestamp) {
        if let Some(until) = returning_until(view, now) {
            self.members += 1;
            self.returning.push(Returning { name, until, rank });
        }
    }

    fn consider(&mut self, (name, rank): (&'t TargetName, usize), view: &View, empty: bool) {
        let ready = view.connected && !empty && matches!(view.seen, Seen::Ready { .. });
        self.members += 1;
        self.unavailable += usize::from(view.connected && !ready && !empty);
        self.candidates.push(Candidate {
            name,
            unavailable: !ready,
            empty,
            rank,
        });
    }
}

/// The last rank that a wave reaches.
fn last_rank(waves: &[Wave], wave: u32) -> usize {
    let wave = wave as usize;
    match waves.get(wave) {
        Some(Wave::Labels(_)) if wave + 1 < waves.len() => wave,
        Some(Wave::Labels(_) | Wave::Extent(_)) | None => usize::MAX,
    }
}

/// How many targets may be unavailable at a time. A rollback by hand does not count.
fn budget(rollout: &Rollout, deployment: &Deployment, connected: usize) -> usize {
    if deployment.is_urgent() {
        usize::MAX
    } else {
        rollout.max_unavailable.of(connected).max(1)
    }
}

const EVERY_TARGET: [Wave; 1] = [Wave::Extent(Extent::Percent(100))];
