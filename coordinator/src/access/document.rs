//! Which documents somebody may apply. A set that touches one document outside is refused whole.

use std::collections::BTreeSet;

use holdfast_engine::manifest::kinds::Kind;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::apply::{Change, ChangeAction};
use holdfast_protocol::api::role::Permission;
use holdfast_protocol::name::{EnvironmentName, InputSetName};

use super::{Action, Caller, Reach, Subject, allows};
use crate::event::Refused;

/// Most documents that a refusal names; of more, how many.
const NAMED_MAX: usize = 100;

/// Whether the caller may change these documents of an input set.
///
/// # Errors
/// [`Refused`] that names each document that the caller may not change.
pub fn allows_changes(
    caller: &Caller,
    set: &InputSetName,
    changes: &[Change],
) -> Result<(), Refused> {
    let outside = |change: &&Change| !subjects(set, change).all(|on| may(caller, on));
    let named = |change: &Change| format!("{} {}", change.kind, change.name);
    let outside: Vec<String> = changes.iter().filter(outside).map(named).collect();
    if outside.is_empty() {
        // Whoever may apply nothing in this set is told so, even if nothing would change.
        return allows(caller, &Action::new(Permission::Apply, set_alone(set)));
    }
    let count = outside.len();
    let mut list = outside.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>();
    if count > NAMED_MAX {
        list.push(format!("and {} more", count - NAMED_MAX));
    }
    let documents = if count == 1 {
        "1 document"
    } else {
        &format!("{count} documents")
    };
    let detail = format!(
        "{} may not change {documents} of input set {set}: {}; nothing was changed",
        caller.name,
        list.join(", ")
    );
    Err(Refused::new(Code::Forbidden, detail)
        .help("holdfast whoami says what your roles are limited to"))
}

fn may(caller: &Caller, on: Subject) -> bool {
    allows(caller, &Action::new(Permission::Apply, on)).is_ok()
}

fn set_alone(set: &InputSetName) -> Subject {
    Subject {
        set: Reach::One(set.clone()),
        ..Subject::default()
    }
}

/// What changing a document is done to: its set and kind, and what it reaches. Kinds that are not
/// about one service or one environment reach everything.
fn subjects(set: &InputSetName, change: &Change) -> impl Iterator<Item = Subject> {
    let place = |service, environment| Subject {
        service,
        environment,
        set: Reach::One(set.clone()),
        kind: Reach::One(change.kind.clone()),
    };
    let of = |kind: Kind| change.kind == kind.name();
    let places = if of(Kind::Service) {
        let service = || named(&change.name);
        let reached = overrides(change);
        match reached {
            None => vec![place(service(), Reach::All)],
            Some(environments) => environments
                .into_iter()
                .map(|one| place(service(), Reach::One(one)))
                .collect(),
        }
    } else if of(Kind::Environment) {
        vec![place(Reach::All, named(&change.name))]
    } else {
        vec![place(Reach::All, Reach::All)]
    };
    places.into_iter()
}

fn named<T: std::str::FromStr>(name: &str) -> Reach<T> {
    name.parse().map_or(Reach::All, Reach::One)
}

/// The environments whose overrides are all that differs in a service; none when more does.
fn overrides(change: &Change) -> Option<BTreeSet<EnvironmentName>> {
    match change.action {
        ChangeAction::Added | ChangeAction::Removed => None,
        ChangeAction::Changed => change
            .fields
            .iter()
            .map(|field| override_of(field))
            .collect(),
    }
}

/// The environment of `spec.environments.staging.vars.port: 1 -> 2`.
fn override_of(field: &str) -> Option<EnvironmentName> {
    let inside = field.strip_prefix("spec.environments.")?;
    let end = inside.find(['.', ':', '['])?;
    inside[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::caller;

    fn change(kind: &str, name: &str, fields: &[&str]) -> Change {
        let action = if fields.is_empty() {
            ChangeAction::Added
        } else {
            ChangeAction::Changed
        };
        Change {
            kind: kind.to_owned(),
            name: name.to_owned(),
            action,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        }
    }

    fn check(scope: &str, set: &str, changes: &[Change]) -> Result<(), String> {
        let caller = caller(&[("dev", &[Permission::Apply], scope)]);
        allows_changes(&caller, &set.parse().unwrap(), changes).map_err(|refused| refused.detail)
    }

    #[test]
    fn every_document_outside_is_named_and_one_is_enough() {
        let changes = [
            change("Service", "web-shop", &[]),
            change("Service", "api", &[]),
            change("Environment", "staging", &["spec.vars.x: 1 -> 2"]),
        ];
        let refused = check(r#"{"services": ["web-*"]}"#, "default", &changes).unwrap_err();
        assert_eq!(
            refused,
            "ada may not change 2 documents of input set default: Service api, Environment \
             staging; nothing was changed"
        );
        assert_eq!(
            check(r#"{"services": ["web-*"]}"#, "default", &changes[..1]),
            Ok(())
        );
        assert_eq!(check("{}", "default", &changes), Ok(()));
    }

    #[test]
    fn another_set_is_refused_even_when_nothing_changes_in_it() {
        let scope = r#"{"sets": ["team-web"]}"#;
        assert_eq!(
            check(scope, "team-web", &[change("Policy", "p", &[])]),
            Ok(())
        );
        let refused = check(scope, "platform", &[]).unwrap_err();
        assert!(refused.contains("input set platform"), "{refused}");
    }

    #[test]
    fn a_service_belongs_to_an_environment_only_as_far_as_its_overrides_do() {
        let scope = r#"{"environments": ["staging"]}"#;
        let own = [
            "spec.environments.staging.vars.port: 1 -> 2",
            "spec.environments.staging.pin: 1 -> 2",
        ];
        assert_eq!(
            check(scope, "default", &[change("Service", "web", &own)]),
            Ok(())
        );
        for more in [
            "spec.environments.production.vars.port: 1 -> 2",
            "spec.environments.stagingx.vars.port: 1 -> 2",
            "spec.vars.port: 1 -> 2",
            "spec.environments: {} -> (none)",
            "metadata.owner: a -> b",
        ] {
            let fields = [own[0], more];
            assert!(
                check(scope, "default", &[change("Service", "web", &fields)]).is_err(),
                "{more}"
            );
        }
        assert!(check(scope, "default", &[change("Service", "web", &[])]).is_err());
        assert_eq!(
            check(scope, "default", &[change("Environment", "staging", &[])]),
            Ok(())
        );
        assert!(
            check(
                scope,
                "default",
                &[change("Environment", "production", &[])]
            )
            .is_err()
        );
    }

    #[test]
    fn a_role_may_be_limited_to_kinds_of_document() {
        let scope = r#"{"kinds": ["Service"]}"#;
        assert_eq!(
            check(scope, "default", &[change("Service", "web", &[])]),
            Ok(())
        );
        assert!(check(scope, "default", &[change("Environment", "staging", &[])]).is_err());
    }

    #[test]
    fn without_the_permission_nothing_may_be_applied() {
        let caller = caller(&[("viewer", &[Permission::Read], "{}")]);
        let refused = allows_changes(&caller, &"default".parse().unwrap(), &[]).unwrap_err();
        assert!(
            refused.detail.contains("permission apply"),
            "{}",
            refused.detail
        );
    }
}
