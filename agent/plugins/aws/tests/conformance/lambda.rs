//! `aws-lambda`: conforms, and does what is particular to functions.

use std::time::{Duration, Instant};

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_lambda::types::{AliasRoutingConfiguration, Environment, FunctionCode, Runtime};
use holdfast_adapters::failure::Failure;
use holdfast_adapters::plugin::author;
use holdfast_adapters::run::{Live, Wanted};
use serde_json::{Value, json};

use crate::agent::{Agent, runtime, written};
use crate::cases::Test;
use crate::plugins;
use crate::server::{Server, program};
use crate::table;

pub(crate) const TESTS: &[Test] = &[
    ("aws_lambda_conforms", aws_lambda_conforms),
    (
        "a_release_is_a_version_and_the_alias_is_switched_to_it",
        a_release_is_a_version_and_the_alias_is_switched_to_it,
    ),
    (
        "a_function_of_somebody_else_is_refused_and_left_alone",
        a_function_of_somebody_else_is_refused_and_left_alone,
    ),
    (
        "a_canary_gets_its_part_of_the_calls_before_the_switch",
        a_canary_gets_its_part_of_the_calls_before_the_switch,
    ),
    (
        "a_version_that_fails_its_trial_is_never_switched_to",
        a_version_that_fails_its_trial_is_never_switched_to,
    ),
    (
        "what_is_missing_around_a_function_is_said_and_secrets_are_not",
        what_is_missing_around_a_function_is_said_and_secrets_are_not,
    ),
];

pub(crate) const ROLE: &str = "arn:aws:iam::000000000000:role/web";

/// Whoever may call Lambda, without the plugin.
fn client(endpoint: &str) -> Client {
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

/// What the suite has done behind the plugin's back, by commands.
pub(crate) fn behind(endpoint: &str, act: &str, function: &str) -> Result<(), String> {
    let lambda = client(endpoint);
    runtime().block_on(async {
        match act {
            "kill" => lambda
                .delete_function()
                .function_name(function)
                .send()
                .await
                .map(drop)
                .map_err(|e| format!("{e:?}")),
            "edit" => {
                let edit = lambda
                    .update_function_configuration()
                    .function_name(function);
                edit.memory_size(640)
                    .send()
                    .await
                    .map(drop)
                    .map_err(|e| format!("{e:?}"))
            }
            "alive" => {
                if let Some(answer) = invoke(&lambda, function).await {
                    println!("{answer}");
                }
                Ok(())
            }
            other => Err(format!("{other:?} is no act")),
        }
    })
}

/// What the function answers by its alias; nothing where it is not there.
async fn invoke(lambda: &Client, function: &str) -> Option<String> {
    let asked = lambda
        .invoke()
        .function_name(function)
        .qualifier("live")
        .send()
        .await
        .ok()?;
    let answer = asked
        .payload()
        .map(|said| String::from_utf8_lossy(said.as_ref()).into_owned())?;
    Some(answer.trim_matches('"').to_owned())
}

fn aws_lambda_conforms() {
    let Some(program) = program("aws_lambda_conforms") else {
        return;
    };
    let server = Server::start(&program, &[]);
    let agent = plugins();
    let own = std::env::current_exe().unwrap();
    let command = |act: &str| json!([own, "behind", server.endpoint(), act, "f-{{service}}"]);
    let template = |timeout: &str| {
        json!({
            "function": "f-{{service}}", "endpoint": server.endpoint(), "role": ROLE, "timeout": timeout,
            "code": {"path": "{{artifact}}"}, "runtime": "python3.12", "handler": "app.handler",
            "environment": {"RELEASE": "{{release}}"},
        })
    };
    let trial = json!({
        "template": template("10s"), "bad": template("10h"),
        "artifact": {"name": "app", "file": "app.py", "content": "def handler(event, context):\n    return \"{{release}}\"\n"},
        "kill": command("kill"), "edit": command("edit"), "alive": command("alive"),
    });
    let trial = written(agent.path(), "trial.json", &trial);
    let scratch = agent.path().join("scratch");
    let tested = author::test(agent.settings(), "aws-lambda", (Some(&trial), &scratch));
    let report = agent.block_on(tested).unwrap();
    if !report.passed() {
        println!("{}", server.log());
    }
    table::conform(&[report]);
}

/// One agent, one server, one function.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    pub(crate) lambda: Client,
}

