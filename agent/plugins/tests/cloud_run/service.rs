//! `cloud-run`: conforms, and does what is particular to services.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use holdfast_adapters::plugin::author;
use holdfast_adapters::run::{Live, Wanted};
use serde_json::{Value, json};

use crate::agent::{Agent, written};
use crate::cases::Test;
use crate::cloud::{Cloud, PROJECT, until};
use crate::cluster::AGENT;
use crate::table;

pub(crate) const TESTS: &[Test] = &[
    ("cloud_run_conforms", cloud_run_conforms),
    (
        "a_release_is_a_revision_and_all_calls_are_led_to_it_in_one_step",
        a_release_is_a_revision_and_all_calls_are_led_to_it_in_one_step,
    ),
    (
        "a_revision_that_is_never_ready_gets_no_calls_and_is_tried_again_when_asked_again",
        a_revision_that_is_never_ready_gets_no_calls_and_is_tried_again_when_asked_again,
    ),
    (
        "a_canary_gets_its_part_of_the_calls_before_the_switch",
        a_canary_gets_its_part_of_the_calls_before_the_switch,
    ),
];

/// Nothing is pulled: the kubelet of the tests runs commands of this machine.
const IMAGE: &str = "registry.example.com/web@sha256:\
    1111111111111111111111111111111111111111111111111111111111111111";
/// One that it says it cannot pull.
const BAD_IMAGE: &str = "registry.example.com/bad@sha256:\
    2222222222222222222222222222222222222222222222222222222222222222";

/// One agent and one cloud.
pub(crate) struct Bench {
    pub(crate) cloud: Cloud,
    pub(crate) agent: Agent,
}

impl Bench {
    /// Where Cloud Run can be had here.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let cloud = Cloud::start(test)?;
        let mut agent = Agent::new(env!("CARGO_BIN_EXE_holdfast-plugins"), &["cloud-run"]);
        let port = cloud.cluster.port();
        let certificate = fs::read(cloud.cluster.certificate()).unwrap();
        let certificate = file(&agent, "ca.crt", &certificate);
        agent.set("SSL_CERT_FILE", Some(&certificate));
        let endpoint = format!("https://127.0.0.1:{port}/");
        agent.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN", Some(&endpoint));
        let mut bench = Self { cloud, agent };
        bench.token(AGENT);
        Some(bench)
    }

    /// Gives the plugin a token.
    pub(crate) fn token(&mut self, token: &str) {
        let token = file(&self.agent, "token", format!("{token}\n").as_bytes());
        let name = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE";
        self.agent.set(name, Some(&token));
    }

    /// A release whose number is in its environment, with fields of its own.
    pub(crate) fn wanted(&self, release: u32, more: &Value) -> Wanted {
        let mut template = template("web", &release.to_string());
        let fields = template.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let file = ("text.txt", "text");
        self.agent.wanted("cloud-run", &template, file, release)
    }

    pub(crate) fn converge(&self, release: u32) {
        let wanted = self.wanted(release, &json!({}));
        self.agent.converge(&wanted).unwrap();
    }

    fn live(&self) -> Live {
        self.agent.observe().remove(0).live
    }

    /// What is said to be altered, which is then put right.
    fn altered(&self) -> String {
        let live = self.live();
        let Live::Altered { what } = live else {
            panic!("{live:?}")
        };
        what
    }
}

fn file(agent: &Agent, name: &str, content: &[u8]) -> String {
    let path = agent.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path.display().to_string()
}

fn template(service: &str, release: &str) -> Value {
    json!({
        "project": PROJECT, "region": "europe-west1", "service": service, "image": IMAGE,
        "command": ["sleep", "100000"], "environment": {"RELEASE": release},
    })
}

fn cloud_run_conforms() {
    let Some(bench) = Bench::start("cloud_run_conforms") else {
        return;
    };
    let (own, port) = (std::env::current_exe().unwrap(), bench.cloud.cluster.port());
    let command = |act: &str| json!([own, "behind", port.to_string(), act, "s-{{service}}"]);
    let good = template("s-{{service}}", "{{release}}");
    let mut bad = good.clone();
    bad["image"] = "web:latest".into();
    let trial = json!({
        "template": good, "bad": bad,
        "artifact": {"name": "text", "file": "text.txt", "content": "release {{release}}\n"},
        "kill": command("kill"), "edit": command("edit"), "alive": command("alive"),
    });
    let agent = &bench.agent;
    let trial = written(agent.path(), "trial.json", &trial);
    let scratch = agent.path().join("scratch");
    let tested = author::test(agent.settings(), "cloud-run", (Some(&trial), &scratch));
    let report = agent.block_on(tested).unwrap();
    table::conform(&[report]);
    until("nothing is left", || bench.cloud.revisions().is_empty());
}

