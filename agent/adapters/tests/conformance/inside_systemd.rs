//! Tests that run inside of a host with systemd, by name. What holds for one moment only is waited
//! for; what must not happen is looked for after something that would have come later.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_adapters::conformance::{Ending, Subject as _};
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, Exit, Live, Observed, Wanted};
use holdfast_protocol::name::ServiceName;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{eventually, lines, runtime};
use crate::bench_systemd::{SystemdBench, environments, run, unit_path};
use crate::killed;

pub(crate) const TESTS: &[crate::Test] = &[
    ("confined", a_workload_is_confined_by_default),
    ("quoted", nothing_in_a_template_means_more_than_it_says),
    ("drift", every_foreign_change_is_named_and_put_right),
    (
        "signals",
        changes_are_announced_and_looking_announces_nothing,
    ),
    ("reload", files_alone_are_read_again_in_place),
    ("schedule", a_schedule_runs_and_says_how_it_went),
    ("foreign", what_holdfast_did_not_make_is_never_replaced),
    ("stop", what_runs_is_stopped_by_its_own_rule),
    ("ready", a_unit_that_says_when_it_is_ready_is_ready_then),
    ("refused", what_cannot_start_is_refused_for_good),
    (
        "away",
        nothing_is_asked_of_systemd_before_the_first_workload,
    ),
    ("nothing_left", a_removed_workload_leaves_nothing),
    (
        "killed",
        an_agent_killed_at_20_moments_of_converge_leaves_one_workload,
    ),
    ("many", two_hundred_unchanged_workloads_cost_nothing),
    ("lost", a_lost_record_neither_orphans_nor_doubles),
    (
        "jobs",
        a_job_is_not_run_again_for_what_is_forgotten_or_changed,
    ),
];

/// What is run before a host reboots and after, on the same files.
pub(crate) const REBOOT: [crate::Test; 2] = [
    ("before_reboot", jobs_before_a_reboot),
    ("after_reboot", jobs_after_a_reboot),
];

