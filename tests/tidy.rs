//! What the compiler and clippy cannot say about this tree: file heads and sizes, pure code that
//! stays pure, names, dependencies, documents. Each offence is printed with its place and with what
//! to do instead. Reads files only; takes well under a second.
//!
//! A rule that makes a piece of code worse is left by an entry in the rule's list of exceptions,
//! with the reason beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Code lines that one file may hold: without blank lines, comments and its unit tests.
const FILE_LINES_MAX: usize = 500;

/// Files that may be larger, each with the reason. Splitting by noun comes first.
const LARGER_FILES: [(&str, &str); 0] = [];

/// Code that decides and so touches nothing: folders and files, relative to the root.
const PURE: [&str; 28] = [
    "protocol/src",
    "coordinator/engine/src",
    "agent/src/accept.rs",
    "agent/src/attempt.rs",
    "agent/src/diff.rs",
    "agent/src/plan.rs",
    "agent/src/plan",
    "agent/adapters/src/container/shape.rs",
    "agent/adapters/src/container/spec.rs",
    "agent/adapters/src/fields.rs",
    "agent/adapters/src/plugin/judge.rs",
    "agent/adapters/src/plugin/message.rs",
    "agent/adapters/src/plugin/schema.rs",
    "agent/adapters/src/plugin/spec.rs",
    "agent/adapters/src/process/spec.rs",
    "agent/adapters/src/static_files/spec.rs",
    "agent/adapters/src/systemd/calendar.rs",
    "agent/adapters/src/systemd/extra.rs",
    "agent/adapters/src/systemd/mark.rs",
    "agent/adapters/src/systemd/quote.rs",
    "agent/adapters/src/systemd/spec.rs",
    "agent/adapters/src/systemd/unit.rs",
    "agent/plugins/aws/src/ecs/plan.rs",
    "agent/plugins/aws/src/ecs/template.rs",
    "agent/plugins/aws/src/lambda/plan.rs",
    "agent/plugins/aws/src/lambda/seen.rs",
    "agent/plugins/aws/src/lambda/sight.rs",
    "agent/plugins/aws/src/lambda/template.rs",
];

/// What pure code may not name.
const ACTING: [&str; 9] = [
    "tokio",
    "std::fs",
    "std::net",
    "std::process",
    "async ",
    ".await",
    "tracing::",
    "Instant::now",
    "SystemTime::now",
];

/// Crates that may not be reached, at any depth, from `holdfast-protocol` and `holdfast-engine`.
const ACTING_CRATES: [&str; 8] = [
    "tokio", "mio", "quinn", "rustls", "reqwest", "hyper", "sqlx", "tracing",
];

/// Words that say nothing about what a thing is for.
const DEAD_WORDS: [&str; 7] = [
    "manager",
    "handler",
    "helper",
    "util",
    "utils",
    "facade",
    "processor",
];

/// Names with such a word that do say it, each with the reason.
const LIVE_NAMES: [(&str, &str); 1] = [("on_processor", "time that a CPU spent")];

/// Words that are dead as the name of a file, and useful in other names, as in "common version".
const DEAD_FILES: [&str; 4] = ["common", "misc", "shared", "types"];

/// The parts that every decision record has, in this order.
const DECISION_PARTS: [&str; 4] = [
    "## Context",
    "## Decision",
    "## Consequences",
    "## What would change our mind",
];

#[test]
fn every_rust_file_says_its_purpose_first() {
    let bare = rust_files().filter(|file| !file.text.starts_with("//! "));
    refuse(
        bare.map(|file| format!("{}:1: no `//!` line", file.path)),
        "begin the file with one sentence that says what it is for",
    );
}

#[test]
fn no_file_outgrows_its_room() {
    let crowded = rust_files()
        .filter(|file| !file.is_test())
        .filter_map(|file| {
            let lines = file.code().count();
            let allowed = LARGER_FILES.iter().any(|(path, _)| *path == file.path);
            (lines > FILE_LINES_MAX && !allowed).then(|| {
                format!(
                    "{}: {lines} lines of code, at most {FILE_LINES_MAX}",
                    file.path
                )
            })
        });
    refuse(crowded, "split it by noun: `foo.rs` beside `foo/part.rs`");
}

