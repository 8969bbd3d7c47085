//! What is particular to programs under supervision.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_adapters::conformance::Ending;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, Exit, Live, LogRequest, Observed, Wanted};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{
    Home, Marked, as_job, eventually, job_script, kill, lines, lives, runtime, state,
};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "an_exit_is_seen_at_once_with_its_code",
        an_exit_is_seen_at_once_with_its_code,
    ),
    (
        "an_adopted_program_that_ends_is_seen_as_well",
        an_adopted_program_that_ends_is_seen_as_well,
    ),
    (
        "a_program_that_ignores_the_signal_is_killed_with_its_children",
        a_program_that_ignores_the_signal_is_killed_with_its_children,
    ),
    (
        "children_that_outlive_their_parent_are_ended",
        children_that_outlive_their_parent_are_ended,
    ),
    (
        "a_number_that_was_used_again_is_left_alone",
        a_number_that_was_used_again_is_left_alone,
    ),
    (
        "a_lost_record_is_found_again_by_its_mark",
        a_lost_record_is_found_again_by_its_mark,
    ),
    (
        "after_a_reboot_it_is_ended_and_starts_again",
        after_a_reboot_it_is_ended_and_starts_again,
    ),
    (
        "a_program_that_cannot_start_is_refused_with_the_reason",
        a_program_that_cannot_start_is_refused_with_the_reason,
    ),
    (
        "secrets_in_the_environment_are_in_no_argument",
        secrets_in_the_environment_are_in_no_argument,
    ),
    ("the_environment_is_clean", the_environment_is_clean),
    (
        "it_runs_as_its_user_and_may_write_its_own_directory",
        it_runs_as_its_user,
    ),
    ("limits_are_in_force", limits_are_in_force),
    (
        "a_job_that_two_agents_begin_at_once_runs_once",
        a_job_that_two_agents_begin_at_once_runs_once,
    ),
    ("a_log_stays_within_its_bound", a_log_stays_within_its_bound),
    (
        "lines_since_a_time_are_those_after_it",
        lines_since_a_time_are_those_after_it,
    ),
    (
        "a_line_that_is_too_long_is_cut",
        a_line_that_is_too_long_is_cut,
    ),
    (
        "artifacts_stay_while_needed_and_go_when_not",
        artifacts_stay_while_needed_and_go_when_not,
    ),
    (
        "a_health_check_names_the_paths_that_the_template_does",
        a_health_check_names_the_paths_that_the_template_does,
    ),
    (
        "a_link_in_its_directory_leads_no_file_astray",
        a_link_in_its_directory_leads_no_file_astray,
    ),
];

/// An adapter with a runtime to drive it.
struct Driver {
    home: Home,
    adapter: Arc<dyn Adapter>,
    runtime: tokio::runtime::Runtime,
}

impl Driver {
    fn new() -> Self {
        let home = Home::new();
        let adapter = home.open("process");
        Self {
            home,
            adapter,
            runtime: runtime(),
        }
    }

    /// The agent was started again.
    fn reopen(mut self) -> Self {
        drop(self.adapter);
        self.adapter = self.home.open("process");
        self
    }

    fn try_converge(&self, wanted: &Wanted) -> Result<(), Failure> {
        let (progress, _told) = mpsc::channel(16);
        let cancel = CancellationToken::new();
        self.runtime
            .block_on(self.adapter.converge(wanted, &progress, &cancel))
    }

    fn converge(&self, wanted: &Wanted) {
        self.try_converge(wanted).unwrap();
    }

    fn script(&self, script: &str, more: &Value) -> Wanted {
        let wanted = self.home.script("x", script, more);
        self.converge(&wanted);
        wanted
    }

    fn remove(&self) {
        self.runtime
            .block_on(self.adapter.remove(&service()))
            .unwrap();
    }

    fn observe(&self) -> Observed {
        let all = self.runtime.block_on(self.adapter.observe()).unwrap();
        all.into_iter()
            .find(|observed| observed.service == service())
            .unwrap()
    }

