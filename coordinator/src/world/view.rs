//! Answers to questions about the world, as bodies of the API.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_engine::compile;
use holdfast_engine::step;
use holdfast_engine::track::check::{self, KeptResult};
use holdfast_engine::track::{self, Track, TrackName};
use holdfast_engine::wanted;
use holdfast_engine::why::why as engine_why;
use holdfast_protocol::api::access::{Authority, CaStatus, EnvironmentAuthority};
use holdfast_protocol::api::deployment::{
    Approval, Deployment, ProtectionResult, Skipped, TargetCounts, WaveCount,
};
use holdfast_protocol::api::environment::Environment;
use holdfast_protocol::api::explain::{Explanation, Field};
use holdfast_protocol::api::service::Service;
use holdfast_protocol::api::status::{Current, Stable, Status, Wanted};
use holdfast_protocol::api::target::{Condition, Target};
use holdfast_protocol::api::whereabouts::Whereabouts;
use holdfast_protocol::api::why::Reason;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, InputSetName, ServiceName, TargetName, Version};
use holdfast_protocol::observed::{State, TargetConditionKind};
use holdfast_protocol::time::Timestamp;

use super::World;

/// Which tracks; none means every.
#[derive(Debug, Clone, Default)]
pub struct TrackFilter {
    /// Only of this service.
    pub service: Option<ServiceName>,
    /// Only in this environment.
    pub environment: Option<EnvironmentName>,
}

impl TrackFilter {
    fn admits(&self, name: &TrackName) -> bool {
        self.service
            .as_ref()
            .is_none_or(|service| *service == name.service)
            && self
                .environment
                .as_ref()
                .is_none_or(|environment| *environment == name.environment)
    }
}

/// How the targets of a deployment do, and in which wave it is.
pub(super) type Progress = (TargetCounts, WaveCount);

impl World {
    /// How tracks stand: services by name, each along the order of the environments.
    #[must_use]
    pub fn statuses(&self, filter: &TrackFilter) -> Vec<Status> {
        let mut names: Vec<&TrackName> = self
            .tracks
            .keys()
            .filter(|name| filter.admits(name))
            .collect();
        let rank = self.environment_order();
        names.sort_by_key(|name| {
            (
                &name.service,
                rank.get(&name.environment),
                &name.environment,
            )
        });
        names
            .into_iter()
            .filter_map(|name| self.status(name))
            .collect()
    }

    /// Environments by how many others come before them.
    fn environment_order(&self) -> BTreeMap<EnvironmentName, usize> {
        let environments = &self.compiled.environments;
        let mut rank: BTreeMap<EnvironmentName, usize> =
            environments.keys().map(|name| (name.clone(), 0)).collect();
        // Each pass settles at least one more environment: the order has no cycles.
        for _ in 0..environments.len() {
            for (name, environment) in environments {
                let before = environment
                    .after
                    .iter()
                    .filter_map(|name| rank.get(name))
                    .max();
                let place = before.map_or(0, |before| before + 1);
                rank.insert(name.clone(), place);
            }
        }
        rank
    }

    fn status(&self, name: &TrackName) -> Option<Status> {
        let track = self.tracks.get(name)?;
        let mut context = self.context(name);
        let inputs = context.inputs();
        let wanted = wanted::wanted(track, &inputs).map(|(point, rule)| Wanted {
            version: point.version,
            rule: rule.name().to_owned(),
        });
        Some(Status {
            service: name.service.clone(),
            environment: name.environment.clone(),
            stable: track.stable.as_ref().map(|point| Stable {
                version: point.version.clone(),
                revision: point.revision,
            }),
            current: track.current.as_ref().map(|current| Current {
                deployment: current.id,
                version: current.point.version.clone(),
                phase: current.phase.name(),
            }),
            wanted,
            targets: step::counts(track, &inputs),
            runtimes: self.counts_by_runtime(name),
            waits: track.waits.clone(),
            paused: track.paused.is_some(),
        })
    }