#[test]
fn pure_code_touches_nothing() {
    for path in PURE.iter().filter(|path| !path.ends_with("/plan")) {
        assert!(
            root().join(path).exists(),
            "{path} is listed as pure, and is not there"
        );
    }
    let touching = rust_files()
        .filter(|file| file.is_pure() && !file.is_test())
        .flat_map(|file| {
            let found = file.code().filter_map(|(number, line)| {
                let word = ACTING.iter().find(|word| line.contains(**word))?;
                Some(format!("{}:{number}: pure code names `{word}`", file.path))
            });
            found.collect::<Vec<_>>()
        });
    refuse(
        touching,
        "return what should be done, and let the driver do it; time is an argument",
    );
}

#[test]
fn pure_crates_reach_no_crate_that_acts() {
    let reached = ["holdfast-protocol", "holdfast-engine"]
        .into_iter()
        .flat_map(|package| {
            let tree = dependencies_of(package);
            let acting = ACTING_CRATES
                .iter()
                .filter(|name| tree.iter().any(|found| found == **name));
            acting
                .map(|name| format!("{package} depends on {name}"))
                .collect::<Vec<_>>()
        });
    refuse(
        reached,
        "`cargo tree -p PACKAGE -i CRATE` shows by which way; cut it there",
    );
}

#[test]
fn our_crates_depend_on_each_other_only_as_drawn() {
    // docs/architecture.md has the table.
    let drawn: [(&str, &[&str]); 5] = [
        ("holdfast-protocol", &[]),
        ("holdfast-certs", &["holdfast-protocol"]),
        ("holdfast-engine", &["holdfast-protocol"]),
        (
            "holdfast-adapters",
            &["holdfast-protocol", "holdfast-confine", "holdfast-homes"],
        ),
        ("holdfast-homes", &["holdfast-protocol"]),
    ];
    let extra = drawn.into_iter().flat_map(|(package, allowed)| {
        let ours = dependencies_of(package).into_iter().filter(|name| {
            name.starts_with("holdfast") && name != package && !allowed.contains(&name.as_str())
        });
        ours.map(|name| format!("{package} depends on {name}"))
            .collect::<Vec<_>>()
    });
    refuse(
        extra,
        "move what is shared to the crate that owns it, or draw the table anew",
    );
}

#[test]
fn names_say_what_a_thing_is_for() {
    let dead = rust_files().flat_map(|file| {
        let in_path = file.path.split(['/', '.']).find_map(|part| {
            dead_word(part).or_else(|| DEAD_FILES.into_iter().find(|dead| part == *dead))
        });
        let in_path = in_path.map(|word| format!("{}: file is named `{word}`", file.path));
        let in_code = file.code().filter_map(|(number, line)| {
            let name = defined_name(line)?;
            let word =
                dead_word(name).filter(|_| LIVE_NAMES.iter().all(|(live, _)| *live != name))?;
            Some(format!("{}:{number}: `{name}` says `{word}`", file.path))
        });
        in_path.into_iter().chain(in_code).collect::<Vec<_>>()
    });
    refuse(
        dead,
        "name it for the question that it answers or the act that it does",
    );
}

#[test]
fn links_in_documents_lead_somewhere() {
    let broken = files(&["md"]).flat_map(|file| {
        let folder = root()
            .join(&file.path)
            .parent()
            .expect("inside the root")
            .to_owned();
        let dangling = links(&file.text).filter(|(_, link)| !folder.join(link).exists());
        dangling
            .map(|(number, link)| format!("{}:{number}: `{link}` is not there", file.path))
            .collect::<Vec<_>>()
    });
    refuse(broken, "correct the link, or write the page");
}

