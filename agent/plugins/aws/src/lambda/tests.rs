//! From a function as it is to the next step, and what is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use serde_json::json;

use super::plan::{MADE, Refused, Step, Tried, Wanted, step};
use super::seen::{Alias, Seen, Sha, State, Version};
use super::sight::sight;
use super::template::{Canary, read};
use crate::sight::Sight;

fn wanted() -> Wanted {
    let template = json!({
        "function": "web", "role": "arn:aws:iam::1:role/web", "runtime": "python3.12",
        "handler": "app.handler", "code": {"path": "/srv/app"}, "keep": 1,
        "environment": {"PASSWORD": "hunter2"},
    });
    Wanted {
        owner: "prod/here/web".to_owned(),
        body: Digest::of(b"body"),
        code: Sha::Zip(Digest::of(b"code")),
        function: read(&template).unwrap(),
    }
}

fn version(number: &str) -> Version {
    let wanted = wanted();
    Version {
        number: number.to_owned(),
        revision: format!("revision of {number}"),
        code: Some(wanted.code),
        settings: wanted.function.settings,
        state: State::Ready,
        description: format!("{MADE} 1.0"),
    }
}

fn other(number: &str) -> Version {
    let code = Some(Sha::Zip(Digest::of(number.as_bytes())));
    Version {
        code,
        ..version(number)
    }
}

fn alias(version: &str, body: &[u8]) -> Alias {
    Alias {
        name: "live".to_owned(),
        version: version.to_owned(),
        weights: BTreeMap::new(),
        revision: "revision of live".to_owned(),
        description: format!("{MADE} {}", Digest::of(body)),
    }
}

fn seen(latest: Version, versions: Vec<Version>, aliases: Vec<Alias>) -> Seen {
    Seen {
        owner: Some(wanted().owner),
        latest,
        versions,
        aliases,
    }
}

fn next(seen: &Seen) -> Result<Step, Refused> {
    step(&wanted(), Some(seen), &Tried::default())
}

fn point(version: &str, revision: Option<&str>) -> Step {
    Step::Point {
        version: version.to_owned(),
        revision: revision.map(str::to_owned),
    }
}

#[test]
fn a_function_is_made_published_and_then_switched_to() {
    assert_eq!(step(&wanted(), None, &Tried::default()), Ok(Step::Create));
    let mut latest = version("$LATEST");
    latest.state = State::Pending;
    assert!(matches!(
        next(&seen(latest, vec![], vec![])),
        Ok(Step::Wait { .. })
    ));
    let publish = Step::Publish {
        revision: "revision of $LATEST".to_owned(),
    };
    assert_eq!(next(&seen(version("$LATEST"), vec![], vec![])), Ok(publish));
    let published = seen(version("$LATEST"), vec![version("1")], vec![]);
    assert_eq!(next(&published), Ok(point("1", None)));
    let done = seen(
        version("$LATEST"),
        vec![version("1")],
        vec![alias("1", b"body")],
    );
    assert_eq!(next(&done), Ok(Step::Done));
    assert_eq!(
        sight(&wanted(), Some(&done)),
        (Sight::Running, Some(Digest::of(b"body")))
    );
}

#[test]
fn callers_reach_the_old_version_until_the_new_one_is_published() {
    let before = seen(other("$LATEST"), vec![other("1")], vec![alias("1", b"old")]);
    assert!(matches!(next(&before), Ok(Step::Recode { .. })));
    let mut latest = version("$LATEST");
    latest.settings.memory_mib = 512;
    let before = seen(latest, vec![other("1")], vec![alias("1", b"old")]);
    let Ok(Step::Configure { what, .. }) = next(&before) else {
        panic!("{:?}", next(&before));
    };
    assert_eq!(what, "memory is 512MiB instead of 128MiB");
}