impl Bench {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let server = Server::start(&program(test)?, &[]);
        let lambda = client(&server.endpoint());
        let agent = plugins();
        Some(Self {
            server,
            agent,
            lambda,
        })
    }

    /// A release whose code answers its number, with fields of its own.
    pub(crate) fn wanted(&self, release: u32, more: &Value) -> Wanted {
        let answer = format!("    return \"{release}\"");
        self.wanted_that(release, &answer, more)
    }

    fn wanted_that(&self, release: u32, does: &str, more: &Value) -> Wanted {
        let mut template = json!({
            "function": "web", "endpoint": self.server.endpoint(), "role": ROLE,
            "code": {"path": "{{app}}"}, "runtime": "python3.12", "handler": "app.handler",
        });
        let fields = template.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let code = format!("def handler(event, context):\n{does}\n");
        self.agent
            .wanted("aws-lambda", &template, ("app.py", &code), release)
    }

    pub(crate) fn answer(&self) -> Option<String> {
        self.agent.block_on(invoke(&self.lambda, "web"))
    }

    /// Numbers of all published versions.
    pub(crate) fn versions(&self) -> Vec<String> {
        let asked = self.lambda.list_versions_by_function().function_name("web");
        let found = self.agent.block_on(asked.send()).unwrap();
        let numbers = found.versions().iter().filter_map(|v| v.version());
        numbers
            .filter(|number| *number != "$LATEST")
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn leads_to(&self) -> String {
        let asked = self.lambda.get_alias().function_name("web").name("live");
        let alias = self.agent.block_on(asked.send()).unwrap();
        alias.function_version().unwrap().to_owned()
    }

    pub(crate) fn live(&self) -> Live {
        self.agent.observe().remove(0).live
    }
}

fn a_release_is_a_version_and_the_alias_is_switched_to_it() {
    let Some(bench) = Bench::new("a_release_is_a_version_and_the_alias_is_switched_to_it") else {
        return;
    };
    let keep = json!({"keep": 1});
    for release in [1, 2, 3] {
        bench.agent.converge(&bench.wanted(release, &keep)).unwrap();
        assert_eq!(bench.answer(), Some(release.to_string()));
    }
    assert_eq!(bench.versions(), ["2", "3"], "one earlier version is kept");
    // Back to a version that is still there: nothing is made again.
    bench.agent.converge(&bench.wanted(2, &keep)).unwrap();
    assert_eq!(
        (bench.leads_to(), bench.answer()),
        ("2".to_owned(), Some("2".to_owned()))
    );
    assert_eq!(bench.versions(), ["2", "3"]);
    bench.agent.converge(&bench.wanted(2, &keep)).unwrap();
    assert_eq!(
        bench.versions(),
        ["2", "3"],
        "the same again publishes nothing"
    );

    // Somebody moves the alias.
    let moved = bench
        .lambda
        .update_alias()
        .function_name("web")
        .name("live")
        .function_version("3");
    bench.agent.block_on(moved.send()).unwrap();
    let Live::Altered { what } = bench.live() else {
        panic!("the alias was moved")
    };
    assert!(what.contains("version 3"), "{what}");
    bench.agent.converge(&bench.wanted(2, &keep)).unwrap();
    assert!(
        matches!(bench.live(), Live::Running { .. }),
        "{:?}",
        bench.live()
    );
    assert_eq!(bench.answer(), Some("2".to_owned()));

    // Another name: the old function goes when the new one serves.
    let mut renamed = bench.wanted(2, &keep);
    renamed.workload.template = renamed.workload.template.replace("\"web\"", "\"shop\"");
    renamed.body = renamed.workload.clone().seal().0;
    bench.agent.converge(&renamed).unwrap();
    assert_eq!(bench.answer(), None);
    assert_eq!(
        bench.agent.block_on(invoke(&bench.lambda, "shop")),
        Some("2".to_owned())
    );
    bench.agent.remove("web").unwrap();
    assert_eq!(bench.agent.block_on(invoke(&bench.lambda, "shop")), None);
}

fn a_function_of_somebody_else_is_refused_and_left_alone() {
    let Some(bench) = Bench::new("a_function_of_somebody_else_is_refused_and_left_alone") else {
        return;
    };
    // An archive of nothing.
    let empty =
        aws_sdk_lambda::primitives::Blob::new([b"PK\x05\x06".as_slice(), &[0; 18]].concat());
    let made = bench
        .lambda
        .create_function()
        .function_name("web")
        .role(ROLE)
        .handler("x.y");
    let made = made
        .runtime(Runtime::Python312)
        .code(FunctionCode::builder().zip_file(empty).build());
    bench.agent.block_on(made.send()).unwrap();
    let refused = bench
        .agent
        .converge(&bench.wanted(1, &json!({})))
        .unwrap_err();
    assert!(
        !refused.is_retryable() && refused.to_string().contains("not ours"),
        "{refused}"
    );
    bench.agent.remove("web").unwrap();
    let found = bench
        .lambda
        .get_function_configuration()
        .function_name("web")
        .send();
    assert_eq!(
        bench.agent.block_on(found).unwrap().handler(),
        Some("x.y"),
        "it is left alone"
    );
}