    fn pid(&self) -> i32 {
        match self.observe().live {
            Live::Running { pid, .. } => i32::try_from(pid.unwrap()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn marked(&self) -> Vec<Marked> {
        self.home.marked("x")
    }

    fn lines(&self, request: LogRequest) -> Vec<LogLine> {
        self.runtime.block_on(async {
            let mut receiver = self.adapter.logs(&service(), request).await.unwrap();
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
            lines
        })
    }

    fn output(&self) -> String {
        let bytes = fs::read(self.home.place("x").join("output.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn says(&self, text: &str) {
        eventually(text, || self.output().contains(text));
    }
}

const ALL: LogRequest = LogRequest {
    since: None,
    tail: 10_000,
    follow: false,
};

fn service() -> ServiceName {
    ServiceName::parse("x").unwrap()
}

fn an_exit_is_seen_at_once_with_its_code() {
    let driver = Driver::new();
    let mut changes = driver.adapter.changes();
    let mut slowest = Duration::ZERO;
    for (script, signal, exit) in [
        ("echo one; sleep 86400", Some("KILL"), Exit::Signal(9)),
        (
            "trap 'exit 7' TERM; echo two; while :; do sleep 0.01; done",
            Some("TERM"),
            Exit::Code(7),
        ),
        ("exit 3", None, Exit::Code(3)),
        ("exit 0", None, Exit::Code(0)),
    ] {
        let begun = Instant::now();
        driver.script(script, &json!({}));
        if let Some(signal) = signal {
            let pid = driver.pid();
            driver.says(if signal == "KILL" { "one" } else { "two" });
            // Announcements of the starts before this one; none is made by what is alive now.
            while changes.try_recv().is_ok() {}
            let begun = Instant::now();
            kill(pid, signal);
            let killed = begun.elapsed();
            let seen = driver.runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(5), changes.recv())
                    .await
                    .unwrap()
            });
            assert_eq!(seen, Some(service()));
            println!(
                "{script:?}: seen {:?} after the signal was sent",
                begun.elapsed() - killed
            );
            slowest = slowest.max(begun.elapsed() - killed);
        }
        eventually("its end", || {
            matches!(driver.observe().live, Live::Ended { .. })
        });
        let Live::Ended { exit: seen, at } = driver.observe().live else {
            panic!()
        };
        assert_eq!(seen, exit, "{script}");
        assert!(at.as_millis() > 0 && begun.elapsed() < Duration::from_secs(30));
        assert_eq!(state_of_last(&driver), None, "it was reaped");
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

fn state_of_last(driver: &Driver) -> Option<char> {
    let record = fs::read_to_string(driver.home.place("x").join("record.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    state(i32::try_from(record["pid"].as_i64().unwrap()).unwrap())
}

fn an_adopted_program_that_ends_is_seen_as_well() {
    let driver = Driver::new();
    driver.script("exec sleep 86400", &json!({}));
    let pid = driver.pid();
    // The adapter of another process would not be its parent either; that is what `killed` shows.
    let driver = driver.reopen();
    let mut changes = driver.adapter.changes();
    assert_eq!(driver.pid(), pid, "it was neither ended nor started again");
    kill(pid, "KILL");
    let seen = driver.runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), changes.recv())
            .await
            .unwrap()
    });
    assert_eq!(seen, Some(service()));
    assert!(matches!(driver.observe().live, Live::Ended { .. }));
}

fn a_program_that_ignores_the_signal_is_killed_with_its_children() {
    let driver = Driver::new();
    let script = "trap '' TERM INT; sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & \
                  setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & \
                  echo ready; while :; do sleep 0.05; done";
    let stubborn = driver.script(script, &json!({"stop": {"grace": "300ms"}}));
    driver.says("ready");
    eventually("its children", || driver.marked().len() >= 3);
    let pid = driver.pid();
    let begun = Instant::now();
    driver.converge(&driver.home.script("x", "exec sleep 86400", &json!({})));
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(300),
        "it had its grace period: {took:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!lives(pid));
    assert_eq!(driver.marked().len(), 1, "only the new one is left");
    driver.converge(&stubborn);
    driver.says("ready");
    driver.remove();
    assert_eq!(driver.marked(), []);
}

fn children_that_outlive_their_parent_are_ended() {
    let driver = Driver::new();
    driver.script(
        "sleep 86400 & setsid sleep 86400 & sleep 0.1; exit 1",
        &json!({}),
    );
    eventually("its end", || {
        matches!(
            driver.observe().live,
            Live::Ended { .. } | Live::Running { .. }
        )
    });
    eventually("two orphans", || driver.marked().len() == 2);
    driver.script("exec sleep 1000", &json!({"stop": {"grace": "100ms"}}));
    assert_eq!(driver.marked().len(), 1);
    driver.remove();
    assert_eq!(driver.marked(), []);
}

fn a_number_that_was_used_again_is_left_alone() {
    let driver = Driver::new();
    let wanted = driver.script("exec sleep 86400", &json!({}));
    kill(driver.pid(), "KILL");
    eventually("its end", || {
        matches!(driver.observe().live, Live::Ended { .. })
    });
    // Somebody else's process now has the number that the record names.
    let mut other = std::process::Command::new("/bin/sleep")
        .arg("86400")
        .spawn()
        .unwrap();
    let path = driver.home.place("x").join("record.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["pid"] = json!(other.id());
    fs::write(&path, record.to_string()).unwrap();
    let driver = driver.reopen();
    assert!(matches!(
        driver.observe().live,
        Live::Ended {
            exit: Exit::Unknown,
            ..
        }
    ));
    driver.converge(&wanted);
    assert_ne!(driver.pid(), i32::try_from(other.id()).unwrap());
    driver.remove();
    assert_eq!(other.try_wait().unwrap(), None, "it still lives");
    other.kill().unwrap();
    other.wait().unwrap();
}

fn a_lost_record_is_found_again_by_its_mark() {
    let driver = Driver::new();
    let wanted = driver.script("sleep 86400 & exec sleep 86400", &json!({}));
    eventually("both", || driver.marked().len() == 2);
    let before = driver.observe();
    fs::remove_dir_all(driver.home.agent().join("process/services")).unwrap();
    let driver = driver.reopen();
    let after = driver.observe();
    assert_eq!(after.body, Some(wanted.body));
    let pid = |seen: &Observed| match seen.live {
        Live::Running { pid, .. } => pid.unwrap(),
        Live::Unready { .. } | Live::Ended { .. } | Live::Altered { .. } => panic!("{seen:?}"),
    };
    assert_eq!(pid(&after), pid(&before));
    driver.converge(&wanted);
    assert_eq!(driver.marked().len(), 2, "it was not started a second time");
    driver.remove();
    assert_eq!(driver.marked(), []);
}

fn after_a_reboot_it_is_ended_and_starts_again() {
    let driver = Driver::new();
    let wanted = driver.script("exec sleep 86400", &json!({}));
    let pid = driver.pid();
    kill(pid, "KILL");
    eventually("its end", || !lives(pid));
    let path = driver.home.place("x").join("record.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["boot"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&path, record.to_string()).unwrap();
    let driver = driver.reopen();
    let seen = driver.observe();
    assert!(
        matches!(
            seen.live,
            Live::Ended {
                exit: Exit::Unknown,
                ..
            }
        ),
        "{seen:?}"
    );
    assert_eq!(seen.body, Some(wanted.body));
    driver.converge(&wanted);
    assert!(lives(driver.pid()));
}

fn a_program_that_cannot_start_is_refused_with_the_reason() {
    let driver = Driver::new();
    let own = json!({"command": ["./nothing-here"]});
    for (template, reason) in [
        (own, "No such file"),
        (
            json!({"command": ["no-such-program-anywhere"]}),
            "No such file",
        ),
        (json!({"command": ["/etc/passwd"]}), "Permission denied"),
        (
            json!({"command": ["/bin/true"], "workingDirectory": "/nonexistent"}),
            "/nonexistent",
        ),
        (
            json!({"command": ["/bin/true"], "user": "nobody-of-that-name"}),
            "no user",
        ),
    ] {
        let wanted = driver.home.wanted("x", "process", &template, Vec::new());
        let Err(Failure::Permanent(why)) = driver.try_converge(&wanted) else {
            panic!("{template}")
        };
        assert!(why.contains(reason), "{why}");
        let seen = driver.observe();
        assert_eq!(seen.body, None, "{seen:?}");
    }
    driver.remove();
}

fn secrets_in_the_environment_are_in_no_argument() {
    let driver = Driver::new();
    let canary = "c4n4ry-7f3a";
    let found = Arc::new(std::sync::Mutex::new(Vec::new()));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watcher = {
        let (found, stop) = (Arc::clone(&found), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if line.contains(canary) {
                        found.lock().unwrap().push(line);
                    }
                }
            }
        })
    };
    for i in 0..5 {
        let environment = json!({"SECRET": canary, "N": i.to_string()});
        driver.script("exec sleep 86400", &json!({"environment": environment}));
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    watcher.join().unwrap();
    assert_eq!(*found.lock().unwrap(), Vec::<String>::new());
    assert!(
        driver.marked()[0]
            .environment
            .contains(&format!("SECRET={canary}"))
    );
}

fn the_environment_is_clean() {
    let driver = Driver::new();
    driver.script(
        "env | sort; pwd; ls -l /proc/self/fd; echo done",
        &json!({"environment": {"A": "1"}}),
    );
    driver.says("done");
    let output = driver.output();
    let names: Vec<&str> = output
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    // PWD is the shell's own.
    for name in names {
        assert!(
            [
                "A",
                "HOME",
                "HOLDFAST_WORKLOAD",
                "LANG",
                "PATH",
                "PWD",
                "_",
                "OLDPWD",
                "SHLVL"
            ]
            .contains(&name),
            "{name}"
        );
    }
    let own = driver.home.place("x").join("files");
    assert!(
        output.lines().any(|line| line == own.to_str().unwrap()),
        "{output}"
    );
    let descriptors = output.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(
        descriptors, 4,
        "0, 1, 2 and the one that ls itself has open: {output}"
    );
}

fn it_runs_as_its_user() {
    let root = std::process::Command::new("id")
        .arg("-u")
        .output()
        .unwrap()
        .stdout
        == b"0\n";
    if !root {
        println!("only root can become another user");
        return;
    }
    let driver = Driver::new();
    // A test's own directory is for its owner alone; an agent's data directory is not.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(driver.home.path(), open).unwrap();
    let more = json!({"user": "nobody", "files": {"conf/a": "rendered"}});
    driver.script(
        "id -u; id -G; cat conf/a; echo; touch own && echo wrote; \
         touch ../x 2>/dev/null || echo kept out; cat ../record.json 2>/dev/null || echo secret; \
         echo ready; exec sleep 86400",
        &more,
    );
    driver.says("ready");
    let output = driver.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "65534", "65534", "rendered", "wrote", "kept out", "secret", "ready"
        ]
    );
    assert!(matches!(driver.observe().live, Live::Running { .. }));
}