    /// Why a track does not move, down to the root; none where there is no such track.
    #[must_use]
    pub fn why(&self, name: &TrackName) -> Option<Vec<Reason>> {
        self.tracks.contains_key(name).then(|| {
            let reasons = engine_why(name, &self.compiled, &self.tracks).into_iter();
            let body = |reason: holdfast_engine::why::Reason| Reason {
                wait: reason.wait,
                service: reason.track.service,
                environment: reason.track.environment,
                depth: reason.depth,
                root: reason.root,
            };
            reasons.map(body).collect()
        })
    }

    /// The input sets whose manifests make the tracks of two deployments.
    #[must_use]
    pub fn sets_of(&self, from: &Deployment, to: &Deployment) -> Vec<InputSetName> {
        let mut sets = BTreeSet::new();
        for deployment in [from, to] {
            let service = self.compiled.services.get(&deployment.service);
            let environment = self.compiled.environments.get(&deployment.environment);
            sets.extend(service.map(|service| service.set.clone()));
            sets.extend(environment.map(|environment| environment.set.clone()));
        }
        sets.into_iter().collect()
    }

    /// A deployment as it is recorded, with the counts of this moment.
    #[must_use]
    pub fn deployment(&self, name: &TrackName, deployment: &track::Deployment) -> Deployment {
        let track = self.tracks.get(name);
        let newest = track.filter(|track| {
            track
                .current
                .as_ref()
                .is_some_and(|c| c.id == deployment.id)
        });
        let (targets, waves) = newest.map(|track| self.progress(track)).unwrap_or_default();
        let ongoing = newest.filter(|_| !deployment.phase.name().is_final());
        Deployment {
            id: deployment.id,
            service: name.service.clone(),
            environment: name.environment.clone(),
            version: deployment.point.version.clone(),
            revision: deployment.point.revision,
            phase: deployment.phase.name(),
            reason: deployment.reason.clone(),
            started_at: deployment.started_at,
            finished_at: deployment.finished_at,
            targets,
            waits: ongoing.map(|track| track.waits.clone()).unwrap_or_default(),
            waves,
            trigger: deployment.trigger.clone(),
            previous: deployment
                .previous
                .as_ref()
                .map(|point| point.version.clone()),
            protections: deployment.results.iter().map(result).collect(),
            skipped: deployment.skipped.iter().map(skipped).collect(),
            approvals: deployment.approvals.iter().map(approval).collect(),
            hotfix: deployment.hotfix,
            shown: ongoing.map(|track| holdfast_engine::check::shown(track, deployment)),
            configuration: Some(deployment.point.configuration),
            last_lines: Vec::new(),
        }
    }

    /// How far the newest deployment of a track has come.
    pub(super) fn progress(&self, track: &Track) -> Progress {
        let mut context = self.context(&track.name);
        let inputs = context.inputs();
        (
            step::counts(track, &inputs),
            step::wave_count(track, &inputs),
        )
    }

    /// Deployments that are still on their way, by number, as they stand now.
    #[must_use]
    pub fn current_deployments(&self) -> BTreeMap<u64, Deployment> {
        let current = self.tracks.iter().filter_map(|(name, track)| {
            let deployment = track.current.as_ref()?;
            Some((deployment.id, self.deployment(name, deployment)))
        });
        current.collect()
    }

    /// Environments, as declared.
    #[must_use]
    pub fn environments(&self) -> Vec<Environment> {
        let one = |environment: &holdfast_engine::compiled::Environment| {
            let here = || self.targets.of(&environment.name).map(|(_, target)| target);
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            Environment {
                name: environment.name.clone(),
                owner: environment.owner.clone(),
                after: environment.after.clone(),
                promotion: "latest".to_owned(),
                waves: environment
                    .rollout
                    .waves
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                targets: count(here().count()),
                connected: count(here().filter(|target| target.is_connected()).count()),
            }
        };
        self.compiled.environments.values().map(one).collect()
    }

