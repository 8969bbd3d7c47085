//! The roles that every installation has, and what a declared role may say.

use std::collections::BTreeSet;

use holdfast_engine::manifest::kinds::Kind;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::role::{NewRole, Permission, SCOPE_MAX_ENTRIES, Scope};
use holdfast_protocol::name::RoleName;

use super::{Caller, Grant};
use crate::event::Refused;

/// The roles that every installation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// May do everything.
    Admin,
    /// May do everything but change users, roles and certificate authorities.
    Operator,
    /// May look.
    Viewer,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Viewer];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn of(name: &RoleName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == name.as_str())
    }

    /// What it allows, everywhere.
    #[must_use]
    pub fn permissions(self) -> BTreeSet<Permission> {
        Permission::ALL
            .into_iter()
            .filter(|permission| match self {
                Self::Admin => true,
                Self::Operator => *permission != Permission::Access,
                Self::Viewer => *permission == Permission::Read,
            })
            .collect()
    }

    /// As it is in somebody's hands.
    ///
    /// # Panics
    /// Never: the names are role names.
    #[must_use]
    pub fn grant(self) -> Grant {
        Grant {
            role: self.name().parse().expect("a DNS label"),
            permissions: self.permissions(),
            scope: Scope::default(),
        }
    }
}

/// Whether a role can be declared like this. A limit that would not limit one of its permissions, or
/// would leave nothing of it, is refused rather than left to be misread.
///
/// # Errors
/// [`Refused`] with what is wrong with it.
pub fn check(new: &NewRole) -> Result<(), Refused> {
    let wrong = |detail: String| Refused::new(Code::BadRequest, detail);
    let scope = &new.scope;
    let longest = [
        scope.services.len(),
        scope.environments.len(),
        scope.sets.len(),
        scope.kinds.len(),
    ];
    if longest.into_iter().any(|length| length > SCOPE_MAX_ENTRIES) {
        let detail = format!("a role is limited to at most {SCOPE_MAX_ENTRIES} names of one kind");
        return Err(wrong(detail));
    }
    for kind in &scope.kinds {
        if Kind::ALL.iter().all(|known| known.name() != kind) {
            let known = Kind::ALL.map(Kind::name).join(", ");
            let help = format!("the kinds are {known}");
            return Err(wrong(format!("there are no documents of kind {kind:?}")).help(help));
        }
    }
    match new.permissions.iter().find_map(|one| mismatch(*one, scope)) {
        None => Ok(()),
        Some(why) => Err(wrong(format!("role {}: {why}", new.name))
            .help("make a role of its own for that permission, and give both")),
    }
}

/// Why a permission cannot be limited like this.
fn mismatch(permission: Permission, scope: &Scope) -> Option<&'static str> {
    let by_set = !scope.sets.is_empty() || !scope.kinds.is_empty();
    let (by_service, by_environment) = (!scope.services.is_empty(), !scope.environments.is_empty());
    match permission {
        // Whoever may read reads everything; a role that is asked for by name is limited all the same.
        Permission::Read | Permission::Apply => None,
        Permission::Release if by_environment => {
            Some("a release is for every environment, so `release` is not limited to some")
        }
        Permission::Target if by_service => {
            Some("a target is there for every service, so `target` is not limited to some")
        }
        Permission::Secret if by_service => {
            Some("a secret is there for every service, so `secret` is not limited to some")
        }
        Permission::Access if by_service || by_environment || by_set => {
            Some("users and roles are those of the whole installation, so `access` has no limits")
        }
        Permission::Release
        | Permission::Deploy
        | Permission::Approve
        | Permission::Target
        | Permission::Secret
        | Permission::Access => {
            by_set.then_some("input sets and kinds limit `apply` alone, and it allows more")
        }
    }
}

/// Whether the caller may put this into anybody's hands: nobody gives what they do not have.
///
/// # Errors
/// [`Refused`] that names the role and the permission.
pub fn may_give(caller: &Caller, grant: &Grant) -> Result<(), Refused> {
    let missing = grant.permissions.iter().find(|permission| {
        let has = |mine: &Grant| {
            mine.permissions.contains(permission) && includes(&mine.scope, &grant.scope)
        };
        !caller.grants.iter().any(has)
    });
    match missing {
        None => Ok(()),
        Some(permission) => Err(Refused::new(
            Code::Forbidden,
            format!(
                "the role {} has the permission {permission} for {}, which {} does not have",
                grant.role, grant.scope, caller.name
            ),
        )
        .help("nobody gives, changes or takes away more than they have")),
    }
}