fn a_canary_gets_its_part_of_the_calls_before_the_switch() {
    let Some(bench) = Bench::new("a_canary_gets_its_part_of_the_calls_before_the_switch") else {
        return;
    };
    let canary = json!({"canary": {"weight": "25%", "soak": "4s"}});
    bench.agent.converge(&bench.wanted(1, &canary)).unwrap();
    let second = bench.wanted(2, &canary);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let converging = scope.spawn(|| bench.agent.converge(&second));
        let lambda = client(&bench.server.endpoint());
        runtime().block_on(async {
            loop {
                let alias = lambda
                    .get_alias()
                    .function_name("web")
                    .name("live")
                    .send()
                    .await
                    .unwrap();
                let weights = alias
                    .routing_config()
                    .and_then(AliasRoutingConfiguration::additional_version_weights);
                if let Some(weights) = weights.filter(|weights| !weights.is_empty()) {
                    assert_eq!(
                        alias.function_version(),
                        Some("1"),
                        "most calls go to the old version"
                    );
                    assert_eq!(weights.get("2"), Some(&0.25));
                    return;
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "the canary never gets a call"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        converging.join().unwrap().unwrap();
    });
    assert!(begun.elapsed() >= Duration::from_secs(4), "it soaks");
    assert_eq!(
        (bench.leads_to(), bench.answer()),
        ("2".to_owned(), Some("2".to_owned()))
    );
    assert!(
        matches!(bench.live(), Live::Running { .. }),
        "{:?}",
        bench.live()
    );
}

fn a_version_that_fails_its_trial_is_never_switched_to() {
    let Some(bench) = Bench::new("a_version_that_fails_its_trial_is_never_switched_to") else {
        return;
    };
    let trial = json!({"trial": {"event": {"order": 7}}});
    bench.agent.converge(&bench.wanted(1, &trial)).unwrap();
    let broken = bench.wanted_that(
        2,
        "    raise Exception(f\"no order {event['order']}\")",
        &trial,
    );
    let refused = bench.agent.converge(&broken).unwrap_err();
    assert!(
        !refused.is_retryable() && refused.to_string().contains("no order 7"),
        "{refused}"
    );
    assert_eq!(
        (bench.leads_to(), bench.answer()),
        ("1".to_owned(), Some("1".to_owned()))
    );
}

fn what_is_missing_around_a_function_is_said_and_secrets_are_not() {
    let Some(mut bench) =
        Bench::new("what_is_missing_around_a_function_is_said_and_secrets_are_not")
    else {
        return;
    };
    let secret = json!({"environment": {"PASSWORD": "hunter2"}});
    bench.agent.converge(&bench.wanted(1, &secret)).unwrap();
    let edited = bench
        .lambda
        .update_function_configuration()
        .function_name("web");
    let edited = edited.environment(
        Environment::builder()
            .variables("PASSWORD", "other")
            .build(),
    );
    bench.agent.block_on(edited.send()).unwrap();
    let Live::Altered { what } = bench.live() else {
        panic!("it was edited")
    };
    assert!(
        what.contains("environment.PASSWORD has another value"),
        "{what}"
    );
    assert!(
        !what.contains("hunter2") && !what.contains("other\""),
        "{what}"
    );

    let failed =
        |bench: &Bench, more: &Value| bench.agent.converge(&bench.wanted(2, more)).unwrap_err();
    let outside = failed(&bench, &json!({"code": {"path": "/etc/passwd"}}));
    assert!(
        !outside.is_retryable() && outside.to_string().contains("lies in no artifact"),
        "{outside}"
    );
    let role = failed(&bench, &json!({"role": "web"}));
    assert!(
        role.to_string().contains("role: expected the whole name"),
        "{role}"
    );
    let away = failed(&bench, &json!({"endpoint": "http://127.0.0.1:1"}));
    assert!(
        away.is_retryable() && away.to_string().contains("is the region right"),
        "{away}"
    );
    bench.agent.set("AWS_REGION", None);
    bench.agent.set("AWS_EC2_METADATA_DISABLED", Some("true"));
    let nowhere = failed(&bench, &json!({}));
    assert!(
        nowhere.is_retryable() && nowhere.to_string().contains("set region"),
        "{nowhere}"
    );
    bench.agent.set("AWS_REGION", Some("eu-central-1"));
    bench.agent.set("AWS_ACCESS_KEY_ID", None);
    let unknown: Failure = failed(&bench, &json!({}));
    assert!(
        unknown.is_retryable() && unknown.to_string().contains("credentials"),
        "{unknown}"
    );
    for failure in [role, away, nowhere, unknown] {
        let said = failure.to_string();
        assert!(
            !said.contains("hunter2") && !said.contains("not-to-be-shown"),
            "{said}"
        );
    }
}
