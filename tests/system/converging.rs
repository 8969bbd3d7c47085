//! Promise: every target becomes what is declared, and stays so, whatever somebody or something does
//! to it, without anybody pushing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::archive;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::wait::{PATIENCE, expect, until, wait_for};

/// How often a workload is killed.
const KILLS: usize = 5;

#[test]
fn a_killed_workload_is_back_within_a_second_though_the_coordinator_is_gone() {
    let mut fleet = Fleet::start();
    // With the restart rule that a service has when it says nothing about it.
    let restart = "    restart: {policy: always, backoff: {initial: 100ms, max: 1s}}\n";
    let web = sleeper("web");
    let plain = web.replace(restart, "");
    assert_ne!(web, plain);
    fleet.apply(&[ENVIRONMENTS, &plain].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    fleet.coordinator.kill9();

    let agent = fleet.agent("staging-1");
    let before = agent.one("web");
    let began = Instant::now();
    before.kill9();
    until("another process has taken its place", || {
        agent.workload("web").into_iter().find(|one| *one != before)
    });
    let first = began.elapsed();
    println!("killed process to running again: {} ms", first.as_millis());
    assert!(
        first < Duration::from_secs(1),
        "the promise is one second: {first:?}"
    );
    // One that goes on dying is started again, too, though not as soon.
    for _ in 1..KILLS {
        let before = agent.one("web");
        before.kill9();
        until("another process has taken its place", || {
            agent.workload("web").into_iter().find(|one| *one != before)
        });
    }
    let status = fleet.wait_agent("staging-1");
    assert_eq!(status["connected"], false);
    assert_eq!(status["workloads"][0]["release"], "1.0.0", "{status}");
}

#[test]
fn targets_that_join_during_and_after_a_rollout_converge_with_no_push() {
    let mut fleet = Fleet::start();
    let slow = ENVIRONMENTS.replace("soak: 200ms", "soak: 1500ms");
    fleet.apply(&[&slow, &sleeper("web")].map(String::as_str).join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet.join("production-2", "production", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "production", "1.0.0");

    fleet.release("web", "2.0.0", &[]);
    fleet.wait_phase(("web", "staging"), "2.0.0", Phase::Verifying);
    fleet.join("staging-2", "staging", &[]);
    fleet.wait_phase(("web", "production"), "2.0.0", Phase::Rolling);
    fleet.join("production-3", "production", &[]);
    fleet.wait_stable("web", "staging", "2.0.0");
    fleet.wait_stable("web", "production", "2.0.0");
    let settled = [
        "staging-1",
        "staging-2",
        "production-1",
        "production-2",
        "production-3",
    ];
    let processes: Vec<_> = settled.map(|name| runs(&fleet, name, "2.0.0")).into();

    fleet.join("staging-3", "staging", &[]);
    fleet.join("production-4", "production", &[]);
    for late in ["staging-3", "production-4"] {
        runs(&fleet, late, "2.0.0");
        fleet.wait_converged(late);
    }
    // Nobody pushed anything, and nobody else was disturbed.
    for environment in ["staging", "production"] {
        let versions: Vec<String> = fleet
            .history("web", environment)
            .unwrap()
            .iter()
            .map(|one| one.version.to_string())
            .collect();
        assert_eq!(versions, ["1.0.0", "2.0.0"], "{environment}");
    }
    let now: Vec<_> = settled.map(|name| fleet.agent(name).one("web")).into();
    assert_eq!(now, processes);
    let counts = fleet.status("web", "production").unwrap().targets;
    assert_eq!((counts.total, counts.ready), (4, 4), "{counts:?}");
}

/// The one process of `web` on a target, once it has that version.
fn runs(fleet: &Fleet, target: &str, version: &str) -> holdfast_tests::process::Process {
    wait_for(&format!("{target} runs {version}"), PATIENCE, || {
        let found = fleet.agent(target).workload("web");
        let versions: Vec<_> = found.iter().map(|one| one.variable("RELEASE")).collect();
        expect(versions == [Some(version.to_owned())], &versions)?;
        found.first().copied().ok_or_else(String::new)
    })
}

fn site(root: &Path) -> String {
    format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: site, owner: team-web}}
spec:
  artifacts: {{site: {{file: site.tar.gz}}}}
  runtime: static
  template: {{path: \"{}/{{{{ target.name }}}}/site\"}}
",
        root.display()
    )
}

#[test]
fn what_a_hand_does_to_a_static_site_is_undone_with_and_without_a_coordinator() {
    let mut fleet = Fleet::start();
    let root = fleet.directory().join("www");
    fleet.apply(&[ENVIRONMENTS, &site(&root)].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("site", "1.0.0", &[("site", &archive::site("1.0.0"))]);
    fleet.wait_stable("site", "staging", "1.0.0");
    let link = root.join("staging-1/site");
    let page = || fs::read_to_string(link.join("index.html")).unwrap_or_default();
    assert_eq!(page(), "<h1>1.0.0</h1>\n");
    let right = fs::read_link(&link).unwrap();
    let mended = |what: &str| {
        let began = Instant::now();
        wait_for(what, PATIENCE, || {
            let seen = (fs::read_link(&link).ok(), page());
            expect(
                seen == (Some(right.clone()), "<h1>1.0.0</h1>\n".to_owned()),
                seen,
            )
        });
        println!("{what}: {} ms", began.elapsed().as_millis());
    };
    for coordinator in ["with a coordinator", "without one"] {
        fs::remove_file(&link).unwrap();
        symlink("/etc", &link).unwrap();
        mended(&format!(
            "a link that leads elsewhere is led back, {coordinator}"
        ));
        fs::remove_file(&link).unwrap();
        mended(&format!(
            "a link that was removed is there again, {coordinator}"
        ));
        fleet.coordinator.kill9();
    }
    // What lies behind the link is looked at now and then, not watched.
    fs::write(link.join("index.html"), "defaced").unwrap();
    mended("a page that was edited is as released, without one");
}
