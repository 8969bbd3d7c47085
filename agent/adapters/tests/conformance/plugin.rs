//! Plugins: the examples conform, and one that misbehaves harms nobody.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use holdfast_adapters::conformance::{Report, Table};
use holdfast_adapters::plugin::{Settings, author};

use crate::bench::runtime;

pub(crate) const TESTS: &[crate::Test] =
    &[("both_example_plugins_conform", both_example_plugins_conform)];

/// A directory of plugins that their user may enter.
pub(crate) struct Plugins {
    root: tempfile::TempDir,
}

impl Plugins {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("plugins")).unwrap();
        Self { root }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    pub(crate) fn add(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn settings(&self) -> Settings {
        let program = std::env::current_exe().unwrap();
        Settings {
            directory: self.path(),
            launcher: vec![program.into(), OsString::from("confine")],
            target: "here".to_owned(),
            ..Settings::default()
        }
    }
}

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugin/plugins")
}

fn both_example_plugins_conform() {
    let plugins = Plugins::new();
    let mut reports = Vec::new();
    for name in ["notice", "settings"] {
        plugins.add(name, &fs::read(examples().join(name)).unwrap());
        let trial = examples().join(format!("{name}.test.json"));
        let scratch = plugins.root.path().join(format!("{name}-scratch"));
        let tested = author::test(plugins.settings(), name, (Some(&trial), &scratch));
        reports.push(runtime().block_on(tested).unwrap());
    }
    println!("{}", Table(&reports));
    assert!(reports.iter().all(Report::passed));
}