    /// Services, as declared.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let one = |service: &holdfast_engine::compiled::Service| {
            let tracks = self.compiled.tracks.keys();
            let here = tracks.filter(|name| name.service == service.name);
            let releases = self.releases.get(&service.name);
            Service {
                name: service.name.clone(),
                owner: service.owner.clone(),
                runtime: service.runtime.clone(),
                artifacts: service
                    .artifacts
                    .keys()
                    .chain(service.images.keys())
                    .cloned()
                    .collect(),
                depends_on: service.depends_on.clone(),
                environments: here.map(|name| name.environment.clone()).collect(),
                latest: releases
                    .and_then(|all| all.last())
                    .map(|last| last.version.clone()),
            }
        };
        self.compiled.services.values().map(one).collect()
    }

    /// At most `rows` targets by name, all or of one environment, after `after`.
    #[must_use]
    pub fn target_list(
        &self,
        environment: Option<&EnvironmentName>,
        after: Option<&TargetName>,
        rows: u32,
    ) -> Vec<Target> {
        let here = self
            .targets
            .after(after)
            .filter(|target| environment.is_none_or(|name| target.kept.environment == *name));
        here.take(rows as usize).map(target).collect()
    }

    /// One target.
    #[must_use]
    pub fn target(&self, name: &TargetName) -> Option<Target> {
        self.targets.get(name).map(target)
    }

    /// What runs where, as last observed.
    #[must_use]
    pub fn whereabouts(
        &self,
        service: &ServiceName,
        version: Option<&Version>,
    ) -> Vec<Whereabouts> {
        let on = |target: &super::Target| {
            let observed = target.observed.get(service)?;
            let runs = observed.version.clone()?;
            if version.is_some_and(|version| *version != runs) {
                return None;
            }
            Some(Whereabouts {
                service: service.clone(),
                version: runs,
                environment: target.kept.environment.clone(),
                target: target.kept.name.clone(),
                runtime: self
                    .placed_runtime(service, target)
                    .unwrap_or_default()
                    .to_owned(),
                ready: observed.state == State::Ready,
                since: observed.since,
            })
        };
        self.targets.values().filter_map(on).collect()
    }

    /// Where each value of a track's workload comes from.
    #[must_use]
    pub fn explanation(
        &self,
        name: &TrackName,
        target: Option<&TargetName>,
    ) -> Option<Result<Explanation, String>> {
        let spec = self.compiled.tracks.get(name)?;
        let track = self.tracks.get(name)?;
        let there = target.and_then(|target| self.targets.get(target));
        let variant = there.and_then(|there| spec.configuration.on(&there.labels).0);
        let fields = compile::provenance(&self.manifests, name, variant)
            .into_iter()
            .map(|field| Field {
                path: field.path,
                value: field.value,
                layer: field.layer.name().to_owned(),
                owner: field.owner,
                file: field.file,
                line: field.line,
                locked_by: field.locked_by,
            });
        let mut explanation = Explanation {
            service: name.service.clone(),
            environment: name.environment.clone(),
            target: target.cloned(),
            runtimes: self.meant_in(name, target),
            version: track.stable.as_ref().map(|point| point.version.clone()),
            revision: self.revision,
            fields: fields.collect(),
        };
        let Some(target) = target else {
            return Some(Ok(explanation));
        };
        Some(
            self.rendered_fields(name, target)
                .map(|(version, template)| {
                    explanation.version = Some(version);
                    explanation.fields.push(template);
                    explanation
                }),
        )
    }

    /// The template as it is rendered for one target.
    fn rendered_fields(
        &self,
        name: &TrackName,
        target: &TargetName,
    ) -> Result<(Version, Field), String> {
        let there = self
            .targets
            .get(target)
            .ok_or_else(|| format!("no target {target}"))?;
        let placed = there
            .placed
            .get(&name.service)
            .ok_or_else(|| format!("{} is not placed on {target}", name.service))?;
        let workload = self.rendered(&name.service, target, &placed.point)?;
        let value = readable(&workload.template);
        let field = Field {
            path: "rendered.template".to_owned(),
            value,
            layer: "rendered".to_owned(),
            owner: String::new(),
            file: None,
            line: None,
            locked_by: None,
        };
        Ok((placed.point.version.clone(), field))
    }

    /// The bodies that a target may fetch, of those that it asks for.
    #[must_use]
    pub fn bodies_for(&self, target: &TargetName, wanted: &BTreeSet<Digest>) -> Vec<Vec<u8>> {
        let Some(target) = self.targets.get(target) else {
            return Vec::new();
        };
        // The assignments share most of their bodies; each is handed over once.
        let entitled: BTreeSet<&Digest> = target
            .entitled()
            .filter(|digest| wanted.contains(digest))
            .collect();
        entitled
            .into_iter()
            .filter_map(|digest| self.bodies.get(digest))
            .map(|body| body.to_vec())
            .collect()
    }

    /// The state of the certificates.
    #[must_use]
    pub fn ca_status(&self, now: Timestamp) -> CaStatus {
        let trust = &self.trust;
        let environments = trust.environments.iter().map(|(name, environment)| {
            let targets = || self.targets.of(name).map(|(_, target)| target);
            let names = |pick: &dyn Fn(&super::Target) -> bool| {
                targets()
                    .filter(|target| pick(target))
                    .map(|t| t.kept.name.clone())
                    .collect()
            };
            let in_force = self.certificates.values().filter(|certificate| {
                certificate.environment == *name
                    && certificate.revoked_at.is_none()
                    && certificate.not_after > now
            });
            let authority = &environment.authority;
            EnvironmentAuthority {
                environment: name.clone(),
                authority: Authority {
                    fingerprint: Digest::of(authority.certificate()).to_string(),
                    not_before: authority.not_before(),
                    not_after: authority.not_after(),
                },
                certificates: in_force.count() as u64,
                expired: names(&|target| target.kept.certificate_expires <= now),
                revoked: names(&|target| target.kept.revoked_at.is_some()),
            }
        });
        CaStatus {
            trust_domain: trust.root.trust_domain().to_string(),
            root: Authority {
                fingerprint: trust.root.pin().to_string(),
                not_before: trust.root.not_before(),
                not_after: trust.root.not_after(),
            },
            environments: environments.collect(),
        }
    }
}

