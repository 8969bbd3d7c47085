//! `examples/jobs`: a migration that runs once, and a service that waits for it.

use super::Example;

#[test]
fn a_service_waits_for_its_migration_which_runs_once_on_one_target() {
    let mut example = Example::of("jobs");
    example.step(1);
    let seen = example.step(2);
    assert!(
        seen.contains("migrate has no stable release in production yet"),
        "{seen}"
    );
    let seen = example.step(3);
    let runs = seen
        .lines()
        .filter(|line| line.contains("| migrating to 1.0"));
    assert_eq!(runs.count(), 1, "once, on one target: {seen}");
    assert_eq!(example.items("where web").len(), 2, "{seen}");
    let job = &example.items("history migrate")[0]["targets"];
    assert_eq!(
        (&job["ready"], &job["total"]),
        (&1.into(), &1.into()),
        "{job}"
    );

    let seen = example.step(4);
    assert!(seen.contains("exit code 7"), "{seen}");
    let logs = example.types("holdfast logs migrate -e production");
    assert_eq!(
        logs.matches("migrating to 2.0-bad").count(),
        2,
        "tried twice: {logs}"
    );
    assert!(
        seen.contains("dependency migrate: migrate is halted in production"),
        "{seen}"
    );
    assert!(
        seen.contains("ended by: holdfast retry migrate -e production"),
        "{seen}"
    );
    let web = example.fleet.status("web", "production").unwrap();
    assert_eq!(
        web.stable.map(|stable| stable.version.to_string()),
        Some("1.0".to_owned())
    );
    example.step(5);
    example.fleet.wait_stable("web", "production", "2.0");
    example.is_whole();
}
