//! What is particular to archives behind links.

use std::fs;
use std::os::unix::fs::symlink;

use holdfast_adapters::conformance::Subject as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Live, Wanted};
use holdfast_protocol::name::ServiceName;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{open, patiently, runtime, tar_gz};
use crate::bench_static::StaticBench;
use crate::killed;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "a_link_that_is_removed_is_announced",
        a_link_that_is_removed_is_announced,
    ),
    (
        "what_holdfast_did_not_make_is_never_replaced",
        what_holdfast_did_not_make_is_never_replaced,
    ),
    (
        "a_directory_that_holdfast_did_not_make_is_never_swept",
        a_directory_that_holdfast_did_not_make_is_never_swept,
    ),
    (
        "a_link_that_was_pointed_elsewhere_is_put_right",
        a_link_pointed_elsewhere_is_put_right,
    ),
    (
        "earlier_versions_stay_up_to_the_number_asked_for",
        earlier_versions_stay,
    ),
    (
        "a_service_that_moves_leaves_nothing_behind",
        a_service_that_moves_leaves_nothing_behind,
    ),
    (
        "two_agents_do_not_fight_over_one_link",
        two_agents_do_not_fight_over_one_link,
    ),
    (
        "a_reader_sees_one_whole_version_at_any_time",
        a_reader_sees_one_whole_version_at_any_time,
    ),
    (
        "twenty_thousand_files_are_switched_at_once_in_little_memory",
        twenty_thousand_files_are_switched_at_once_in_little_memory,
    ),
];

fn try_converge(bench: &StaticBench, wanted: &Wanted) -> Result<(), Failure> {
    let (progress, _told) = mpsc::channel(16);
    let adapter = bench.home.open("static");
    runtime().block_on(adapter.converge(wanted, &progress, &CancellationToken::new()))
}

fn live(bench: &StaticBench) -> Live {
    let adapter = bench.home.open("static");
    let mut all = runtime().block_on(adapter.observe()).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0).live
}

fn what_holdfast_did_not_make_is_never_replaced() {
    let bench = StaticBench::new();
    let link = bench.link("site");
    let refused = || match try_converge(&bench, &bench.release("site", 1)) {
        Err(Failure::Permanent(why)) => assert!(why.contains("move it away"), "{why}"),
        other => panic!("{other:?}"),
    };
    fs::write(&link, "mine").unwrap();
    refused();
    assert_eq!(fs::read_to_string(&link).unwrap(), "mine");
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    refused();
    fs::remove_dir(&link).unwrap();
    symlink("/etc", &link).unwrap();
    refused();
    assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("/etc"));
    assert!(!bench.home.path().join("www/.site.holdfast").exists());
    fs::remove_file(&link).unwrap();
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    // A directory in the place of a link that was ours is somebody's work as well.
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    refused();
    assert!(matches!(live(&bench), Live::Altered { .. }));
}

fn a_directory_that_holdfast_did_not_make_is_never_swept() {
    let bench = StaticBench::new();
    let www = bench.home.path().join("www");
    let versions = www.join(".site.holdfast");
    let precious = bench.home.path().join("precious");
    fs::create_dir_all(&precious).unwrap();
    fs::create_dir_all(&www).unwrap();
    let refused = || match try_converge(&bench, &bench.release("site", 1)) {
        Err(Failure::Permanent(why)) => assert!(why.contains("move it away"), "{why}"),
        other => panic!("{other:?}"),
    };
    fs::write(precious.join("work"), "mine").unwrap();
    // Whoever may write beside the link must not lead the agent's broom elsewhere.
    symlink(&precious, &versions).unwrap();
    refused();
    fs::remove_file(&versions).unwrap();
    fs::rename(&precious, &versions).unwrap();
    refused();
    assert_eq!(fs::read_to_string(versions.join("work")).unwrap(), "mine");
    fs::remove_file(versions.join("work")).unwrap();
    // An empty one is what an interrupted first release leaves.
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    // Nor once it was ours.
    fs::rename(&versions, &precious).unwrap();
    symlink(&precious, &versions).unwrap();
    fs::write(precious.join("work"), "mine").unwrap();
    refused();
    assert_eq!(fs::read_to_string(precious.join("work")).unwrap(), "mine");
}

fn a_link_pointed_elsewhere_is_put_right() {
    let bench = StaticBench::new();
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    let link = bench.link("site");
    fs::remove_file(&link).unwrap();
    symlink("/etc", &link).unwrap();
    let Live::Altered { what } = live(&bench) else {
        panic!()
    };
    assert!(what.contains("/etc"), "{what}");
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    assert_eq!(
        fs::read_to_string(link.join("index.html")).unwrap(),
        "release 1"
    );
}

fn a_link_that_is_removed_is_announced() {
    let bench = StaticBench::new();
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    let adapter = bench.home.open("static");
    let mut changes = adapter.changes();
    fs::write(bench.home.path().join("www/other"), "not ours").unwrap();
    let begun = std::time::Instant::now();
    fs::remove_file(bench.link("site")).unwrap();
    let next = |changes: &mut mpsc::Receiver<_>| {
        let patience = std::time::Duration::from_secs(5);
        runtime().block_on(async {
            tokio::time::timeout(patience, changes.recv())
                .await
                .unwrap()
        })
    };
    assert_eq!(
        next(&mut changes),
        Some("site".parse::<ServiceName>().unwrap())
    );
    println!("a removed link was announced after {:?}", begun.elapsed());
    assert!(matches!(live(&bench), Live::Altered { .. }));
    assert!(changes.try_recv().is_err(), "nothing else was announced");
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    assert_eq!(
        next(&mut changes),
        Some("site".parse::<ServiceName>().unwrap())
    );
}

