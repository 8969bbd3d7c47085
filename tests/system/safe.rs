//! Promise: nothing that goes wrong makes it worse. A broken release stops where it broke, and killed
//! programs go on where they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::target::Target;
use holdfast_tests::faults::Chance;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::process::Process;
use holdfast_tests::wait::{PAUSE, expect, holds_for, until};

const TARGETS: [(&str, &str); 3] = [
    ("staging-1", "staging"),
    ("production-1", "production"),
    ("production-2", "production"),
];
/// How often a program is killed, each time at a random moment.
const KILLS: u32 = 20;

/// A sleeper that notes each of its starts in `FOLDER/TARGET.starts`, and ends at once where there is a
/// file `FOLDER/broken-VERSION`, unless there is one `FOLDER/spared-TARGET`.
fn breakable(folder: &Path) -> String {
    let folder = folder.display();
    let script = format!(
        "echo $RELEASE >> {folder}/$TARGET.starts; [ -e {folder}/spared-$TARGET ] || \
         [ ! -e {folder}/broken-$RELEASE ] || exit 1; \
         exec /bin/sleep 100000"
    );
    sleeper("web")
        .replace("exec /bin/sleep 100000", &script)
        .replace(
            "environment: {",
            "environment: {TARGET: \"{{ target.name }}\", ",
        )
}

fn fleet_of_three(environments: &str) -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(&[environments, &breakable(fleet.directory())].join("---\n"));
    for (name, environment) in TARGETS {
        fleet.join(name, environment, &[]);
    }
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "production", "1.0.0");
    fleet
}

#[test]
fn a_broken_release_is_put_back_and_stays_back_until_a_person_tries_again() {
    let hasty = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 3s");
    let fleet = fleet_of_three(&hasty);
    let production = ["production-1", "production-2"];
    let before = production.map(|name| fleet.agent(name).one("web"));
    let generations = production.map(|name| fleet.wait_converged(name).generation);
    let untouched = || {
        let now = production.map(|name| fleet.target(name).map(|target| target.generation));
        let now = (now, before.iter().all(Process::lives));
        expect(now == (generations.map(Ok), true), &now)
    };

    fs::write(fleet.directory().join("broken-2.0.0"), "").unwrap();
    fleet.release("web", "2.0.0", &[]);
    let failed = fleet.wait_phase(("web", "staging"), "2.0.0", Phase::RolledBack);
    assert!(failed.reason.contains("staging-1"), "{}", failed.reason);
    let back = fleet.agent("staging-1").one("web");
    assert_eq!(back.variable("RELEASE").as_deref(), Some("1.0.0"));

    // Nothing that is not a person's decision brings it back.
    fleet.apply(
        &[&hasty, &breakable(fleet.directory())]
            .map(String::as_str)
            .join("---\n"),
    );
    fleet.coordinator.kill9();
    fleet.start_coordinator();
    fleet.agent("staging-1").program.restart();
    for (name, _) in TARGETS {
        fleet.wait_connected(name, true);
    }
    holds_for("the rollback sticks", Duration::from_secs(3), || {
        untouched()?;
        let history = fleet.history("web", "staging")?;
        expect(history.len() == 2 && back.lives(), &history)
    });
    assert_eq!(fleet.history("web", "production").unwrap().len(), 1);
    let why = fleet
        .operator(&["why", "web", "-e", "staging", "-o", "json"])
        .json();
    let wait = &why["items"][0];
    assert_eq!(wait["kind"], "failed", "{why}");
    assert!(wait["message"].as_str().unwrap().contains("2.0.0"), "{why}");
    let retry = wait["endsBy"][0].as_str().unwrap();
    assert_eq!(retry, "holdfast retry web -e staging");

    // A person does what the wait says, after having mended it.
    fs::remove_file(fleet.directory().join("broken-2.0.0")).unwrap();
    let words: Vec<&str> = retry.split_whitespace().skip(1).chain(["--wait"]).collect();
    let _ = fleet.operator(&words).succeeds();
    fleet.wait_stable("web", "staging", "2.0.0");
    fleet.wait_stable("web", "production", "2.0.0");
    let history = fleet.history("web", "staging").unwrap();
    let phases: Vec<Phase> = history.iter().map(|one| one.phase).collect();
    assert_eq!(phases, [Phase::Stable, Phase::RolledBack, Phase::Stable]);
    fleet.assert_record_holds();
}