#[test]
fn a_version_that_was_published_before_is_switched_to_at_once() {
    let versions = vec![version("1"), other("2")];
    let back = seen(other("$LATEST"), versions.clone(), vec![alias("2", b"new")]);
    assert_eq!(next(&back), Ok(point("1", Some("revision of live"))));
    // What is not called is put in order afterwards.
    let after = seen(other("$LATEST"), versions, vec![alias("1", b"body")]);
    assert!(matches!(next(&after), Ok(Step::Recode { .. })));
}

#[test]
fn a_canary_and_a_trial_come_before_the_switch() {
    let mut wanted = wanted();
    wanted.function.canary = Some(Canary {
        weight: 0.1,
        soak: Duration::from_secs(60),
    });
    wanted.function.trial = Some(json!({}));
    let now = seen(
        version("$LATEST"),
        vec![other("1"), version("2")],
        vec![alias("1", b"old")],
    );
    let mut tried = Tried::default();
    let version = "2".to_owned();
    assert_eq!(step(&wanted, Some(&now), &tried), Ok(Step::Try { version }));
    tried.trial = Some("2".to_owned());
    let Ok(Step::Soak { alias, .. }) = step(&wanted, Some(&now), &tried) else {
        panic!("no soak");
    };
    assert_eq!(alias.version, "1");
    tried.soak = Some("2".to_owned());
    assert_eq!(
        step(&wanted, Some(&now), &tried),
        Ok(point("2", Some("revision of live")))
    );
}

#[test]
fn what_is_not_ours_is_refused_and_said_whose_it_is() {
    let mut foreign = seen(version("$LATEST"), vec![], vec![]);
    foreign.owner = None;
    let Refused(why) = next(&foreign).unwrap_err();
    assert!(
        why.contains("not ours") && why.contains("holdfast:workload=prod/here/web"),
        "{why}"
    );
    foreign.owner = Some("prod/there/web".to_owned());
    assert!(
        next(&foreign)
            .unwrap_err()
            .0
            .contains("is of prod/there/web")
    );
}

#[test]
fn what_somebody_changed_is_named_and_its_values_are_not() {
    let (mut moved, mut edited) = (alias("1", b"body"), version("$LATEST"));
    moved.weights.insert("2".to_owned(), 0.25);
    edited
        .settings
        .environment
        .insert("PASSWORD".to_owned(), "secret".to_owned());
    edited.settings.timeout_seconds = 60;
    let now = seen(edited, vec![version("1"), other("2")], vec![moved]);
    let (Sight::Altered(what), _) = sight(&wanted(), Some(&now)) else {
        panic!("it was changed");
    };
    assert_eq!(
        what,
        "25% of the calls of alias live go to version 2; $LATEST: timeout is 60s instead of 3s; \
         $LATEST: environment.PASSWORD has another value"
    );
    assert_eq!(next(&now), Ok(point("1", Some("revision of live"))));
}

#[test]
fn old_versions_go_unless_somebody_names_them_or_made_them() {
    let mut theirs = other("2");
    theirs.description = "by hand".to_owned();
    let mut named = alias("1", b"x");
    named.name = "theirs".to_owned();
    let versions = vec![other("1"), theirs, other("3"), other("4"), version("5")];
    let now = seen(
        version("$LATEST"),
        versions,
        vec![alias("5", b"body"), named],
    );
    let versions = vec!["3".to_owned()];
    assert_eq!(next(&now), Ok(Step::Forget { versions }));
}

#[test]
fn what_lambda_refuses_is_told_in_its_own_words() {
    let mut latest = version("$LATEST");
    latest.state = State::Failed {
        code: "InvalidImage".to_owned(),
        why: "The image is not there.".to_owned(),
    };
    let failed = seen(latest, vec![], vec![]);
    assert!(
        matches!(next(&failed), Ok(Step::Recode { .. })),
        "it is tried once more"
    );
    let tried = Tried {
        changed: true,
        ..Tried::default()
    };
    let Refused(why) = step(&wanted(), Some(&failed), &tried).unwrap_err();
    assert_eq!(
        why,
        "Lambda refuses function web: The image is not there. (InvalidImage)"
    );
}