fn earlier_versions_stay() {
    let bench = StaticBench::new();
    let versions = || {
        let entries = fs::read_dir(bench.home.path().join("www/.site.holdfast")).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    };
    for (release, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (4, 3)] {
        try_converge(&bench, &bench.release("site", release)).unwrap();
        assert_eq!(versions(), expected, "after release {release}");
    }
    // Going back needs no artifact while it is kept.
    let mut back = bench.release("site", 5);
    back.artifacts.clear();
    try_converge(&bench, &back).unwrap();
}

fn a_service_that_moves_leaves_nothing_behind() {
    let bench = StaticBench::new();
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    let artifact = bench.home.artifact(
        "site",
        "site.tar.gz",
        &tar_gz(&[("index.html", 0o644, "x")]),
    );
    let path = bench.link("elsewhere");
    let moved = bench
        .home
        .wanted("site", "static", &json!({"path": &path}), vec![artifact]);
    try_converge(&bench, &moved).unwrap();
    assert_eq!(fs::read_to_string(path.join("index.html")).unwrap(), "x");
    let mut left: Vec<_> = fs::read_dir(bench.home.path().join("www"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [".elsewhere.holdfast", "elsewhere"]);
}

fn two_agents_do_not_fight_over_one_link() {
    let bench = StaticBench::new();
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    let second = bench.home.path().join("second-agent");
    let other = open(&second, "static");
    let (progress, _told) = mpsc::channel(16);
    let cancel = CancellationToken::new();
    let wanted = bench.release("site", 2);
    match runtime().block_on(other.converge(&wanted, &progress, &cancel)) {
        Err(Failure::Permanent(why)) => assert!(why.contains("belongs to the agent"), "{why}"),
        other => panic!("{other:?}"),
    }
    // An agent whose directory is gone has left its links to whoever runs the same service now.
    fs::remove_dir_all(bench.home.agent()).unwrap();
    runtime()
        .block_on(other.converge(&wanted, &progress, &cancel))
        .unwrap();
    let page = fs::read_to_string(bench.link("site").join("index.html")).unwrap();
    assert_eq!(page, "release 2");
}

fn a_reader_sees_one_whole_version_at_any_time() {
    let bench = StaticBench::new();
    try_converge(&bench, &bench.release("site", 1)).unwrap();
    let page = bench.link("site").join("index.html");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let stop = std::sync::Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut reads = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let text = fs::read_to_string(&page).expect("the page is always there");
                assert!(text == "release 1" || text == "release 2", "{text}");
                reads += 1;
            }
            reads
        })
    };
    for i in 0..50 {
        try_converge(&bench, &bench.release("site", i % 2 + 1)).unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let reads: u64 = reader.join().unwrap();
    println!("{reads} reads during 50 switches, each whole");
    assert!(reads > 50);
}

/// A site of many small files, of which the first and the last say what release it is.
fn many_files(bench: &StaticBench, service: &str, release: u32, count: u32) -> Wanted {
    let said = format!("release {release}");
    let names: Vec<String> = (0..count)
        .map(|n| format!("d{:03}/{n}.txt", n % 500))
        .collect();
    let mut files = vec![("first.txt", 0o644, said.as_str())];
    files.extend(
        names
            .iter()
            .map(|name| (name.as_str(), 0o644, name.as_str())),
    );
    files.extend([("index.html", 0o644, &*said), ("last.txt", 0o644, &*said)]);
    let artifact = bench.home.artifact("site", "site.tar.gz", &tar_gz(&files));
    let template = json!({"path": bench.link(service), "keep": 1});
    bench
        .home
        .wanted(service, "static", &template, vec![artifact])
}

/// The most memory that an agent of its own ever held while it made this so, in KiB.
fn most_memory(bench: &StaticBench, wanted: &Wanted, release: u32) -> u64 {
    let agent = killed::spawn(
        &bench.home,
        "static",
        "always",
        std::slice::from_ref(wanted),
    );
    patiently("it is served", || {
        bench.alive(&wanted.workload.service) == [release]
    });
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    killed::kill_after(agent, std::time::Duration::ZERO);
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn twenty_thousand_files_are_switched_at_once_in_little_memory() {
    const FILES: u32 = 20_000;
    /// More than an agent holds for a site of three files, in KiB.
    const MORE_MAX_KIB: u64 = 16 << 10;
    let bench = StaticBench::new();
    let small = most_memory(&bench, &many_files(&bench, "small", 1, 0), 1);
    let begun = std::time::Instant::now();
    let large = most_memory(&bench, &many_files(&bench, "site", 1, FILES), 1);
    println!(
        "{FILES} files in {:?}; at most {large} KiB, and {small} KiB for a small site",
        begun.elapsed()
    );
    assert!(large < small + MORE_MAX_KIB, "{large} KiB");
    // Whoever comes during the switch finds one release from its first file to its last.
    let link = bench.link("site");
    let next = many_files(&bench, "site", 2, FILES);
    let begun = std::time::Instant::now();
    let seen = std::thread::scope(|scope| {
        let switch = scope.spawn(|| try_converge(&bench, &next));
        let mut seen = std::collections::BTreeMap::new();
        loop {
            let ended = switch.is_finished();
            let whole = fs::canonicalize(&link).unwrap();
            let read = |name: &str| fs::read_to_string(whole.join(name)).unwrap();
            let said = read("first.txt");
            assert_eq!(read("last.txt"), said);
            assert_eq!(read("d499/19999.txt"), "d499/19999.txt");
            *seen.entry(said).or_insert(0) += 1;
            if ended {
                switch.join().unwrap().unwrap();
                return seen;
            }
        }
    });
    println!("switched in {:?}; readers saw {seen:?}", begun.elapsed());
    let whole: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(whole, ["release 1", "release 2"]);
}
