//! The plugin `helm`, with the real helm and kubectl, on a real API server.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{self, ADMIN, Cluster, cached};
use crate::{Room, skip, trials};

/// Longest time that something is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, and what helm needs to reach it; everybody may read all of it.
struct Site {
    room: Room,
    _cluster: Cluster,
}

impl Site {
    /// Counted as skipped where something is not there.
    fn start(test: &str) -> Option<Self> {
        let none = (!tools().join("helm").is_file()).then(|| "helm is not installed".to_owned());
        if let Some(missing) = none.or_else(cluster::missing) {
            skip::skip(test, &missing);
            return None;
        }
        let (room, cluster) = (Room::new(), Cluster::start());
        let copied = Command::new("cp")
            .arg("-r")
            .args([trials().join("web"), room.path("web")])
            .status();
        assert!(copied.unwrap().success());
        fs::copy(cluster.certificate(), room.path("ca.crt")).unwrap();
        let text = fs::read_to_string(cluster.kubeconfig(ADMIN, None)).unwrap();
        let authority = cluster.certificate().display().to_string();
        let text = text.replace(&authority, &room.path("ca.crt").display().to_string());
        fs::write(room.path("kubeconfig"), text).unwrap();
        Some(Self {
            room,
            _cluster: cluster,
        })
    }

    fn chart(&self) -> String {
        self.room.path("web").display().to_string()
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        let kubeconfig = self.room.path("kubeconfig").display().to_string();
        let path = format!("{}:/usr/bin:/bin", tools().display());
        [("PATH", path), ("KUBECONFIG", kubeconfig)]
    }

    /// Somebody's own helm.
    fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tools().join("helm"));
        command
            .args(["--namespace", "shop"])
            .args(arguments)
            .envs(self.environment())
            .env("HOME", self.room.path("home"));
        command
    }

    fn status(&self, release: &str) -> String {
        let output = self
            .helm(&["status", release, "-o", "json"])
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["info"]["status"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    }

    /// One call of the plugin: how it ended, and all that it said.
    fn call(&self, operation: &str, release: &str, values: &Value) -> (Option<i32>, String) {
        let body = format!("{:064x}", values.to_string().len());
        let state = self.room.path("state");
        fs::create_dir_all(&state).unwrap();
        let template = json!({"chart": self.chart(), "namespace": "shop", "release": release,
            "createNamespace": true, "timeout": "5s", "values": values});
        let request = json!({"protocol": 1, "operation": operation, "deadlineSeconds": 60,
            "stateDirectory": state, "workload": {"id": "e/t/s", "environment": "e",
                "target": "t", "service": "s", "version": "1.0", "body": format!("sha256:{body}"),
                "template": template, "artifacts": {}}});
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_holdfast-plugins"))
            .arg("helm")
            .envs(self.environment())
            .env("HOME", self.room.path("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let text = request.to_string();
        let mut input = plugin.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = plugin.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    }

    fn converges(&self, values: &Value) -> String {
        let (code, said) = self.call("converge", "own", values);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    fn seen(&self, values: &Value) -> Value {
        let (code, said) = self.call("observe", "own", values);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    }
}

/// Where `tests/setup.sh` lays helm and kubectl.
fn tools() -> PathBuf {
    cached("helm-3.17.3")
}

pub(crate) fn helm_conforms() {
    let Some(site) = Site::start("helm_conforms") else {
        return;
    };
    let kubectl = format!(
        "\"{}/kubectl\", \"--kubeconfig\", \"{}\"",
        tools().display(),
        site.room.path("kubeconfig").display()
    );
    let text = fs::read_to_string(trials().join("helm.test.json")).unwrap();
    let text = text.replace("\"kubectl\"", &kubectl);
    let trial = site.room.path("helm.test.json");
    fs::write(&trial, text.replace("CHART", &site.chart())).unwrap();
    let environment = site.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    site.room.conforms("helm", &trial, &environment);
}

pub(crate) fn helm_leaves_others_alone_and_ends_what_was_cut_off() {
    let Some(site) = Site::start("helm_leaves_others_alone_and_ends_what_was_cut_off") else {
        return;
    };
    let good = json!({"release": "1", "word": "s3cret-word"});
    let chart = site.chart();
    let mine = ["install", "mine", &chart, "--create-namespace"];
    let made = site.helm(&mine).args(["--set", "release=0"]).output();
    assert!(made.unwrap().status.success());

    // Of the same name, and of somebody else.
    let (code, said) = site.call("converge", "mine", &good);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not of this workload"), "{said}");
    assert_eq!(site.call("remove", "mine", &good).0, Some(0));
    assert_eq!(site.status("mine"), "deployed");

    // Neither what is said nor what is kept has a value, also where the chart's notes have one.
    let said = site.converges(&good);
    assert!(said.contains("shop/own is revision 1"), "{said}");
    let kept = fs::read_to_string(site.room.path("state/output.log")).unwrap();
    assert!(!said.contains("s3cret") && !kept.contains("s3cret"));
    assert_eq!(site.seen(&good)["state"], "running");
    assert!(site.converges(&good).contains("unchanged"));

    let another = ["upgrade", "own", &chart, "--set", "release=9"];
    assert!(site.helm(&another).output().unwrap().status.success());
    let seen = site.seen(&good);
    assert_eq!(seen["state"], "altered");
    let message = seen["message"].as_str().unwrap();
    assert!(message.contains("by somebody else"), "{message}");
    site.converges(&good);

    // One that is never ready has failed, and the one before is put back by the next call.
    let bad = json!({"release": "2", "replicas": 1, "image": "bad"});
    let (code, said) = site.call("converge", "own", &bad);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(site.seen(&bad)["state"], "failing");
    site.converges(&good);

    cut_off(&site, &chart);
    assert_eq!(site.seen(&good)["state"], "altered");
    let said = site.converges(&good);
    assert!(
        said.contains("ending a change that was cut off") && site.status("own") == "deployed",
        "{said}"
    );
    assert_eq!(site.call("remove", "own", &good).0, Some(0));
    assert_eq!(site.status("own"), "none");
}

/// Kills helm while it waits for what is never ready.
fn cut_off(site: &Site, chart: &str) {
    let values = "release=3,replicas=1,image=bad";
    let mut helm = site
        .helm(&["upgrade", "own", chart, "--wait", "--set", values])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while site.status("own") != "pending-upgrade" {
        assert!(Instant::now() < end, "{}", site.status("own"));
        std::thread::sleep(Duration::from_millis(100));
    }
    helm.kill().unwrap();
    helm.wait().unwrap();
}