/// An adapter with what it needs to be spoken to.
pub(crate) struct Desk {
    pub(crate) bench: SystemdBench,
    adapter: Arc<dyn Adapter>,
    runtime: Runtime,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let bench = SystemdBench::new();
        Self {
            adapter: bench.home.open("systemd"),
            bench,
            runtime: runtime(),
        }
    }

    pub(crate) fn wanted(
        &self,
        service: &str,
        release: u32,
        change: impl Fn(&mut Value),
    ) -> Wanted {
        let mut template = SystemdBench::template(release);
        change(&mut template);
        self.bench.release(service, release, &template)
    }

    pub(crate) fn try_converge(&self, wanted: &Wanted) -> Result<(), Failure> {
        let (progress, _told) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        self.runtime
            .block_on(self.adapter.converge(wanted, &progress, &cancel))
    }

    pub(crate) fn converge(&self, wanted: &Wanted) {
        self.try_converge(wanted).unwrap();
    }

    pub(crate) fn refusal(&self, wanted: &Wanted) -> String {
        match self.try_converge(wanted) {
            Err(Failure::Permanent(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn observe(&self, service: &str) -> Option<Observed> {
        let all = self.runtime.block_on(self.adapter.observe()).unwrap();
        all.into_iter()
            .find(|seen| seen.service.as_str() == service)
    }

    pub(crate) fn live(&self, service: &str) -> Live {
        self.observe(service).expect("it is observed").live
    }

    /// The main process of a workload that is as it was left.
    pub(crate) fn pid(&self, service: &str) -> u32 {
        match self.live(service) {
            Live::Running { pid: Some(pid), .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn altered(&self, service: &str) -> String {
        match self.live(service) {
            Live::Altered { what } => what,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn remove(&self, service: &str) {
        let service = ServiceName::parse(service).unwrap();
        self.runtime
            .block_on(self.adapter.remove(&service))
            .unwrap();
    }
}

/// The tests of one host leave nothing to each other.
impl Drop for Desk {
    fn drop(&mut self) {
        let all = self.runtime.block_on(self.adapter.observe());
        for seen in all.unwrap_or_default() {
            let _ = self.runtime.block_on(self.adapter.remove(&seen.service));
        }
    }
}

pub(crate) fn show(unit: &str, property: &str) -> String {
    run(&[
        "systemctl",
        "show",
        "--value",
        &format!("--property={property}"),
        unit,
    ])
}

fn a_workload_is_confined_by_default() {
    let desk = Desk::new();
    desk.converge(&desk.wanted("shut", 1, |_| ()));
    let unit = "holdfast-shut.service";
    assert_eq!(run(&["systemd-analyze", "verify", unit]), "");
    for (property, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectory", "holdfast-workloads/shut"),
        ("WantedBy", "multi-user.target"),
        ("UnitFileState", "enabled"),
    ] {
        assert_eq!(show(unit, property), value, "{property}");
    }
    let table = run(&["systemd-analyze", "security", "--no-pager", unit]);
    println!("{}", table.lines().last().unwrap());
    let status = fs::read_to_string(format!("/proc/{}/status", desk.pid("shut"))).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(value("CapEff:"), "0000000000000000");
    assert_eq!(value("Seccomp:"), "2");
    assert_ne!(value("Uid:").split_whitespace().next(), Some("0"));
    let limited = desk.wanted("limited", 1, |template| {
        template["limits"] = json!({"memory": "64MiB", "cpu": 0.5, "openFiles": 128});
        template["user"] = json!("root");
        template["hardening"] = json!("none");
        template["unit"] =
            json!({"Service": {"Nice": 5, "TasksMax": "40%"}, "Unit": {"Wants": "dbus.socket"}});
    });
    desk.converge(&limited);
    let unit = "holdfast-limited.service";
    assert_eq!(run(&["systemd-analyze", "verify", unit]), "");
    for (property, value) in [
        ("MemoryMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("LimitNOFILE", "128"),
        ("User", "root"),
        ("ProtectSystem", "no"),
        ("Nice", "5"),
    ] {
        assert_eq!(show(unit, property), value, "{property}");
    }
}

fn nothing_in_a_template_means_more_than_it_says() {
    let desk = Desk::new();
    let odd = [
        "two words",
        "\"quoted\" 'twice' \\back\\",
        "line\nUser=root\n[Service]\nExecStart=/bin/false",
        "100% %h %n %% %",
        "$HOME ${HOME} $$ $(id) `id`",
        ";",
        "; /bin/false",
        "\t tab \r return \u{1b}[31m",
        "\u{e4}\u{20ac}\u{1f600}\u{85}",
        "",
        "trailing\\",
        "# no comment",
        "\\x41\\n\\s",
    ];
    let script = "printf '%s\\0' \"$@\" > $STATE_DIRECTORY/new && mv $STATE_DIRECTORY/new \
                  $STATE_DIRECTORY/words && exec sleep 86400";
    let mut command = vec!["/bin/sh", "-c", script, "sh"];
    command.extend(odd);
    let environment: serde_json::Map<String, Value> = odd
        .iter()
        .filter(|text| !text.contains(['\r', '\u{1b}', '\u{85}']))
        .enumerate()
        .map(|(i, text)| (format!("ODD_{i}"), json!(text)))
        .collect();
    let wanted = desk.wanted("odd", 1, |template| {
        template["command"] = json!(command);
        template["environment"] = json!(environment);
    });
    desk.converge(&wanted);
    let said = Path::new("/var/lib/private/holdfast-workloads/odd/words");
    eventually("the words were written", || said.exists());
    let words = fs::read_to_string(said).unwrap();
    let words: Vec<&str> = words.split_terminator('\0').collect();
    assert_eq!(words, odd);
    let found = environments("odd").remove(0);
    for (name, value) in &environment {
        let variable = format!("{name}={}", value.as_str().unwrap());
        assert!(found.contains(&variable), "{variable:?} in {found:?}");
    }
    assert_eq!(
        run(&["systemd-analyze", "verify", "holdfast-odd.service"]),
        ""
    );
    assert!(matches!(desk.live("odd"), Live::Running { .. }));
}

/// What somebody does, a word of how it is reported, and whether the workload may be restarted.
type Change = (&'static str, fn(), &'static str, bool);

const CHANGES: &[Change] = &[
    (
        "edited and not read",
        || append("drift", "[Service]\nNice=5\n"),
        "\"Nice=5\" was added",
        false,
    ),
    (
        "edited and started by it",
        || {
            append("drift", "[Service]\nNice=5\n");
            run(&["systemctl", "daemon-reload"]);
            run(&["systemctl", "restart", "holdfast-drift"]);
        },
        "\"Nice=5\" was added",
        true,
    ),
    (
        "given a drop-in",
        || {
            fs::create_dir_all("/etc/systemd/system/holdfast-drift.service.d").unwrap();
            let path = "/etc/systemd/system/holdfast-drift.service.d/override.conf";
            fs::write(path, "[Service]\nNice=7\n").unwrap();
            run(&["systemctl", "daemon-reload"]);
        },
        "override.conf was added",
        false,
    ),
    (
        "given a property",
        || {
            drop(run(&[
                "systemctl",
                "set-property",
                "holdfast-drift",
                "TasksMax=99",
            ]))
        },
        "50-TasksMax.conf was added",
        false,
    ),
    (
        "given a property until the next boot",
        || {
            drop(run(&[
                "systemctl",
                "set-property",
                "--runtime",
                "holdfast-drift",
                "TasksMax=98",
            ]))
        },
        "/run/systemd/system.control",
        false,
    ),
    (
        "disabled",
        || drop(run(&["systemctl", "disable", "holdfast-drift"])),
        "was disabled",
        false,
    ),
    (
        "masked",
        || {
            fs::remove_file(unit_path("drift")).unwrap();
            symlink("/dev/null", unit_path("drift")).unwrap();
            run(&["systemctl", "daemon-reload"]);
        },
        "was masked",
        false,
    ),
    (
        "deleted",
        || fs::remove_file(unit_path("drift")).unwrap(),
        "was removed",
        false,
    ),
    (
        "deleted, and known to systemd",
        || {
            fs::remove_file(unit_path("drift")).unwrap();
            run(&["systemctl", "daemon-reload"]);
        },
        "was removed",
        false,
    ),
    (
        "stopped",
        || drop(run(&["systemctl", "stop", "holdfast-drift"])),
        "it was stopped",
        true,
    ),
    (
        "disabled and stopped",
        || drop(run(&["systemctl", "disable", "--now", "holdfast-drift"])),
        "was disabled",
        true,
    ),
];

fn append(service: &str, text: &str) {
    let mut unit = fs::read_to_string(unit_path(service)).unwrap();
    unit.push_str(text);
    fs::write(unit_path(service), unit).unwrap();
}

fn every_foreign_change_is_named_and_put_right() {
    let desk = Desk::new();
    let wanted = desk.wanted("drift", 1, |_| ());
    desk.converge(&wanted);
    let unit = "holdfast-drift.service";
    let text = fs::read_to_string(unit_path("drift")).unwrap();
    // Where the unit says nothing, that of the first process.
    let nice = show(unit, "Nice");
    for (how, change, word, restarted) in CHANGES {
        let before = desk.pid("drift");
        change();
        let what = desk.altered("drift");
        println!("{how}: {what}");
        assert!(what.contains(word), "{how}: {what}");
        desk.converge(&wanted);
        let after = desk.pid("drift");
        assert_eq!(after != before, *restarted, "{how}");
        assert_eq!(
            fs::read_to_string(unit_path("drift")).unwrap(),
            text,
            "{how}"
        );
        assert_eq!(show(unit, "DropInPaths"), "", "{how}");
        assert_eq!(show(unit, "UnitFileState"), "enabled", "{how}");
        assert_eq!(show(unit, "NeedDaemonReload"), "no", "{how}");
        assert_eq!(show(unit, "Nice"), nice, "{how}");
        assert_ne!(show(unit, "TasksMax"), "99", "{how}");
    }
    // What the owner of the host says for all workloads is no drift.
    let all = "/etc/systemd/system/holdfast-.service.d";
    fs::create_dir_all(all).unwrap();
    fs::write(format!("{all}/site.conf"), "[Service]\nNice=3\n").unwrap();
    run(&["systemctl", "daemon-reload"]);
    desk.pid("drift");
    fs::remove_dir_all(all).unwrap();
    run(&["systemctl", "daemon-reload"]);
}

fn changes_are_announced_and_looking_announces_nothing() {
    let desk = Desk::new();
    let mut changes = desk.adapter.changes();
    let wanted = desk.wanted("loud", 1, |_| ());
    desk.converge(&wanted);
    for command in [
        &["systemctl", "kill", "--signal=KILL", "holdfast-loud"][..],
        &["systemctl", "stop", "holdfast-loud"],
        &["systemctl", "disable", "holdfast-loud"],
        &["systemctl", "daemon-reload"],
    ] {
        desk.converge(&wanted);
        silence(&desk, &mut changes);
        run(command);
        let next = async { tokio::time::timeout(Duration::from_secs(10), changes.recv()).await };
        let service = desk
            .runtime
            .block_on(next)
            .unwrap_or_else(|_| panic!("{command:?} was not announced"));
        assert_eq!(service.unwrap().as_str(), "loud", "{command:?}");
    }
    // A unit that is neither started nor wanted is one that systemd loads for each question about
    // it and then forgets, and it tells of both.
    run(&["systemctl", "disable", "--now", "holdfast-loud"]);
    for _ in 0..2 {
        silence(&desk, &mut changes);
        for _ in 0..5 {
            desk.altered("loud");
        }
        let heard = async { tokio::time::timeout(SILENCE, changes.recv()).await };
        assert!(
            desk.runtime.block_on(heard).is_err(),
            "a look was announced"
        );
    }
    // A connection that breaks is made again.
    run(&["systemctl", "restart", "dbus.service"]);
    eventually("it is seen again", || {
        desk.runtime.block_on(desk.adapter.observe()).is_ok()
    });
    desk.converge(&wanted);
    desk.pid("loud");
}

/// How long nothing is announced once everything was.
const SILENCE: Duration = Duration::from_millis(400);

fn silence(desk: &Desk, changes: &mut mpsc::Receiver<ServiceName>) {
    let quiet = async { while tokio::time::timeout(SILENCE, changes.recv()).await.is_ok() {} };
    let patience = Duration::from_secs(20);
    let quiet = async { tokio::time::timeout(patience, quiet).await };
    desk.runtime.block_on(quiet).expect("it falls silent");
}

fn files_alone_are_read_again_in_place() {
    let desk = Desk::new();
    let script = "trap 'cat $1 > $STATE_DIRECTORY/read' HUP; cat $1 > $STATE_DIRECTORY/read; \
                  while :; do sleep 0.05; done";
    let wanted = |service: &str, release: u32, reload: &Value| {
        desk.wanted(service, release, |template| {
            let conf = template["command"][2].clone();
            template["command"] = json!(["/bin/sh", "-c", script, "sh", conf]);
            template["environment"] = json!({});
            template["workingDirectory"] = json!("/");
            template["reload"] = reload.clone();
        })
    };
    let read = |service: &str| {
        fs::read_to_string(format!(
            "/var/lib/private/holdfast-workloads/{service}/read"
        ))
        .unwrap_or_default()
    };
    let command = json!({"command": ["/bin/sh", "-c", "kill -HUP $MAINPID"]});
    for (service, reload, same) in [
        ("by-signal", json!({"signal": "SIGHUP"}), true),
        ("by-command", command, true),
        ("by-restart", Value::Null, false),
    ] {
        desk.converge(&wanted(service, 1, &reload));
        let first = desk.pid(service);
        eventually("it has read its file", || read(service) == "release = 1\n");
        desk.converge(&wanted(service, 2, &reload));
        eventually("it has read its new file", || {
            read(service) == "release = 2\n"
        });
        assert_eq!(desk.pid(service) == first, same, "{service}");
        let observed = desk.observe(service).unwrap();
        assert_eq!(observed.body, Some(wanted(service, 2, &reload).body));
    }
    // A file that somebody edited is put back, and read again.
    let conf = desk
        .bench
        .home
        .agent()
        .join("systemd/services/by-signal/files/conf/app.conf");
    fs::write(&conf, "release = mine\n").unwrap();
    run(&["systemctl", "kill", "--signal=HUP", "holdfast-by-signal"]);
    eventually("it has read the edit", || {
        read("by-signal") == "release = mine\n"
    });
    assert!(
        desk.altered("by-signal")
            .contains("conf/app.conf was changed")
    );
    desk.converge(&wanted("by-signal", 2, &json!({"signal": "SIGHUP"})));
    eventually("it has read what was put back", || {
        read("by-signal") == "release = 2\n"
    });
}

fn a_unit_that_says_when_it_is_ready_is_ready_then() {
    let desk = Desk::new();
    let script = "while ! [ -e $STATE_DIRECTORY/go ]; do \
                  systemd-notify --status='the shelves are empty'; sleep 0.05; done; \
                  systemd-notify --ready; while :; do sleep 0.05; done";
    let wanted = desk.wanted("shop", 1, |template| {
        template["command"] = json!(["/bin/sh", "-c", script]);
        let said = json!({"Type": "notify", "NotifyAccess": "all", "TimeoutStartSec": "60s"});
        template["unit"] = json!({"Service": said});
    });
    let go = Path::new("/var/lib/private/holdfast-workloads/shop/go");
    let (progress, _told) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let waits = |seen: Option<Observed>| {
        let Some(Live::Unready { why, failing, .. }) = seen.map(|seen| seen.live) else {
            return false;
        };
        why.contains("still starting it: the shelves are empty") && !failing
    };
    // Being converged ends when it has said that it is ready, and not before.
    desk.runtime.block_on(async {
        let mut work = std::pin::pin!(desk.adapter.converge(&wanted, &progress, &cancel));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let pause = tokio::time::sleep(Duration::from_millis(100));
            tokio::select! {
                done = &mut work => panic!("it is not ready: {done:?}"),
                () = pause => {}
            }
            let state = ["-p", "StatusText", "show", "holdfast-shop.service"];
            if run(&[&["systemctl"][..], &state].concat()).contains("empty") {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "it says nothing");
        }
        fs::write(go, "").unwrap();
        work.await.unwrap();
    });
    let before = desk.pid("shop");
    // Started again by systemd, it is not ready until it says so once more.
    fs::remove_file(go).unwrap();
    run(&["systemctl", "kill", "--signal=KILL", "holdfast-shop"]);
    eventually("it waits", || waits(desk.observe("shop")));
    fs::write(go, "").unwrap();
    eventually(
        "it is ready again",
        || matches!(desk.live("shop"), Live::Running { pid: Some(pid), .. } if pid != before),
    );
    desk.remove("shop");
}

fn what_runs_is_stopped_by_its_own_rule() {
    let desk = Desk::new();
    let release = |release: u32, signal: &str| {
        let script = format!(
            "trap 'echo {signal} >> $STATE_DIRECTORY/ended; exit 0' {signal}; \
             echo {release} > $STATE_DIRECTORY/ready; while :; do sleep 0.05; done"
        );
        desk.wanted("last-words", release, |template| {
            template["command"] = json!(["/bin/sh", "-c", script]);
            template["stop"] = json!({"signal": signal, "grace": "20s"});
        })
    };
    let kept = |name: &str| {
        let state = "/var/lib/private/holdfast-workloads/last-words";
        fs::read_to_string(format!("{state}/{name}")).unwrap_or_default()
    };
    let began = std::time::Instant::now();
    desk.converge(&release(1, "INT"));
    eventually("it listens", || kept("ready") == "1\n");
    desk.converge(&release(2, "USR1"));
    eventually("the next one listens", || kept("ready") == "2\n");
    assert_eq!(kept("ended"), "INT\n");
    desk.converge(&release(3, "TERM"));
    assert_eq!(kept("ended"), "INT\nUSR1\n");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "no grace period ran out"
    );
}

fn a_schedule_runs_and_says_how_it_went() {
    let desk = Desk::new();
    let wanted = |release: u32, code: u32| {
        let script = format!("echo run {release} >> $STATE_DIRECTORY/runs; exit {code}");
        desk.wanted("tick", release, |template| {
            template["command"] = json!(["/bin/sh", "-c", script]);
            template["restart"] = Value::Null;
            template["schedule"] = json!({"calendar": ["*:*:0/1"], "catchUp": true});
        })
    };
    let runs =
        || fs::read_to_string("/var/lib/private/holdfast-workloads/tick/runs").unwrap_or_default();
    desk.converge(&wanted(1, 0));
    eventually("it has run twice", || runs().matches("run 1").count() >= 2);
    assert!(matches!(desk.live("tick"), Live::Running { pid: None, .. }));
    for unit in ["holdfast-tick.timer", "holdfast-tick.service"] {
        assert_eq!(run(&["systemd-analyze", "verify", unit]), "");
    }
    assert_eq!(show("holdfast-tick.timer", "UnitFileState"), "enabled");

    desk.converge(&wanted(2, 3));
    eventually(
        "a failed run is told of",
        || matches!(desk.live("tick"), Live::Unready { failing: true, why, .. } if why.contains("exit code 3")),
    );
    desk.converge(&wanted(3, 0));
    eventually("the next good run is enough", || {
        runs().contains("run 3") && matches!(desk.live("tick"), Live::Running { .. })
    });

    run(&["systemctl", "stop", "holdfast-tick.timer"]);
    assert_eq!(desk.altered("tick"), "its timer was stopped");
    desk.converge(&wanted(3, 0));
    assert!(matches!(desk.live("tick"), Live::Running { .. }));

    // From a schedule to a service, and back.
    desk.converge(&desk.wanted("tick", 4, |_| ()));
    desk.pid("tick");
    assert_eq!(show("holdfast-tick.timer", "LoadState"), "not-found");
    desk.converge(&wanted(5, 0));
    match desk.live("tick") {
        Live::Running { pid: None, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(show("holdfast-tick.service", "UnitFileState"), "static");
    desk.remove("tick");
    assert_eq!(left("tick"), "");
}

fn what_holdfast_did_not_make_is_never_replaced() {
    let desk = Desk::new();
    let wanted = desk.wanted("agent", 1, |_| ());
    let mine = "[Service]\nExecStart=/bin/true\n";
    for directory in [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/run/systemd/system",
    ] {
        let path = format!("{directory}/holdfast-agent.service");
        fs::create_dir_all(directory).unwrap();
        fs::write(&path, mine).unwrap();
        let why = desk.refusal(&wanted);
        assert!(why.contains(&path), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), mine);
        assert_eq!(desk.observe("agent"), None);
        desk.remove("agent");
        assert_eq!(fs::read_to_string(&path).unwrap(), mine);
        fs::remove_file(&path).unwrap();
    }
    symlink("/dev/null", unit_path("agent")).unwrap();
    assert!(desk.refusal(&wanted).contains("is masked"));
    fs::remove_file(unit_path("agent")).unwrap();

    // A second agent on the same host.
    desk.converge(&wanted);
    let other = Desk::new();
    let theirs = other.wanted("agent", 2, |_| ());
    assert!(other.refusal(&theirs).contains("belongs to the agent in"));
    assert_eq!(other.observe("agent"), None);
    other.remove("agent");
    desk.pid("agent");
    fs::remove_dir_all(desk.bench.home.agent()).unwrap();
    other.converge(&theirs);
    other.pid("agent");
}

fn what_cannot_start_is_refused_for_good() {
    let desk = Desk::new();
    desk.converge(&desk.wanted("stuck", 1, |_| ()));
    let before = desk.pid("stuck");
    let refusal = |key: &str, value: Value| {
        desk.refusal(&desk.wanted("stuck", 2, |template| template[key] = value.clone()))
    };
    // What is seen before anything is touched leaves the old one alone.
    assert!(refusal("user", json!("nobody-here")).contains("no user"));
    let zone = refusal("schedule", json!("*-*-* 03:00 Nowhere/Land"));
    assert!(
        zone.contains("systemd refuses holdfast-stuck.timer"),
        "{zone}"
    );
    assert_eq!(desk.pid("stuck"), before);
    assert_eq!(show("holdfast-stuck.timer", "LoadState"), "not-found");
    let missing = refusal("command", json!(["/nowhere/program"]));
    assert!(missing.contains("not executable"), "{missing}");
    let limit = refusal("unit", json!({"Service": {"CPUWeight": "heavy"}}));
    assert!(
        limit.contains("line ") && limit.contains("heavy"),
        "{limit}"
    );
    assert_eq!(desk.pid("stuck"), before);
    // What only a start can tell.
    let directory = refusal("workingDirectory", json!("/nowhere"));
    assert!(directory.contains("working directory"), "{directory}");
    assert_eq!(show("holdfast-stuck.service", "ActiveState"), "inactive");
    desk.converge(&desk.wanted("stuck", 1, |_| ()));
    desk.pid("stuck");
    // A unit that says when it is ready, and does not, is not ready.
    let notify = desk.wanted("silent", 1, |template| {
        template["unit"] = json!({"Service": {"Type": "notify", "TimeoutStartSec": "700ms"}});
        template["restart"] = json!({"policy": "never"});
    });
    match desk.try_converge(&notify) {
        Err(Failure::Retryable(why)) => assert!(why.contains("did not start"), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn nothing_is_asked_of_systemd_before_the_first_workload() {
    let desk = Desk::new();
    let sockets = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let target = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
        open.filter_map(target)
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let memory = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon"));
        line.unwrap().to_owned()
    };
    let before = sockets();
    assert_eq!(desk.runtime.block_on(desk.adapter.observe()).unwrap(), []);
    desk.remove("nobody");
    assert_eq!(sockets(), before);
    println!("without a connection: {}", memory());
    desk.converge(&desk.wanted("first", 1, |_| ()));
    assert!(sockets() > before);
    println!("with a connection: {}", memory());
    desk.remove("first");
}

/// Whatever bears the name of a service, but for the lock of its operations.
fn left(service: &str) -> String {
    let name = format!("*{service}*");
    let places = ["/etc", "/run/systemd", "/var/lib"];
    let which = ["-name", &name, "-not", "-path", "*/turns/*"];
    run(&[&["find"][..], &places, &which].concat())
}

fn a_removed_workload_leaves_nothing() {
    let desk = Desk::new();
    let wanted = desk.wanted("brief", 1, |_| ());
    desk.converge(&wanted);
    run(&["systemctl", "set-property", "holdfast-brief", "TasksMax=99"]);
    fs::create_dir_all("/run/systemd/system/holdfast-brief.service.d").unwrap();
    fs::write(
        "/run/systemd/system/holdfast-brief.service.d/x.conf",
        "[Service]\nNice=1\n",
    )
    .unwrap();
    desk.remove("brief");
    assert_eq!(desk.observe("brief"), None);
    assert_eq!(left("brief"), "");
    assert_eq!(show("holdfast-brief.service", "LoadState"), "not-found");
    assert_eq!(show("holdfast-brief.service", "ActiveState"), "inactive");
    assert_eq!(environments("brief"), Vec::<Vec<String>>::new());
    let unpacked = fs::read_dir(desk.bench.home.agent().join("systemd/unpacked")).unwrap();
    assert_eq!(unpacked.count(), 0);
}

fn a_lost_record_neither_orphans_nor_doubles() {
    let desk = Desk::new();
    let wanted = desk.wanted("amnesia", 1, |_| ());
    desk.converge(&wanted);
    let services = desk.bench.home.agent().join("systemd/services");
    fs::remove_dir_all(services.join("amnesia")).unwrap();
    let seen = desk.observe("amnesia").unwrap();
    assert_eq!(seen.body, Some(wanted.body));
    assert!(desk.altered("amnesia").contains("is lost"));
    desk.converge(&wanted);
    desk.pid("amnesia");
    assert_eq!(environments("amnesia").len(), 1);
    fs::remove_dir_all(services.join("amnesia")).unwrap();
    desk.remove("amnesia");
    assert_eq!(environments("amnesia").len(), 0);
    assert!(!unit_path("amnesia").exists());
}

fn a_job_is_not_run_again_for_what_is_forgotten_or_changed() {
    let desk = Desk::new();
    let name = ServiceName::parse("migrate").unwrap();
    let ended = |how: &str| {
        let seen = desk.observe("migrate").unwrap();
        let good = matches!(
            seen.live,
            Live::Ended {
                exit: Exit::Code(0),
                ..
            }
        );
        assert!(good, "{how}: {seen:?}");
        assert_eq!(desk.bench.runs(&name), 1, "{how}");
        seen
    };
    let job = desk.bench.job(&name, 1, Ending::Succeeds).unwrap();
    desk.converge(&job);
    eventually("the job ends", || {
        matches!(desk.live("migrate"), Live::Ended { .. })
    });
    let seen = ended("at first");
    assert_eq!(seen.body, Some(job.body));
    let link = "/etc/systemd/system/multi-user.target.wants/holdfast-migrate.service";
    assert!(
        fs::symlink_metadata(link).is_err(),
        "it is not started at boot"
    );

    run(&["systemctl", "stop", "holdfast-migrate"]);
    assert_eq!(ended("systemd forgot it"), seen);
    desk.bench.edit(&name).unwrap();
    run(&["systemctl", "daemon-reload"]);
    assert_eq!(ended("its unit was edited"), seen);
    desk.converge(&job);
    ended("it was asked for again");

    // An agent that lost all it knew finds the result in systemd.
    let other = desk.bench.job(&name, 2, Ending::Fails).unwrap();
    desk.converge(&other);
    let failed = || {
        matches!(
            desk.live("migrate"),
            Live::Ended {
                exit: Exit::Code(3),
                ..
            }
        )
    };
    eventually("the next one fails", failed);
    let services = desk.bench.home.agent().join("systemd/services");
    fs::remove_dir_all(services.join("migrate")).unwrap();
    assert!(failed());
    assert_eq!(desk.observe("migrate").unwrap().body, Some(other.body));
    desk.remove("migrate");
    assert!(!unit_path("migrate").exists());
}

/// Two jobs on files that outlive this program: one that has succeeded, one that is at work.
fn jobs_over_a_reboot() -> (Arc<dyn Adapter>, [Wanted; 2], [PathBuf; 2]) {
    let root = Path::new("/var/lib/hf-reboot");
    let bench = SystemdBench::new();
    fs::create_dir_all(root.join("runs")).unwrap();
    let runs = ["done", "at-work"].map(|name| root.join("runs").join(name));
    let job = |i: usize, ending| {
        let name = ServiceName::parse(["done", "at-work"][i]).unwrap();
        bench.job_in(&runs[i], &name, 1, ending)
    };
    let jobs = [job(0, Ending::Succeeds), job(1, Ending::Waits)];
    (
        crate::bench::open(&root.join("agent"), "systemd"),
        jobs,
        runs,
    )
}

fn jobs_seen(adapter: &Arc<dyn Adapter>) -> Vec<Live> {
    let seen = runtime().block_on(adapter.observe()).unwrap();
    let of = |name: &str| {
        let mut all = seen.iter();
        let found = all.find(|seen| seen.service.as_str() == name);
        found.expect("it is observed").live.clone()
    };
    vec![of("done"), of("at-work")]
}

pub(crate) fn begin(adapter: &Arc<dyn Adapter>, job: &Wanted) {
    let (progress, _told) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let converged = runtime().block_on(adapter.converge(job, &progress, &cancel));
    converged.unwrap();
}

fn jobs_before_a_reboot() {
    let (adapter, jobs, runs) = jobs_over_a_reboot();
    for job in &jobs {
        begin(&adapter, job);
    }
    eventually("one is done and one is at work", || {
        let seen = jobs_seen(&adapter);
        matches!(
            seen[0],
            Live::Ended {
                exit: Exit::Code(0),
                ..
            }
        ) && matches!(seen[1], Live::Running { .. })
            && runs.iter().all(|runs| lines(runs) == 1)
    });
}

fn jobs_after_a_reboot() {
    let (adapter, jobs, runs) = jobs_over_a_reboot();
    let seen = jobs_seen(&adapter);
    assert!(
        matches!(
            seen[0],
            Live::Ended {
                exit: Exit::Code(0),
                ..
            }
        ),
        "{seen:?}"
    );
    // Nobody saw its end: the agent decides whether it is tried again.
    assert!(
        matches!(
            seen[1],
            Live::Ended {
                exit: Exit::Unknown,
                ..
            }
        ),
        "{seen:?}"
    );
    assert_eq!(runs.each_ref().map(|runs| lines(runs)), [1, 1]);
    for job in &jobs {
        begin(&adapter, job);
    }
    eventually("what was at work is begun again, and nothing else", || {
        runs.each_ref().map(|runs| lines(runs)) == [1, 2]
    });
    assert!(matches!(jobs_seen(&adapter)[1], Live::Running { .. }));
}

fn an_agent_killed_at_20_moments_of_converge_leaves_one_workload() {
    let desk = Desk::new();
    let releases = [1, 2].map(|release| desk.wanted("victim", release, |_| ()));
    let home = &desk.bench.home;
    let mut alive = 0;
    for i in 0..20u32 {
        let agent = killed::spawn(home, "systemd", "always", &releases);
        killed::kill_after(
            agent,
            killed::pause(i) + Duration::from_millis(40 * u64::from(i)),
        );
        let left = environments("victim").len();
        assert!(left <= 1, "{left} processes after kill {i}");
        alive += left;
        let wanted = &releases[i as usize % 2];
        killed::finish(killed::spawn(
            home,
            "systemd",
            "once",
            std::slice::from_ref(wanted),
        ));
        let release = format!("RELEASE={}", i % 2 + 1);
        let running = environments("victim");
        assert_eq!(running.len(), 1, "after kill {i}");
        assert!(running[0].contains(&release), "after kill {i}: {running:?}");
        assert_eq!(desk.observe("victim").unwrap().body, Some(wanted.body));
        desk.pid("victim");
    }
    println!("20 kills: the workload was alive right after {alive} of them");
}

fn two_hundred_unchanged_workloads_cost_nothing() {
    let desk = Desk::new();
    let all: Vec<Wanted> = (0..200)
        .map(|i| desk.wanted(&format!("many-{i}"), 1, |_| ()))
        .collect();
    let converge_all = || {
        let began = std::time::Instant::now();
        let (progress, _told) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let each = all
            .iter()
            .map(|wanted| desk.adapter.converge(wanted, &progress, &cancel));
        let ended = desk.runtime.block_on(futures_util::future::join_all(each));
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        began.elapsed()
    };
    println!("200 workloads were made in {:?}", converge_all());
    let observe = || desk.runtime.block_on(desk.adapter.observe()).unwrap();
    let before = observe();
    let reloads = || {
        run(&["journalctl", "--output=cat", "_PID=1"])
            .matches("Reloading.")
            .count()
    };
    let (reloaded, began) = (reloads(), std::time::Instant::now());
    assert_eq!(observe(), before);
    println!("looking at them took {:?}", began.elapsed());
    println!("converging them again took {:?}", converge_all());
    assert_eq!(observe(), before);
    assert_eq!(reloads(), reloaded);
    assert!(
        before
            .iter()
            .all(|seen| matches!(seen.live, Live::Running { .. }))
    );
    let began = std::time::Instant::now();
    let each = all
        .iter()
        .map(|wanted| desk.adapter.remove(&wanted.workload.service));
    let ended = desk.runtime.block_on(futures_util::future::join_all(each));
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    println!("removing them took {:?}", began.elapsed());
    assert_eq!(observe(), []);
}
