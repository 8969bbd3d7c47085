//! Which answers count, and what is kept of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;
use serde_json::json;

use super::verdict::least_worth;
use super::{ANSWER_GRACE, Answer, answer, outstanding, shown};
use crate::compiled::TrackSpec;
use crate::compiled::protection::{
    Approval, Check, Guard, Http, OnIncident, Protection, Skippable, When,
};
use crate::effect::{Ask, Effect};
use crate::input::{Declared, Inputs, ReleaseRef, Seen, View};
use crate::steer::human::{Human, Word, say};
use crate::step::{Outcome, step};
use crate::track::check::{CheckResult, KeptResult, Verdict};
use crate::track::kept::differs;
use crate::track::{Track, TrackName};

const INTERVAL: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn spec(when: When) -> TrackSpec {
    let name = TrackName {
        service: "web".parse().unwrap(),
        environment: "production".parse().unwrap(),
    };
    let configuration = serde_json::from_value(json!({
        "service": "web", "environment": "production", "runtime": "process",
        "template": null, "vars": {}, "artifacts": {}, "images": {}, "health": null,
        "dependsOn": [], "rollback": "central", "progressDeadlineMs": 0, "job": null,
    }));
    let protection = Protection {
        name: "alerts".parse().unwrap(),
        owner: String::new(),
        set: "default".parse().unwrap(),
        check: Check::Http(Http {
            url: "http://127.0.0.1:1/".to_owned(),
            expect: None,
            contains: None,
            timeout: TIMEOUT,
        }),
        parameters: BTreeMap::new(),
        interval: INTERVAL,
        failure_threshold: 2,
        skippable: Skippable::Anyone,
        notify: None,
    };
    let guard = Guard {
        name: protection.name.clone(),
        protection: Arc::new(protection),
        when: [when].into(),
        parameters: BTreeMap::new(),
        on_incident: OnIncident::Tell,
    };
    TrackSpec {
        guards: vec![guard],
        ..TrackSpec::plain(name, configuration.unwrap())
    }
}

/// The only release there is, and nobody to give it to.
fn releases() -> Vec<ReleaseRef> {
    vec![ReleaseRef::bare("1.0".parse().unwrap(), 1)]
}

fn inputs<'a>(spec: &'a TrackSpec, releases: &'a [ReleaseRef]) -> Inputs<'a> {
    Inputs {
        releases,
        ..Inputs::of(Declared::Runs(spec))
    }
}

fn asks(outcome: &Outcome) -> Vec<Ask> {
    let asks = outcome.effects.iter().filter_map(|effect| match effect {
        Effect::Check(ask) => Some(ask.clone()),
        Effect::Place { .. } | Effect::Displace { .. } | Effect::Save(_) | Effect::Record(_) => {
            None
        }
    });
    asks.collect()
}

fn said(ask: &Ask, result: CheckResult, output: &str) -> Answer {
    Answer {
        guard: ask.guard.clone(),
        when: ask.when,
        deployment: ask.deployment,
        asked_at: ask.asked_at,
        result,
        output: output.to_owned(),
    }
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let (spec, releases) = (spec(When::Pre), releases());
    let inputs = inputs(&spec, &releases);
    let first = step(&Track::new(spec.name.clone()), &inputs, at(0));
    let [ask] = &asks(&first)[..] else {
        panic!("{:?}", first.effects)
    };
    assert_eq!(
        outstanding(&first.track, &inputs),
        std::slice::from_ref(ask)
    );
    let right = said(ask, CheckResult::Passed, "");
    let wrong = [
        Answer {
            asked_at: at(7),
            ..right.clone()
        },
        Answer {
            deployment: Some(9),
            ..right.clone()
        },
        Answer {
            deployment: None,
            ..right.clone()
        },
        Answer {
            when: When::Post,
            ..right.clone()
        },
        Answer {
            guard: "other".parse().unwrap(),
            ..right.clone()
        },
    ];
    for wrong in wrong {
        let outcome = answer(&first.track, &wrong, &inputs, at(1));
        assert_eq!(outcome.track, first.track, "{wrong:?}");
        assert_eq!(outcome.effects, [], "{wrong:?}");
    }
    let passed = answer(&first.track, &right, &inputs, at(1));
    assert!(differs(&first.track, &passed.track));
    assert_eq!(outstanding(&passed.track, &inputs), []);
    let twice = answer(&passed.track, &right, &inputs, at(2));
    assert_eq!(twice.track, passed.track);
}

#[test]
fn what_is_not_answered_in_time_is_unknown_and_asked_again() {
    let (spec, releases) = (spec(When::Pre), releases());
    let inputs = inputs(&spec, &releases);
    let first = step(&Track::new(spec.name.clone()), &inputs, at(0));
    let deadline = at(0).after(TIMEOUT).after(ANSWER_GRACE);
    let before = Timestamp::from_millis(deadline.as_millis() - 1);
    assert_eq!(asks(&step(&first.track, &inputs, before)), []);
    let again = step(&first.track, &inputs, deadline);
    let results = &again.track.current.as_ref().unwrap().results;
    assert_eq!(results[0].verdict.result, CheckResult::Unknown);
    assert_eq!(asks(&again)[0].asked_at, deadline);
}

