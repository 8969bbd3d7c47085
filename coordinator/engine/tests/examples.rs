//! The examples in virtual time: the manifests of `examples/NAME`, compiled as an apply compiles them,
//! and the script `examples/NAME/scenario.txt` with what the engine decides. `UPDATE_EXPECT=1` writes the
//! decisions anew.
//!
//! Besides the language of the scenarios (`world/event.rs`) a script may say `fleet PREFIX COUNT ENV
//! KEY=VALUE…`: so many targets join with these labels; and `away PREFIX COUNT`, `back PREFIX COUNT`:
//! the first of them go away or come back. What is decided for many targets at once is told in one line.

#![allow(clippy::panic, reason = "a test that fails says where in the example")]

#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use event::Event;
use expect_test::expect_file;
use holdfast_engine::compile::{Known, compile};
use holdfast_engine::manifest;
use holdfast_protocol::api::apply::ManifestFile;
use holdfast_protocol::name::InputSetName;
use model::World;

const DECISION: &str = "    ";
/// Most targets of one decision that have lines of their own.
const ALONE_MAX: usize = 3;

fn folder(example: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    root.join(example)
}

/// A folder of manifests that are there to be refused.
const WRONG: &str = "wrong";

/// Every manifest below a folder that is not [`WRONG`], in the order of names.
fn manifests(folder: &Path, files: &mut Vec<ManifestFile>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.ends_with(WRONG) {
            continue;
        }
        if path.is_dir() {
            manifests(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            files.push(ManifestFile {
                path: path.display().to_string(),
                content: std::fs::read_to_string(&path).expect("a manifest"),
            });
        }
    }
}

/// A world in which the manifests of an example are in force.
fn applied(example: &str) -> World {
    let mut files = Vec::new();
    manifests(&folder(example), &mut files);
    let (set, problems) = manifest::parse(&files);
    assert!(problems.is_empty(), "{example}: {problems:?}");
    let name: InputSetName = "default".parse().expect("a name");
    let sets = BTreeMap::from([(name.clone(), set)]);
    let compiled = compile(&sets, &name, &Known::default(), &|_| Vec::new());
    let mut world = World::new();
    world.apply(compiled.unwrap_or_else(|problems| panic!("{example}: {problems:?}")));
    world
}

/// The events of a line; one for all but those that are about many targets.
fn events(line: &str) -> Vec<Event> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let many = |count: &str| 1..=count.parse::<u32>().expect("a number");
    let lines: Vec<String> = match words.as_slice() {
        ["fleet", prefix, count, environment, labels @ ..] => {
            let labels = labels.join(" ");
            many(count)
                .flat_map(|number| {
                    let join = format!("join {prefix}-{number:03} {environment}");
                    let label = format!("label {prefix}-{number:03} {labels}");
                    std::iter::once(join).chain((!labels.is_empty()).then_some(label))
                })
                .collect()
        }
        ["away", prefix, count] => many(count)
            .map(|number| format!("disconnect {prefix}-{number:03}"))
            .collect(),
        ["back", prefix, count] => many(count)
            .map(|number| format!("connect {prefix}-{number:03}"))
            .collect(),
        _ => vec![line.to_owned()],
    };
    let parse = |line: &String| {
        line.parse()
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    lines.iter().map(parse).collect()
}

/// Runs a script and gives it back with what was decided.
fn played(example: &str, script: &str) -> String {
    let mut world = applied(example);
    let mut text = String::new();
    for line in script.lines().filter(|line| !line.starts_with(DECISION)) {
        text.push_str(line);
        text.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        world.said.clear();
        let events = events(line);
        for event in &events {
            world.happen(event);
        }
        if events.len() > 1 {
            last_words(&mut world.said);
        }
        assert_eq!(world.objection, None, "after {line:?}");
        for decision in told(&world.said) {
            writeln!(text, "{DECISION}{decision}").expect("a string takes everything");
        }
    }
    text
}

/// What was said, with one line for what is decided about many targets, without what passes.
fn told(said: &[String]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut rest = said;
    while let [first, ..] = rest {
        let same = rest
            .iter()
            .take_while(|line| placing(line).is_some() && placing(line) == placing(first))
            .count();
        if same > ALONE_MAX {
            told.push(format!("{first} and {} more", same - 1));
            rest = &rest[same..];
        } else {
            told.push(first.clone());
            rest = &rest[1..];
        }
    }
    told.retain(|line| !PASSING.iter().any(|passing| line.contains(passing)));
    told
}

/// What comes and goes within every rollout: here for those who run the scenarios, not for readers of an
/// example.
const PASSING: [&str; 4] = [
    " waits: target targets: ",
    " waits: protection soak: ",
    " has not answered yet",
    " asks ",
];

/// Of each wait that changed with one target after the other, the last word.
fn last_words(said: &mut Vec<String>) {
    let about = |line: &String| {
        let (wait, _) = line.split_once(": ")?;
        wait.contains(" waits")
            .then(|| line.split_whitespace().take(4).collect::<String>())
    };
    let keys: Vec<Option<String>> = said.iter().map(about).collect();
    let mut at = 0;
    said.retain(|_| {
        let later = keys.get(at + 1..).unwrap_or_default();
        let spoken_again = keys[at].is_some() && later.contains(&keys[at]);
        at += 1;
        !spoken_again
    });
}

/// `web@production places 1.0`, of a line that says so of one target.
fn placing(line: &str) -> Option<&str> {
    let (what, _) = line.split_once(" on ")?;
    what.contains(" places ").then_some(what)
}

fn check(example: &str) {
    let path = folder(example).join("scenario.txt");
    let script = std::fs::read_to_string(&path).expect("a scenario");
    expect_file![path].assert_eq(&played(example, &script));
}

macro_rules! examples {
    ($($test:ident: $folder:literal,)*) => {
        $(#[test]
        fn $test() {
            check($folder);
        })*

        #[test]
        fn every_example_with_a_scenario_is_played() {
            let mut there: Vec<String> = std::fs::read_dir(folder(""))
                .expect("the folder of examples")
                .map(|entry| entry.expect("an entry"))
                .filter(|entry| entry.path().join("scenario.txt").exists())
                .map(|entry| entry.file_name().into_string().expect("UTF-8"))
                .collect();
            there.sort();
            let mut played = vec![$($folder.to_owned()),*];
            played.sort();
            assert_eq!(there, played);
        }
    };
}

examples! {
    alerts_and_a_migration_guard_production: "guarded",
    each_customer_of_a_saas_has_its_own_pace: "saas",
    three_releases_of_a_train_are_in_flight_and_the_middle_one_fails: "train",
    a_hot_fix_goes_past_a_pending_approval: "hotfix",
    five_hundred_shops_in_four_waves: "shops",
    a_cluster_is_born_in_the_middle_of_all_this: "born",
    several_owners_meet_in_one_result: "policies",
    a_service_waits_for_its_migration: "jobs",
    runtimes_differ_and_releases_move_as_ever: "mixed",
}
