//! What people say of deployments: yes, no, this check shall not hold it, once more.

use holdfast_engine::compiled::protection::{Check, Guard};
use holdfast_engine::steer::human::{self, Human, Word};
use holdfast_engine::steer::{Refusal, Steered as Granted};
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::api::steer::{Judgement, Steer, Steered};
use holdfast_protocol::name::RoleName;

use super::{Round, World};
use crate::access::{Action, Caller, Subject, allows, allows_or_holds};
use crate::event::{Judging, Refused, Verb};

impl Round<'_> {
    /// Takes what a person says of a deployment, and everything that follows from it.
    ///
    /// # Errors
    /// [`Refused`] when there is no such deployment under way, or the person may not say it.
    pub fn judge(
        &mut self,
        deployment: u64,
        judging: Judging,
        judgement: Judgement,
        caller: &Caller,
    ) -> Result<Steered, Refused> {
        let name = self.world.track_of(deployment)?;
        self.world.may_judge(&name, judging, caller)?;
        let word = word(judging, &judgement)?;
        let reason = judgement.reason.unwrap_or_default();
        let track = self.world.tracks.get(&name);
        let track = track.ok_or_else(|| super::steer::unknown_track(&name))?;
        let roles = match judging {
            Judging::Approve | Judging::Reject => {
                caller.approves_as(&name, &self.world.asked(&name))
            }
            Judging::Skip => caller.roles_on(&name),
        };
        let human = Human {
            by: &caller.name,
            roles: &roles,
            reason: &reason,
        };
        let mut context = self.world.context(&name);
        let inputs = context.inputs();
        let said = human::say(track, deployment, &word, human, &inputs, self.now);
        drop(context);
        self.grant(&name, said)
    }

    /// Brings what a deployment brought once more: its release, with the configuration in force.
    ///
    /// # Errors
    /// [`Refused`] where the configuration in force is another one, or the release cannot be asked
    /// for.
    pub fn repeat(
        &mut self,
        deployment: &holdfast_protocol::api::deployment::Deployment,
        reason: Option<String>,
        caller: &Caller,
    ) -> Result<Steered, Refused> {
        let name = TrackName {
            service: deployment.service.clone(),
            environment: deployment.environment.clone(),
        };
        let action = Action {
            permission: Permission::Deploy,
            on: Subject::track(&name),
        };
        allows(caller, &action)?;
        let in_force = self.world.compiled.tracks.get(&name);
        let in_force = in_force.ok_or_else(|| super::steer::unknown_track(&name))?;
        if deployment.configuration != Some(in_force.digest) {
            let id = deployment.id;
            let detail = format!(
                "deployment {id} brought {} with another configuration than the one in force",
                deployment.version
            );
            return Err(Refused::new(Code::Refused, detail).help(format!(
                "to bring that back: holdfast diff NOW {id} -o patch > back.patch, then holdfast apply -f back.patch"
            )));
        }
        let wish = Steer {
            reason,
            version: Some(deployment.version.clone()),
            hotfix: false,
        };
        let stable = self.world.tracks.get(&name).and_then(|t| t.stable.as_ref());
        let older = stable.is_some_and(|stable| stable.version != deployment.version)
            && self.world.is_older(&name, &deployment.version);
        let verb = if older { Verb::Rollback } else { Verb::Deploy };
        self.steer(&name, verb, wish, &caller.name)
    }

    /// Puts what was granted into force.
    pub(super) fn grant(
        &mut self,
        name: &TrackName,
        granted: Result<Granted, Refusal>,
    ) -> Result<Steered, Refused> {
        let granted = granted.map_err(|no| {
            let refused = Refused::new(Code::Refused, no.message);
            if no.help.is_empty() {
                refused
            } else {
                refused.help(no.help)
            }
        })?;
        self.take_outcome(name, granted.outcome);
        self.moved.insert(name.clone());
        self.settle();
        let track = self.world.tracks.get(name);
        let current = track.and_then(|track| track.current.as_ref());
        Ok(Steered {
            message: granted.message,
            changed: granted.changed,
            deployment: current.map(|current| current.id),
        })
    }
}

impl World {
    /// The track whose newest deployment this is.
    ///
    /// # Errors
    /// [`Refused`] where it is no track's newest.
    pub fn track_of(&self, deployment: u64) -> Result<TrackName, Refused> {
        let newest = |track: &holdfast_engine::track::Track| {
            track
                .current
                .as_ref()
                .is_some_and(|current| current.id == deployment)
        };
        let found = self.tracks.iter().find(|(_, track)| newest(track));
        found.map(|(name, _)| name.clone()).ok_or_else(|| {
            if deployment == 0 || deployment > self.last_deployment {
                return Refused::new(Code::NotFound, format!("no deployment {deployment}"))
                    .help("list them: holdfast history");
            }
            Refused::new(Code::Refused, format!("deployment {deployment} is over"))
                .help(format!("see how it ended: holdfast show {deployment}"))
        })
    }

    /// Whether the caller may say this at all; which roles count is the engine's business.
    fn may_judge(
        &self,
        name: &TrackName,
        judging: Judging,
        caller: &Caller,
    ) -> Result<(), Refused> {
        let on = || Subject::track(name);
        let may = |permission| Action {
            permission,
            on: on(),
        };
        match judging {
            Judging::Approve => {
                allows_or_holds(caller, &may(Permission::Approve), &self.asked(name))
            }
            Judging::Reject => allows(caller, &may(Permission::Deploy))
                .or_else(|_| allows_or_holds(caller, &may(Permission::Approve), &self.asked(name))),
            Judging::Skip => allows(caller, &may(Permission::Deploy)),
        }
    }

    /// The roles that approvals of a track ask for.
    pub(super) fn asked(&self, name: &TrackName) -> Vec<RoleName> {
        let roles = |guard: &Guard| match &guard.protection.check {
            Check::Approval(approval) => approval.roles.clone(),
            Check::Run(_)
            | Check::Resource(_)
            | Check::Http(_)
            | Check::Prometheus(_)
            | Check::Expression(_)
            | Check::Stable { .. } => Vec::new(),
        };
        let spec = self.compiled.tracks.get(name);
        let guards = spec.map_or(&[][..], |spec| &spec.guards);
        guards.iter().flat_map(roles).collect()
    }

    fn is_older(&self, name: &TrackName, version: &holdfast_protocol::name::Version) -> bool {
        let releases = self.releases.get(&name.service);
        let found = releases.and_then(|all| all.iter().find(|one| one.version == *version));
        let stable = self
            .tracks
            .get(name)
            .and_then(|track| track.stable.as_ref());
        match (found, stable) {
            (Some(found), Some(stable)) => found.sequence < stable.sequence,
            (Some(_) | None, _) => false,
        }
    }
}

fn word(judging: Judging, judgement: &Judgement) -> Result<Word, Refused> {
    match (judging, &judgement.protection) {
        (Judging::Approve, _) => Ok(Word::Approve {
            shown: judgement.shown,
        }),
        (Judging::Reject, _) => Ok(Word::Reject),
        (Judging::Skip, Some(guard)) => Ok(Word::Skip {
            guard: guard.clone(),
        }),
        (Judging::Skip, None) => Err(Refused::new(Code::BadRequest, "`protection` is missing")
            .help("name the protection to skip; `holdfast why` lists those that stand")),
    }
}
