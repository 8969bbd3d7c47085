//! Users and roles: who is known, and every change to that.

pub mod role;
pub mod user;

use std::collections::{BTreeMap, BTreeSet};

use holdfast_engine::steer::human;
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::role::{NewRole, Role};
use holdfast_protocol::api::user::{CreatedUser, NewUser, User};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{RoleName, UserName};
use holdfast_protocol::time::Timestamp;

use super::{Round, World};
use crate::access::role::BuiltIn;
use crate::access::{Caller, Grant};
use crate::event::Reply;
use crate::history::Entry;
use crate::store::row;

/// A change to who may do what.
#[derive(Debug)]
pub enum Change {
    /// A new user.
    CreateUser {
        /// The wish.
        new: NewUser,
        /// The answer, with the token.
        reply: Reply<CreatedUser>,
    },
    /// A new token for a user; the one before is void.
    RotateUser {
        /// Who.
        name: UserName,
        /// How long it is valid.
        ttl: Option<String>,
        /// The answer, with the token.
        reply: Reply<CreatedUser>,
    },
    /// Other roles for a user.
    AssignRoles {
        /// Who.
        name: UserName,
        /// All the roles.
        roles: Vec<RoleName>,
        /// The answer.
        reply: Reply<User>,
    },
    /// A user's token is to be void.
    RevokeUser {
        /// Who.
        name: UserName,
        /// The answer.
        reply: Reply<User>,
    },
    /// A new role, or one that says something else.
    CreateRole {
        /// The wish.
        new: NewRole,
        /// The answer.
        reply: Reply<Role>,
    },
    /// A role is to be gone.
    DeleteRole {
        /// Which.
        name: RoleName,
        /// The answer: what it was.
        reply: Reply<Role>,
    },
}

impl World {
    /// Somebody, by the hash of the token; none once the token is void. It is looked up by the hash of
    /// 256 random bits, so the time that this takes says nothing that would help to guess one.
    #[must_use]
    pub fn caller(&self, token_hash: &Digest, now: Timestamp) -> Option<Caller> {
        let user = self.users.get(token_hash);
        user.filter(|user| user.is_valid(now))
            .map(|user| self.as_caller(user))
    }

    /// Somebody with what the roles allow now, whether or not the token is void.
    fn as_caller(&self, user: &row::User) -> Caller {
        let grants: Vec<Grant> = user
            .roles
            .iter()
            .filter_map(|name| self.grant(name))
            .collect();
        Caller {
            name: user.name.to_string(),
            roles: user.roles.clone(),
            permissions: grants
                .iter()
                .flat_map(|grant| &grant.permissions)
                .copied()
                .collect(),
            grants,
            token_hash: user.token_hash,
            expires_at: user.expires_at,
        }
    }

    /// What somebody's roles allow now, by name; none where nobody of that name is known any more.
    #[must_use]
    pub fn known_caller(&self, name: &str) -> Option<Caller> {
        let user = self
            .users
            .values()
            .find(|user| user.name.as_str() == name)?;
        Some(self.as_caller(user))
    }

    /// The roles in which somebody may approve on a track now: none once the token was revoked. That a
    /// token ends by itself takes nothing back; how long an approval holds is said by the protection.
    fn approves_now(&self, by: &str, track: &TrackName) -> Vec<RoleName> {
        let user = self.users.values().find(|user| user.name.as_str() == by);
        let user = user.filter(|user| user.revoked_at.is_none());
        user.map(|user| self.as_caller(user).approves_as(track, &self.asked(track)))
            .unwrap_or_default()
    }

    /// What a role allows; none where there is no such role.
    #[must_use]
    pub fn grant(&self, name: &RoleName) -> Option<Grant> {
        let declared = || {
            self.roles.get(name).map(|role| Grant {
                role: role.name.clone(),
                permissions: role.permissions.clone(),
                scope: role.scope.clone(),
            })
        };
        BuiltIn::of(name).map(BuiltIn::grant).or_else(declared)
    }

