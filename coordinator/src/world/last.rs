//! The last lines of what failed: asked of its target at once, and kept with the deployment, so that they
//! can be read while the target is away.
//!
//! *Expected flow:* a target says that a service has failed, or a deployment fails while a target is not
//! ready with what it brought; once that is on disk the target is asked for the end of that output, and
//! what it answers is an event like any other. *Guarantees:* in the life of this process a target is asked once a
//! deployment, and at most [`TARGETS_MAX`] of a deployment are; nothing waits for an answer.
//! *Assumptions:* an answer that does not come costs a convenience: the target keeps the output itself.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_engine::track::{Track, TrackName};
use holdfast_protocol::api::deployment::{LastLines, Phase};
use holdfast_protocol::name::TargetName;
use holdfast_protocol::observed::State;
use holdfast_protocol::stream::{CoordinatorOpens, KeptRequest};
use holdfast_protocol::version::KEPT_OUTPUT;

use super::link::said;
use super::{After, Round, Target, World};
use crate::store::write::Write;

/// Most targets of one deployment whose last lines are kept.
const TARGETS_MAX: usize = 8;
/// Most lines that are kept of one target.
const LINES_MAX: u32 = 200;
/// Longest line that is kept, in bytes.
const LINE_MAX_BYTES: usize = 2_048;

/// The targets that were asked for the newest deployment of each track.
#[derive(Debug, Default)]
pub struct Asked(BTreeMap<TrackName, (u64, BTreeSet<TargetName>)>);

/// A question to one target.
#[derive(Debug)]
pub struct Ask {
    /// Of which deployment.
    pub deployment: u64,
    /// Of which target.
    pub target: TargetName,
    /// The target's connection.
    pub connection: quinn::Connection,
    /// What it is asked.
    pub request: CoordinatorOpens,
}

impl Round<'_> {
    /// Asks a target for the last lines of all that has failed there.
    pub(super) fn ask_failed(&mut self, name: &TargetName) {
        let Some(there) = self.world.targets.get(name) else {
            return;
        };
        let environment = there.kept.environment.clone();
        let failed = there.observed.values().filter(|seen| {
            let placed = there.placed.get(&seen.service);
            // What is said of a body that is wanted no more is no word on the newest deployment.
            let is_newest = placed.is_some_and(|p| p.body.as_ref().ok() == seen.wanted.as_ref());
            seen.state == State::Failed && is_newest
        });
        let failed: Vec<TrackName> = failed
            .map(|seen| TrackName {
                service: seen.service.clone(),
                environment: environment.clone(),
            })
            .collect();
        for track in failed {
            self.ask_last_lines(&track, name);
        }
    }

    /// Asks for the last lines of a track whose newest deployment has just failed, where it is not ready.
    pub(super) fn ask_unready(&mut self, track: &TrackName) {
        let placements = self.world.tracks.get(track).map(|track| &track.placements);
        let is_ready = |name: &TargetName| {
            let there = self.world.targets.get(name);
            let seen = there.and_then(|there| there.observed.get(&track.service));
            seen.is_some_and(|seen| seen.state == State::Ready)
        };
        let unready: Vec<TargetName> = placements
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter(|name| !is_ready(name))
            .cloned()
            .collect();
        for name in unready {
            self.ask_last_lines(track, &name);
        }
    }

    fn ask_last_lines(&mut self, track: &TrackName, name: &TargetName) {
        let Some(ask) = self.world.last_lines_of(track, name) else {
            return;
        };
        if self.world.asked.admit(track, ask.deployment, name) {
            self.after.push(After::LastLines(Box::new(ask)));
        }
    }

    /// Keeps what a target answered.
    pub fn last_lines(&mut self, deployment: u64, target: TargetName, lines: &[String]) {
        let lines = lines.iter().map(|line| said(line, LINE_MAX_BYTES));
        let lines = LastLines {
            target,
            at: self.now,
            lines: lines.collect(),
        };
        self.writes.push(Write::LastLines { deployment, lines });
    }
}

/// Whether a deployment that was under way will not become stable any more.
pub(super) fn turns_bad(before: &Track, after: &Track) -> bool {
    let stood = |track: &Track| {
        let current = track.current.as_ref()?;
        Some((current.id, current.phase.name()))
    };
    match (stood(before), stood(after)) {
        (Some((id, Phase::Rolling | Phase::Verifying)), Some((same, now))) if id == same => {
            match now {
                Phase::RollingBack | Phase::RolledBack | Phase::RollbackFailed | Phase::Halted => {
                    true
                }
                Phase::Waiting
                | Phase::Rolling
                | Phase::Verifying
                | Phase::Stable
                | Phase::Rejected
                | Phase::Superseded => false,
            }
        }
        (Some(_) | None, Some(_) | None) => false,
    }
}

impl World {
    /// What a target is to be asked, where it was given what the newest deployment of a track brings.
    fn last_lines_of(&self, track: &TrackName, name: &TargetName) -> Option<Ask> {
        let there: &Target = self.targets.get(name)?;
        let (connection, version) = there.up()?;
        let current = self.tracks.get(track)?.current.as_ref()?;
        let placed = there.placed.get(&track.service)?;
        if version < KEPT_OUTPUT || !placed.point.is(&current.point) {
            return None;
        }
        let request = CoordinatorOpens::Kept(KeptRequest {
            service: track.service.clone(),
            version: current.point.version.clone(),
            configuration: current.point.configuration,
            since: None,
            tail: LINES_MAX,
            follow: false,
        });
        Some(Ask {
            deployment: current.id,
            target: name.clone(),
            connection: connection.clone(),
            request,
        })
    }
}

impl Asked {
    /// A track is forgotten.
    pub(super) fn forget(&mut self, track: &TrackName) {
        self.0.remove(track);
    }

    /// Whether a target is to be asked, which counts as asked then.
    fn admit(&mut self, track: &TrackName, deployment: u64, target: &TargetName) -> bool {
        let (newest, targets) = self.0.entry(track.clone()).or_default();
        if *newest != deployment {
            (*newest, *targets) = (deployment, BTreeSet::new());
        }
        targets.len() < TARGETS_MAX && targets.insert(target.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_asked_once_a_deployment_and_not_every_target_is() {
        let track = TrackName {
            service: "web".parse().unwrap(),
            environment: "staging".parse().unwrap(),
        };
        let target = |n: usize| format!("web-{n}").parse().unwrap();
        let mut asked = Asked::default();
        assert!(asked.admit(&track, 1, &target(0)));
        assert!(!asked.admit(&track, 1, &target(0)));
        assert!(asked.admit(&track, 2, &target(0)));
        let admitted = (0..100).filter(|n| asked.admit(&track, 3, &target(*n)));
        assert_eq!(admitted.count(), TARGETS_MAX);
    }
}
