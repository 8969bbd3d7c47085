//! `examples/saas`: approvals by real users, a quarterly window, a mirror that also goes back.

use super::Example;

/// A quarter begins at eight in the morning in Berlin, which is six or seven o'clock UTC.
const OPENS: [&str; 4] = [
    "-01-01 07:00",
    "-04-01 06:00",
    "-07-01 06:00",
    "-10-01 06:00",
];

#[test]
fn customers_take_releases_by_their_own_rules() {
    let mut example = Example::of("saas");
    example.step(1);
    let seen = example.step(2);
    assert!(seen.contains("ended by: holdfast approve 2"), "{seen}");
    assert!(seen.contains("exit code 4"), "{seen}");
    assert!(seen.contains("it is for release-manager"), "{seen}");
    let one = &example.items("history app -e production")[0];
    let passed = &one["protections"][0];
    assert_eq!(passed["name"], "release-approved", "{one}");
    assert!(passed["output"].as_str().unwrap().contains("ada"), "{one}");

    let seen = example.step(3);
    let (before, after) = seen
        .split_once("is approved on app@customer-a by carl")
        .unwrap();
    assert!(before.contains("no approval by customer-a yet"), "{seen}");
    for part in [before, after] {
        let opens = |at: &&str| part.contains(*at) && part.contains("ends by itself in ");
        assert!(OPENS.iter().any(opens), "{seen}");
    }
    let (_, timeline) = after.split_once("--hotfix --reason WHY\n").unwrap();
    let there = timeline
        .lines()
        .find(|line| line.contains("ready on customer-a-1"));
    assert!(
        there.is_some_and(|line| line.contains("app@customer-a")),
        "{timeline}"
    );
    assert!(OPENS.iter().any(|at| timeline.contains(at)), "{timeline}");

    let seen = example.step(4);
    assert!(seen.contains("customer-b-1  process  yes"), "{seen}");
    let seen = example.step(5);
    assert!(seen.contains("app@production goes back to 1.0.0"), "{seen}");
    let wanted = &example.items("status app -e customer-b")[0]["wanted"];
    assert_eq!(
        wanted["version"], "1.0.0",
        "the mirror goes back, too: {wanted}"
    );
    example.types("holdfast approve 11 --token-file ada.token");
    example.fleet.wait_stable("app", "customer-b", "1.0.0");
    example.is_whole();
}
