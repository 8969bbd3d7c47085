//! From what is placed on a target to its next signed assignment.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use holdfast_engine::assign::{self as engine, RenderRelease, RenderTarget};
use holdfast_engine::track::Point;
use holdfast_protocol::assignment::{Assignment, Entry as Line, Generation};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ServiceName, TargetName};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::time::Timestamp;

use super::{After, Assigned, OrderChange, Round, Target, World};
use crate::store::row;
use crate::store::write::Write;

/// The epoch of a new installation.
const FIRST_EPOCH: u64 = 1;

impl Round<'_> {
    /// Renders a service for a target; the reason in words where that cannot be done.
    pub(super) fn render(
        &mut self,
        service: &ServiceName,
        target: &TargetName,
        point: &Point,
    ) -> Result<Digest, String> {
        let workload = self.world.rendered(service, target, point)?;
        let (digest, bytes) = workload.seal();
        if let Entry::Vacant(vacant) = self.world.bodies.entry(digest) {
            vacant.insert(Arc::new(bytes.clone()));
            self.writes.push(Write::Body { digest, bytes });
        }
        Ok(digest)
    }

    /// Renders everything on a target again, since something that it is rendered from has changed.
    pub(super) fn render_again(&mut self, target: &TargetName) {
        let Some(there) = self.world.targets.get(target) else {
            return;
        };
        for (service, placed) in there.placed.clone() {
            let body = self.render(&service, target, &placed.point);
            if body == placed.body {
                continue;
            }
            let placed = row::Placed { body, ..placed };
            if let Some(there) = self.world.targets.get_mut(target) {
                there.placed.insert(service.clone(), placed.clone());
            }
            self.reassign.insert(target.clone());
            self.writes.push(Write::Placement {
                target: target.clone(),
                service,
                placed: Some(placed),
            });
        }
    }

    /// Makes and signs a new assignment for every target whose workloads have changed.
    pub fn assign(&mut self) {
        for name in std::mem::take(&mut self.reassign) {
            if let Some(assigned) = self.world.next_assignment(&name, self.now) {
                self.put_assignment(&name, assigned);
            }
        }
    }

    /// Begins a new epoch for a target, which outranks every number it may hold.
    pub(super) fn begin_epoch(&mut self, name: &TargetName, after: u64) {
        let generation = Generation {
            epoch: after.saturating_add(1),
            number: 1,
        };
        if let Some(assigned) = self.world.signed_assignment(name, generation, self.now) {
            self.put_assignment(name, assigned);
        }
    }

    fn put_assignment(&mut self, name: &TargetName, assigned: Assigned) {
        let signed = Arc::clone(&assigned.signed);
        self.writes.push(Write::Assignment {
            target: name.clone(),
            signed: (*signed).clone(),
        });
        self.after.push(After::Order {
            target: name.clone(),
            change: OrderChange::Assignment(signed),
        });
        if let Some(target) = self.world.targets.get_mut(name) {
            target.assign(assigned);
        }
    }
}

impl World {
    /// The workload of a service for a target.
    ///
    /// # Errors
    /// Why it cannot be rendered, for people.
    pub fn rendered(
        &self,
        service: &ServiceName,
        target: &TargetName,
        point: &Point,
    ) -> Result<holdfast_protocol::workload::Workload, String> {
        let unknown = |what: &str| format!("{what} of {service} {} is not known", point.version);
        let configuration = self
            .configurations
            .get(&point.configuration)
            .ok_or_else(|| unknown("the configuration"))?;
        let release = self
            .releases
            .get(service)
            .and_then(|releases| releases.iter().find(|r| r.sequence == point.sequence))
            .ok_or_else(|| unknown("the release"))?;
        let there = self
            .targets
            .get(target)
            .ok_or_else(|| unknown("the target"))?;
        let artifacts = release
            .artifacts
            .iter()
            .map(|(name, artifact)| (name.clone(), (artifact.digest, artifact.size)))
            .collect();
        let homes = release.artifacts.iter();
        let homes = homes.filter_map(|(name, artifact)| Some((name.clone(), artifact.home()?)));
        let release = RenderRelease {
            version: release.version.clone(),
            sequence: release.sequence,
            artifacts,
            homes: homes.collect(),
            run: point.run,
        };
        let target = RenderTarget {
            name: target.clone(),
            environment: there.kept.environment.clone(),
            labels: Labels::clone(&there.labels),
        };
        engine::render(configuration, &release, &target).map_err(|error| match &error.help {
            Some(help) => format!("{error}; {help}"),
            None => error.to_string(),
        })
    }

    /// The assignment that follows from what is placed on a target, where it says something else
    /// than the newest one.
    fn next_assignment(&self, name: &TargetName, now: Timestamp) -> Option<Assigned> {
        let target = self.targets.get(name).filter(|t| t.kept.ahead.is_none())?;
        let newest = target
            .assigned
            .as_ref()
            .map(|assigned| &assigned.assignment);
        let workloads = lines(target);
        if newest.map_or(workloads.is_empty(), |newest| newest.workloads == workloads) {
            return None;
        }
        let generation = newest.map_or(
            Generation {
                epoch: FIRST_EPOCH,
                number: 1,
            },
            |newest| Generation {
                number: newest.generation.number + 1,
                ..newest.generation
            },
        );
        self.signed_assignment(name, generation, now)
    }

    /// What is placed on a target, under this number.
    fn signed_assignment(
        &self,
        name: &TargetName,
        generation: Generation,
        now: Timestamp,
    ) -> Option<Assigned> {
        let target = self.targets.get(name)?;
        let environment = &target.kept.environment;
        let assignment = Assignment {
            generation,
            environment: environment.clone(),
            target: name.clone(),
            workloads: lines(target),
            issued_at: now,
        };
        let signing = &self.trust.environments.get(environment)?.signing;
        let signed = signing.sign(&assignment);
        let digest = signed.digest();
        Some(Assigned {
            assignment,
            signed: Arc::new(signed),
            digest,
        })
    }
}

/// What is placed on a target, as far as it could be rendered.
fn lines(target: &Target) -> Vec<Line> {
    let placed = target.placed.iter();
    placed
        .filter_map(|(service, placed)| {
            Some(Line {
                service: service.clone(),
                body: *placed.body.as_ref().ok()?,
            })
        })
        .collect()
}
