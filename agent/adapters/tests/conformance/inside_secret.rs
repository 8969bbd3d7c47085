//! Secrets of units, inside of a host with systemd.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use holdfast_adapters::run::{Live, Wanted};
use serde_json::{Value, json};

use crate::bench::eventually;
use crate::bench_systemd::{environments, run, unit_path};
use crate::inside_systemd::{Desk, show};
use crate::secret::{files_with, in_memory, with};

pub(crate) const TESTS: &[crate::Test] = &[
    ("secrets", secrets_are_in_memory_and_in_no_unit),
    ("secrets_at_boot", a_unit_waits_at_boot_for_its_secrets),
    ("secrets_refused", what_systemd_would_log_is_refused),
];

const ODD: &str = "canary \"a\" 'b' \\c $D ${E} `f` %h # ;\n\tG=h";

fn release(desk: &Desk, version: u64, change: impl Fn(&mut Value)) -> Wanted {
    let wanted = desk.wanted("kept", 1, |template| {
        let script = "test -r conf/token && cat conf/token > /dev/null && exec sleep 86400";
        template["command"] = json!(["/bin/sh", "-c", script]);
        template["workingDirectory"] =
            json!(holdfast_protocol::workload::Placeholder::WorkloadDir.text());
        template["environment"]["TOKEN"] = json!({"secret": "token", "version": version});
        template["environment"]["ODD"] = json!({"secret": "odd", "version": 1});
        template["files"]["conf/token"] = json!({"secret": "file", "version": 1});
        change(template);
    });
    let token = format!("canary-{version}");
    with(
        wanted,
        &[
            ("token", version, token.as_bytes()),
            ("odd", 1, ODD.as_bytes()),
            ("file", 1, b"canary-\xff\0file"),
        ],
    )
}

fn variable(name: &str) -> Vec<String> {
    let begin = format!("{name}=");
    let all = environments("kept");
    let found = all
        .iter()
        .flatten()
        .filter_map(|word| word.strip_prefix(&begin));
    found.map(str::to_owned).collect()
}

fn secrets_are_in_memory_and_in_no_unit() {
    let desk = Desk::new();
    desk.converge(&release(&desk, 1, |_| ()));
    assert_eq!(variable("TOKEN"), ["canary-1"]);
    assert_eq!(variable("ODD"), [ODD]);
    let given = Path::new("/run/credentials/holdfast-kept.service/file");
    assert_eq!(fs::read(given).unwrap(), b"canary-\xff\0file");
    assert_eq!(fs::metadata(given).unwrap().mode() & 0o377, 0);
    let link = desk
        .bench
        .home
        .agent()
        .join("systemd/services/kept/files/conf/token");
    assert_eq!(fs::read_link(link).unwrap(), given);
    assert_eq!(
        run(&["systemd-analyze", "verify", "holdfast-kept.service"]),
        ""
    );
    for said in [
        fs::read_to_string(unit_path("kept")).unwrap(),
        run(&["systemctl", "show", "holdfast-kept"]),
        run(&["systemctl", "cat", "holdfast-kept"]),
        run(&["systemctl", "status", "--full", "holdfast-kept"]),
        run(&["journalctl", "--no-pager", "-o", "export"]),
        fs::read_to_string(format!("/proc/{}/cmdline", desk.pid("kept"))).unwrap(),
    ] {
        assert!(!said.contains("canary"), "{said}");
    }
    let mut on_disk = Vec::new();
    files_with(desk.bench.home.path(), "canary", &mut on_disk);
    files_with(Path::new("/etc"), "canary", &mut on_disk);
    files_with(Path::new("/var/log"), "canary", &mut on_disk);
    assert_eq!(on_disk, Vec::<PathBuf>::new());
    let memory = in_memory(&desk.bench.home.agent());
    assert!(memory[0].starts_with("/run/holdfast-secrets"), "{memory:?}");
    // A new value is a new unit, and so a restart; the same again is none.
    let before = desk.pid("kept");
    desk.converge(&release(&desk, 1, |_| ()));
    assert_eq!(desk.pid("kept"), before);
    desk.converge(&release(&desk, 2, |_| ()));
    assert_ne!(desk.pid("kept"), before);
    assert_eq!(variable("TOKEN"), ["canary-2"]);
    let mut older = Vec::new();
    files_with(&memory[0], "canary-1", &mut older);
    assert_eq!(older, Vec::<PathBuf>::new());
    // systemd itself starts it again from what lies in memory.
    run(&["systemctl", "kill", "--signal=KILL", "holdfast-kept"]);
    eventually("systemd has started it again", || {
        variable("TOKEN") == ["canary-2"]
    });
    desk.remove("kept");
    assert_eq!(in_memory(&desk.bench.home.agent()), Vec::<PathBuf>::new());
}

fn a_unit_waits_at_boot_for_its_secrets() {
    let desk = Desk::new();
    desk.converge(&release(&desk, 1, |_| ()));
    let pid = desk.pid("kept");
    let memory = in_memory(&desk.bench.home.agent()).remove(0);
    fs::remove_dir_all(&memory).unwrap();
    // What runs has its own; it is put right without a restart.
    assert!(desk.altered("kept").contains("gone from memory"));
    desk.converge(&release(&desk, 1, |_| ()));
    assert_eq!(desk.pid("kept"), pid);
    // As after a boot.
    run(&["systemctl", "stop", "holdfast-kept"]);
    fs::remove_dir_all(&memory).unwrap();
    run(&["systemctl", "start", "holdfast-kept"]);
    assert_eq!(show("holdfast-kept.service", "ActiveState"), "inactive");
    assert_eq!(show("holdfast-kept.service", "ConditionResult"), "no");
    desk.converge(&release(&desk, 1, |_| ()));
    assert!(matches!(desk.live("kept"), Live::Running { .. }));
    assert_eq!(variable("TOKEN"), ["canary-1"]);
    desk.remove("kept");
}

fn what_systemd_would_log_is_refused() {
    let desk = Desk::new();
    for value in [&b"canary\x1b[31m"[..], b"canary\r", b"\xffcanary"] {
        let wanted = with(
            release(&desk, 1, |_| ()),
            &[("token", 1, value), ("odd", 1, b"x"), ("file", 1, b"x")],
        );
        let why = desk.refusal(&wanted);
        assert!(why.contains("as a file"), "{why}");
        assert!(!why.contains("canary"), "{why}");
    }
    let large = vec![b'x'; 64 << 10];
    let names: Vec<String> = (0..17).map(|i| format!("large-{i}")).collect();
    let wanted = desk.wanted("kept", 1, |template| {
        for name in &names {
            template["files"][name] = json!({"secret": name, "version": 1});
        }
    });
    let secrets: Vec<(&str, u64, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), 1, &large[..]))
        .collect();
    let why = desk.refusal(&with(wanted, &secrets));
    assert!(why.contains("1048576 bytes"), "{why}");
    assert!(!run(&["journalctl", "--no-pager", "-o", "export"]).contains("canary"));
}
