//! What is particular to systemd. Each test boots a Debian of its own in a container and runs this
//! very program inside of it.

use std::process::ExitCode;
use std::time::Duration;

use holdfast_adapters::conformance::{Table, run};

use crate::bench::runtime;
use crate::bench_systemd::SystemdBench;
use crate::host::{self, Host, Network};
use crate::wait::until;
use crate::{inside_power, inside_secret, inside_systemd, table};

pub(crate) const TESTS: &[crate::Test] = &[
    ("systemd_conforms", systemd_conforms),
    (
        "what_is_particular_to_systemd_holds",
        what_is_particular_to_systemd_holds,
    ),
    (
        "a_host_that_reboots_runs_no_finished_job_again",
        a_host_that_reboots_runs_no_finished_job_again,
    ),
    (
        "agent_and_systemd_killed_together_converge_later",
        agent_and_systemd_killed_together_converge_later,
    ),
];

/// What is run inside of a host: `conforms`, or a name of [`inside_systemd::TESTS`].
pub(crate) fn inside(name: &str) -> ExitCode {
    if name == "conforms" {
        return conforms();
    }
    let tests = inside_systemd::TESTS.iter().chain(&inside_systemd::REBOOT);
    let tests = tests.chain(inside_secret::TESTS);
    let tests = tests.chain(inside_power::TESTS).chain(&inside_power::POWER);
    let mut found = tests.filter(|(n, _)| *n == name);
    found.next().expect("there is such a test").1();
    ExitCode::SUCCESS
}

fn conforms() -> ExitCode {
    let bench = SystemdBench::new();
    let report = runtime().block_on(run(&bench));
    let passed = report.passed();
    let reports = [report];
    println!("{}", Table(&reports));
    // For the program outside, which keeps them.
    print!("{}", table::lines(&reports[0]));
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A booted host that has this program, or nothing where that cannot be.
fn boot(test: &str) -> Option<(Network, Host)> {
    if host::is_skipped(test) {
        return None;
    }
    let network = Network::lay("hf-adapter");
    let program = std::env::current_exe().unwrap();
    // target/debug/deps/conformance-HASH
    let host = Host::boot(&network, program.ancestors().nth(2).unwrap());
    Some((network, host))
}

/// Whether a test inside of a host passed; prints what it said.
fn passes_inside(host: &Host, name: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_str().unwrap();
    let said = host.try_run(&[&format!("/srv/programs/deps/{program}"), "inside", name]);
    let passed = said.is_ok();
    let said = said.unwrap_or_else(|said| said);
    let (kept, shown): (Vec<&str>, Vec<&str>) = said
        .lines()
        .partition(|line| line.matches('\t').count() == 2);
    println!("{}", shown.join("\n"));
    table::keep(
        &kept
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
    passed
}

fn systemd_conforms() {
    if let Some((_network, host)) = boot("systemd conforms") {
        assert!(passes_inside(&host, "conforms"));
    }
}

fn a_host_that_reboots_runs_no_finished_job_again() {
    if let Some((_network, mut host)) = boot("a host that reboots runs no finished job again") {
        assert!(passes_inside(&host, "before_reboot"));
        host.shut_down();
        host.start();
        assert!(passes_inside(&host, "after_reboot"));
    }
}

/// The power goes while an agent converges: at its first steps, and later.
fn agent_and_systemd_killed_together_converge_later() {
    let Some((_network, mut host)) = boot("agent and systemd are killed together") else {
        return;
    };
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_str().unwrap();
    let agent = format!(
        "exec setsid /srv/programs/deps/{program} inside until_the_power_goes >/dev/null 2>&1 </dev/null &"
    );
    for pause in [0, 150, 700] {
        host.run(&["sh", "-c", &agent]);
        until("the agent has begun", || {
            host.path("/var/lib/hf-power/agent").exists()
        });
        std::thread::sleep(Duration::from_millis(pause));
        host.cut_power();
        host.start();
        assert!(
            passes_inside(&host, "when_power_is_back"),
            "{pause} ms after it began"
        );
    }
}

fn what_is_particular_to_systemd_holds() {
    let Some((_network, host)) = boot("what is particular to systemd") else {
        return;
    };
    let tests = inside_systemd::TESTS.iter().chain(inside_secret::TESTS);
    let tests = tests.chain(inside_power::TESTS);
    let failed = tests.filter(|(name, _)| {
        let passed = passes_inside(&host, name);
        println!("  {name} ... {}", if passed { "ok" } else { "FAILED" });
        !passed
    });
    let failed: Vec<_> = failed.map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