fn limits_are_in_force() {
    let driver = Driver::new();
    let limits = json!({"limits": {"openFiles": 77, "memory": "64MiB", "cpu": 0.5}});
    driver.script(
        "ulimit -n; ulimit -d; nice; echo ready; exec sleep 86400",
        &limits,
    );
    driver.says("ready");
    // The test itself may have been started to give way.
    let own = rustix::process::getpriority_process(None).unwrap();
    let nice = (own + 10).min(19).to_string();
    assert_eq!(
        driver.output().lines().take(3).collect::<Vec<_>>(),
        ["77", "65536", &nice]
    );
}

/// As the launcher of an agent that was killed meets that of the next one.
fn a_job_that_two_agents_begin_at_once_runs_once() {
    let driver = Driver::new();
    let next = driver.home.open("process");
    let runs = driver.home.runs(&service());
    for round in 1..=40 {
        let script = job_script(runs.to_str().unwrap(), 1, Ending::Succeeds);
        let release = json!({"environment": {"RELEASE": round.to_string()}});
        let wanted = as_job(driver.home.script("x", &script, &release));
        let begin = async |adapter: &Arc<dyn Adapter>| {
            let (progress, _told) = mpsc::channel(16);
            let cancel = CancellationToken::new();
            adapter.converge(&wanted, &progress, &cancel).await
        };
        let both = async { tokio::join!(begin(&driver.adapter), begin(&next)) };
        let (one, two) = driver.runtime.block_on(both);
        assert!(one.is_ok() || two.is_ok(), "{one:?}, {two:?}");
        eventually("it has ended", || {
            matches!(driver.observe().live, Live::Ended { .. })
        });
        assert_eq!(lines(&runs), round, "{one:?}, {two:?}");
    }
}