#[test]
fn pages_that_files_speak_of_exist() {
    let missing = files(&["rs", "md", "toml", "sh", "service"]).flat_map(|file| {
        let spoken = lines(&file.text).filter_map(|(number, line)| {
            let page = page_in(line)?;
            (!root().join(page).exists())
                .then(|| format!("{}:{number}: `{page}` is not there", file.path))
        });
        spoken.collect::<Vec<_>>()
    });
    refuse(missing, "correct the name, or write the page");
}

#[test]
fn every_command_is_in_the_contract() {
    let arguments = fs::read_to_string(root().join("cli/src/args.rs")).expect("readable");
    let page = fs::read_to_string(root().join("docs/interface.md")).expect("readable");
    let (_, commands) = arguments
        .split_once("pub enum Command {")
        .expect("the commands");
    let (commands, _) = commands.split_once("\n}").expect("their end");
    let names = commands.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        let end = name.find(['(', ',', ' '])?;
        name.starts_with(char::is_uppercase)
            .then(|| name[..end].to_lowercase())
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 20, "the commands were found: {names:?}");
    let unsaid = names.iter().filter(|name| {
        !page.contains(&format!("`{name}`")) && !page.contains(&format!("`{name} "))
    });
    refuse(
        unsaid.map(|name| format!("docs/interface.md: `{name}` is not there")),
        "say in one line what it does",
    );
}

#[test]
fn nothing_is_left_to_do() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    let left = files(&["rs", "md", "toml", "sh", "sql", "yaml"]).flat_map(|file| {
        let marked = lines(&file.text).filter_map(|(number, line)| {
            let word = words.iter().find(|word| line.contains(**word))?;
            Some(format!("{}:{number}: {word}", file.path))
        });
        marked.collect::<Vec<_>>()
    });
    refuse(left, "do it now, or write it where work is planned");
}

#[test]
fn decisions_are_numbered_without_gaps_and_say_why() {
    let folder = root().join("docs/decisions");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("docs/decisions is a folder")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    let wrong = names
        .iter()
        .zip(1..)
        .filter_map(|(name, number): (_, usize)| {
            let numbered = name.starts_with(&format!("{number:04}-"));
            let text = fs::read_to_string(folder.join(name)).expect("readable");
            let places: Option<Vec<_>> =
                DECISION_PARTS.iter().map(|part| text.find(part)).collect();
            let told = places.is_some_and(|places| places.is_sorted());
            (!numbered || !told).then(|| format!("docs/decisions/{name}"))
        });
    refuse(
        wrong,
        "number it after the last one, and give it the four parts in their order",
    );
}

#[test]
fn every_shared_dependency_is_used() {
    let shared = manifest(Path::new("Cargo.toml"));
    let shared = shared["workspace"]["dependencies"]
        .as_table()
        .expect("a table")
        .clone();
    let crates = crates();
    let unused = shared.keys().filter(|name| {
        !crates.iter().any(|(folder, _)| {
            named_dependencies(&manifest(&folder.join("Cargo.toml"))).contains(name)
        })
    });
    refuse(
        unused.map(|name| format!("Cargo.toml: `{name}` is used by no crate")),
        "remove it from [workspace.dependencies]",
    );
}

#[test]
fn every_dependency_is_used_by_the_crate_that_names_it() {
    let unused = crates().into_iter().flat_map(|(folder, code)| {
        let path = folder.join("Cargo.toml");
        let unused = named_dependencies(&manifest(&path))
            .into_iter()
            .filter(|name| !code.contains(&name.replace('-', "_")))
            .map(|name| format!("{}: `{name}` is named and not used", path.display()));
        unused.collect::<Vec<_>>()
    });
    refuse(unused, "remove the line");
}

/// Fails with every offence and with what to do instead, if there is one.
fn refuse(offences: impl Iterator<Item = String>, instead: &str) {
    let offences: Vec<_> = offences.collect();
    assert!(
        offences.is_empty(),
        "\n{}\n  help: {instead}\n",
        offences.join("\n")
    );
}

