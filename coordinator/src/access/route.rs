//! What each route of the API needs: one rule a route. Whoever adds a route adds its rule here; one
//! without a rule is refused, and a test finds it.

use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;

use super::role::BuiltIn;
use super::{Action, Caller, Reach, Subject, allows};
use crate::event::Refused;
use crate::world::World;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A valid token.
    Known,
    /// A permission, on what the path names.
    Needs(Permission, About),
    /// The permission to approve, or any declared role: which one it takes is said by what is
    /// approved, so the endpoint asks [`super::allows_or_holds`] or hands the caller's roles on.
    Named,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Nothing that roles are limited to.
    Nothing,
    /// Nothing: the body, or what is stored, says what it is done to. The endpoint asks [`allows`]
    /// once it has that.
    Inside,
    /// The whole installation.
    Everything,
    /// The service `{name}`.
    Service,
    /// The track `{service}`, `{environment}`.
    Track,
    /// The environment of the target `{name}`.
    Target,
    /// The environment of the join token `{id}`.
    Token,
    /// The tracks that the revision `{number}` removes.
    Revision,
}

use About::{Everything, Inside, Nothing, Revision, Service, Target, Token, Track};
use Permission::{Access, Apply, Deploy, Read, Release};
use Rule::{Known, Needs};

/// Looking, at whatever it is.
const LOOK: Rule = Needs(Read, Nothing);

/// The rule of each route, by method and path.
pub const RULES: &[(&str, &str, Rule)] = &[
    ("GET", "/v1/whoami", Known),
    ("POST", "/v1/apply", Needs(Apply, Inside)),
    ("POST", "/v1/plan", LOOK),
    ("POST", "/v1/simulate", LOOK),
    ("GET", "/v1/sets/{name}", LOOK),
    ("GET", "/v1/revisions", LOOK),
    (
        "POST",
        "/v1/revisions/{number}/confirm",
        Needs(Apply, Revision),
    ),
    ("GET", "/v1/environments", LOOK),
    ("GET", "/v1/environments/{name}", LOOK),
    ("GET", "/v1/services", LOOK),
    ("GET", "/v1/services/{name}", LOOK),
    (
        "POST",
        "/v1/services/{name}/releases",
        Needs(Release, Service),
    ),
    ("GET", "/v1/releases", LOOK),
    ("HEAD", "/v1/artifacts/{digest}", Needs(Release, Nothing)),
    ("PUT", "/v1/artifacts/{digest}", Needs(Release, Nothing)),
    ("GET", "/v1/protections", LOOK),
    ("GET", "/v1/policies", LOOK),
    ("GET", "/v1/notifiers", LOOK),
    ("GET", "/v1/targets", LOOK),
    ("GET", "/v1/targets/{name}", LOOK),
    (
        "POST",
        "/v1/targets/{name}/revoke",
        Needs(Permission::Target, Target),
    ),
    (
        "POST",
        "/v1/targets/{name}/resume",
        Needs(Permission::Target, Target),
    ),
    (
        "PATCH",
        "/v1/targets/{name}/labels",
        Needs(Permission::Target, Target),
    ),
    ("GET", "/v1/deployments", LOOK),
    ("GET", "/v1/deployments/{id}", LOOK),
    ("POST", "/v1/deployments/{id}/{verb}", Rule::Named),
    ("GET", "/v1/history", LOOK),
    ("GET", "/v1/status", LOOK),
    ("GET", "/v1/why", LOOK),
    ("GET", "/v1/explain", LOOK),
    ("GET", "/v1/where", LOOK),
    ("GET", "/v1/where/ever", LOOK),
    ("GET", "/v1/diff", LOOK),
    (
        "POST",
        "/v1/tracks/{service}/{environment}/{verb}",
        Needs(Deploy, Track),
    ),
    ("GET", "/v1/freezes", LOOK),
    ("POST", "/v1/freezes", Needs(Deploy, Inside)),
    (
        "POST",
        "/v1/freezes/{environment}/end",
        Needs(Deploy, Inside),
    ),
    ("GET", "/v1/logs", LOOK),
    ("GET", "/v1/events", LOOK),
    ("GET", "/v1/audit", LOOK),
    ("POST", "/v1/tokens", Needs(Permission::Target, Inside)),
    ("GET", "/v1/tokens", LOOK),
    (
        "DELETE",
        "/v1/tokens/{id}",
        Needs(Permission::Target, Token),
    ),
    ("POST", "/v1/secrets", Needs(Permission::Secret, Inside)),
    ("GET", "/v1/secrets", LOOK),
    (
        "DELETE",
        "/v1/secrets/{environment}/{name}",
        Needs(Permission::Secret, Inside),
    ),
    (
        "POST",
        "/v1/secrets/rekey",
        Needs(Permission::Secret, Everything),
    ),
    ("GET", "/v1/ca", LOOK),
    ("GET", "/v1/users", LOOK),
    ("GET", "/v1/users/{name}", LOOK),
    ("POST", "/v1/users", Needs(Access, Everything)),
    ("DELETE", "/v1/users/{name}", Needs(Access, Everything)),
    ("POST", "/v1/users/{name}/rotate", Needs(Access, Everything)),
    ("PUT", "/v1/users/{name}/roles", Needs(Access, Everything)),
    ("GET", "/v1/roles", LOOK),
    ("GET", "/v1/roles/{name}", LOOK),
    ("POST", "/v1/roles", Needs(Access, Everything)),
    ("DELETE", "/v1/roles/{name}", Needs(Access, Everything)),
];

