//! What roles allow, and what they do not.

use super::*;

/// Somebody with these roles: name, permissions, limits as JSON.
pub(super) fn caller(roles: &[(&str, &[Permission], &str)]) -> Caller {
    let grants: Vec<Grant> = roles
        .iter()
        .map(|(name, permissions, scope)| Grant {
            role: name.parse().unwrap(),
            permissions: permissions.iter().copied().collect(),
            scope: serde_json::from_str(scope).unwrap(),
        })
        .collect();
    Caller {
        name: "ada".to_owned(),
        roles: grants.iter().map(|grant| grant.role.clone()).collect(),
        permissions: grants
            .iter()
            .flat_map(|grant| grant.permissions.clone())
            .collect(),
        grants,
        token_hash: Digest::of(b"token"),
        expires_at: None,
    }
}

fn track(service: &str, environment: &str) -> TrackName {
    TrackName {
        service: service.parse().unwrap(),
        environment: environment.parse().unwrap(),
    }
}

const WEB_IN_STAGING: &str = r#"{"services": ["web-*"], "environments": ["staging"]}"#;

#[test]
fn a_role_allows_what_it_says_where_it_says_so() {
    let dev = caller(&[("dev", &[Permission::Deploy], WEB_IN_STAGING)]);
    let may = |on: Subject| allows(&dev, &Action::new(Permission::Deploy, on));
    assert!(may(Subject::track(&track("web-shop", "staging"))).is_ok());
    for outside in [
        Subject::track(&track("api", "staging")),
        Subject::track(&track("web-shop", "production")),
        Subject::service(&"web-shop".parse().unwrap()),
        Subject::environment(&"staging".parse().unwrap()),
        Subject::everything(),
    ] {
        let refused = may(outside.clone()).unwrap_err();
        assert_eq!(refused.code, Code::Forbidden);
        assert!(
            refused
                .detail
                .contains("dev is limited to services web-*; environments staging"),
            "{outside:?}: {}",
            refused.detail
        );
    }
}

#[test]
fn two_roles_are_not_mixed_into_a_wider_one() {
    let both = caller(&[
        ("web", &[Permission::Deploy], r#"{"services": ["web"]}"#),
        ("all", &[Permission::Read], "{}"),
        (
            "staging",
            &[Permission::Deploy],
            r#"{"environments": ["staging"]}"#,
        ),
    ]);
    let may = |service, environment| {
        let on = Subject::track(&track(service, environment));
        allows(&both, &Action::new(Permission::Deploy, on)).is_ok()
    };
    assert!(may("web", "production"));
    assert!(may("api", "staging"));
    assert!(!may("api", "production"));
}

#[test]
fn a_missing_permission_is_named() {
    let viewer = caller(&[("viewer", &[Permission::Read], "{}")]);
    for permission in Permission::ALL {
        let action = Action::new(permission, Subject::default());
        match allows(&viewer, &action) {
            Ok(()) => assert_eq!(permission, Permission::Read),
            Err(refused) => assert_eq!(
                refused.detail,
                format!("ada may not do this: it needs the permission {permission}")
            ),
        }
    }
}

#[test]
fn a_role_that_is_asked_for_by_name_counts_where_it_reaches() {
    let manager: RoleName = "release-manager".parse().unwrap();
    let limited = r#"{"environments": ["production"]}"#;
    let ada = caller(&[("release-manager", &[Permission::Read], limited)]);
    let approve = |environment| {
        let on = Subject::track(&track("web", environment));
        let action = Action::new(Permission::Approve, on);
        allows_or_holds(&ada, &action, std::slice::from_ref(&manager))
    };
    assert!(approve("production").is_ok());
    let refused = approve("staging").unwrap_err();
    assert!(
        refused.detail.contains("it is for release-manager"),
        "{}",
        refused.detail
    );
    assert_eq!(ada.roles_on(&track("web", "production")), [manager]);
    assert_eq!(ada.roles_on(&track("web", "staging")), []);
    let asked = ["sre".parse().unwrap()];
    let web = track("web", "production");
    assert_eq!(
        ada.approves_as(&web, &asked),
        ada.roles,
        "in no role that she does not have"
    );
    let operator = caller(&[("operator", &[Permission::Approve], "{}")]);
    let whichever = operator.approves_as(&web, &asked);
    assert_eq!(whichever, ["operator".parse().unwrap(), asked[0].clone()]);
    let action = Action::new(
        Permission::Approve,
        Subject::track(&track("web", "staging")),
    );
    assert!(allows_or_holds(&operator, &action, &[]).is_ok());
}
