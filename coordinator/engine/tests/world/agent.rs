//! Agents: what targets do with what they are given, and report.

use std::collections::BTreeMap;

use holdfast_engine::input::Seen;
use holdfast_engine::track::TrackName;
use holdfast_protocol::name::{ServiceName, TargetName, Version};
use holdfast_protocol::time::Timestamp;

use super::{STEPS_MAX, World};

impl World {
    /// One step of a target's agent. Whether anything changed.
    pub(super) fn work(&mut self, name: &TargetName) -> bool {
        let now = self.now;
        let Some(target) = self.targets.get(name).filter(|target| target.connected) else {
            return false;
        };
        let mut runs = BTreeMap::new();
        for (track, state) in &self.tracks {
            if track.environment != target.environment {
                continue;
            }
            let Some(placement) = state.placements.get(name) else {
                continue;
            };
            let run = target
                .runs
                .get(&track.service)
                .filter(|(p, _)| p.is(&placement.point));
            let seen = match run.map(|(_, seen)| seen) {
                None => Seen::Progressing {
                    message: "starting".to_owned(),
                },
                Some(Seen::Progressing { .. } | Seen::Unknown) => {
                    self.end_of_start(&track.service, &placement.point.version, name, now)
                }
                Some(settled) => settled.clone(),
            };
            runs.insert(track.service.clone(), (placement.point.clone(), seen));
        }
        let environment = target.environment.clone();
        let changed: Vec<ServiceName> = runs
            .iter()
            .filter(|(service, run)| target.runs.get(*service) != Some(run))
            .map(|(service, _)| service.clone())
            .collect();
        self.targets.get_mut(name).expect("it was there").runs = runs;
        for service in &changed {
            let track = TrackName {
                service: service.clone(),
                environment: environment.clone(),
            };
            self.move_track(&track);
        }
        !changed.is_empty()
    }

    pub(super) fn end_of_start(
        &self,
        service: &ServiceName,
        version: &Version,
        target: &TargetName,
        since: Timestamp,
    ) -> Seen {
        let bad =
            |on: Option<TargetName>| self.bad.contains(&(service.clone(), version.clone(), on));
        if bad(None) || bad(Some(target.clone())) {
            Seen::Failed {
                message: "exit code 1".to_owned(),
            }
        } else {
            Seen::Ready { since }
        }
    }

    pub(super) fn settle_agents(&mut self) {
        for _ in 0..STEPS_MAX {
            self.settle_tracks();
            let names: Vec<TargetName> = self.targets.keys().cloned().collect();
            let worked = names.iter().filter(|name| self.work(name)).count();
            if worked == 0 {
                return;
            }
        }
        self.object("agents and coordinator never came to rest");
    }

    pub(super) fn break_down(&mut self, target: &TargetName, service: &ServiceName) {
        let Some(there) = self
            .targets
            .get_mut(target)
            .filter(|target| target.connected)
        else {
            return;
        };
        let Some((_, seen)) = there.runs.get_mut(service) else {
            return;
        };
        *seen = Seen::Failed {
            message: "killed".to_owned(),
        };
        let track = TrackName {
            service: service.clone(),
            environment: there.environment.clone(),
        };
        self.move_track(&track);
    }
}
