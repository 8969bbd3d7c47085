//! Users and their tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_protocol::api::Code;
use holdfast_protocol::api::user::{CreatedUser, NewUser, User};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{RoleName, UserName};
use holdfast_protocol::time::{Timestamp, parse_span};

use super::super::{Round, World};
use super::role::unknown as unknown_role;
use crate::access::role::{self as rules, BuiltIn};
use crate::access::{Caller, token};
use crate::event::Refused;
use crate::store::row;
use crate::store::write::Write;

/// The first administrator, whose token is the content of a file.
pub const ADMINISTRATOR: &str = "admin";
/// Longest life of a user's token that has an end.
const TTL_MAX: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
/// Most users, those with void tokens included.
const USERS_MAX: usize = 10_000;
/// Most roles of one user.
const ROLES_OF_ONE_MAX: usize = 64;
/// How long a user is listed whose token is void.
const LISTED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl World {
    /// Users by name, at most `rows` of those after `after`. Those whose tokens are void are listed
    /// for a month.
    #[must_use]
    pub fn user_list(&self, after: Option<&UserName>, rows: u32) -> Vec<User> {
        let later = |user: &&row::User| after.is_none_or(|after| user.name > *after);
        let users = self.users.values().filter(later);
        let by_name: BTreeMap<&UserName, &row::User> =
            users.map(|user| (&user.name, user)).collect();
        let page = by_name.into_values().take(rows as usize);
        page.map(row::User::about).collect()
    }

    /// One user.
    #[must_use]
    pub fn user(&self, name: &UserName) -> Option<&row::User> {
        self.users.values().find(|user| user.name == *name)
    }

    fn known_user(&self, name: &UserName) -> Result<&row::User, Refused> {
        self.user(name).ok_or_else(|| unknown(name))
    }

    /// Refuses to take the last administrator away whose token has no end: one that ends would leave
    /// nobody who could make another.
    fn check_not_last(&self, user: &row::User) -> Result<(), Refused> {
        let admin = BuiltIn::Admin.grant().role;
        let lasts = |user: &row::User| {
            user.revoked_at.is_none() && user.expires_at.is_none() && user.roles.contains(&admin)
        };
        let others = self
            .users
            .values()
            .any(|other| other.name != user.name && lasts(other));
        if others || !lasts(user) {
            return Ok(());
        }
        let detail = format!(
            "{} is the last administrator whose token has no end",
            user.name
        );
        Err(Refused::new(Code::Refused, detail)
            .help("make another one first: holdfast user create NAME --role admin"))
    }
}

/// That there is no such user.
#[must_use]
pub fn unknown(name: &UserName) -> Refused {
    Refused::new(Code::NotFound, format!("no user {name}")).help("list them: holdfast user list")
}