#[test]
fn a_release_that_breaks_in_the_first_wave_reaches_no_second_target() {
    let hasty = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 3s");
    let fleet = fleet_of_three(&hasty);
    fs::write(fleet.directory().join("spared-staging-1"), "").unwrap();
    fs::write(fleet.directory().join("broken-2.0.0"), "").unwrap();
    let before: BTreeMap<&str, Process> = TARGETS
        .map(|(name, _)| (name, fleet.agent(name).one("web")))
        .into();
    fleet.release("web", "2.0.0", &[]);
    fleet.wait_stable("web", "staging", "2.0.0");
    fleet.wait_phase(("web", "production"), "2.0.0", Phase::RolledBack);
    let kept = TARGETS
        .iter()
        .filter(|(name, environment)| *environment == "production" && before[name].lives());
    assert_eq!(
        kept.count(),
        1,
        "one target was tried, the other never touched"
    );
    for (name, _) in &TARGETS[1..] {
        let process = fleet.agent(name).one("web");
        assert_eq!(
            process.variable("RELEASE").as_deref(),
            Some("1.0.0"),
            "{name}"
        );
    }
    let starts: String = ["production-1", "production-2"]
        .map(|name| starts(&fleet, name).join(" "))
        .join(" / ");
    assert!(starts.contains("2.0.0"), "it was tried: {starts}");
}

#[test]
fn a_coordinator_that_is_killed_at_random_moments_of_a_rollout_reaches_the_same_end() {
    let fleet = fleet_of_three(ENVIRONMENTS);
    let mut chance = Chance::new("coordinator killed");
    let mut rollouts = Rollouts::new(&fleet);
    let mut highest: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut interrupted = 0;
    for kill in 1..=KILLS {
        rollouts.keep_going();
        thread::sleep(chance.span(Duration::from_millis(5), Duration::from_millis(1200)));
        interrupted += u32::from(!rollouts.is_over());
        fleet.coordinator.kill9();
        generations_only_grow(&fleet, &mut highest, kill);
        fleet.start_coordinator();
    }
    println!(
        "{interrupted} of {KILLS} kills fell into a rollout; versions {}",
        rollouts.newest
    );
    assert!(
        interrupted >= KILLS / 2,
        "the moments are moments of rollouts"
    );

    let last = rollouts.version();
    fleet.wait_stable("web", "staging", &last);
    fleet.wait_stable("web", "production", &last);
    generations_only_grow(&fleet, &mut highest, KILLS + 1);
    for (name, environment) in TARGETS {
        let process = fleet.agent(name).one("web");
        assert_eq!(
            process.variable("RELEASE").as_deref(),
            Some(last.as_str()),
            "{name}"
        );
        let each = starts(&fleet, name);
        let mut once = each.clone();
        once.dedup();
        assert_eq!(each, once, "{name} was given each version once");
        let history = fleet.history("web", environment).unwrap();
        let wrong = history
            .iter()
            .find(|one| !matches!(one.phase, Phase::Stable | Phase::Superseded));
        assert!(wrong.is_none(), "a kill fails no deployment: {wrong:?}");
    }
    fleet.assert_record_holds();
    let verified = fleet.operator(&["audit", "--verify"]).succeeds();
    println!("{verified}");
    let numbers: Vec<u64> = fleet.events().iter().map(|one| one.sequence).collect();
    let gapless: Vec<u64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, gapless, "the record has no gap");
}

/// The assignment that each agent holds has never a lower number than one that it held before.
fn generations_only_grow(fleet: &Fleet, highest: &mut BTreeMap<String, (u64, u64)>, kill: u32) {
    for (name, _) in TARGETS {
        let status = fleet.wait_agent(name);
        let number = |key: &str| status[key].as_u64().unwrap_or_else(|| panic!("{status}"));
        let now = (number("epoch"), number("generation"));
        let before = highest.entry(name.to_owned()).or_default();
        assert!(
            now >= *before,
            "after kill {kill} {name} went from {before:?} to {now:?}"
        );
        *before = now;
    }
}

