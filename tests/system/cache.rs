//! Promise: whatever happens to what is on disk, what runs goes on; it is said what is wrong, and it
//! is mended without a restart. That every single cut and flipped byte of a record is noticed is
//! shown in the agent's own tests; here the real programs live with the damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holdfast_protocol::api::target::Target;
use holdfast_protocol::observed::TargetConditionKind;
use holdfast_tests::disk::Disk;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::sleeper;
use holdfast_tests::process::Process;
use holdfast_tests::skip::skip;
use holdfast_tests::wait::{PATIENCE, expect, holds_for, wait_for};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// One environment in which a deployment may take its time.
const ENVIRONMENT: &str = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
spec:
  rollout: {waves: [100%], soak: 200ms, progressDeadline: 300s}
";

/// One target with two services, of which the newest assignment brought the one (`late`) and the one
/// before it the other's release (`web` 2.0.0).
fn fleet_of_one() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENT, &sleeper("web"), &sleeper("late")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    for (service, version) in [("web", "1.0.0"), ("web", "2.0.0"), ("late", "1.0.0")] {
        fleet.release(service, version, &[]);
        fleet.wait_stable(service, "staging", version);
        fleet.wait_converged("staging-1");
    }
    fleet
}

fn processes(fleet: &Fleet) -> [Process; 2] {
    ["web", "late"].map(|service| fleet.agent("staging-1").one(service))
}

/// What the agent says of itself, also without a coordinator.
fn status(fleet: &Fleet) -> Result<Value, String> {
    let data = fleet.agent("staging-1").data.display().to_string();
    let arguments = ["status", "--data", &data, "-o", "json"];
    let said = fleet.run("holdfast-agent", &arguments, &[]);
    expect(said.code == Some(0), &said)?;
    Ok(said.json())
}

fn conditions(status: &Value) -> Vec<&str> {
    let conditions = status["conditions"].as_array().unwrap();
    let kinds = conditions.iter().map(|one| one["kind"].as_str().unwrap());
    kinds.collect()
}

/// Waits until the agent has looked at everything and says what is wrong with its cache.
fn wait_damaged(fleet: &Fleet, what: &str) -> Value {
    wait_for(&format!("{what}: it is said"), PATIENCE, || {
        let status = status(fleet)?;
        expect(conditions(&status).contains(&"cacheDamaged"), &status)?;
        Ok(status)
    })
}

/// A copy of a folder's files, to be put back.
struct Copied(Vec<(PathBuf, Vec<u8>)>);

impl Copied {
    fn of(folder: &Path) -> Self {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                files.extend(Self::of(&path).0);
            } else {
                let content = fs::read(&path).unwrap();
                files.push((path, content));
            }
        }
        Self(files)
    }

    fn put_back(&self, folder: &Path) {
        fs::remove_dir_all(folder).unwrap();
        for (path, content) in &self.0 {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
}

fn cut(path: &Path, length: usize) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..length.min(whole.len() - 1)]).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x01;
    fs::write(path, bytes).unwrap();
}

