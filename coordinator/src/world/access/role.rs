//! Declaring roles.

use holdfast_engine::compiled::protection::{Check, Protection, Skippable};
use holdfast_protocol::api::Code;
use holdfast_protocol::api::role::{NewRole, ROLES_MAX, Role};
use holdfast_protocol::name::{ProtectionName, RoleName, UserName};
use holdfast_protocol::time::Timestamp;

use super::super::{Round, World};
use crate::access::role::{self as rules, BuiltIn};
use crate::access::{Caller, Grant};
use crate::event::Refused;
use crate::store::row;
use crate::store::write::Write;

impl World {
    /// Every role, the built-in ones first.
    #[must_use]
    pub fn role_list(&self, now: Timestamp) -> Vec<Role> {
        let built_in = BuiltIn::ALL.into_iter().map(|role| role.grant().role);
        let names = built_in.chain(self.roles.keys().cloned());
        names.filter_map(|name| self.role(&name, now)).collect()
    }

    /// One role.
    #[must_use]
    pub fn role(&self, name: &RoleName, now: Timestamp) -> Option<Role> {
        let grant = self.grant(name)?;
        let declared = self.roles.get(name);
        Some(Role {
            users: self.role_holders(name, now).into_iter().collect(),
            name: grant.role,
            permissions: grant.permissions,
            scope: grant.scope,
            built_in: declared.is_none(),
            created_by: declared.map(|role| role.created_by.clone()),
            created_at: declared.map(|role| role.created_at),
        })
    }

    /// A protection in force that asks for a role by name.
    fn asks_for(&self, role: &RoleName) -> Option<&ProtectionName> {
        let declared = self.compiled.protections.values();
        let tracks = self.compiled.tracks.values();
        let used = tracks.flat_map(|track| track.guards.iter().map(|guard| &guard.protection));
        let mut all = declared.chain(used);
        let found = all.find(|protection| names(protection, role));
        found.map(|protection| &protection.name)
    }

    fn known_role(&self, name: &RoleName, now: Timestamp) -> Result<Role, Refused> {
        self.role(name, now).ok_or_else(|| unknown(name))
    }
}

/// Whether a protection asks for people with a role, or lets them skip it.
fn names(protection: &Protection, role: &RoleName) -> bool {
    let approves =
        matches!(&protection.check, Check::Approval(approval) if approval.roles.contains(role));
    let skips = matches!(&protection.skippable, Skippable::Roles(roles) if roles.contains(role));
    approves || skips
}

/// That there is no such role.
#[must_use]
pub fn unknown(name: &RoleName) -> Refused {
    Refused::new(Code::NotFound, format!("no role {name}"))
        .help("list them: holdfast role list; declare one: holdfast role create")
}

impl Round<'_> {
    /// Declares a role; one that says the same is left as it is.
    ///
    /// # Errors
    /// [`Refused`] for what no role can say, for what the caller does not have, and for another role
    /// of that name that shall not be replaced.
    pub fn create_role(&mut self, new: NewRole, by: &Caller) -> Result<Role, Refused> {
        changeable(&new.name)?;
        rules::check(&new)?;
        let wanted = Grant {
            role: new.name.clone(),
            permissions: new.permissions,
            scope: new.scope,
        };
        rules::may_give(by, &wanted)?;
        let before = self.world.roles.get(&new.name).cloned();
        if let Some(before) = self.world.grant(&new.name) {
            rules::may_give(by, &before)?;
        }
        match before {
            Some(before) if before.says(&wanted) => {}
            Some(before) if !new.replace => return Err(differs(&before)),
            Some(_) => self.put_role(wanted, by, "role.changed"),
            None if self.world.roles.len() >= ROLES_MAX => {
                let detail = format!("there are {ROLES_MAX} roles already");
                return Err(Refused::new(Code::TooLarge, detail)
                    .help("delete those that nobody needs: holdfast role delete NAME"));
            }
            None => self.put_role(wanted, by, "role.created"),
        }
        self.world.known_role(&new.name, self.now)
    }

    fn put_role(&mut self, wanted: Grant, by: &Caller, kind: &'static str) {
        let permissions: Vec<_> = wanted.permissions.iter().map(|p| p.name()).collect();
        let message = format!(
            "role {} may {} within {}",
            wanted.role,
            if permissions.is_empty() {
                "nothing".to_owned()
            } else {
                permissions.join(", ")
            },
            wanted.scope
        );
        let role = row::Role {
            name: wanted.role,
            permissions: wanted.permissions,
            scope: wanted.scope,
            created_at: self.now,
            created_by: by.name.clone(),
        };
        self.writes.push(Write::Role(Box::new(role.clone())));
        self.world.roles.insert(role.name.clone(), role);
        self.record_access(kind, by, message);
    }

    /// Deletes a role that nobody has.
    ///
    /// # Errors
    /// [`Refused`] when there is no such role, it is built in, somebody has it, or a protection asks
    /// for it.
    pub fn delete_role(&mut self, name: &RoleName, by: &Caller) -> Result<Role, Refused> {
        changeable(name)?;
        let role = self.world.known_role(name, self.now)?;
        if let Some(grant) = self.world.grant(name) {
            rules::may_give(by, &grant)?;
        }
        if !role.users.is_empty() {
            let users: Vec<&str> = role.users.iter().map(UserName::as_str).collect();
            let detail = format!("the role {name} is that of {}", users.join(", "));
            return Err(Refused::new(Code::Conflict, detail)
                .help("give them others first: holdfast user assign NAME --role ROLE"));
        }
        if let Some(protection) = self.world.asks_for(name) {
            let detail = format!("the protection {protection} asks for the role {name}");
            return Err(Refused::new(Code::Conflict, detail)
                .help("apply manifests that do not, or nobody could ever agree"));
        }
        self.world.roles.remove(name);
        self.writes.push(Write::DropRole(name.clone()));
        self.record_access("role.deleted", by, format!("role {name} is gone"));
        Ok(role)
    }
}

fn changeable(name: &RoleName) -> Result<(), Refused> {
    match BuiltIn::of(name) {
        None => Ok(()),
        Some(_) => Err(Refused::new(
            Code::Conflict,
            format!("the role {name} is built in and stays as it is"),
        )
        .help("declare one with another name")),
    }
}

fn differs(before: &row::Role) -> Refused {
    let detail = format!("there is a role {} that says something else", before.name);
    Refused::new(Code::Conflict, detail).help(format!(
        "see it: holdfast role show {}; change it: holdfast role create … --replace",
        before.name
    ))
}

impl row::Role {
    fn says(&self, wanted: &Grant) -> bool {
        self.permissions == wanted.permissions && self.scope == wanted.scope
    }
}
