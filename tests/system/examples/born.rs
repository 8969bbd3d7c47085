//! `examples/born`: targets and an environment that come while something else is going on.

use std::fs;

use holdfast_tests::wait::{PATIENCE, expect, wait_for};

use super::Example;

#[test]
fn what_is_born_in_the_middle_of_a_rollout_takes_its_place() {
    let mut example = Example::of("born");
    example.step(1);
    example.step(2);
    wait_for("those that joined have what is stable", PATIENCE, || {
        let status = example.fleet.status("web", "production")?;
        expect(status.targets.ready == 3, &status)
    });
    let seen = example.step(3);
    assert!(
        seen.contains("web      production   1.0     2.0      Rolling"),
        "{seen}"
    );
    example.step(4);
    let history = example.items("history web -e production");
    assert_eq!(
        history.len(),
        2,
        "the rollout was not begun anew: {history:?}"
    );
    assert_eq!(history[1]["targets"]["ready"], 4, "{}", history[1]);

    let seen = example.step(5);
    assert!(seen.contains("+ Environment europe"), "{seen}");
    let born = fs::read_to_string(example.folder.join("manifests/europe.yaml")).unwrap();
    assert!(born.contains("after: [production]"), "{born}");
    example.fleet.wait_stable("config", "europe", "1.0");
    example.fleet.wait_stable("web", "europe", "2.0");
    let history = example.items("history web -e europe");
    assert_eq!(history.len(), 1, "straight to what is proven: {history:?}");
    example.is_whole();
}
