//! `examples/shops`: many targets in waves by region, some away, two broken.

use std::collections::BTreeMap;

use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use serde_json::Value;

use super::Example;

#[test]
fn shops_that_are_away_or_broken_hold_up_no_region() {
    let mut example = Example::of("shops");
    example.step(1);
    example.step(2);
    wait_for("every shop sells with 1.0", PATIENCE, || {
        let status = example.fleet.status("till", "shops")?;
        expect(status.targets.ready == 24, &status)
    });
    example.step(3);
    let seen = example.step(4);
    assert!(seen.contains("wave        4 of 4"), "{seen}");
    assert!(seen.contains("3 targets away"), "{seen}");
    assert!(seen.contains("west-5, west-6 becoming ready"), "{seen}");
    let rollout = &example.items("history till")[1];
    assert_eq!(rollout["phase"], "Stable", "{rollout}");
    let counts = &rollout["targets"];
    assert_eq!(
        [
            &counts["total"],
            &counts["ready"],
            &counts["failed"],
            &counts["disconnected"]
        ],
        [24, 19, 2, 3],
        "{counts}"
    );

    example.step(5);
    wait_for("those that returned have 2.0", PATIENCE, || {
        let places = example.items("where till");
        let runs: BTreeMap<&str, (&Value, &Value)> = places
            .iter()
            .map(|one| {
                (
                    one["target"].as_str().unwrap(),
                    (&one["version"], &one["ready"]),
                )
            })
            .collect();
        let back = ["north-2", "east-2", "south-2"].map(|name| runs.get(name).copied());
        let there = back.iter().flatten();
        let ready = there.filter(|one| (one.0, one.1) == (&"2.0".into(), &true.into()));
        expect(ready.count() == 3, back)
    });
    let history = example.items("history till");
    assert_eq!(history.len(), 2, "nobody had to begin anything anew");
    example.is_whole();
}