impl Round<'_> {
    /// Makes a user. The token is in the answer and nowhere else; of a user who is there already with
    /// the same roles it cannot be told again.
    ///
    /// # Errors
    /// [`Refused`] for roles that do not exist or that the caller cannot give, for a life out of
    /// bounds, and for a user of that name with other roles.
    pub fn create_user(&mut self, new: &NewUser, by: &Caller) -> Result<CreatedUser, Refused> {
        not_of_the_file(&new.name)?;
        let roles = self.checked_roles(&new.roles, by)?;
        let expires_at = self.end(new.ttl.as_deref())?;
        let before = self.world.user(&new.name).cloned();
        if let Some(before) = &before {
            if before.is_valid(self.now) {
                return already(before, &roles);
            }
        } else if self.world.users.len() >= USERS_MAX {
            let detail = format!("there are {USERS_MAX} users already");
            return Err(Refused::new(Code::TooLarge, detail)
                .help("revoke those that nobody needs; they are forgotten after 30 days"));
        }
        let ends = expires_at.map_or_else(String::new, |end| format!(", until {end}"));
        let message = format!("user {} with {}{ends}", new.name, listed(&roles));
        let created = self.put_token(new.name.clone(), roles, expires_at, by, before.as_ref());
        self.record_access("user.created", by, message);
        Ok(created)
    }

    /// Makes a new token for a user; the one before is void from now on.
    ///
    /// # Errors
    /// [`Refused`] when there is no such user, it was revoked, its token is that of the file, or it
    /// may do more than the caller.
    pub fn rotate_user(
        &mut self,
        name: &UserName,
        ttl: Option<&str>,
        by: &Caller,
    ) -> Result<CreatedUser, Refused> {
        not_of_the_file(name)?;
        let before = self.world.known_user(name)?.clone();
        if before.revoked_at.is_some() {
            let detail = format!("the token of {name} was revoked");
            return Err(Refused::new(Code::Conflict, detail).help(format!(
                "make the user anew: holdfast user create {name} --role ROLE"
            )));
        }
        let roles = self.checked_roles(&before.roles, by)?;
        let span = before.expires_at.map(|end| end.since(before.created_at));
        let expires_at = match ttl {
            Some(_) => self.end(ttl)?,
            None => span.map(|span| self.now.after(span)),
        };
        let created = self.put_token(name.clone(), roles, expires_at, by, Some(&before));
        self.record_access("user.rotated", by, format!("user {name} has a new token"));
        Ok(created)
    }

    /// Gives a user other roles. The token stays.
    ///
    /// # Errors
    /// [`Refused`] when there is no such user, the caller may not give what it has or shall have, or
    /// nobody would be left who may do everything.
    pub fn assign_roles(
        &mut self,
        name: &UserName,
        roles: Vec<RoleName>,
        by: &Caller,
    ) -> Result<User, Refused> {
        not_of_the_file(name)?;
        let mut user = self.world.known_user(name)?.clone();
        if user.revoked_at.is_some() {
            return Err(unknown(name));
        }
        let roles = self.checked_roles(&roles, by)?;
        self.check_given(&user.roles, by)?;
        if user.roles == roles {
            return Ok(user.about());
        }
        if !roles.contains(&BuiltIn::Admin.grant().role) {
            self.world.check_not_last(&user)?;
        }
        let message = format!(
            "user {name} has {} instead of {}",
            listed(&roles),
            listed(&user.roles)
        );
        user.roles = roles;
        let about = user.about();
        self.keep_user(user);
        self.record_access("user.assigned", by, message);
        Ok(about)
    }

    /// Makes a user's token void.
    ///
    /// # Errors
    /// [`Refused`] when there is no such user, it may do more than the caller, or it is the last
    /// administrator.
    pub fn revoke_user(&mut self, name: &UserName, by: &Caller) -> Result<User, Refused> {
        let mut user = self.world.known_user(name)?.clone();
        if user.revoked_at.is_some() {
            return Ok(user.about());
        }
        self.check_given(&user.roles, by)?;
        self.world.check_not_last(&user)?;
        user.revoked_at = Some(self.now);
        let about = user.about();
        self.keep_user(user);
        self.record_access(
            "user.revoked",
            by,
            format!("the token of user {name} is void"),
        );
        Ok(about)
    }

    /// Roles that exist and that the caller can give, sorted, each once.
    fn checked_roles(&self, roles: &[RoleName], by: &Caller) -> Result<Vec<RoleName>, Refused> {
        if roles.is_empty() || roles.len() > ROLES_OF_ONE_MAX {
            let detail = format!(
                "a user has 1 to {ROLES_OF_ONE_MAX} roles, not {}",
                roles.len()
            );
            return Err(
                Refused::new(Code::BadRequest, detail).help("list them: holdfast role list")
            );
        }
        for name in roles {
            // What is missing is a part of the request, not what the request is about.
            let grant = self.world.grant(name).ok_or_else(|| Refused {
                code: Code::BadRequest,
                ..unknown_role(name)
            })?;
            rules::may_give(by, &grant)?;
        }
        let each: BTreeSet<RoleName> = roles.iter().cloned().collect();
        Ok(each.into_iter().collect())
    }

    /// Whether the caller could give what somebody has; a role that is gone gives nothing.
    fn check_given(&self, roles: &[RoleName], by: &Caller) -> Result<(), Refused> {
        let mut grants = roles.iter().filter_map(|name| self.world.grant(name));
        grants.try_for_each(|grant| rules::may_give(by, &grant))
    }

    fn end(&self, ttl: Option<&str>) -> Result<Option<Timestamp>, Refused> {
        let wrong = |message: String| Refused::new(Code::BadRequest, message);
        let Some(text) = ttl else { return Ok(None) };
        let span = parse_span(text).map_err(wrong)?;
        if span.is_zero() || span > TTL_MAX {
            return Err(wrong(format!(
                "a token lives for at most 3650d, not {text}"
            )));
        }
        Ok(Some(self.now.after(span)))
    }

    fn put_token(
        &mut self,
        name: UserName,
        roles: Vec<RoleName>,
        expires_at: Option<Timestamp>,
        by: &Caller,
        before: Option<&row::User>,
    ) -> CreatedUser {
        let token = token::make();
        if let Some(before) = before {
            self.drop_user(before.token_hash);
        }
        let user = row::User {
            token_hash: Digest::of(token.as_bytes()),
            name,
            roles,
            created_at: self.now,
            created_by: by.name.clone(),
            expires_at,
            revoked_at: None,
        };
        let about = user.about();
        self.keep_user(user);
        CreatedUser {
            token: Some(token),
            about,
        }
    }

    fn keep_user(&mut self, user: row::User) {
        self.writes.push(Write::User(user.clone()));
        self.world.users.insert(user.token_hash, user);
    }

    fn drop_user(&mut self, token_hash: Digest) {
        self.writes.push(Write::DropUser(token_hash));
        self.world.users.remove(&token_hash);
    }

    /// Forgets users whose tokens have been void for long. The first administrator's stays known, or
    /// a revoked token in the file would be taken for a new one at the next start.
    pub(in crate::world) fn forget_users(&mut self) {
        let now = self.now;
        let long = |at: Option<Timestamp>| at.is_some_and(|at| now.since(at) > LISTED);
        let users = self.world.users.values();
        let gone: Vec<Digest> = users
            .filter(|user| user.name.as_str() != ADMINISTRATOR)
            .filter(|user| long(user.revoked_at) || long(user.expires_at))
            .map(|user| user.token_hash)
            .collect();
        for token_hash in gone {
            self.drop_user(token_hash);
        }
    }
}

