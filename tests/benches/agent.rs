//! What an agent costs a target: size of the program, memory, processor time and wake-ups while nothing
//! happens, with ten workloads and with two hundred, and what it does to workloads that are as they are to
//! be when it starts again, and how soon they run again after all have ended. A real coordinator, a real
//! agent, real processes. Prints a table and one JSON object. `cargo bench -p holdfast-tests --bench agent`, with the programs of `HOLDFAST_BIN_DIR`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark prints, reads the clock, and fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::sleeper;
use holdfast_tests::process::{Process, workloads};
use holdfast_tests::program::{Program, built};
use holdfast_tests::wait::{expect, wait_for};
use serde_json::{Value, json};

/// Two hundred are started on a busy machine, too.
const ENVIRONMENT: &str = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
spec:
  rollout: {waves: [100%], soak: 0s, progressDeadline: 5m}
";
/// Workloads, fewest first.
const WORKLOADS: [usize; 2] = [10, 200];
/// How long an agent has to come to rest after a start.
const SETTLE: Duration = Duration::from_secs(75);
/// How long an agent at rest is watched.
const WATCH: Duration = Duration::from_secs(60);
/// Time that all workloads have to run.
const PATIENCE: Duration = Duration::from_secs(300);
/// The kernel counts processor time in these.
const TICK_MS: u64 = 10;

fn main() {
    let program = built("holdfast-agent");
    let bytes = std::fs::metadata(&program).unwrap().len();
    println!("{}: {:.1} MB", program.display(), megabytes(bytes / 1024));
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>12} {:>10} {:>9} {:>8}",
        "workloads",
        "RSS MB",
        "anon MB",
        "PSS MB",
        "CPU ms a min",
        "wakes a s",
        "restarted",
        "start s"
    );
    let rows: Vec<Value> = WORKLOADS.into_iter().map(row).collect();
    println!(
        "{}",
        json!({"bench": "agent", "binaryBytes": bytes, "rows": rows})
    );
}

/// One agent with so many workloads.
fn row(count: usize) -> Value {
    let fleet = Fleet::start();
    let services: Vec<String> = (0..count).map(|i| format!("sleeper-{i}")).collect();
    let manifests: Vec<String> = services.iter().map(|service| sleeper(service)).collect();
    fleet.try_apply("platform", ENVIRONMENT).unwrap();
    fleet.try_apply("teams", &manifests.join("---\n")).unwrap();
    let agent = agent(&fleet);
    agent.start();
    for service in &services {
        fleet.release(service, "1.0", &[]);
    }
    let data = fleet.directory().join("staging-1");
    let running = all_run(&data, count);
    for service in &services {
        fleet.wait_stable(service, "staging", "1.0");
    }
    // As after a reboot of the agent alone: what it keeps, not what the first deployment left behind.
    agent.restart();
    fleet.wait_converged("staging-1");
    let again = all_run(&data, count);
    let restarted = again.difference(&running).count();
    thread::sleep(SETTLE);
    let before = Seen::of(&agent);
    let begun = Instant::now();
    thread::sleep(WATCH);
    let after = Seen::of(&agent);
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let (cpu, wakes) = (
        (after.cpu_ms - before.cpu_ms) as f64 / minutes,
        (after.switches - before.switches) as f64 / (minutes * 60.0),
    );
    let started = started_again(&agent, &data, &again);
    let kib = |name: &str| after.kib.get(name).copied().unwrap_or(0);
    println!(
        "{count:>9} {:>8.1} {:>8.1} {:>8.1} {cpu:>12.1} {wakes:>10.2} {restarted:>9} {:>8.1}",
        megabytes(kib("Rss")),
        megabytes(kib("Anonymous")),
        megabytes(kib("Pss")),
        started.as_secs_f64(),
    );
    json!({
        "workloads": count, "rssKib": kib("Rss"), "anonymousKib": kib("Anonymous"), "pssKib": kib("Pss"),
        "cpuMsAMinute": cpu, "wakesASecond": wakes, "workloadsRestarted": restarted,
        "startMs": u64::try_from(started.as_millis()).unwrap(),
    })
}

/// As after a reboot of the machine: how long until all workloads run again, from the agent's start.
fn started_again(agent: &Program, data: &Path, running: &BTreeSet<Process>) -> Duration {
    agent.kill9();
    running.iter().for_each(Process::kill9);
    wait_for("every workload is gone", PATIENCE, || {
        let left = workloads(data).len();
        expect(left == 0, left)
    });
    let begun = Instant::now();
    agent.start();
    all_run(data, running.len());
    begun.elapsed()
}

/// An agent as installed: nothing is quicker than by default.
fn agent(fleet: &Fleet) -> Program {
    let token = fleet.token("staging", &[]);
    let data = fleet.directory().join("staging-1");
    let arguments = [
        "run",
        "--coordinator",
        fleet.address(),
        "--token",
        &token,
        "--name",
        "staging-1",
        "--data",
        data.to_str().unwrap(),
    ];
    let program = built("holdfast-agent");
    Program::new("staging-1", program, arguments, &[], fleet.directory())
}

/// The processes of all workloads, once each has one.
fn all_run(data: &Path, count: usize) -> BTreeSet<Process> {
    wait_for("every workload runs", PATIENCE, || {
        let running = workloads(data);
        expect(running.len() == count, running.len())?;
        Ok(running)
    })
}

/// What the kernel says of a program at one moment.
struct Seen {
    cpu_ms: u64,
    /// Times that a thread of it slept and was woken.
    switches: u64,
    /// Of its memory, in KiB.
    kib: BTreeMap<String, u64>,
}

impl Seen {
    fn of(program: &Program) -> Self {
        let folder = format!("/proc/{}", program.pid().unwrap());
        let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap();
        // After the name, which may hold anything but ends with the last bracket; proc_pid_stat(5).
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let memory = std::fs::read_to_string(format!("{folder}/smaps_rollup")).unwrap();
        let threads = std::fs::read_dir(format!("{folder}/task")).unwrap();
        let switches = threads.map(|thread| {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            numbers(&status)["voluntary_ctxt_switches"]
        });
        Self {
            cpu_ms: ticks * TICK_MS,
            switches: switches.sum(),
            kib: numbers(&memory),
        }
    }
}

/// Lines `name: number …` of a file of the kernel's.
fn numbers(text: &str) -> BTreeMap<String, u64> {
    let number = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = value.split_whitespace().next()?.parse().ok()?;
        Some((name.to_owned(), value))
    };
    text.lines().filter_map(number).collect()
}

fn megabytes(kib: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let kib = kib as f64;
    kib / 1024.0
}