fn a_log_stays_within_its_bound() {
    let driver = Driver::new();
    // 40 MiB, in bursts with pauses in which the bound is looked at.
    let script = "i=0; while [ $i -lt 20 ]; do head -c 2097152 /dev/zero | tr '\\0' 'x' | fold -w 99; \
                  echo; echo burst $i; i=$((i+1)); sleep 0.3; done; echo finished; exec sleep 86400";
    driver.script(script, &json!({}));
    let place = driver.home.place("x");
    let size = |name: &str| fs::metadata(place.join(name)).map_or(0, |found| found.len());
    let mut largest = 0;
    let largest = {
        let begun = Instant::now();
        while !driver.output().ends_with("finished\n") {
            assert!(begun.elapsed() < Duration::from_secs(60));
            largest = largest.max(size("output.log") + size("output.1.log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        largest
    };
    driver.observe();
    println!("40 MiB written; largest size on disk {largest} bytes");
    // Two files of the bound, and what is written within the second between two looks.
    assert!(largest < 40 << 20, "{largest}");
    assert!(size("output.log") <= 18 << 20);
    let lines = driver.lines(LogRequest { tail: 2, ..ALL });
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["burst 19", "finished"]);
    assert!(lines[1].at.is_some());
}

fn lines_since_a_time_are_those_after_it() {
    let driver = Driver::new();
    driver.script(
        "echo early; sleep 2.5; echo late; exec sleep 86400",
        &json!({}),
    );
    driver.says("early");
    eventually("a time for the line", || {
        driver.lines(ALL).iter().any(|line| line.at.is_some())
    });
    let early = driver.lines(ALL)[0].at;
    driver.says("late");
    let all = driver.lines(ALL);
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0].at, early, "a time does not change");
    let between = all[1].at.unwrap().since(all[0].at.unwrap());
    assert!((1_400..4_000).contains(&between.as_millis()), "{between:?}");
    let late = driver.lines(LogRequest {
        since: early,
        ..ALL
    });
    assert_eq!(late, all[1..]);
}