/// The user as it was made before, if that is what is asked for.
fn already(before: &row::User, roles: &[RoleName]) -> Result<CreatedUser, Refused> {
    if before.roles == roles {
        return Ok(CreatedUser {
            token: None,
            about: before.about(),
        });
    }
    let detail = format!(
        "there is a user {} with {}",
        before.name,
        listed(&before.roles)
    );
    Err(Refused::new(Code::Conflict, detail).help(format!(
        "give other roles: holdfast user assign {} --role ROLE",
        before.name
    )))
}

/// Refuses what only the file of the first administrator can do.
fn not_of_the_file(name: &UserName) -> Result<(), Refused> {
    if name.as_str() != ADMINISTRATOR {
        return Ok(());
    }
    let detail =
        "the token of admin is the content of admin.token in the coordinator's data directory";
    Err(Refused::new(Code::Conflict, detail).help(
        "remove that file and restart the coordinator to have a new one made, or make another \
         administrator: holdfast user create NAME --role admin",
    ))
}

fn listed(roles: &[RoleName]) -> String {
    let names: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    let noun = if names.len() == 1 { "role" } else { "roles" };
    format!("{noun} {}", names.join(", "))
}

impl row::User {
    /// What may be told of it.
    #[must_use]
    pub fn about(&self) -> User {
        User {
            name: self.name.clone(),
            roles: self.roles.clone(),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            expires_at: self.expires_at,
            revoked: self.revoked_at.is_some(),
        }
    }
}
