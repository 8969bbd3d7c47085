//! From a service as it is to the next step, and what is told of it.

use std::time::Duration;

use holdfast_protocol::digest::Digest;
use serde_json::{Value, json};

use super::label;
use super::plan::{Step, Tried, Wanted, sight, step};
use super::seen::{Change, Part, Seen, fresh, newest};
use super::settings::Settings;
use super::template::{Canary, read};
use crate::{Failure, State};

fn image() -> String {
    format!("registry.example.com/web@{}", Digest::of(b"image"))
}

fn wanted() -> Wanted {
    let template = json!({
        "project": "shop", "region": "europe-west1", "service": "web", "image": image(),
        "environment": {"PASSWORD": "hunter2"}, "secrets": {"TOKEN": "token:latest"},
    });
    Wanted {
        owner: label("prod/here/web"),
        body: Digest::of(b"body"),
        service: read(&serde_json::from_value(template).unwrap()).unwrap(),
    }
}

/// The name of what is wanted.
fn name() -> String {
    wanted().first_name()
}

fn condition(status: &str) -> Value {
    json!([{"type": "Ready", "status": status, "message": "as it is"}])
}

fn revision(name: &str, status: &str) -> Value {
    let mut revision = wanted().service.settings.template(name);
    revision["status"] = json!({"conditions": condition(status)});
    revision
}

/// A service whose calls go to the revision `led`, and whose template makes `latest`.
fn service(latest: &str, led: &str, status: &str) -> Value {
    let traffic = json!([{"revisionName": led, "percent": 100}]);
    json!({
        "metadata": {"generation": 3, "resourceVersion": "7",
            "labels": {"holdfast-workload": "prod_here_web"},
            "annotations": {"holdfast-body": wanted().body.to_string()}},
        "spec": {"template": wanted().service.settings.template(latest), "traffic": traffic},
        "status": {"observedGeneration": 3, "conditions": condition(status), "traffic": traffic},
    })
}

fn next(service: &Value, revisions: &[Value], tried: &Tried) -> Result<Step, Failure> {
    step(&wanted(), &Seen::read(service.clone(), revisions), tried)
}

fn told(service: &Value, revisions: &[Value]) -> (State, String) {
    let seen = Seen::read(service.clone(), revisions);
    let (state, message) = sight(&wanted(), Some(&seen));
    (state, message.unwrap_or_default())
}

fn to(revision: &str, percent: u64) -> Part {
    Part {
        revision: Some(revision.to_owned()),
        percent,
        tag: None,
    }
}

fn push(all: &mut Value, one: Value) {
    all.as_array_mut().unwrap().push(one);
}

#[test]
fn a_template_is_written_and_read_as_the_same() {
    let wanted = wanted().service.settings;
    let template = wanted.template("web-1");
    let read = Settings::read(&template);
    assert_eq!(read, wanted);
    assert_eq!(wanted.differences(&read), Vec::<String>::new());
    // As Cloud Run itself writes quantities.
    let mut other = template;
    let limits = &mut other["spec"]["containers"][0]["resources"]["limits"];
    *limits = json!({"cpu": "1", "memory": "0.5Gi"});
    assert_eq!(Settings::read(&other), wanted);
    other["spec"]["containers"][0]["resources"]["limits"]["memory"] = "1G".into();
    let differs = wanted.differences(&Settings::read(&other));
    assert_eq!(differs, ["limits.memory is 953MiB instead of 512MiB"]);
}

#[test]
fn the_longest_names_fit() {
    let mut wanted = wanted();
    wanted.service.place.service = "w".repeat(49);
    assert_eq!(format!("{}-99", wanted.first_name()).len(), 63);
    assert_eq!(label("prod/here/web"), "prod_here_web");
    let long = format!("{}/here/web", "p".repeat(60));
    assert_eq!(label(&long).len(), 63);
    assert_ne!(label(&long), label(&format!("{long}x")));
}