/// Whether everything in `narrow` is in `wide`.
fn includes(wide: &Scope, narrow: &Scope) -> bool {
    fn all<T>(wide: &[T], narrow: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
        wide.is_empty()
            || (!narrow.is_empty() && narrow.iter().all(|n| wide.iter().any(|w| within(w, n))))
    }
    all(&wide.services, &narrow.services, |w, n| w.covers(n))
        && all(&wide.environments, &narrow.environments, PartialEq::eq)
        && all(&wide.sets, &narrow.sets, PartialEq::eq)
        && all(&wide.kinds, &narrow.kinds, PartialEq::eq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(permissions: &[Permission], scope: &str) -> NewRole {
        NewRole {
            name: "x".parse().unwrap(),
            permissions: permissions.iter().copied().collect(),
            scope: serde_json::from_str(scope).unwrap(),
            replace: false,
        }
    }

    fn grant(permissions: &[Permission], scope: &str) -> Grant {
        let new = role(permissions, scope);
        Grant {
            role: new.name,
            permissions: new.permissions,
            scope: new.scope,
        }
    }

    fn caller(grants: Vec<Grant>) -> Caller {
        Caller {
            name: "ada".to_owned(),
            roles: Vec::new(),
            permissions: BTreeSet::new(),
            grants,
            token_hash: holdfast_protocol::digest::Digest::of(b"x"),
            expires_at: None,
        }
    }

    #[test]
    fn what_is_built_in_grows_from_looking_to_everything() {
        let [admin, operator, viewer] = BuiltIn::ALL.map(BuiltIn::permissions);
        assert_eq!(admin.len(), Permission::ALL.len());
        let lacking: Vec<_> = admin.difference(&operator).collect();
        assert_eq!(lacking, [&Permission::Access]);
        assert_eq!(viewer, BTreeSet::from([Permission::Read]));
    }

    #[test]
    fn a_limit_that_would_not_limit_is_refused() {
        let staging = r#"{"environments": ["staging"]}"#;
        let web = r#"{"services": ["web-*"]}"#;
        let team = r#"{"sets": ["team-web"]}"#;
        for (permission, scope) in [
            (Permission::Release, staging),
            (Permission::Release, team),
            (Permission::Target, web),
            (Permission::Secret, web),
            (Permission::Deploy, team),
            (Permission::Approve, r#"{"kinds": ["Service"]}"#),
            (Permission::Access, staging),
            (Permission::Apply, r#"{"kinds": ["Servise"]}"#),
        ] {
            let refused = check(&role(&[permission], scope)).unwrap_err();
            assert_eq!(refused.code, Code::BadRequest, "{permission} {scope}");
            assert!(refused.help.is_some(), "{permission} {scope}");
        }
        for (permission, scope) in [
            (Permission::Release, web),
            (Permission::Target, staging),
            (Permission::Deploy, staging),
            (Permission::Apply, team),
            (Permission::Read, team),
            (Permission::Access, "{}"),
        ] {
            check(&role(&[permission], scope)).unwrap();
        }
    }

    #[test]
    fn nobody_gives_what_they_do_not_have() {
        let deploy = [Permission::Deploy];
        let mine = caller(vec![grant(&deploy, r#"{"services": ["web-*"]}"#)]);
        let less = r#"{"services": ["web-2"], "environments": ["staging"]}"#;
        assert!(may_give(&mine, &grant(&deploy, less)).is_ok());
        assert!(may_give(&mine, &grant(&[], "{}")).is_ok());
        for more in [
            "{}",
            r#"{"services": ["*"]}"#,
            r#"{"environments": ["staging"]}"#,
        ] {
            let refused = may_give(&mine, &grant(&deploy, more)).unwrap_err();
            assert_eq!(refused.code, Code::Forbidden, "{more}");
        }
        assert!(may_give(&mine, &grant(&[Permission::Read], less)).is_err());
        let admin = caller(vec![BuiltIn::Admin.grant()]);
        assert!(may_give(&admin, &BuiltIn::Admin.grant()).is_ok());
    }
}
