//! Every route says what it needs, and whoever only looks can change nothing.

use std::collections::BTreeSet;

use axum::http::Method;
use holdfast_protocol::api::role::Permission;

use crate::access::role::BuiltIn;
use crate::access::route::{About, RULES, Rule, rule};
use crate::api::described;

/// Method and path of every route that is served behind the guard.
fn served() -> BTreeSet<(String, String)> {
    let (_, description) = described().split_for_parts();
    let mut served = BTreeSet::new();
    for (path, item) in description.paths.paths {
        let methods = [
            (Method::GET, &item.get),
            (Method::HEAD, &item.head),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        let there = methods.into_iter().filter(|(_, one)| one.is_some());
        served.extend(there.map(|(method, _)| (method.to_string(), path.clone())));
    }
    served
}

#[test]
fn every_route_has_one_rule_and_every_rule_its_route() {
    let rules: Vec<(String, String)> = RULES
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    let once: BTreeSet<_> = rules.iter().cloned().collect();
    assert_eq!(once.len(), rules.len(), "a route has two rules");
    assert!(served().len() > 40, "{:?}", served());
    assert_eq!(served(), once, "add what is missing to access/route.rs");
}

/// What changes nothing although it is no `GET`: it only asks.
const ONLY_ASK: [(&str, &str); 2] = [("POST", "/v1/plan"), ("POST", "/v1/simulate")];

#[test]
fn a_viewer_can_call_no_write() {
    let viewer = BuiltIn::Viewer.permissions();
    for (method, path) in served() {
        let asks = method == "GET" || ONLY_ASK.contains(&(method.as_str(), path.as_str()));
        let allowed = match rule(&method, &path).unwrap() {
            Rule::Known => true,
            Rule::Needs(permission, _) => viewer.contains(&permission),
            // Only declared roles are asked for by name.
            Rule::Named => false,
        };
        assert!(
            !allowed || asks,
            "{method} {path}: a viewer can change something"
        );
        assert!(
            allowed || method != "GET",
            "{method} {path}: a viewer cannot look"
        );
    }
}

#[test]
fn who_may_do_what_is_changed_by_administrators_alone() {
    let operator = BuiltIn::Operator.permissions();
    for (method, path, rule) in RULES {
        let access = path.starts_with("/v1/users") || path.starts_with("/v1/roles");
        if access && *method != "GET" {
            let expected = Rule::Needs(Permission::Access, About::Everything);
            assert_eq!(*rule, expected, "{method} {path}");
            assert!(!operator.contains(&Permission::Access));
        }
    }
}

#[test]
fn a_head_is_a_get_and_nothing_else_is_guessed() {
    assert_eq!(rule("HEAD", "/v1/status"), rule("GET", "/v1/status"));
    assert_eq!(rule("POST", "/v1/status"), None);
    assert_eq!(rule("GET", "/v1/nothing"), None);
}
