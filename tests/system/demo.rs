//! Promise: `holdfast demo` shows the whole system at work, and every step that it tells of is so: seen
//! here over HTTP and by process numbers, beside what the demo itself checks.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use holdfast_tests::process::{Process, concerned_with};
use holdfast_tests::program::{built, command};
use holdfast_tests::visitor::look;
use holdfast_tests::wait::{PATIENCE, expect, until, wait_for};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// The demo in a directory of its own; killed, with all that it started, when it is dropped.
struct Demo {
    child: Child,
    folder: TempDir,
}

impl Demo {
    fn start() -> Self {
        let folder = TempDir::with_prefix("holdfast-demo-test-").unwrap();
        let program = built("holdfast");
        let mut demo: Command = command(&program);
        demo.args(["demo", "-o", "json", "--bin-dir"])
            .arg(program.parent().unwrap())
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("stderr")).unwrap());
        let child = demo.spawn().unwrap();
        Self { child, folder }
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Each step as the demo tells it.
    fn steps(&mut self) -> impl Iterator<Item = Value> + use<> {
        let output = self.child.stdout.take().expect("it is piped and read once");
        BufReader::new(output)
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }

    /// Whether all that the demo made is gone.
    fn assert_nothing_is_left(&self) {
        wait_for("nothing of the demo is left", PATIENCE, || {
            let left = concerned_with(self.folder.path());
            expect(
                left.is_empty(),
                left.iter().map(Process::command_line).collect::<Vec<_>>(),
            )
        });
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["stderr"], "its folder is removed");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        concerned_with(self.folder.path())
            .iter()
            .for_each(Process::kill9);
    }
}

fn number(facts: &Value, key: &str) -> i32 {
    let found = facts[key]
        .as_i64()
        .unwrap_or_else(|| panic!("no {key} in {facts}"));
    i32::try_from(found).unwrap()
}

fn port(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

fn serves(port: u16, path: &str) -> Option<String> {
    let page = look(port, path)?;
    (page.status == 200).then(|| page.body.trim().to_owned())
}

fn is_program(pid: i32, name: &str) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    Path::new(&program)
        .file_name()
        .is_some_and(|file| file == name)
}

#[test]
fn every_step_that_the_demo_tells_of_is_so() {
    let began = Instant::now();
    let mut demo = Demo::start();
    let mut facts: BTreeMap<String, Value> = BTreeMap::new();
    let mut ports: Vec<u16> = Vec::new();
    let mut processes: Vec<Process> = Vec::new();
    for step in demo.steps() {
        let name = step["step"].as_str().unwrap().to_owned();
        let told = &step["facts"];
        println!("{} ms: {name}: {told}", step["elapsedMillis"]);
        assert!(!step["message"].as_str().unwrap().is_empty());
        match name.as_str() {
            "coordinator" => assert!(is_program(number(told, "pid"), "holdfast-coordinator")),
            "staging" => {
                ports.push(port(&told["port"]));
                assert_eq!(serves(ports[0], "/version").as_deref(), Some("1.0.0"));
            }
            "production" => {
                ports.extend(told["ports"].as_array().unwrap().iter().map(port));
                for port in &ports[1..] {
                    let version = until("production serves", || serves(*port, "/version"));
                    assert_eq!(version, "1.0.0");
                }
            }
            "cut" => {
                assert_eq!(
                    told["pid"], facts["coordinator"]["pid"],
                    "the one that was started"
                );
                let pid = number(told, "pid");
                assert!(!is_program(pid, "holdfast-coordinator"), "{pid} is dead");
                for port in &ports {
                    until("the site serves without it", || serves(*port, "/version"));
                }
            }
            "repaired" => {
                let killed = number(told, "killed");
                assert!(
                    !is_program(killed, "holdfast-example-server"),
                    "{killed} is dead"
                );
                let pid = until("it serves again", || serves(ports[1], "/pid"));
                assert_eq!(pid, number(told, "pid").to_string());
            }
            "returned" => {
                let coordinator = number(told, "pid");
                assert!(is_program(coordinator, "holdfast-coordinator"));
                assert_ne!(told["pid"], facts["coordinator"]["pid"]);
                for (port, pid) in ports.iter().zip(told["pids"].as_array().unwrap()) {
                    let serving = serves(*port, "/pid").unwrap();
                    assert_eq!(serving, pid.to_string(), "the same process as before");
                    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
                    processes.push(Process::of(pid).unwrap());
                }
            }
            "rolledBack" => {
                assert_eq!(told["phase"], "RolledBack");
                for port in &ports {
                    assert_eq!(serves(*port, "/version").as_deref(), Some("1.0.0"));
                    assert!(serves(*port, "/healthz").is_some());
                }
                assert!(processes.iter().all(Process::lives), "nobody was restarted");
            }
            "why" => {
                let wait = &told["waits"][0];
                assert_eq!(wait["kind"], "failed");
                assert!(
                    wait["endsBy"][0]
                        .as_str()
                        .unwrap()
                        .starts_with("holdfast retry")
                );
            }
            _ => {}
        }
        facts.insert(name, told.clone());
    }
    let status = demo.child.wait().unwrap();
    assert!(status.success(), "{status}\n{}", demo.complaints());
    println!("the demo took {} ms", began.elapsed().as_millis());
    let steps: Vec<&str> = facts.keys().map(String::as_str).collect();
    for needed in [
        "applied",
        "broken",
        "coordinator",
        "cut",
        "ended",
        "history",
        "joined",
        "production",
        "repaired",
        "returned",
        "rolledBack",
        "staging",
        "untouched",
        "why",
    ] {
        assert!(steps.contains(&needed), "{needed} is missing in {steps:?}");
    }
    assert_eq!(facts["history"]["deployments"], 5);
    assert!(
        processes.iter().all(|one| !one.lives()),
        "it has ended what it started"
    );
    demo.assert_nothing_is_left();
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    let mut demo = Demo::start();
    let reached = demo.steps().find(|step| step["step"] == "staging");
    assert!(reached.is_some(), "{}", demo.complaints());
    let pid = Pid::from_child(&demo.child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let status = wait_for("the demo ends", PATIENCE, || {
        demo.child
            .try_wait()
            .unwrap()
            .ok_or_else(|| "it runs".to_owned())
    });
    assert_eq!(status.code(), Some(130), "{}", demo.complaints());
    demo.assert_nothing_is_left();
}
