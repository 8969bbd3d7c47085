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

/// What a watcher of the demo has seen so far.
#[derive(Default)]
struct Watched {
    /// The facts of each step, by its name.
    facts: BTreeMap<String, Value>,
    /// Where staging and the two of production serve.
    ports: Vec<u16>,
    /// Who serves there since the repair.
    servers: Vec<Process>,
}

impl Watched {
    /// Looks whether what a step tells of is so.
    fn check(&mut self, name: &str, told: &Value) {
        match name {
            "coordinator" => assert!(is_program(number(told, "pid"), "holdfast-coordinator")),
            "staging" => {
                self.ports.push(port(&told["port"]));
                assert_eq!(serves(self.ports[0], "/version").as_deref(), Some("1.0.0"));
            }
            "production" => self.production(told),
            "cut" => self.cut(told),
            "repaired" => self.repaired(told),
            "returned" => self.returned(told),
            "rolledBack" => self.rolled_back(told),
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
        self.facts.insert(name.to_owned(), told.clone());
    }

    fn production(&mut self, told: &Value) {
        self.ports
            .extend(told["ports"].as_array().unwrap().iter().map(port));
        for port in &self.ports[1..] {
            let version = until("production serves", || serves(*port, "/version"));
            assert_eq!(version, "1.0.0");
        }
    }

    fn cut(&self, told: &Value) {
        assert_eq!(
            told["pid"], self.facts["coordinator"]["pid"],
            "the one that was started"
        );
        assert!(
            !is_program(number(told, "pid"), "holdfast-coordinator"),
            "it is dead"
        );
        for port in &self.ports {
            until("the site serves without it", || serves(*port, "/version"));
        }
    }

    fn repaired(&self, told: &Value) {
        assert!(
            !is_program(number(told, "killed"), "holdfast-example-server"),
            "it is dead"
        );
        let pid = until("it serves again", || serves(self.ports[1], "/pid"));
        assert_eq!(pid, number(told, "pid").to_string());
    }

    fn returned(&mut self, told: &Value) {
        assert!(is_program(number(told, "pid"), "holdfast-coordinator"));
        assert_ne!(told["pid"], self.facts["coordinator"]["pid"]);
        for (port, pid) in self.ports.iter().zip(told["pids"].as_array().unwrap()) {
            let serving = serves(*port, "/pid").unwrap();
            assert_eq!(serving, pid.to_string(), "the same process as before");
            self.servers
                .push(Process::of(serving.parse().unwrap()).unwrap());
        }
    }

    fn rolled_back(&self, told: &Value) {
        assert_eq!(told["phase"], "RolledBack");
        for port in &self.ports {
            assert_eq!(serves(*port, "/version").as_deref(), Some("1.0.0"));
            assert!(serves(*port, "/healthz").is_some());
        }
        assert!(
            self.servers.iter().all(Process::lives),
            "nobody was restarted"
        );
    }
}

/// The steps that are told, sorted.
const STEPS: [&str; 14] = [
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
];

#[test]
fn every_step_that_the_demo_tells_of_is_so() {
    let began = Instant::now();
    let mut demo = Demo::start();
    let mut watched = Watched::default();
    for step in demo.steps() {
        let name = step["step"].as_str().unwrap();
        println!("{} ms: {name}: {}", step["elapsedMillis"], step["facts"]);
        assert!(!step["message"].as_str().unwrap().is_empty());
        watched.check(name, &step["facts"]);
    }
    let status = demo.child.wait().unwrap();
    assert!(status.success(), "{status}\n{}", demo.complaints());
    println!("the demo took {} ms", began.elapsed().as_millis());
    let steps: Vec<&str> = watched.facts.keys().map(String::as_str).collect();
    let missing: Vec<_> = STEPS.iter().filter(|step| !steps.contains(step)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {steps:?}");
    assert_eq!(watched.facts["history"]["deployments"], 5);
    assert_eq!(watched.servers.len(), 3);
    assert!(
        watched.servers.iter().all(|one| !one.lives()),
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
