//! `cloud-run` and an API that fails: for a while, for good, or in the wrong moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_adapters::run::Live;
use serde_json::{Value, json};

use crate::cases::Test;
use crate::cloud::path;
use crate::cluster::{Cluster, LIMITED};
use crate::front::{Answer, Front, Request};
use crate::service::Bench;

pub(crate) const TESTS: &[Test] = &[
    (
        "an_api_that_fails_for_a_while_is_asked_again_and_nothing_is_lost",
        an_api_that_fails_for_a_while_is_asked_again_and_nothing_is_lost,
    ),
    (
        "what_is_not_ours_or_not_allowed_is_refused_and_says_what_to_do",
        what_is_not_ours_or_not_allowed_is_refused_and_says_what_to_do,
    ),
];

/// What happens to the next request of a method.
enum Fault {
    Status(u16, Value),
    Hang,
    /// Somebody changes the service first.
    Edit(Value),
}

type Faults = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

/// The API, with faults in front of it.
fn front(cluster: &Arc<Cluster>) -> (Front, Faults) {
    let faults = Faults::default();
    let (own, cluster) = (Arc::clone(&faults), Arc::clone(cluster));
    let front = Front::start(move |request| {
        let fault = {
            let mut faults = own.lock().unwrap();
            let meant = faults
                .front()
                .is_some_and(|(method, _)| *method == request.method);
            meant.then(|| faults.pop_front()).flatten()
        };
        match fault {
            Some((_, Fault::Status(status, body))) => Answer::Json(status, body),
            Some((_, Fault::Hang)) => Answer::Nothing,
            Some((_, Fault::Edit(patch))) => {
                cluster.edit(&path("services", "web"), &patch);
                pass(&cluster, request)
            }
            None => pass(&cluster, request),
        }
    });
    (front, faults)
}

fn pass(cluster: &Cluster, request: &Request) -> Answer {
    let token = request.header("authorization").replace("Bearer ", "");
    let body = serde_json::from_str(&request.body).ok();
    let body = body.as_ref().map(|body: &Value| ("application/json", body));
    let (code, answer) = cluster.ask_as(&token, &request.method, &request.path, body);
    Answer::Json(code, answer)
}

fn an_api_that_fails_for_a_while_is_asked_again_and_nothing_is_lost() {
    let test = "an_api_that_fails_for_a_while_is_asked_again_and_nothing_is_lost";
    let Some(mut bench) = Bench::start(test) else {
        return;
    };
    let (front, faults) = front(&bench.cloud.cluster);
    let endpoint = "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN";
    bench.agent.set(endpoint, Some(&front.url()));
    let next = |method, fault| faults.lock().unwrap().push_back((method, fault));
    let away = || Fault::Status(500, json!({"error": {"code": 500, "message": "oops"}}));

    // Looks are asked again at once, changes when all is looked at again.
    next("GET", away());
    next("GET", Fault::Status(429, json!("slow down")));
    bench.converge(1);
    assert!(faults.lock().unwrap().is_empty());
    next("PUT", Fault::Status(503, json!("<html>Unavailable</html>")));
    let second = bench.wanted(2, &json!({}));
    let failure = bench.agent.converge(&second).unwrap_err();
    assert!(failure.is_retryable(), "{failure}");
    assert!(failure.to_string().contains("Unavailable"), "{failure}");
    assert_eq!(bench.cloud.alive("web"), ["1"]);
    bench.agent.converge(&second).unwrap();
    assert_eq!(bench.cloud.alive("web"), ["2"]);

    // What was decided on a version that somebody has changed since is decided anew.
    let theirs = |team: &str| Fault::Edit(json!({"metadata": {"labels": {"team": team}}}));
    next("PUT", theirs("shop"));
    let third = bench.wanted(3, &json!({}));
    bench.agent.converge(&third).unwrap();
    assert_eq!(bench.cloud.alive("web"), ["3"]);
    let service = bench.cloud.service("web").unwrap();
    assert_eq!(service["metadata"]["labels"]["team"], "shop");
    (0..11).for_each(|time| next("PUT", theirs(&time.to_string())));
    let fourth = bench.wanted(4, &json!({}));
    let failure = bench.agent.converge(&fourth).unwrap_err();
    assert!(failure.is_retryable(), "{failure}");
    assert!(
        failure.to_string().contains("in the same moment"),
        "{failure}"
    );
    assert_eq!(bench.cloud.alive("web"), ["3"]);
    bench.agent.converge(&third).unwrap();

    // One that never answers is given up in time, and nothing is taken for gone.
    (0..8).for_each(|_| next("GET", Fault::Hang));
    let begun = Instant::now();
    let seen = bench.agent.observe().remove(0);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let live = seen.live;
    assert!(!matches!(live, Live::Running { .. }), "{live:?}");
    faults.lock().unwrap().clear();
    let live = bench.agent.observe().remove(0).live;
    assert!(matches!(live, Live::Running { .. }), "{live:?}");

    // What answers is something else.
    next("GET", Fault::Status(200, json!("<html>Log in</html>")));
    next("GET", Fault::Status(302, json!("<html>Log in</html>")));
    let failure = bench.agent.converge(&third).unwrap_err();
    assert!(
        failure.to_string().contains("no address of Cloud Run"),
        "{failure}"
    );
}

fn what_is_not_ours_or_not_allowed_is_refused_and_says_what_to_do() {
    let test = "what_is_not_ours_or_not_allowed_is_refused_and_says_what_to_do";
    let Some(mut bench) = Bench::start(test) else {
        return;
    };
    let first = bench.wanted(1, &json!({}));
    let place = path("services", "");
    let theirs = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": "web"}, "spec": {"template": {}}});
    bench.cloud.cluster.create(&place, &theirs);
    let failure = bench.agent.converge(&first).unwrap_err();
    assert!(!failure.is_retryable(), "{failure}");
    let said = failure.to_string();
    assert!(
        said.contains("not ours") && said.contains("holdfast-workload=test_here_web"),
        "{said}"
    );
    bench.agent.remove("web").unwrap();
    assert!(bench.cloud.service("web").is_some(), "it is left alone");
    // Handed over as it was said.
    let owned = json!({"metadata": {"labels": {"holdfast-workload": "test_here_web"}}});
    bench.cloud.edit("web", &owned);
    bench.agent.converge(&first).unwrap();
    assert_eq!(bench.cloud.alive("web"), ["1"]);

    let second = bench.wanted(2, &json!({}));
    bench.token(LIMITED);
    let denied = bench.agent.converge(&second).unwrap_err();
    assert!(!denied.is_retryable(), "{denied}");
    assert!(
        denied.to_string().contains("roles/run.developer"),
        "{denied}"
    );
    bench.token("hunter2");
    let unknown = bench.agent.converge(&second).unwrap_err();
    assert!(unknown.is_retryable(), "{unknown}");
    assert!(unknown.to_string().contains("not accepted"), "{unknown}");
    assert!(!unknown.to_string().contains("hunter2"), "{unknown}");
    assert_eq!(bench.cloud.alive("web"), ["1"]);

    let wrong = bench.wanted(
        2,
        &json!({"region": "evil.example.com/x", "timeout": "2h",
        "environment": {"PORT": "1"}, "scale": {"min": 3, "max": 2}}),
    );
    let said = bench.agent.converge(&wrong).unwrap_err().to_string();
    for field in ["region: ", "timeout: ", "environment.PORT: ", "scale.min: "] {
        assert!(said.contains(field), "{field} {said}");
    }
}
