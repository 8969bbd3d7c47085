//! Promise: the folders of `examples/` do what their pages say. The commands of a page are what its test
//! types, word by word, in a shell of its own; only addresses and folders are the test's.

mod born;
mod guarded;
mod hotfix;
mod jobs;
mod mixed;
mod page;
mod policies;
mod saas;
mod shops;
mod train;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use holdfast_tests::fleet::Fleet;
use holdfast_tests::operator::Said;
use holdfast_tests::program::{built, command};
use page::{Page, Step};

/// An example of the tree, copied to where a fleet of its own brings it to life.
struct Example {
    fleet: Fleet,
    page: Page,
    /// The copy of the example's folder, in which its commands are typed.
    folder: PathBuf,
    /// Takes the place of the folder that the page and the manifests name below /tmp.
    root: tempfile::TempDir,
    /// Steps that were done.
    done: Vec<usize>,
}

impl Example {
    /// A coordinator without any target, and a copy of `examples/NAME`.
    fn of(name: &str) -> Self {
        let fleet = Fleet::start();
        let folder = fleet.directory().join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples")
            .join(name);
        copy(&source, &folder);
        let root = tempfile::tempdir().unwrap();
        // Programs of checks run there as nobody.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let example = Self {
            page: Page::read(&folder.join("README.md")),
            fleet,
            folder,
            root,
            done: Vec::new(),
        };
        let there = example.root.path().display().to_string();
        example.replace(&format!("/tmp/holdfast-{name}"), &there)
    }

    /// The same with other words in the page and in all its files.
    fn replace(mut self, from: &str, to: &str) -> Self {
        for file in files(&self.folder) {
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text.replace(from, to)).unwrap();
        }
        self.page = Page::read(&self.folder.join("README.md"));
        self
    }

    /// Types the commands of one step of the page; gives what they printed, standard output and error.
    fn step(&mut self, number: usize) -> String {
        let step = self.does(number);
        let typed = step.blocks.iter().map(|block| self.types(block));
        let seen: Vec<String> = typed.collect();
        seen.concat()
    }

    /// The test does a step by other means.
    fn does(&mut self, number: usize) -> Step {
        self.done.push(number);
        self.page.step(number).clone()
    }

    /// Types commands into a shell that ends at the first one that fails.
    fn types(&mut self, script: &str) -> String {
        let said = self.shell(&format!("{ORDERS}{script}"));
        let seen = format!("{}{}", said.stdout, said.stderr);
        assert_eq!(said.code, Some(0), "{script}\n{seen}");
        let wide = said
            .stdout
            .lines()
            .find(|line| line.chars().count() > WIDTH);
        assert_eq!(wide, None, "wider than {WIDTH}, printed by\n{script}");
        self.obey();
        seen
    }

    /// Does with agents what the commands asked for, and waits until they are connected, or away.
    fn obey(&mut self) {
        let path = self.folder.join("orders");
        let orders = fs::read_to_string(&path).unwrap_or_default();
        let orders: Vec<Vec<&str>> = orders
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        for order in &orders {
            let name = order[1];
            match order[0] {
                "join" => {
                    let labels = order[3..]
                        .iter()
                        .map(|label| label.split_once('=').unwrap());
                    let labels: Vec<(&str, &str)> = labels.collect();
                    self.fleet.join(name, order[2], &labels);
                }
                "away" => assert!(self.fleet.agent(name).program.terminate().success()),
                _ => self.fleet.agent(name).program.start(),
            }
        }
        for order in &orders {
            self.fleet.wait_connected(order[1], order[0] != "away");
        }
        fs::write(path, "").unwrap();
    }

    fn shell(&self, script: &str) -> Said {
        let data = self.fleet.coordinator_data();
        let programs = built("holdfast").parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        let shell = Path::new("/bin/bash");
        let words = ["-euo", "pipefail", "-c", script];
        let output: Output = command(shell)
            .args(words)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("HOME", self.fleet.directory())
            .env("HOLDFAST_SERVER", self.fleet.api.base())
            .env("HOLDFAST_CA", data.join("ca.pem"))
            .env("HOLDFAST_TOKEN_FILE", data.join("admin.token"))
            .current_dir(&self.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        Said::new(shell, &words, &output)
    }

    /// A command's JSON list.
    fn items(&self, line: &str) -> Vec<serde_json::Value> {
        let words: Vec<&str> = line.split_whitespace().chain(["-o", "json"]).collect();
        let whole = self.fleet.operator(&words).json();
        whole["items"].as_array().unwrap().clone()
    }

    /// The page must hold no step that nobody did, and the record must hold.
    fn is_whole(&self) {
        let left: Vec<usize> = self.page.numbers();
        let left: Vec<_> = left.iter().filter(|one| !self.done.contains(one)).collect();
        assert!(left.is_empty(), "steps {left:?} of the page were not done");
        self.fleet.assert_record_holds();
    }
}

/// What the pages' common functions are here: the fleet starts and ends the agents, after the commands.
const ORDERS: &str = "join() { echo join $* >> orders; }; away() { echo away $* >> orders; }; \
                      back() { echo back $* >> orders; }\n";

/// Columns that a line of standard output may take.
const WIDTH: usize = 100;

/// How long something must not happen before a test believes that it does not.
const QUIET: Duration = Duration::from_secs(2);

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    };
    paths.flat_map(below).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let there = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::copy(file, there).unwrap();
    }
}