#[test]
fn a_new_revision_gets_no_calls_until_it_is_ready() {
    let old = service("web-old", "web-old", "True");
    let offer = Step::Offer {
        revision: name(),
        traffic: vec![to("web-old", 100)],
    };
    let none = Tried::default();
    assert_eq!(next(&old, &[], &none), Ok(offer));
    let tried = Tried {
        offered: true,
        ..Tried::default()
    };
    let offered = service(&name(), "web-old", "Unknown");
    let waits = next(&offered, &[revision(&name(), "Unknown")], &tried);
    assert!(matches!(waits, Ok(Step::Wait { .. })), "{waits:?}");
    let ready = revision(&name(), "True");
    let lead = Step::Lead {
        revision: name(),
        traffic: vec![to(&name(), 100)],
    };
    assert_eq!(
        next(&offered, std::slice::from_ref(&ready), &tried),
        Ok(lead)
    );
    let led = service(&name(), &name(), "True");
    assert_eq!(
        next(&led, std::slice::from_ref(&ready), &tried),
        Ok(Step::Done)
    );
    assert_eq!(told(&led, &[ready]), (State::Running, String::new()));
}

#[test]
fn a_revision_that_failed_is_news_once_and_is_made_again_under_another_name() {
    let offered = service(&name(), "web-old", "False");
    let failed = [revision(&name(), "False")];
    let tried = Tried {
        offered: true,
        ..Tried::default()
    };
    let failure = next(&offered, &failed, &tried).unwrap_err();
    assert!(!failure.is_retryable());
    let gave_up = format!("Cloud Run gave up revision {}: as it is", name());
    assert_eq!(failure.to_string(), gave_up);
    let Ok(Step::Offer { revision, .. }) = next(&offered, &failed, &Tried::default()) else {
        panic!("it is not made again");
    };
    assert_eq!(revision, format!("{}-2", name()));
    // It failed before there was a revision.
    assert!(next(&offered, &[], &tried).is_err());
}

#[test]
fn of_two_that_are_ready_the_one_that_serves_goes_on() {
    let second = format!("{}-2", name());
    let both = |status| [revision(&name(), "True"), revision(&second, status)];
    let led = service(&name(), &name(), "True");
    assert_eq!(next(&led, &both("True"), &Tried::default()), Ok(Step::Done));
    let failed = service(&second, &name(), "False");
    let offer = Step::Offer {
        revision: name(),
        traffic: vec![to(&name(), 100)],
    };
    let mended = next(&failed, &both("False"), &Tried::default());
    assert_eq!(mended, Ok(offer));
}

#[test]
fn calls_that_would_follow_the_newest_are_held_where_they_are() {
    let mut now = service("web-old", "web-old", "True");
    now["spec"]["traffic"] = json!([{"latestRevision": true, "percent": 100}]);
    let Ok(Step::Offer { traffic, .. }) = next(&now, &[], &Tried::default()) else {
        panic!("nothing is offered");
    };
    assert_eq!(traffic, [to("web-old", 100)]);
    now["status"]["traffic"] = json!([]);
    let Ok(Step::Offer { traffic, .. }) = next(&now, &[], &Tried::default()) else {
        panic!("nothing is offered");
    };
    assert_eq!(traffic, newest(), "there is nobody to hold");
}

#[test]
fn a_canary_comes_before_the_switch_and_not_before_a_repair() {
    let mut wanted = wanted();
    let soak = Duration::from_secs(60);
    wanted.service.canary = Some(Canary { percent: 10, soak });
    let mut now = service(&name(), "web-old", "True");
    now["metadata"]["annotations"] = json!({});
    let tagged = json!({"revisionName": "web-old", "tag": "theirs"});
    push(&mut now["spec"]["traffic"], tagged);
    now["status"]["traffic"] = now["spec"]["traffic"].clone();
    let ready = [revision(&name(), "True")];
    let seen = Seen::read(now.clone(), &ready);
    let mut tried = Tried::default();
    let Ok(Step::Soak { traffic, .. }) = step(&wanted, &seen, &tried) else {
        panic!("no soak");
    };
    assert_eq!(traffic[1..], [to("web-old", 90), to(&name(), 10)]);
    assert_eq!(traffic[0].tag.as_deref(), Some("theirs"));
    tried.soaked = Some(name());
    let Ok(Step::Lead { traffic, .. }) = step(&wanted, &seen, &tried) else {
        panic!("no switch");
    };
    assert_eq!((traffic[0].percent, traffic[1].percent), (100, 0));
    let moved = service(&name(), "web-old", "True");
    let lead = step(&wanted, &Seen::read(moved, &ready), &Tried::default());
    assert!(matches!(lead, Ok(Step::Lead { .. })), "{lead:?}");
}