fn target(target: &super::Target) -> Target {
    let text = |(key, value): (&_, &_)| -> (String, String) {
        let (key, value): (
            &holdfast_protocol::name::LabelKey,
            &holdfast_protocol::name::LabelValue,
        ) = (key, value);
        (key.to_string(), value.to_string())
    };
    Target {
        name: target.kept.name.clone(),
        environment: target.kept.environment.clone(),
        labels: target.labels.iter().map(text).collect(),
        connected: target.is_connected(),
        since: target.kept.since,
        generation: target
            .assigned
            .as_ref()
            .map_or(0, |a| a.assignment.generation.number),
        converged_generation: target
            .kept
            .converged
            .map_or(0, |generation| generation.number),
        agent_version: target.kept.agent_version.clone(),
        certificate_expires: target.kept.certificate_expires,
        conditions: held_back(target)
            .chain(target.kept.conditions.clone())
            .collect(),
        hold: target.kept.hold.clone(),
        revoked: target.kept.revoked_at.is_some(),
        joined_at: target.kept.joined_at,
    }
}

/// A rendered template with its placeholders as people know them.
fn readable(template: &str) -> String {
    use holdfast_protocol::workload::{PLACEHOLDER_CLOSE, PLACEHOLDER_OPEN};
    template
        .replace(PLACEHOLDER_OPEN, "{")
        .replace(PLACEHOLDER_CLOSE, "}")
}

/// That nothing is sent to a target, where that is so.
fn held_back(target: &super::Target) -> impl Iterator<Item = Condition> {
    let kept = &target.kept;
    kept.ahead.into_iter().map(|held| Condition {
        kind: TargetConditionKind::AssignmentRefused,
        message: format!(
            "it holds assignment {held}, which is not known here: nothing is sent to it until \
             `holdfast target resume {}`",
            kept.name
        ),
        since: kept.since,
    })
}

fn result(kept: &KeptResult) -> ProtectionResult {
    ProtectionResult {
        name: kept.name.to_string(),
        when: kept.when.name().to_owned(),
        result: kept.verdict.result.name().to_owned(),
        output: kept.verdict.output.clone(),
        at: kept.verdict.at,
    }
}

fn approval(approved: &check::Approved) -> Approval {
    Approval {
        by: approved.by.clone(),
        roles: approved.roles.clone(),
        at: approved.at,
        reason: approved.reason.clone(),
    }
}

fn skipped(skipped: &check::Skipped) -> Skipped {
    Skipped {
        name: skipped.name.to_string(),
        by: skipped.by.clone(),
        reason: skipped.reason.clone(),
    }
}
