//! Roles: what their holders may do, and to what.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{EnvironmentName, InputSetName, RoleName, ServiceName, UserName};
use crate::time::Timestamp;

/// Most roles that a person can declare.
pub const ROLES_MAX: usize = 1_000;
/// Most entries of one list of a scope.
pub const SCOPE_MAX_ENTRIES: usize = 256;

/// What a role lets its holders do: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Permission {
    /// See everything that is no secret; whatever the role is limited to.
    Read,
    /// Apply manifests, and confirm what a revision removes.
    Apply,
    /// Register releases and upload artifacts.
    Release,
    /// Steer tracks.
    Deploy,
    /// Approve and reject what waits for a person, whichever role is asked for.
    Approve,
    /// Make and revoke join tokens; label, resume and revoke targets.
    Target,
    /// Set secrets.
    Secret,
    /// Change users, roles and certificate authorities.
    Access,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Apply,
        Self::Release,
        Self::Deploy,
        Self::Approve,
        Self::Target,
        Self::Secret,
        Self::Access,
    ];

    /// Its name in JSON and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Apply => "apply",
            Self::Release => "release",
            Self::Deploy => "deploy",
            Self::Approve => "approve",
            Self::Target => "target",
            Self::Secret => "secret",
            Self::Access => "access",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.name() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("there is no permission {text:?}: they are {known}")
        })
    }
}

/// Services by name: `web`, or every one whose name begins so: `web-*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServicePattern {
    /// The name, or its beginning.
    text: String,
    /// Whether any ending will do.
    open: bool,
}

impl ServicePattern {
    /// Whether a service is one of those.
    #[must_use]
    pub fn matches(&self, service: &ServiceName) -> bool {
        let name = service.as_str();
        if self.open {
            name.starts_with(&self.text)
        } else {
            name == self.text
        }
    }

    /// Whether every service that `other` means is one of those.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.open {
            other.text.starts_with(&self.text)
        } else {
            self == other
        }
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.open { "*" } else { "" })
    }
}

impl FromStr for ServicePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, open) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        // A beginning may end in a hyphen, and be empty; whatever follows it is a letter or digit.
        let whole = if open {
            format!("{name}x")
        } else {
            name.to_owned()
        };
        let parsed = ServiceName::parse(&whole);
        parsed.map_err(|error| {
            let problem = error.problem;
            format!("{text:?} {problem}: write a service's name, or its beginning and *")
        })?;
        Ok(Self {
            text: name.to_owned(),
            open,
        })
    }
}

impl TryFrom<String> for ServicePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ServicePattern> for String {
    fn from(pattern: ServicePattern) -> Self {
        pattern.to_string()
    }
}

impl utoipa::PartialSchema for ServicePattern {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        <String as utoipa::PartialSchema>::schema()
    }
}

impl ToSchema for ServicePattern {}

/// What a role is limited to. An empty list limits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scope {
    /// Only these services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePattern>,
    /// Only these environments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<EnvironmentName>,
    /// Only these input sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<InputSetName>,
    /// Only documents of these kinds: `Service`, `Policy`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
}

impl Scope {
    /// Whether it limits nothing.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.services.is_empty()
            && self.environments.is_empty()
            && self.sets.is_empty()
            && self.kinds.is_empty()
    }
}

/// `services web-*; environments staging`, or `everything`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str, values: Vec<String>| {
            (!values.is_empty()).then(|| format!("{name} {}", values.join(", ")))
        };
        let parts = [
            part("services", texts(&self.services)),
            part("environments", texts(&self.environments)),
            part("sets", texts(&self.sets)),
            part("kinds", self.kinds.clone()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.pad(&if parts.is_empty() {
            "everything".to_owned()
        } else {
            parts.join("; ")
        })
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A role to be declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRole {
    /// Its name.
    pub name: RoleName,
    /// What its holders may do; only to read, if nothing is said.
    #[serde(default = "only_read")]
    pub permissions: BTreeSet<Permission>,
    /// What it is limited to.
    #[serde(default)]
    pub scope: Scope,
    /// Take the place of one of this name that says something else.
    #[serde(default)]
    pub replace: bool,
}

fn only_read() -> BTreeSet<Permission> {
    BTreeSet::from([Permission::Read])
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// What its holders may do.
    pub permissions: BTreeSet<Permission>,
    /// What it is limited to.
    pub scope: Scope,
    /// Whether every installation has it, and it cannot be changed.
    pub built_in: bool,
    /// Who has it, of those whose tokens are valid.
    pub users: Vec<UserName>,
    /// Who declared it, or changed it last; nobody where it is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ServicePattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        let matches = |text: &str, name: &str| pattern(text).matches(&name.parse().unwrap());
        assert!(matches("web", "web"));
        assert!(!matches("web", "web-2"));
        assert!(matches("web-*", "web-2"));
        assert!(
            !matches("web-*", "web"),
            "the hyphen is part of the beginning"
        );
        assert!(matches("*", "anything"));
        for wrong in ["", "We*", "a*b", "**", "-*", "a b*"] {
            assert!(wrong.parse::<ServicePattern>().is_err(), "{wrong}");
        }
        assert_eq!(pattern("web-*").to_string(), "web-*");
    }

    #[test]
    fn a_pattern_covers_what_it_matches_and_no_more() {
        assert!(pattern("web*").covers(&pattern("web-*")));
        assert!(pattern("web-*").covers(&pattern("web-2")));
        assert!(!pattern("web-*").covers(&pattern("web*")));
        assert!(!pattern("web").covers(&pattern("web*")));
        assert!(pattern("web").covers(&pattern("web")));
    }

    #[test]
    fn each_permission_has_one_name_everywhere() {
        for permission in Permission::ALL {
            let json = serde_json::to_value(permission).unwrap();
            assert_eq!(json, permission.name());
            assert_eq!(permission.name().parse(), Ok(permission));
        }
        assert!("root".parse::<Permission>().unwrap_err().contains("access"));
    }

    #[test]
    fn a_role_of_which_nothing_is_said_only_reads() {
        let role: NewRole = serde_json::from_str(r#"{"name": "release-manager"}"#).unwrap();
        assert_eq!(role.permissions, only_read());
        assert!(role.scope.is_everything());
        assert!(
            serde_json::from_str::<NewRole>(r#"{"name": "x", "scope": {"teams": []}}"#).is_err()
        );
    }
}