/// The rule of a route; `HEAD` is as `GET` where nothing else is said.
#[must_use]
pub fn rule(method: &str, path: &str) -> Option<Rule> {
    let of = |method: &str| {
        let mut rules = RULES.iter();
        let found = rules.find(|(m, p, _)| *m == method && *p == path);
        found.map(|(_, _, rule)| *rule)
    };
    of(method).or_else(|| if method == "HEAD" { of("GET") } else { None })
}

/// Whether there is a rule for another method of the same path.
#[must_use]
pub fn is_known(path: &str) -> bool {
    RULES.iter().any(|(_, known, _)| *known == path)
}

/// A request, as far as it is needed to say whether it may be done.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Hash of the token.
    pub token: Digest,
    /// The rule of the route.
    pub rule: Rule,
    /// The parts of the path, by name.
    pub parts: Vec<(String, String)>,
    /// When.
    pub now: Timestamp,
}

/// Who asks, if it may be done.
///
/// # Errors
/// [`Refused`]: nobody knows the token, or it does not allow this.
pub fn authorise(world: &World, asked: &Asked) -> Result<Caller, Refused> {
    let caller = world.caller(&asked.token, asked.now).ok_or_else(|| {
        Refused::new(Code::Unauthenticated, "no valid API token")
            .help("send Authorization: Bearer TOKEN; the first one is in DATA/admin.token")
    })?;
    match asked.rule {
        Known => Ok(()),
        Needs(permission, about) => actions(world, asked, permission, about)
            .iter()
            .try_for_each(|action| allows(&caller, action)),
        Rule::Named => may_be_asked(&caller),
    }?;
    Ok(caller)
}

/// Whether the caller could be somebody whom an approval asks for.
fn may_be_asked(caller: &Caller) -> Result<(), Refused> {
    if caller.roles.iter().any(|role| BuiltIn::of(role).is_none()) {
        return Ok(());
    }
    let approve = Action::new(Permission::Approve, Subject::default());
    allows(caller, &approve)
}

/// What a request is about to do. What is named and not there is left to the endpoint to miss.
fn actions(world: &World, asked: &Asked, permission: Permission, about: About) -> Vec<Action> {
    let subjects = match about {
        Nothing | Inside => Vec::new(),
        Everything => vec![Subject::everything()],
        Service => asked
            .part("name")
            .map(|name| Subject::service(&name))
            .into_iter()
            .collect(),
        Track => asked
            .track()
            .map(|track| Subject::track(&track))
            .into_iter()
            .collect(),
        Target => {
            let target = asked.part("name").and_then(|name| world.targets.get(&name));
            let environment = target.map(|target| Subject::environment(&target.kept.environment));
            environment.into_iter().collect()
        }
        Token => {
            let token = asked.text("id").and_then(|id| world.tokens.get(id));
            let environment = token.map(|token| Subject::environment(&token.about.environment));
            environment.into_iter().collect()
        }
        Revision => removed(world, asked.part("number")),
    };
    // The permission itself is needed in any case.
    let anywhere = Action::new(permission, Subject::default());
    let wanted = subjects.into_iter().map(|on| Action::new(permission, on));
    std::iter::once(anywhere).chain(wanted).collect()
}

/// The tracks that a revision removes. Which input set it was for is not kept here, so that a role
/// that is limited to some sets confirms nothing.
fn removed(world: &World, revision: Option<u64>) -> Vec<Subject> {
    let removals = world.removals.iter();
    let of = removals.filter(|(_, removal)| Some(removal.revision) == revision);
    of.map(|(track, _)| Subject {
        set: Reach::All,
        kind: Reach::All,
        ..Subject::track(track)
    })
    .collect()
}

impl Asked {
    fn text(&self, name: &str) -> Option<&str> {
        let mut parts = self.parts.iter();
        parts
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn part<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn track(&self) -> Option<TrackName> {
        Some(TrackName {
            service: self.part("service")?,
            environment: self.part("environment")?,
        })
    }
}
