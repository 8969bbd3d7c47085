//! Who may use the API, and for what. Pure: whoever asks has been found by the hash of the token, and
//! what the roles allow is compared with what is about to be done.
//!
//! *Guarantees:* a request is authorised before anything of it is read ([`route`] has one rule for
//! each route, and a route without a rule is refused). A role's limits are never stretched: what is
//! done to something that the limits do not speak of needs a role without those limits.

pub mod document;
pub mod role;
pub mod route;
pub mod token;

use std::collections::BTreeSet;

use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::access::Granted;
use holdfast_protocol::api::role::{Permission, Scope};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, InputSetName, RoleName, ServiceName};
use holdfast_protocol::time::Timestamp;

use crate::event::Refused;

/// Somebody who has shown a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub name: String,
    /// The user's roles.
    pub roles: Vec<RoleName>,
    /// What the roles together allow, somewhere.
    pub permissions: BTreeSet<Permission>,
    /// The same, role by role, with what each is limited to.
    pub grants: Vec<Grant>,
    /// The hash of the token, by which it is found again.
    pub token_hash: Digest,
    /// When the token ends.
    pub expires_at: Option<Timestamp>,
}

/// One role in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: RoleName,
    /// What it allows.
    pub permissions: BTreeSet<Permission>,
    /// Where.
    pub scope: Scope,
}

/// How far something reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach<T> {
    /// It has nothing to do with these.
    #[default]
    Nothing,
    /// One of them.
    One(T),
    /// All of them, or which one cannot be said.
    All,
}

/// What something is done to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Which service.
    pub service: Reach<ServiceName>,
    /// Which environment.
    pub environment: Reach<EnvironmentName>,
    /// Which input set.
    pub set: Reach<InputSetName>,
    /// Which kind of document.
    pub kind: Reach<String>,
}

/// Something that somebody is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The permission that it needs.
    pub permission: Permission,
    /// What it is done to.
    pub on: Subject,
}

/// Whether the caller may do this.
///
/// # Errors
/// [`Refused`] that says which permission is missing, and where.
pub fn allows(caller: &Caller, action: &Action) -> Result<(), Refused> {
    let with = || {
        let grants = caller.grants.iter();
        grants.filter(|grant| grant.permissions.contains(&action.permission))
    };
    if with().any(|grant| covers(&grant.scope, &action.on)) {
        return Ok(());
    }
    let (name, permission) = (&caller.name, action.permission);
    let limits: Vec<String> = with()
        .map(|grant| format!("{} is limited to {}", grant.role, grant.scope))
        .collect();
    let detail = if limits.is_empty() {
        format!("{name} may not do this: it needs the permission {permission}")
    } else {
        let limits = limits.join("; ");
        format!("{name} may not do this {}: {limits}", action.on)
    };
    Err(Refused::new(Code::Forbidden, detail)
        .help("holdfast whoami says what you may do; an administrator gives roles"))
}

/// Whether the caller may do this, or has one of `roles` where it is done: what an approval, or the
/// skipping of a check, asks for by name.
///
/// # Errors
/// [`Refused`] that names the roles.
pub fn allows_or_holds(
    caller: &Caller,
    action: &Action,
    roles: &[RoleName],
) -> Result<(), Refused> {
    if allows(caller, action).is_ok() {
        return Ok(());
    }
    let holds = |grant: &Grant| roles.contains(&grant.role) && covers(&grant.scope, &action.on);
    if caller.grants.iter().any(holds) {
        return Ok(());
    }
    let (name, permission) = (&caller.name, action.permission);
    let mut whose: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    let permitted = format!("those with the permission {permission}");
    whose.push(&permitted);
    let detail = format!(
        "{name} may not do this {}: it is for {}",
        action.on,
        whose.join(", ")
    );
    Err(Refused::new(Code::Forbidden, detail).help("holdfast role show NAME says who has a role"))
}

