//! Freezes: nothing starts in an environment, or anywhere, until a person ends it.

use holdfast_engine::input;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::freeze::{Freeze, NewFreeze};
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::api::steer::Steered;
use holdfast_protocol::name::EnvironmentName;

use super::{Round, World};
use crate::access::role::may_give;
use crate::access::{Caller, Grant};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::write::Write;

/// Longest reason, in bytes.
const REASON_MAX_BYTES: usize = 1_000;

impl World {
    /// The freezes in force, those of all environments first.
    #[must_use]
    pub fn freezes(&self) -> Vec<Freeze> {
        let mut freezes: Vec<Freeze> = self.freezes.iter().map(row).collect();
        freezes.sort_by(|one, other| one.environment.cmp(&other.environment));
        freezes
    }

    fn freeze_of(&self, environment: Option<&EnvironmentName>) -> Option<&input::Freeze> {
        let mut freezes = self.freezes.iter();
        freezes.find(|freeze| freeze.environment.as_ref() == environment)
    }

    /// Whether the caller may put an end to a freeze, or another reason in its place: whoever placed it,
    /// and whoever has all that each role allows by which it could be placed. One by somebody who is
    /// known no more is anybody's who may deploy there.
    fn may_end(&self, freeze: &input::Freeze, caller: &Caller) -> Result<(), Refused> {
        let Some(placed) = self.known_caller(&freeze.by) else {
            return Ok(());
        };
        let stronger = |grant: &&Grant| {
            grant.permissions.contains(&Permission::Deploy) && may_give(caller, grant).is_err()
        };
        let stronger = placed.grants.iter().find(stronger);
        let Some(grant) = stronger.filter(|_| placed.name != caller.name) else {
            return Ok(());
        };
        let Freeze { by, reason, .. } = row(freeze);
        let (place, role) = (place(freeze.environment.as_ref()), &grant.role);
        let detail = format!(
            "{place} was frozen by {by}, who has the role {role}: {reason}; {} may not change that",
            caller.name
        );
        Err(Refused::new(Code::Forbidden, detail)
            .help(format!("ask {by}, or somebody else with the role {role}")))
    }
}

impl Round<'_> {
    /// Freezes one environment or all. The same again changes nothing; another reason takes the place
    /// of the one before.
    ///
    /// # Errors
    /// [`Refused`] when there is no such environment, no reason, or another freeze by somebody who may
    /// do more than the caller.
    pub fn freeze(&mut self, new: NewFreeze, caller: &Caller) -> Result<Steered, Refused> {
        let NewFreeze {
            environment,
            reason,
        } = new;
        self.check_freeze(environment.as_ref(), &reason)?;
        if let Some(there) = self.world.freeze_of(environment.as_ref())
            && there.reason != reason
        {
            self.world.may_end(there, caller)?;
        }
        let by = &caller.name;
        let place = place(environment.as_ref());
        let before = self.remove_freeze(environment.as_ref());
        let since = before.as_ref().map_or(self.now, |before| before.since);
        let same = before.filter(|before| before.reason == reason);
        let changed = same.is_none();
        let freeze = same.unwrap_or_else(|| input::Freeze {
            environment: environment.clone(),
            by: by.clone(),
            reason: reason.clone(),
            since,
        });
        if changed {
            self.writes.push(Write::Freeze(Box::new(row(&freeze))));
            self.record(Entry {
                kind: "freeze.begun",
                actor: Some(by.clone()),
                message: format!("nothing starts in {place}: {reason}"),
                environment: environment.clone(),
                ..Entry::default()
            });
        }
        self.world.freezes.push(freeze);
        self.thaw_or_stop(environment.as_ref());
        Ok(Steered {
            message: format!("{place} is frozen"),
            changed,
            deployment: None,
        })
    }

    /// Ends the freeze of one environment, or the one of all. Where there is none, nothing changes.
    ///
    /// # Errors
    /// [`Refused`] when there is no such environment, or somebody placed the freeze who may do more than
    /// the caller.
    pub fn unfreeze(
        &mut self,
        environment: Option<&EnvironmentName>,
        caller: &Caller,
        reason: Option<&str>,
    ) -> Result<Steered, Refused> {
        self.check_freeze(environment, reason.unwrap_or("none given"))?;
        if let Some(there) = self.world.freeze_of(environment) {
            self.world.may_end(there, caller)?;
        }
        let by = &caller.name;
        let place = place(environment);
        let Some(freeze) = self.remove_freeze(environment) else {
            return Ok(Steered {
                message: format!("{place} is not frozen"),
                changed: false,
                deployment: None,
            });
        };
        self.writes.push(Write::DropFreeze(environment.cloned()));
        self.record(Entry {
            kind: "freeze.ended",
            actor: Some(by.clone()),
            message: format!(
                "{place} is frozen no more, since {} by {}: {}",
                freeze.since,
                freeze.by,
                reason.unwrap_or("no reason given")
            ),
            environment: environment.cloned(),
            ..Entry::default()
        });
        self.thaw_or_stop(environment);
        Ok(Steered {
            message: format!("{place} is frozen no more"),
            changed: true,
            deployment: None,
        })
    }

    fn check_freeze(
        &self,
        environment: Option<&EnvironmentName>,
        reason: &str,
    ) -> Result<(), Refused> {
        let known = |name| self.world.compiled.environments.contains_key(name);
        if let Some(unknown) = environment.filter(|name| !known(*name)) {
            let detail = format!("there is no environment {unknown}");
            return Err(Refused::new(Code::NotFound, detail));
        }
        if reason.trim().is_empty() || reason.len() > REASON_MAX_BYTES {
            let detail = "a freeze needs a reason, which everybody who waits is shown";
            return Err(Refused::new(Code::BadRequest, detail).help("say why: --reason TEXT"));
        }
        Ok(())
    }

    fn remove_freeze(&mut self, environment: Option<&EnvironmentName>) -> Option<input::Freeze> {
        let mut freezes = self.world.freezes.iter();
        let at = freezes.position(|freeze| freeze.environment.as_ref() == environment)?;
        Some(self.world.freezes.remove(at))
    }

    /// Steps every track that a freeze is about.
    fn thaw_or_stop(&mut self, environment: Option<&EnvironmentName>) {
        match environment {
            Some(environment) => self.environment_moved(environment),
            None => self.moved.extend(self.world.tracks.keys().cloned()),
        }
    }
}

/// As it is kept, and as it is shown.
fn row(freeze: &input::Freeze) -> Freeze {
    Freeze {
        environment: freeze.environment.clone(),
        by: freeze.by.clone(),
        reason: freeze.reason.clone(),
        since: freeze.since,
    }
}

/// As they were kept.
pub(super) fn restored(rows: Vec<Freeze>) -> Vec<input::Freeze> {
    let one = |row: Freeze| input::Freeze {
        environment: row.environment,
        by: row.by,
        reason: row.reason,
        since: row.since,
    };
    rows.into_iter().map(one).collect()
}

fn place(environment: Option<&EnvironmentName>) -> String {
    environment.map_or_else(|| "every environment".to_owned(), ToString::to_string)
}
