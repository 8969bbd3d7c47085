//! The plugin `helm`, with the real helm, against a real API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Room, skip, trials};

/// Where `tests/setup.sh` lays helm and kubectl.
fn tools() -> PathBuf {
    let cache = std::env::var_os("HOLDFAST_TEST_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from("/var/cache/holdfast-tests"));
    cache.join("helm-3.17.3")
}

/// What this is tested with: the programs, and a cluster; or it is counted as skipped.
fn programs_and_cluster(test: &str) -> Option<(PathBuf, PathBuf)> {
    let tools = tools();
    if !tools.join("helm").is_file() {
        skip::skip(test, "helm is not installed");
        return None;
    }
    let Some(kubeconfig) = std::env::var_os("HOLDFAST_TEST_KUBECONFIG") else {
        skip::skip(test, "no cluster is named by HOLDFAST_TEST_KUBECONFIG");
        return None;
    };
    Some((tools, PathBuf::from(kubeconfig)))
}

pub(crate) fn helm_conforms() {
    let Some((tools, kubeconfig)) = programs_and_cluster("helm_conforms") else {
        return;
    };
    let room = Room::new();
    let chart = room.path("web");
    let copied = Command::new("cp")
        .arg("-r")
        .args([trials().join("web"), chart.clone()])
        .status();
    assert!(copied.unwrap().success());
    let trial = room.path("helm.test.json");
    fs::write(&trial, filled(&tools, &chart, &kubeconfig)).unwrap();
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let kubeconfig = kubeconfig.display().to_string();
    room.conforms(
        "helm",
        &trial,
        &[("PATH", &path), ("KUBECONFIG", &kubeconfig)],
    );
}

fn filled(tools: &Path, chart: &Path, kubeconfig: &Path) -> String {
    let text = fs::read_to_string(trials().join("helm.test.json")).unwrap();
    let kubectl = format!(
        "\"{}/kubectl\", \"--kubeconfig\", \"{}\"",
        tools.display(),
        kubeconfig.display()
    );
    text.replace("\"kubectl\"", &kubectl)
        .replace("\"CHART\"", &format!("\"{}\"", chart.display()))
}
