//! `examples/policies`: three owners with a set each, and rules over all.

use super::Example;

#[test]
fn every_owner_keeps_to_its_set_and_rules_hold_for_the_result() {
    let mut example = Example::of("policies");
    example.step(1);
    let seen = example.step(2);
    assert!(seen.contains("exit code 4\nexit code 65"), "{seen}");
    assert!(
        seen.contains("team-web is limited to sets team-web"),
        "{seen}"
    );
    assert!(
        seen.contains("nobody-is-down is in input set security already"),
        "{seen}"
    );
    let seen = example.step(3);
    let rule = "web in production violates policy production-rules of security: \
                production listens on no low port";
    assert!(
        seen.contains("exit code 65") && seen.contains(rule),
        "{seen}"
    );
    assert_eq!(
        example.items("get revisions").len(),
        3,
        "nothing was changed"
    );

    let seen = example.step(4);
    assert!(seen.contains("locked by produ"), "{seen}");
    let words = ["explain", "web", "-e", "production", "-o", "json"];
    let told = example.fleet.operator(&words).json();
    let fields = told["fields"].as_array().unwrap();
    let field = |path: &str| fields.iter().find(|field| field["path"] == path).unwrap();
    let locked = field("rollout.onFailure");
    assert_eq!(
        (&locked["value"], &locked["owner"]),
        (&"\"rollback\"".into(), &"security".into())
    );

    let seen = example.step(5);
    let why = "forbidden by policy production-rules: a release for production names";
    assert!(seen.contains(why), "{seen}");
    let history = example.items("history web -e production");
    let phases = history.iter().map(|one| one["phase"].as_str().unwrap());
    assert_eq!(phases.collect::<Vec<_>>(), ["Rejected", "Stable"]);
    example.is_whole();
}