type Damage = (&'static str, fn(&Path));

/// What can happen to the newest record in `DATA/cache`.
const DAMAGES: [Damage; 12] = [
    ("emptied", |cache| cut(&cache.join("current"), 0)),
    ("cut in its magic", |cache| cut(&cache.join("current"), 7)),
    ("cut in its checksum", |cache| {
        cut(&cache.join("current"), 40)
    }),
    ("cut in its content", |cache| {
        cut(&cache.join("current"), 200)
    }),
    ("without its last byte", |cache| {
        cut(&cache.join("current"), usize::MAX)
    }),
    ("with another magic", |cache| {
        flip(&cache.join("current"), 0)
    }),
    ("with another format", |cache| {
        flip(&cache.join("current"), 9)
    }),
    ("with another checksum", |cache| {
        flip(&cache.join("current"), 20)
    }),
    ("with another content", |cache| {
        flip(&cache.join("current"), 100)
    }),
    ("with another last byte", |cache| {
        flip(&cache.join("current"), usize::MAX)
    }),
    ("gone", |cache| {
        fs::remove_file(cache.join("current")).unwrap()
    }),
    ("a folder", |cache| {
        fs::remove_file(cache.join("current")).unwrap();
        fs::create_dir(cache.join("current")).unwrap();
    }),
];

#[test]
fn with_a_damaged_newest_record_everything_runs_on_and_is_repaired() {
    let fleet = fleet_of_one();
    let before = processes(&fleet);
    let agent = fleet.agent("staging-1");
    fleet.coordinator.kill9();
    agent.program.kill9();
    let cache = agent.data.join("cache");
    let whole = Copied::of(&cache);
    for (what, damage) in DAMAGES {
        whole.put_back(&cache);
        damage(&cache);
        agent.program.start();
        let status = wait_damaged(&fleet, what);
        assert!(status["generation"].as_u64() > Some(0), "{what}: {status}");
        holds_for(what, Duration::from_millis(500), || {
            expect(processes(&fleet) == before, "a workload was touched")
        });
        agent.program.kill9();
    }

    whole.put_back(&cache);
    flip(&cache.join("current"), 60);
    // The release before was another one, and one service was not there yet: what is killed comes back
    // all the same, as it was.
    agent.program.start();
    wait_damaged(&fleet, "once more");
    before.iter().for_each(Process::kill9);
    let after = wait_for("both are back", PATIENCE, || {
        let found = ["web", "late"].map(|service| agent.workload(service));
        let one_each = found.iter().all(|found| found.len() == 1);
        let new = found.iter().flatten().all(|one| !before.contains(one));
        expect(one_each && new, &found)?;
        Ok(found.map(|found| *found.first().unwrap()))
    });
    let releases = after.map(|process| process.variable("RELEASE").unwrap());
    assert_eq!(releases, ["2.0.0", "1.0.0"]);

    // The newest comes again, and nothing has to be done for it.
    fleet.start_coordinator();
    fleet.wait_converged("staging-1");
    assert_eq!(processes(&fleet), after);
    fleet.coordinator.kill9();
    agent.program.restart();
    let mended = wait_for("nothing is wrong any more", PATIENCE, || {
        let status = status(&fleet)?;
        expect(
            status["workloads"]
                .as_array()
                .is_some_and(|all| all.len() == 2),
            &status,
        )?;
        Ok(status)
    });
    assert!(conditions(&mended).is_empty(), "{mended}");
    assert_eq!(processes(&fleet), after);
}

#[test]
fn a_damaged_body_of_the_newest_assignment_counts_like_a_damaged_record() {
    let fleet = fleet_of_one();
    let before = processes(&fleet);
    let agent = fleet.agent("staging-1");
    fleet.coordinator.kill9();
    agent.program.kill9();
    for entry in fs::read_dir(agent.data.join("cache/bodies"))
        .unwrap()
        .flatten()
    {
        flip(&entry.path(), 50);
    }
    agent.program.start();
    wait_damaged(&fleet, "every body");
    holds_for("all runs on", Duration::from_secs(1), || {
        expect(processes(&fleet) == before, "a workload was touched")
    });
    fleet.start_coordinator();
    fleet.wait_converged("staging-1");
    assert_eq!(processes(&fleet), before);
}

#[test]
fn with_both_records_destroyed_the_agent_touches_nothing_until_it_is_told_again() {
    let fleet = fleet_of_one();
    let before = processes(&fleet);
    let agent = fleet.agent("staging-1");
    fleet.coordinator.kill9();
    agent.program.kill9();
    let cache = agent.data.join("cache");
    let everything = |spare: &[&str]| {
        for (path, _) in Copied::of(&cache).0 {
            let name = path.file_name().unwrap().to_str().unwrap();
            if !spare.contains(&name) {
                fs::write(&path, b"what a broken disk gives").unwrap();
            }
        }
    };
    for spare in [&["highest", "standings"][..], &[]] {
        everything(spare);
        agent.program.start();
        wait_damaged(&fleet, "both records");
        holds_for("all runs on", Duration::from_secs(1), || {
            expect(processes(&fleet) == before, "a workload was touched")
        });
        agent.program.kill9();
    }
    fs::remove_dir_all(&cache).unwrap();
    agent.program.start();
    wait_for("it answers", PATIENCE, || status(&fleet));
    holds_for(
        "all runs on without any cache",
        Duration::from_secs(1),
        || expect(processes(&fleet) == before, "a workload was touched"),
    );
    fleet.start_coordinator();
    fleet.wait_converged("staging-1");
    assert_eq!(processes(&fleet), before);
}

fn kinds(target: &Target) -> Vec<TargetConditionKind> {
    target.conditions.iter().map(|one| one.kind).collect()
}

#[test]
fn a_full_disk_of_a_target_keeps_the_old_state_and_gives_way_to_the_new_by_itself() {
    let mut fleet = Fleet::start();
    let Some(disk) = Disk::mount(&fleet.directory().join("staging-1"), "1m") else {
        return skip(
            "a_full_disk_of_a_target_keeps_the_old_state_and_gives_way_to_the_new_by_itself",
            "this machine lets no file system be mounted",
        );
    };
    fleet.apply(&[ENVIRONMENT, &sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    fleet.wait_converged("staging-1");
    let process = fleet.agent("staging-1").one("web");
    let pid = fleet.agent("staging-1").program.pid();

    disk.fill();
    fleet.release("web", "2.0.0", &[]);
    wait_for("the target says what is wrong", PATIENCE, || {
        let target = fleet.target("staging-1")?;
        let said = kinds(&target).contains(&TargetConditionKind::CacheUnwritable);
        expect(said, &target)
    });
    let refused = |fleet: &Fleet| {
        let mut events = fleet.events().into_iter();
        events.find(|event| event.kind == "assignment.refused")
    };
    wait_for("it was refused", PATIENCE, || {
        refused(&fleet)
            .map(drop)
            .ok_or_else(|| "not yet".to_owned())
    });
    holds_for("the old release runs on", Duration::from_secs(3), || {
        expect(process.lives(), "it was touched")
    });
    // A full disk is no reason to talk all the time.
    let reports = |fleet: &Fleet| {
        let log = fleet.agent("staging-1").program.log();
        log.matches("a report is stored").count()
    };
    let before = reports(&fleet);
    process.kill9();
    holds_for(
        "it says no more than is new",
        Duration::from_secs(3),
        || {
            let said = reports(&fleet) - before;
            expect(said < 60, said)
        },
    );

    disk.free();
    fleet.wait_stable("web", "staging", "2.0.0");
    let newest = fleet.agent("staging-1").one("web");
    assert_eq!(newest.variable("RELEASE").as_deref(), Some("2.0.0"));
    assert_eq!(
        fleet.agent("staging-1").program.pid(),
        pid,
        "without a restart"
    );
    wait_for("nothing is wrong any more", PATIENCE, || {
        let target = fleet.target("staging-1")?;
        let said = kinds(&target).contains(&TargetConditionKind::CacheUnwritable);
        expect(!said, &target)
    });
    // What it knows now survives.
    fleet.agent("staging-1").program.restart();
    fleet.wait_converged("staging-1");
    assert_eq!(fleet.agent("staging-1").one("web"), newest);
}

/// Moves the coordinator's data to a disk of its own.
fn with_small_disk(fleet: &Fleet, size: &str) -> Option<Disk> {
    assert!(fleet.coordinator.terminate().success());
    let data = fleet.coordinator_data();
    let aside = fleet.directory().join("aside");
    fs::rename(&data, &aside).unwrap();
    let disk = Disk::mount(&data, size)?;
    let copied = Command::new("cp")
        .arg("-a")
        .arg(aside.join("."))
        .arg(&data)
        .status();
    assert!(copied.unwrap().success());
    fleet.start_coordinator();
    Some(disk)
}

/// Everything that does not change anything goes on for a while.
fn is_read_as_ever(fleet: &Fleet, process: Process) {
    holds_for("it is read as ever", Duration::from_secs(3), || {
        let stable = fleet
            .status("web", "staging")?
            .stable
            .map(|s| s.version.to_string());
        expect(stable.as_deref() == Some("1.0.0"), stable)?;
        fleet.target("staging-1")?;
        expect(
            fleet
                .api
                .raw(Method::GET, "/healthz")
                .unwrap()
                .0
                .is_success(),
            "healthz",
        )?;
        expect(
            fleet
                .api
                .raw(Method::GET, "/metrics")
                .unwrap()
                .0
                .is_success(),
            "metrics",
        )?;
        expect(process.lives(), "the workload was touched")
    });
}

#[test]
fn a_full_disk_of_the_coordinator_stops_changes_and_nothing_else() {
    let mut fleet = Fleet::start();
    let Some(disk) = with_small_disk(&fleet, "12m") else {
        return skip(
            "a_full_disk_of_the_coordinator_stops_changes_and_nothing_else",
            "this machine lets no file system be mounted",
        );
    };
    fleet.apply(&[ENVIRONMENT, &sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_stable("web", "staging", "1.0.0");
    let process = fleet.agent("staging-1").one("web");
    let pid = fleet.coordinator.pid();
    let ready = |fleet: &Fleet| fleet.api.raw(Method::GET, "/readyz").unwrap().0;
    assert_eq!(ready(&fleet), StatusCode::OK);

    disk.fill();
    // Things go on happening: the agent goes and comes.
    let mut restarts = 0;
    wait_for("it says that nothing can be kept", PATIENCE, || {
        if restarts < 5 {
            fleet.agent("staging-1").program.restart();
            restarts += 1;
        }
        let status = ready(&fleet);
        expect(status == StatusCode::SERVICE_UNAVAILABLE, status)
    });
    let upload = vec![7u8; 8 * 1024];
    let digest = holdfast_protocol::digest::Digest::of(&upload);
    let status = fleet
        .api
        .put_bytes(&format!("/v1/artifacts/{digest}"), upload.clone());
    assert_eq!(status.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    is_read_as_ever(&fleet, process);

    disk.free();
    wait_for("it is ready again", Duration::from_secs(30), || {
        let status = ready(&fleet);
        expect(status == StatusCode::OK, status)
    });
    assert_eq!(fleet.coordinator.pid(), pid, "without a restart");
    fleet.wait_connected("staging-1", true);
    let status = fleet
        .api
        .put_bytes(&format!("/v1/artifacts/{digest}"), upload);
    assert!(status.unwrap().is_success());
    fleet.release("web", "2.0.0", &[]);
    fleet.wait_stable("web", "staging", "2.0.0");
    fleet.assert_record_holds();
    fleet.coordinator.kill9();
    let data = fleet.coordinator_data();
    let check = ["check", "--data", data.to_str().unwrap()];
    let _ = fleet.run("holdfast-coordinator", &check, &[]).succeeds();
}