fn a_release_is_a_revision_and_all_calls_are_led_to_it_in_one_step() {
    let test = "a_release_is_a_revision_and_all_calls_are_led_to_it_in_one_step";
    let Some(bench) = Bench::start(test) else {
        return;
    };
    let cloud = &bench.cloud;
    for release in [1, 2] {
        bench.converge(release);
        assert_eq!(cloud.alive("web"), [release.to_string()]);
    }
    assert_eq!(cloud.revisions().len(), 2);

    // Back to a revision that is still there: nothing is made again.
    bench.converge(1);
    assert_eq!(cloud.alive("web"), ["1"]);
    assert_eq!(cloud.revisions().len(), 2);
    let version = || cloud.service("web").unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    bench.converge(1);
    assert_eq!(version(), before, "the same again changes nothing");

    // What somebody else wrote there stays.
    let first = cloud.led("web")[0].replace(" 100", "");
    let (own, tagged) = (
        json!({"revisionName": first, "percent": 70}),
        json!({"revisionName": first, "tag": "theirs"}),
    );
    let newest = json!({"latestRevision": true, "percent": 30});
    let patch = json!({"metadata": {"labels": {"team": "shop"}},
        "spec": {"traffic": [own, newest, tagged]}});
    cloud.edit("web", &patch);
    let what = bench.altered();
    assert!(
        what.contains("30% of the calls go to whichever revision is newest"),
        "{what}"
    );
    bench.converge(1);
    let service = cloud.service("web").unwrap();
    assert_eq!(service["metadata"]["labels"]["team"], "shop");
    let tags = &service["spec"]["traffic"];
    assert_eq!(tags[1], tagged, "{tags}");
    assert!(
        matches!(bench.live(), Live::Running { .. }),
        "{:?}",
        bench.live()
    );

    let hidden = json!({"metadata": {"annotations": {"run.googleapis.com/ingress": "internal"}},
        "spec": {"template": {"metadata": {"name": null}, "spec": {"containers": [{
            "image": IMAGE, "env": [{"name": "RELEASE", "value": "hunter2"}]}]}}}});
    cloud.edit("web", &hidden);
    let what = bench.altered();
    assert!(
        what.contains("ingress is internal instead of all"),
        "{what}"
    );
    assert!(
        what.contains("environment.RELEASE has another value"),
        "{what}"
    );
    assert!(!what.contains("hunter2"), "{what}");
    bench.converge(1);
    assert!(
        matches!(bench.live(), Live::Running { .. }),
        "{:?}",
        bench.live()
    );

    // Another name: the old service goes when the new one serves.
    let renamed = bench.wanted(1, &json!({"service": "other"}));
    bench.agent.converge(&renamed).unwrap();
    assert_eq!(cloud.alive("other"), ["1"]);
    assert!(cloud.service("web").is_none());
    bench.agent.remove("web").unwrap();
    assert!(cloud.service("other").is_none());
    until("all revisions are gone", || cloud.revisions().is_empty());
}

fn a_revision_that_is_never_ready_gets_no_calls_and_is_tried_again_when_asked_again() {
    let test = "a_revision_that_is_never_ready_gets_no_calls_and_is_tried_again_when_asked_again";
    let Some(bench) = Bench::start(test) else {
        return;
    };
    let cloud = &bench.cloud;
    bench.converge(1);
    let bad = bench.wanted(2, &json!({"image": BAD_IMAGE}));
    for attempt in [1, 2] {
        let failure = bench.agent.converge(&bad).unwrap_err();
        assert!(!failure.is_retryable(), "{failure}");
        let said = failure.to_string();
        assert!(said.contains("timed out progressing"), "{said}");
        assert!(said.contains("ProgressDeadlineExceeded"), "{said}");
        assert_eq!(cloud.alive("web"), ["1"], "the old one goes on");
        // It cannot be made again under one name.
        assert_eq!(cloud.revisions().len(), 1 + attempt);
    }
    let what = bench.altered();
    assert!(what.contains("100% of the calls go to revision"), "{what}");
    assert!(what.contains("timed out progressing"), "{what}");
    bench.converge(1);
    assert!(
        matches!(bench.live(), Live::Running { .. }),
        "{:?}",
        bench.live()
    );

    // The first one of all fails, too, and says why until it is put right.
    let first = bench.wanted(1, &json!({"image": BAD_IMAGE, "service": "other"}));
    let failure = bench.agent.converge(&first).unwrap_err();
    assert!(
        failure.to_string().contains("timed out progressing"),
        "{failure}"
    );
    assert_eq!(
        cloud.alive("web"),
        ["1"],
        "a service goes only when another serves"
    );
    let mended = bench.wanted(3, &json!({"service": "other"}));
    bench.agent.converge(&mended).unwrap();
    assert_eq!(cloud.alive("other"), ["3"]);
}

fn a_canary_gets_its_part_of_the_calls_before_the_switch() {
    let Some(bench) = Bench::start("a_canary_gets_its_part_of_the_calls_before_the_switch") else {
        return;
    };
    let cloud = &bench.cloud;
    let canary = json!({"canary": {"weight": "25%", "soak": "8s"}});
    let begun = Instant::now();
    bench.agent.converge(&bench.wanted(1, &canary)).unwrap();
    let second = bench.wanted(2, &canary);
    std::thread::scope(|scope| {
        let converging = scope.spawn(|| bench.agent.converge(&second));
        until("a quarter of the calls goes to the new revision", || {
            let led = cloud.led("web");
            led.len() == 2 && led[0].ends_with(" 75") && led[1].ends_with(" 25")
        });
        converging.join().unwrap().unwrap();
    });
    assert!(begun.elapsed() > Duration::from_secs(8));
    assert_eq!(cloud.led("web").len(), 1);
    assert_eq!(cloud.alive("web"), ["2"]);

    // Somebody who changes the service meanwhile is not overwritten.
    let third = bench.wanted(3, &json!({"canary": {"weight": "50%", "soak": "30s"}}));
    std::thread::scope(|scope| {
        let converging = scope.spawn(|| bench.agent.converge(&third));
        until("half of the calls goes to the new revision", || {
            cloud.led("web").len() == 2
        });
        cloud.edit("web", &json!({"spec": {"theirs": true}}));
        let failure = converging.join().unwrap().unwrap_err();
        assert!(failure.is_retryable(), "{failure}");
        assert!(
            failure.to_string().contains("somebody changed"),
            "{failure}"
        );
    });
}