impl Caller {
    /// The caller's roles that reach a track: what counts when an approval asks for a role.
    #[must_use]
    pub fn roles_on(&self, track: &TrackName) -> Vec<RoleName> {
        let on = Subject::track(track);
        let grants = self.grants.iter();
        grants
            .filter(|grant| covers(&grant.scope, &on))
            .map(|grant| grant.role.clone())
            .collect()
    }

    /// The roles in which the caller says yes or no on a track where people with `asked` are wanted:
    /// those that reach it, and all that are asked for when the caller may approve there whichever
    /// role is wanted.
    #[must_use]
    pub fn approves_as(&self, track: &TrackName, asked: &[RoleName]) -> Vec<RoleName> {
        let mut roles: BTreeSet<RoleName> = self.roles_on(track).into_iter().collect();
        let approve = Action::new(Permission::Approve, Subject::track(track));
        if allows(self, &approve).is_ok() {
            roles.extend(asked.iter().cloned());
        }
        roles.into_iter().collect()
    }
}

impl Subject {
    /// One track.
    #[must_use]
    pub fn track(track: &TrackName) -> Self {
        Self {
            service: Reach::One(track.service.clone()),
            environment: Reach::One(track.environment.clone()),
            ..Self::default()
        }
    }

    /// A service in all its environments.
    #[must_use]
    pub fn service(service: &ServiceName) -> Self {
        Self {
            service: Reach::One(service.clone()),
            environment: Reach::All,
            ..Self::default()
        }
    }

    /// An environment with all its services and targets.
    #[must_use]
    pub fn environment(environment: &EnvironmentName) -> Self {
        Self {
            service: Reach::All,
            environment: Reach::One(environment.clone()),
            ..Self::default()
        }
    }

    /// Everything there is.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            service: Reach::All,
            environment: Reach::All,
            set: Reach::All,
            kind: Reach::All,
        }
    }
}

impl From<Grant> for Granted {
    fn from(grant: Grant) -> Self {
        Self {
            role: grant.role,
            permissions: grant.permissions.into_iter().collect(),
            scope: grant.scope,
        }
    }
}

impl Action {
    /// What needs `permission` on a subject.
    #[must_use]
    pub const fn new(permission: Permission, on: Subject) -> Self {
        Self { permission, on }
    }
}

/// `to service web, environment production`; `here` where it is done to nothing that has limits.
impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let service = word("service", &self.service);
        let environment = word("environment", &self.environment);
        let set = word("input set", &self.set);
        let parts: Vec<String> = [service, environment, set].into_iter().flatten().collect();
        if parts.is_empty() {
            return f.write_str("here");
        }
        write!(f, "to {}", parts.join(", "))
    }
}

fn word<T: std::fmt::Display>(noun: &str, reach: &Reach<T>) -> Option<String> {
    match reach {
        Reach::Nothing => None,
        Reach::One(name) => Some(format!("{noun} {name}")),
        Reach::All => Some(format!("every {noun}")),
    }
}

/// Whether a scope holds all of a subject.
fn covers(scope: &Scope, on: &Subject) -> bool {
    let services = &scope.services;
    within(&on.service, services.is_empty(), |service| {
        services.iter().any(|pattern| pattern.matches(service))
    }) && within(&on.environment, scope.environments.is_empty(), |one| {
        scope.environments.contains(one)
    }) && within(&on.set, scope.sets.is_empty(), |one| {
        scope.sets.contains(one)
    }) && within(&on.kind, scope.kinds.is_empty(), |one| {
        scope.kinds.contains(one)
    })
}

fn within<T>(reach: &Reach<T>, unlimited: bool, listed: impl Fn(&T) -> bool) -> bool {
    match reach {
        Reach::Nothing => true,
        Reach::One(one) => unlimited || listed(one),
        Reach::All => unlimited,
    }
}

#[cfg(test)]
mod tests;