    /// The names of all roles that there are, built in or declared.
    #[must_use]
    pub fn role_names(&self) -> BTreeSet<RoleName> {
        let built_in = BuiltIn::ALL.into_iter().map(|role| role.grant().role);
        built_in.chain(self.roles.keys().cloned()).collect()
    }

    /// The users with a valid token who have a role, by name.
    #[must_use]
    pub fn role_holders(&self, role: &RoleName, now: Timestamp) -> BTreeSet<UserName> {
        let valid = self.users.values().filter(|user| user.is_valid(now));
        valid
            .filter(|user| user.roles.contains(role))
            .map(|user| user.name.clone())
            .collect()
    }
}

impl World {
    /// Every role with the users who have it and whose tokens are valid: what a revision is compiled
    /// with, so that nothing waits for somebody who does not exist.
    #[must_use]
    pub fn roles_with_holders(&self, now: Timestamp) -> BTreeMap<RoleName, BTreeSet<UserName>> {
        let names = self.role_names().into_iter();
        let mut held: BTreeMap<_, BTreeSet<UserName>> =
            names.map(|name| (name, BTreeSet::new())).collect();
        for user in self.users.values().filter(|user| user.is_valid(now)) {
            for role in &user.roles {
                if let Some(holders) = held.get_mut(role) {
                    holders.insert(user.name.clone());
                }
            }
        }
        held
    }
}

impl Round<'_> {
    /// Carries out a change to who may do what.
    pub fn change_access(&mut self, change: Change, by: &Caller) {
        self.carry_out(change, by);
        self.withdraw_approvals();
    }

    fn carry_out(&mut self, change: Change, by: &Caller) {
        match change {
            Change::CreateUser { new, reply } => {
                let answer = self.create_user(&new, by);
                self.answer(reply, answer);
            }
            Change::RotateUser { name, ttl, reply } => {
                let answer = self.rotate_user(&name, ttl.as_deref(), by);
                self.answer(reply, answer);
            }
            Change::AssignRoles { name, roles, reply } => {
                let answer = self.assign_roles(&name, roles, by);
                self.answer(reply, answer);
            }
            Change::RevokeUser { name, reply } => {
                let answer = self.revoke_user(&name, by);
                self.answer(reply, answer);
            }
            Change::CreateRole { new, reply } => {
                let answer = self.create_role(new, by);
                self.answer(reply, answer);
            }
            Change::DeleteRole { name, reply } => {
                let answer = self.delete_role(&name, by);
                self.answer(reply, answer);
            }
        }
    }

    /// Takes back approvals by those who may not approve any more. So it is done at each change to who may
    /// do what, and what was lost does not come back with the role.
    fn withdraw_approvals(&mut self) {
        let asked = self.world.tracks.iter().filter_map(|(name, track)| {
            let current = track.current.as_ref()?;
            let by = current.approvals.iter().map(|given| given.by.clone());
            Some((name.clone(), by.collect::<BTreeSet<_>>()))
        });
        let given: Vec<(TrackName, BTreeSet<String>)> = asked.collect();
        for (name, people) in given {
            for by in people {
                let roles = self.world.approves_now(&by, &name);
                let Some(track) = self.world.tracks.get(&name) else {
                    continue;
                };
                let mut context = self.world.context(&name);
                let inputs = context.inputs();
                let outcome = human::withdraw(track, (&by, &roles), &inputs, self.now);
                drop(context);
                if let Some(outcome) = outcome {
                    self.take_outcome(&name, outcome);
                    self.moved.insert(name.clone());
                }
            }
        }
    }

    fn record_access(&mut self, kind: &'static str, by: &Caller, message: String) {
        self.record(Entry {
            kind,
            actor: Some(by.name.clone()),
            message,
            ..Entry::default()
        });
    }
}

impl row::User {
    /// Whether the token is neither void nor past its end.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}