#[test]
fn a_clock_that_is_set_back_holds_no_check_and_opens_no_gate() {
    let (spec, releases) = (spec(When::Pre), releases());
    let inputs = inputs(&spec, &releases);
    let (ahead, back) = (at(86_400), at(60));
    let first = step(&Track::new(spec.name.clone()), &inputs, ahead);
    assert_eq!(asks(&step(&first.track, &inputs, back))[0].asked_at, back);
    let right = said(&asks(&first)[0], CheckResult::Passed, "");
    let passed = answer(&first.track, &right, &inputs, ahead).track;
    let stands = |outcome: &Outcome| outcome.waits.iter().any(|wait| wait.subject == "alerts");
    assert!(!stands(&step(&passed, &inputs, ahead)));
    let now = step(&passed, &inputs, back);
    assert!(stands(&now));
    assert_eq!(asks(&now)[0].asked_at, back);
    // A clock that is set back by a moment, as they are every day, costs nothing.
    let moment = Timestamp::from_millis(ahead.as_millis() - 50);
    let now = step(&passed, &inputs, moment);
    assert!(!stands(&now) && asks(&now).is_empty());
}

#[test]
fn what_passed_before_the_coordinator_was_away_proves_nothing_afterwards() {
    let (mut spec, releases) = (spec(When::Post), releases());
    spec.rollout.soak = Duration::from_secs(60);
    let name: TargetName = "a".parse().unwrap();
    let with = |seen: Seen| {
        let mut inputs = inputs(&spec, &releases);
        let view = View {
            connected: true,
            since: at(0),
            seen,
            labels: Arc::default(),
            held: None,
            keyless: false,
        };
        inputs.targets.insert(name.clone(), view);
        inputs
    };
    let placed = step(&Track::new(spec.name.clone()), &with(Seen::Unknown), at(0));
    let inputs = with(Seen::Ready { since: at(1) });
    let holding = step(&placed.track, &inputs, at(1));
    let right = said(&asks(&holding)[0], CheckResult::Passed, "");
    let passed = answer(&holding.track, &right, &inputs, at(2)).track;
    let back = step(&passed, &inputs, at(3_600));
    assert!(back.track.stable.is_none(), "{:?}", back.track.current);
    assert_eq!(back.waits[0].subject, "alerts");
    let right = said(&asks(&back)[0], CheckResult::Passed, "");
    let proven = answer(&back.track, &right, &inputs, at(3_601)).track;
    assert!(proven.stable.is_some(), "{:?}", proven.waits);
}

#[test]
fn a_check_that_says_the_same_is_worth_no_write() {
    let (spec, releases) = (spec(When::Pre), releases());
    let inputs = inputs(&spec, &releases);
    let mut track = step(&Track::new(spec.name.clone()), &inputs, at(0)).track;
    let mut written = Vec::new();
    let said_of = [
        (CheckResult::Passed, "it is 9:00"),
        (CheckResult::Passed, "it is 9:01"),
        (CheckResult::Failed, "one alert"),
        (CheckResult::Failed, "one alert"),
        (CheckResult::Failed, "one alert"),
        (CheckResult::Failed, "two alerts"),
    ];
    for (round, (result, output)) in (0..).zip(said_of) {
        let now = at(round * INTERVAL.as_secs());
        let asked = step(&track, &inputs, now).track;
        let ask = &outstanding(&asked, &inputs)[0];
        let next = answer(&asked, &said(ask, result, output), &inputs, now).track;
        written.push(differs(&track, &next));
        track = next;
    }
    // The fourth is the second failure in a row, which is as many as it may have.
    assert_eq!(written, [true, false, true, true, false, true]);
    let results = &track.current.unwrap().results;
    let kept: Vec<&str> = results
        .iter()
        .map(|kept| kept.verdict.output.as_str())
        .collect();
    assert_eq!(kept, ["it is 9:00", "one alert", "two alerts"]);
}

#[test]
fn the_first_result_of_each_check_outlives_those_in_between() {
    let result = |name: &str, at: u64| KeptResult {
        name: name.parse().unwrap(),
        when: When::Post,
        verdict: Verdict {
            result: CheckResult::Failed,
            output: at.to_string(),
            at: Timestamp::from_millis(at),
        },
    };
    let mut results: Vec<KeptResult> = vec![result("a", 1), result("b", 2)];
    results.extend((3..9).map(|at| result("a", at)));
    for _ in 0..5 {
        results.remove(least_worth(&results));
    }
    let kept: Vec<&str> = results.iter().map(|r| r.verdict.output.as_str()).collect();
    assert_eq!(kept, ["1", "2", "8"]);
}

#[test]
fn an_approval_of_what_is_not_shown_any_more_counts_for_nothing() {
    let (mut spec, releases) = (spec(When::Pre), releases());
    let roles = vec!["release-manager".parse().unwrap()];
    let check = Check::Approval(Approval {
        roles: roles.clone(),
        count: 1,
        expires: TIMEOUT,
    });
    let protection = Protection::clone(&spec.guards[0].protection);
    spec.guards[0].protection = Arc::new(Protection {
        check,
        ..protection
    });
    let inputs = inputs(&spec, &releases);
    let waiting = step(&Track::new(spec.name.clone()), &inputs, at(0)).track;
    let deployment = waiting.current.clone().unwrap();
    let now_shown = shown(&waiting, &deployment);
    let mut changed = waiting.clone();
    changed.stable = Some(deployment.point.clone());
    changed.stable.as_mut().unwrap().sequence = 0;
    let alice = Human {
        by: "alice",
        roles: &roles,
        reason: "",
    };
    let yes = Word::Approve {
        shown: Some(now_shown),
    };
    let agree = |track: &Track| say(track, deployment.id, &yes, alice, &inputs, at(1));
    assert!(agree(&changed).is_err());
    let approved = agree(&waiting).unwrap().outcome.track;
    let stands = |track: &Track| {
        let waits = step(track, &inputs, at(2)).waits;
        waits.iter().any(|wait| wait.subject == "alerts")
    };
    assert!(!stands(&approved));
    changed.current = approved.current;
    assert!(stands(&changed));
}
