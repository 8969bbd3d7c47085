//! Promise: what is declared is what is. Applying the same again changes nothing; what is wrong
//! changes nothing either; what somebody else owns is not touched; what goes away is asked about.

use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest;

#[test]
fn a_release_comes_to_staging_and_then_to_production() {
    let mut fleet = Fleet::start();
    fleet.apply(&[manifest::ENVIRONMENTS, &manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet.join("production-2", "production", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    fleet.wait_stable("web", "production", "1.0.0");
    for (name, agent) in fleet.agents() {
        let process = agent.one("web");
        assert_eq!(
            process.variable("RELEASE").as_deref(),
            Some("1.0.0"),
            "{name}"
        );
    }
    let order = fleet.history("web", "production").unwrap();
    let staging = fleet.history("web", "staging").unwrap();
    assert!(order[0].started_at >= staging[0].finished_at.unwrap());
    fleet.assert_record_holds();
}