#[test]
fn an_agent_that_is_killed_at_random_moments_of_a_rollout_loses_and_doubles_nothing() {
    let fleet = fleet_of_three(ENVIRONMENTS);
    let mut chance = Chance::new("agent killed");
    let mut rollouts = Rollouts::new(&fleet);
    let over = AtomicBool::new(false);
    let doubled = thread::scope(|scope| {
        let watch = scope.spawn(|| watch_for_doubles(&fleet, &over));
        for (name, _) in TARGETS.iter().cycle().take(KILLS as usize) {
            rollouts.keep_going();
            thread::sleep(chance.span(Duration::from_millis(5), Duration::from_millis(700)));
            fleet.agent(name).program.restart();
        }
        let last = rollouts.version();
        fleet.wait_stable("web", "staging", &last);
        fleet.wait_stable("web", "production", &last);
        over.store(true, Ordering::SeqCst);
        watch.join().unwrap()
    });
    assert_eq!(doubled, Vec::<String>::new());
    let last = rollouts.version();
    for (name, _) in TARGETS {
        let process = fleet.agent(name).one("web");
        assert_eq!(
            process.variable("RELEASE").as_deref(),
            Some(last.as_str()),
            "{name}"
        );
        let mut each = starts(&fleet, name);
        let all = each.len();
        each.dedup();
        assert_eq!(each.len(), all, "{name} started one twice: {each:?}");
    }

    // At rest, an agent's own end and start restart nothing.
    let before = TARGETS.map(|(name, _)| fleet.agent(name).one("web"));
    for (name, _) in TARGETS {
        let agent = fleet.agent(name);
        agent.program.restart();
        fleet.wait_agent(name);
        assert!(agent.program.terminate().success());
        agent.program.start();
        fleet.wait_agent(name);
        fleet.wait_converged(name);
    }
    assert_eq!(
        TARGETS.map(|(name, _)| fleet.agent(name).one("web")),
        before
    );
    fleet.assert_record_holds();
}

/// Looks all the time, and gives every sight of two processes of one workload.
fn watch_for_doubles(fleet: &Fleet, over: &AtomicBool) -> Vec<String> {
    let mut seen = Vec::new();
    let (mut looks, mut alive) = (0_u32, 0_u32);
    while !over.load(Ordering::SeqCst) {
        for (name, agent) in fleet.agents() {
            let found = agent.workload("web");
            looks += 1;
            alive += u32::from(!found.is_empty());
            if found.len() > 1 {
                let lines: Vec<String> = found.iter().map(Process::command_line).collect();
                // A process may have ended between two reads of the table.
                if found.iter().all(Process::lives) {
                    seen.push(format!("{name}: {lines:?}"));
                }
            }
        }
        thread::sleep(PAUSE);
    }
    println!("{looks} looks, {alive} with a process");
    assert!(alive > looks / 4, "the watch sees what it watches");
    seen
}

/// One release after another, so that there is always a rollout.
struct Rollouts<'a> {
    fleet: &'a Fleet,
    newest: u32,
}

impl<'a> Rollouts<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        Self { fleet, newest: 1 }
    }

    fn version(&self) -> String {
        format!("{}.0.0", self.newest)
    }

    fn is_over(&self) -> bool {
        let status = until("the coordinator answers", || {
            self.fleet.status("web", "production").ok()
        });
        let stable = status.stable.as_ref();
        stable.is_some_and(|stable| stable.version.as_str() == self.version())
    }

    /// Starts the next rollout when the last one is over.
    fn keep_going(&mut self) {
        if self.is_over() {
            self.newest += 1;
            self.fleet.release("web", &self.version(), &[]);
        }
    }
}

/// The versions that a target has started, in order.
fn starts(fleet: &Fleet, target: &str) -> Vec<String> {
    let noted = fs::read_to_string(fleet.directory().join(format!("{target}.starts")));
    noted.unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_second_coordinator_on_the_same_data_or_the_same_port_says_so_and_ends() {
    let fleet = Fleet::start();
    let data = fleet.coordinator_data().display().to_string();
    let free = "127.0.0.1:0";
    let serve = |data: &str, listen: &str, api: &str| {
        let words = ["serve", "--data", data, "--listen", listen, "--api", api];
        fleet
            .run("holdfast-coordinator", &words, &[])
            .ends_with(1)
            .stderr
    };
    let same_data = serve(&data, free, free);
    assert!(
        same_data.contains(&data) && same_data.contains("another coordinator"),
        "{same_data}"
    );
    let other = fleet.directory().join("other").display().to_string();
    for said in [
        serve(&other, fleet.address(), free),
        serve(&other, free, fleet.address()),
    ] {
        assert!(said.contains(fleet.address()), "the port is named: {said}");
    }
    let targets: Vec<Target> = fleet.api.list("/v1/targets").unwrap();
    assert!(targets.is_empty(), "the first one goes on");
    assert!(
        fleet.coordinator.terminate().success(),
        "SIGTERM is an orderly end"
    );
}