fn a_line_that_is_too_long_is_cut() {
    let driver = Driver::new();
    let script =
        "head -c 50000 /dev/zero | tr '\\0' 'y'; echo; echo; printf '\\377bad\\n'; echo end";
    driver.script(script, &json!({}));
    driver.says("end");
    let lines = driver.lines(ALL);
    assert_eq!(
        lines.len(),
        4,
        "{:?}",
        lines.iter().map(|l| l.text.len()).collect::<Vec<_>>()
    );
    let length = lines[0].text.len();
    assert!(
        length <= 16 * 1024 && length > 16_000 && lines[0].text.ends_with('…'),
        "{length}"
    );
    assert_eq!(
        (lines[1].text.as_str(), lines[2].text.as_str()),
        ("", "\u{fffd}bad")
    );
    assert_eq!(driver.lines(LogRequest { tail: 2, ..ALL }), lines[2..]);
}

fn artifacts_stay_while_needed_and_go_when_not() {
    let driver = Driver::new();
    let release = |n: u32| {
        let artifact = driver.home.artifact(
            "app",
            "app",
            format!("#!/bin/sh\nexec sleep {n}000").as_bytes(),
        );
        let template = json!({"command": ["\u{e000}artifact:app\u{e001}"]});
        driver
            .home
            .wanted("x", "process", &template, vec![artifact])
    };
    let unpacked = || {
        fs::read_dir(driver.home.agent().join("process/unpacked"))
            .unwrap()
            .count()
    };
    for (n, expected) in [(1, 1), (2, 2), (3, 2), (4, 2), (3, 2)] {
        driver.converge(&release(n));
        assert_eq!(unpacked(), expected, "after release {n}");
        assert!(lives(driver.pid()));
    }
    driver.remove();
    assert_eq!(unpacked(), 0);
}

fn a_health_check_names_the_paths_that_the_template_does() {
    let driver = Driver::new();
    let text = "\u{e000}artifact:app\u{e001} \u{e000}dir\u{e001}";
    let artifact = driver
        .home
        .artifact("app", "app", b"#!/bin/sh\necho \"$@\"; sleep 86400");
    let template =
        json!({"command": ["/bin/sh", "-c", "echo \"$1\"; exec sleep 86400", "x", text]});
    let wanted = driver
        .home
        .wanted("x", "process", &template, vec![artifact]);
    driver.converge(&wanted);
    let filled = driver.adapter.fill(&wanted.workload, text).unwrap();
    driver.says(&filled);
    let (app, own) = filled.split_once(' ').unwrap();
    assert!(fs::metadata(app).unwrap().is_file() && fs::metadata(own).unwrap().is_dir());
    let unknown = driver
        .adapter
        .fill(&wanted.workload, "\u{e000}artifact:b\u{e001}");
    assert_eq!(unknown, Err("artifact:b".to_owned()));
}

fn a_link_in_its_directory_leads_no_file_astray() {
    let driver = Driver::new();
    let outside = driver.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let script = format!(
        "ln -s {} conf; echo ready; exec sleep 86400",
        outside.display()
    );
    driver.script(&script, &json!({}));
    driver.says("ready");
    let with_file = driver
        .home
        .script("x", "exec sleep 1", &json!({"files": {"conf/a": "harm"}}));
    let refused = driver.try_converge(&with_file);
    assert!(matches!(refused, Err(Failure::Retryable(_))), "{refused:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