/// A text file of the tree.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Numbered lines that are code: no comment, no blank, nothing of the unit tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("\n#[cfg(test)]\nmod tests {");
        let code = &self.text[..tests.unwrap_or(self.text.len())];
        lines(code).filter(|(_, line)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        })
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/benches/")
    }

    fn is_pure(&self) -> bool {
        PURE.iter().any(|pure| {
            self.path == *pure
                || self
                    .path
                    .strip_prefix(pure)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the root")
        .to_owned()
}

fn rust_files() -> impl Iterator<Item = File> {
    files(&["rs"])
}

/// All files of the tree with one of these extensions, in the order of their paths.
fn files(extensions: &[&str]) -> impl Iterator<Item = File> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.retain(|path| {
        path.extension()
            .is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    });
    paths.sort();
    paths.into_iter().map(|path| {
        let relative = path
            .strip_prefix(root())
            .expect("inside the root")
            .to_str()
            .expect("UTF-8");
        let text = fs::read_to_string(&path).expect("a readable text file");
        File {
            path: relative.to_owned(),
            text,
        }
    })
}

/// Files below a folder, without what was built and what is hidden.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("has a name").to_string_lossy();
        if name == "target" || name.starts_with('.') {
            continue;
        }
        // Not through symbolic links: they may lead out of the tree, or round in it.
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => walk(&path, found),
            Ok(meta) if meta.is_file() => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
}

/// The name that a line defines: of a function, a module or a type.
fn defined_name(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| !matches!(*word, "fn" | "mod" | "struct" | "enum" | "trait" | "type"));
    words.next()?;
    let rest = words.next()?;
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// The first dead word in a name, be it written in snake or in camel case.
fn dead_word(name: &str) -> Option<&'static str> {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    DEAD_WORDS
        .into_iter()
        .find(|dead| snake.split('_').any(|word| word == *dead))
}

/// Relative targets of inline links, without their fragments; code blocks are no prose.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    let prose = lines(text).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    });
    prose
        .flat_map(|(number, line)| line.split("](").skip(1).map(move |rest| (number, rest)))
        .filter_map(|(number, rest)| {
            let link = rest.split([')', '#', ' ']).next()?;
            (!link.is_empty() && !link.contains("://")).then_some((number, link))
        })
}

/// A page of `docs/` that a line speaks of by its path from the root.
fn page_in(line: &str) -> Option<&str> {
    let start = line.find("docs/")?;
    let from_root = line[..start]
        .chars()
        .next_back()
        .is_none_or(|c| !c.is_alphanumeric() && c != '/');
    let page = &line[start..];
    let end = page.find(".md")? + ".md".len();
    let plain = page[..end]
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c));
    (from_root && plain).then(|| &page[..end])
}

/// Names of all crates that a package is built from, itself included, without those of its tests.
fn dependencies_of(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--all-features", "--format", "{p}", "--package", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).expect("UTF-8");
    tree.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn manifest(path: &Path) -> toml::Table {
    let text = fs::read_to_string(root().join(path)).expect("a readable manifest");
    text.parse().expect("TOML")
}

/// Every crate of the workspace: its folder, and all its own code in one string.
fn crates() -> Vec<(PathBuf, String)> {
    let workspace = manifest(Path::new("Cargo.toml"));
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("a list");
    let folders: Vec<_> = members
        .iter()
        .map(|member| PathBuf::from(member.as_str().expect("a path")))
        .collect();
    let owner = |file: &File| {
        let within = folders
            .iter()
            .filter(|folder| Path::new(&file.path).starts_with(folder));
        within
            .max_by_key(|folder| folder.components().count())
            .cloned()
    };
    let mut code: Vec<_> = folders
        .iter()
        .map(|folder| (folder.clone(), String::new()))
        .collect();
    for file in rust_files() {
        let folder = owner(&file);
        if let Some((_, text)) = code
            .iter_mut()
            .find(|(name, _)| Some(name) == folder.as_ref())
        {
            text.push_str(&file.text);
        }
    }
    code
}

/// Names in the dependency tables of a crate's manifest.
fn named_dependencies(manifest: &toml::Table) -> Vec<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables
        .into_iter()
        .filter_map(|table| manifest.get(table)?.as_table());
    tables.flat_map(toml::Table::keys).cloned().collect()
}
