//! The plugin `helm`, with the real helm and kubectl, on a real API server.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{self, ADMIN, Cluster, cached};
use crate::hand::Hand;
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

    fn hand(&self) -> Hand {
        let home = ("HOME", self.room.path("home").display().to_string());
        Hand {
            plugin: "helm",
            state: self.room.path("state"),
            environment: self.environment().into_iter().chain([home]).collect(),
            secrets: json!({"word": {"version": 1, "text": "s3cret-word"}}),
        }
    }

    fn template(&self, release: &str, values: &Value) -> Value {
        json!({"chart": self.chart(), "namespace": "shop", "release": release,
            "createNamespace": true, "timeout": "5s", "values": values})
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
    let hand = site.hand();
    let own = |values: Value| site.template("own", &values);
    let good = own(json!({"release": "1", "word": {"secret": "word", "version": 1}}));
    let chart = site.chart();
    let mine = ["install", "mine", &chart, "--create-namespace"];
    let made = site.helm(&mine).args(["--set", "release=0"]).output();
    assert!(made.unwrap().status.success());

    // Of the same name, and of somebody else.
    let same = site.template("mine", &json!({"release": "1"}));
    let (code, said) = hand.call("converge", &same);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not of this workload"), "{said}");
    assert_eq!(hand.call("remove", &same).0, Some(0));
    assert_eq!(site.status("mine"), "deployed");

    // Neither what is said nor what is kept has a value, also where the chart's notes have one.
    let said = hand.converges(&good);
    assert!(said.contains("shop/own is revision 1"), "{said}");
    let kept = fs::read_to_string(hand.state.join("output.log")).unwrap();
    assert!(!said.contains("s3cret") && !kept.contains("s3cret"));
    assert_eq!(hand.seen(&good)["state"], "running");
    assert!(hand.converges(&good).contains("unchanged"));
    let manifest = site.helm(&["get", "manifest", "own"]).output().unwrap();
    assert!(String::from_utf8_lossy(&manifest.stdout).contains("s3cret-word"));

    let another = ["upgrade", "own", &chart, "--set", "release=9"];
    assert!(site.helm(&another).output().unwrap().status.success());
    let seen = hand.seen(&good);
    assert_eq!(seen["state"], "altered");
    let message = seen["message"].as_str().unwrap();
    assert!(message.contains("by somebody else"), "{message}");
    hand.converges(&good);

    // One that is never ready has failed, and the one before is put back by the next call.
    let bad = own(json!({"release": "2", "replicas": 1, "image": "bad"}));
    let (code, said) = hand.call("converge", &bad);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(hand.seen(&bad)["state"], "failing");
    hand.converges(&good);

    cut_off(&site, &chart);
    assert_eq!(hand.seen(&good)["state"], "altered");
    let said = hand.converges(&good);
    assert!(
        said.contains("ending a change that was cut off") && site.status("own") == "deployed",
        "{said}"
    );
    assert_eq!(hand.call("remove", &good).0, Some(0));
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
