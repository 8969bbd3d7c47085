//! The plugins and an API that fails: for a while, for good, or in the wrong moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_adapters::run::Live;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::cases::Test;
use crate::front::{Answer, Front};
use crate::{ecs, lambda};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_api_of_lambda_that_fails_is_asked_again_and_nothing_is_lost",
        an_api_of_lambda_that_fails_is_asked_again_and_nothing_is_lost,
    ),
    (
        "an_api_of_ecs_that_fails_is_asked_again_and_nothing_is_lost",
        an_api_of_ecs_that_fails_is_asked_again_and_nothing_is_lost,
    ),
];

/// What happens to the next request of a kind.
enum Fault {
    Status(u16, Value),
    Hang,
}

type Faults = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

fn refused(kind: &str) -> Value {
    json!({"__type": kind, "message": format!("{kind} of hunter2")})
}

/// A server of the API at `port`, with faults in front of it.
fn front(port: u16) -> (Front, Faults) {
    let faults = Faults::default();
    let own = Arc::clone(&faults);
    let front = Front::start(move |request| {
        // ECS is asked for everything by one method, and Lambda by several.
        let target = request.header("x-amz-target").rsplit('.').next();
        let kind = target.filter(|kind| !kind.is_empty());
        let kind = kind.unwrap_or(&request.method);
        let mut faults = own.lock().unwrap();
        let meant = faults.front().is_some_and(|(meant, _)| *meant == kind);
        match meant.then(|| faults.pop_front()).flatten() {
            Some((_, Fault::Status(status, body))) => Answer::Json(status, body),
            Some((_, Fault::Hang)) => Answer::Nothing,
            None => Answer::Of(port),
        }
    });
    (front, faults)
}

/// An API that never answers: nothing is taken for gone, and nothing for running.
fn is_given_up_in_time(agent: &Agent) {
    let begun = Instant::now();
    let live = agent.observe().remove(0).live;
    let after = begun.elapsed();
    assert!(after < Duration::from_secs(20), "{after:?}");
    assert!(!matches!(live, Live::Running { .. }), "{live:?}");
}

fn an_api_of_lambda_that_fails_is_asked_again_and_nothing_is_lost() {
    let test = "an_api_of_lambda_that_fails_is_asked_again_and_nothing_is_lost";
    let Some(bench) = lambda::Bench::new(test) else {
        return;
    };
    let (front, faults) = front(bench.server.port());
    let endpoint = front.url();
    let endpoint = endpoint.trim_end_matches('/');
    let more = json!({"endpoint": endpoint, "environment": {"PASSWORD": "hunter2"}});
    let converge = |release| bench.agent.converge(&bench.wanted(release, &more));
    let next = |method, fault| faults.lock().unwrap().push_back((method, fault));

    // Asked again at once, by Amazon's own kit.
    next("GET", Fault::Status(500, refused("ServiceException")));
    next(
        "GET",
        Fault::Status(429, refused("TooManyRequestsException")),
    );
    next("POST", Fault::Status(503, refused("ServiceException")));
    converge(1).unwrap();
    assert!(faults.lock().unwrap().is_empty());
    assert_eq!(bench.answer(), Some("1".to_owned()));

    // Down for longer: it is told so, and goes on from where it was.
    for _ in 0..9 {
        next("PUT", Fault::Status(500, refused("ServiceException")));
    }
    let failure = converge(2).unwrap_err();
    assert!(failure.is_retryable(), "{failure}");
    assert!(
        failure.to_string().contains("ServiceException of ***"),
        "{failure}"
    );
    faults.lock().unwrap().clear();
    assert_eq!(
        bench.answer(),
        Some("1".to_owned()),
        "callers notice nothing"
    );
    converge(2).unwrap();
    assert_eq!(bench.answer(), Some("2".to_owned()));

    // What a person has to mend, and what somebody else's change was in the way of.
    next("PUT", Fault::Status(403, refused("AccessDeniedException")));
    let denied = converge(3).unwrap_err();
    assert!(!denied.is_retryable(), "{denied}");
    assert!(
        denied.to_string().contains("allow it in the policy"),
        "{denied}"
    );
    next(
        "PUT",
        Fault::Status(412, refused("PreconditionFailedException")),
    );
    let raced = converge(3).unwrap_err();
    assert!(raced.is_retryable(), "{raced}");
    assert!(raced.to_string().contains("in the same moment"), "{raced}");
    converge(3).unwrap();
    assert_eq!(bench.answer(), Some("3".to_owned()));

    (0..9).for_each(|_| next("GET", Fault::Hang));
    is_given_up_in_time(&bench.agent);
    faults.lock().unwrap().clear();
    let live = bench.agent.observe().remove(0).live;
    assert!(matches!(live, Live::Running { .. }), "{live:?}");
}

fn an_api_of_ecs_that_fails_is_asked_again_and_nothing_is_lost() {
    let test = "an_api_of_ecs_that_fails_is_asked_again_and_nothing_is_lost";
    let Some(bench) = ecs::Bench::new(test) else {
        return;
    };
    let (front, faults) = front(bench.server.port());
    let endpoint = front.url();
    let endpoint = endpoint.trim_end_matches('/');
    let converge = |release| {
        bench
            .agent
            .converge(&bench.wanted_by(endpoint, release, ecs::SLEEP))
    };
    let next = |kind, fault| faults.lock().unwrap().push_back((kind, fault));

    // Asked again at once, or later.
    next(
        "ListTaskDefinitions",
        Fault::Status(500, refused("ServerException")),
    );
    let busy = json!({"__type": "ClientException",
        "message": "Too many concurrent attempts to create a new revision of the specified family."});
    next("RegisterTaskDefinition", Fault::Status(400, busy));
    let failure = converge(1).unwrap_err();
    assert!(failure.is_retryable(), "{failure}");
    assert!(
        failure.to_string().contains("Too many concurrent"),
        "{failure}"
    );
    converge(1).unwrap();
    assert!(bench.alive().contains("1"), "{:?}", bench.alive());

    let cases = [
        (
            403,
            "AccessDeniedException",
            false,
            "allow it in the policy",
        ),
        (400, "ServiceNotActiveException", true, "being deleted"),
        (400, "ThrottlingException", true, "throttled"),
    ];
    for (status, kind, again, help) in cases {
        (0..3).for_each(|_| next("UpdateService", Fault::Status(status, refused(kind))));
        let failure = converge(2).unwrap_err();
        assert_eq!(failure.is_retryable(), again, "{failure}");
        assert!(failure.to_string().contains(help), "{failure}");
        faults.lock().unwrap().clear();
        assert!(bench.alive().contains("1"), "{:?}", bench.alive());
    }
    converge(2).unwrap();
    assert!(bench.alive().contains("2"), "{:?}", bench.alive());

    (0..9).for_each(|_| next("DescribeServices", Fault::Hang));
    is_given_up_in_time(&bench.agent);
    faults.lock().unwrap().clear();

    // A service whose cluster is gone is gone, too.
    next(
        "DescribeServices",
        Fault::Status(400, refused("ClusterNotFoundException")),
    );
    let failure = converge(2).unwrap_err();
    assert!(
        failure.to_string().contains("make the cluster"),
        "{failure}"
    );
    next(
        "DescribeServices",
        Fault::Status(400, refused("ClusterNotFoundException")),
    );
    bench.agent.remove("web").unwrap();
    assert!(faults.lock().unwrap().is_empty());
}
