//! `examples/train`: a release train over four stages, three releases in flight, the middle one failing.

use std::collections::BTreeSet;

use holdfast_tests::wait::{PATIENCE, expect, wait_for};

use super::Example;

#[test]
fn three_releases_are_in_flight_and_the_middle_one_is_left_behind() {
    let mut example = Example::of("train");
    example.step(1);
    example.step(2);
    example.step(3);
    wait_for("three releases are on their way at once", PATIENCE, || {
        let tracks = example.items("status ledger");
        let going = tracks.iter().map(|track| &track["current"]);
        let going = going.filter(|current| current["phase"] != "Stable");
        let versions: BTreeSet<&str> = going.filter_map(|one| one["version"].as_str()).collect();
        expect(versions.len() == 3, &versions)
    });
    let seen = example.step(4);
    assert!(
        seen.contains("ledger in preproduction waits for nothing"),
        "{seen}"
    );
    example.step(5);

    let history = example.items("history ledger");
    let of = |stage: &str| -> Vec<(&str, &str)> {
        let here = history.iter().filter(|one| one["environment"] == stage);
        here.map(|one| {
            (
                one["version"].as_str().unwrap(),
                one["phase"].as_str().unwrap(),
            )
        })
        .collect()
    };
    let good = |version| (version, "Stable");
    let all = [good("1.0"), good("1.1"), good("1.2-bad"), good("1.3")];
    for stage in ["integration", "test"] {
        assert_eq!(of(stage), all, "one record each, in order");
    }
    let mut left = all;
    left[2].1 = "RolledBack";
    assert_eq!(of("preproduction"), left);
    assert_eq!(of("production"), [all[0], all[1], all[3]]);
    let counts = history.iter().filter(|one| one["phase"] == "Stable");
    for one in counts {
        assert_eq!(
            one["targets"]["ready"], 1,
            "it is remembered as it stood: {one}"
        );
    }
    let failed = history
        .iter()
        .find(|one| one["phase"] == "RolledBack")
        .unwrap();
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .starts_with("1.1 is back after"),
        "{failed}"
    );
    example.is_whole();
}