#[test]
fn what_somebody_changed_is_named_and_its_values_are_not() {
    let mut now = service(&name(), &name(), "True");
    let revisions = [revision(&name(), "True")];
    now["spec"]["traffic"][0]["percent"] = json!(75);
    let other = json!({"revisionName": "web-other", "percent": 25});
    push(&mut now["spec"]["traffic"], other);
    let spec = &mut now["spec"]["template"]["spec"];
    spec["containers"][0]["env"][0]["value"] = "secret".into();
    spec["timeoutSeconds"] = 60.into();
    push(&mut spec["containers"], json!({"image": "sidecar"}));
    let what = "25% of the calls go to revision web-other; timeout is 60s instead of 300s; \
                environment.PASSWORD has another value; it has 2 containers instead of 1";
    assert_eq!(told(&now, &revisions), (State::Altered, what.to_owned()));
    now["metadata"]["deletionTimestamp"] = "now".into();
    assert_eq!(told(&now, &revisions).0, State::Altered);
    assert_eq!(sight(&wanted(), None).0, State::Absent);
}

#[test]
fn revisions_of_a_service_that_was_deleted_are_nobodys() {
    let mut now = service(&name(), &name(), "Unknown");
    now["metadata"]["uid"] = "new".into();
    let mut old = revision(&name(), "True");
    old["metadata"]["labels"]["serving.knative.dev/serviceUid"] = "old".into();
    let waits = next(&now, &[old], &Tried::default());
    assert!(matches!(waits, Ok(Step::Wait { .. })), "{waits:?}");
}

#[test]
fn what_is_not_ours_in_a_service_is_sent_back_as_it_was() {
    let mut now = service("web-old", "web-old", "True");
    now["metadata"]["labels"]["team"] = "shop".into();
    now["spec"]["template"]["spec"]["theirs"] = true.into();
    let traffic = [to("web-old", 100)];
    let change = Change {
        owner: "prod_here_web",
        body: Some(Digest::of(b"other")),
        template: None,
        traffic: &traffic,
        ingress: "all",
    };
    let sent = Seen::read(now, &[]).changed(&change);
    assert_eq!(sent["metadata"]["resourceVersion"], "7");
    assert_eq!(sent["metadata"]["labels"]["team"], "shop");
    assert_eq!(sent["spec"]["template"]["spec"]["theirs"], true);
    assert!(sent["status"].is_null());
    let body = Digest::of(b"other").to_string();
    assert_eq!(sent["metadata"]["annotations"]["holdfast-body"], body);
    let fresh = fresh("shop", "web", &change);
    assert_eq!(fresh["metadata"]["namespace"], "shop");
}

#[test]
fn a_template_is_filled_with_what_cloud_run_has_and_everything_wrong_is_said_at_once() {
    let settings = wanted().service.settings;
    assert_eq!((settings.port, settings.memory_mib), (8080, 512));
    let wrong = json!({
        "project": "shop", "region": "evil.example.com/", "service": "9web", "image": "web:latest",
        "environment": {"PORT": "1", "TWICE": "x"}, "secrets": {"TWICE": "a:1", "BARE": "hunter2"},
        "limits": {"memory": "1MiB"}, "timeout": "2h", "scale": {"min": 3, "max": 1},
        "canary": {"weight": "all", "soak": "1d"},
    });
    let wrong = read(&serde_json::from_value(wrong).unwrap()).unwrap_err();
    let paths: Vec<&str> = wrong.iter().map(|wrong| wrong.path.as_str()).collect();
    let expected = [
        "region",
        "service",
        "image",
        "scale.min",
        "environment.PORT",
        "secrets.BARE",
        "secrets.TWICE",
        "limits.memory",
        "timeout",
        "canary.weight",
        "canary.soak",
    ];
    assert_eq!(paths, expected);
    assert!(wrong.iter().all(|wrong| !wrong.message.contains("hunter2")));
}
