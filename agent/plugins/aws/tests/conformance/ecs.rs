//! `aws-ecs`: conforms with tasks that are real containers, and does what is particular to services.

use std::collections::BTreeSet;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::types::{DesiredStatus, Service, TaskDefinitionStatus};
use holdfast_adapters::plugin::author;
use holdfast_adapters::run::{Live, Wanted};
use serde_json::{Value, json};

use crate::agent::{Agent, runtime, written};
use crate::cases::Test;
use crate::engine::{Engine, available};
use crate::plugins;
use crate::server::{Server, program};
use crate::table;

pub(crate) const TESTS: &[Test] = &[
    ("aws_ecs_conforms", aws_ecs_conforms),
    (
        "a_deployment_that_ecs_gives_up_fails_and_the_old_tasks_go_on",
        a_deployment_that_ecs_gives_up_fails_and_the_old_tasks_go_on,
    ),
    (
        "a_service_of_somebody_else_is_refused_and_left_alone",
        a_service_of_somebody_else_is_refused_and_left_alone,
    ),
];

/// Sleeps until it is told to end, and ends at once then.
pub(crate) const SLEEP: &str = "trap exit TERM; while :; do /bin/busybox sleep 1 & wait $!; done";

/// Whoever may call ECS, without the plugin.
fn client(endpoint: &str) -> Client {
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

/// What the suite has done behind the plugin's back, by commands.
pub(crate) fn behind(endpoint: &str, act: &str, service: &str) -> Result<(), String> {
    let ecs = client(endpoint);
    runtime().block_on(async {
        match act {
            "kill" => {
                let kill = ecs
                    .delete_service()
                    .cluster("shop")
                    .service(service)
                    .force(true);
                kill.send()
                    .await
                    .map(drop)
                    .map_err(|error| format!("{error:?}"))
            }
            "edit" => {
                let edit = ecs
                    .update_service()
                    .cluster("shop")
                    .service(service)
                    .desired_count(2);
                edit.send()
                    .await
                    .map(drop)
                    .map_err(|error| format!("{error:?}"))
            }
            "alive" => {
                for release in alive(&ecs, service).await {
                    println!("{release}");
                }
                Ok(())
            }
            other => Err(format!("{other:?} is no act")),
        }
    })
}

/// The release of each task that runs or begins to, by its environment.
async fn alive(ecs: &Client, service: &str) -> Vec<String> {
    let asked = ecs.list_tasks().cluster("shop").service_name(service);
    let Ok(listed) = asked.desired_status(DesiredStatus::Running).send().await else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for arn in listed.task_arns() {
        let found = ecs
            .describe_tasks()
            .cluster("shop")
            .tasks(arn)
            .send()
            .await
            .unwrap();
        let definition = found.tasks()[0].task_definition_arn().unwrap();
        let found = ecs
            .describe_task_definition()
            .task_definition(definition)
            .send()
            .await
            .unwrap();
        let container = &found.task_definition().unwrap().container_definitions()[0];
        all.extend(container.environment()[0].value().map(str::to_owned));
    }
    all
}

/// A service of one task, whose release is in its environment.
fn template(endpoint: &str, image: &str, release: &str, script: &str) -> Value {
    json!({
        "cluster": "shop", "service": "s-{{service}}", "endpoint": endpoint, "launch": "ec2",
        "desired": 1, "keep": 1, "task": {"networkMode": "host"},
        "containers": [{
            "name": "main", "image": image, "memory": 64, "environment": {"RELEASE": release},
            "command": ["/bin/busybox", "sh", "-c", script],
        }],
    })
}

fn aws_ecs_conforms() {
    let name = "aws_ecs_conforms";
    let (true, Some(program)) = (available(name), program(name)) else {
        return;
    };
    let engine = Engine::start();
    let server = Server::start(&program, &[("DOCKER_HOST", engine.socket())]);
    let ecs = client(&server.endpoint());
    let agent = plugins();
    agent
        .block_on(ecs.create_cluster().cluster_name("shop").send())
        .unwrap();
    let own = std::env::current_exe().unwrap();
    let command = |act: &str| json!([own, "behind-ecs", server.endpoint(), act, "s-{{service}}"]);
    let trial = json!({
        "template": template(&server.endpoint(), &engine.image, "{{release}}", SLEEP),
        "bad": template(&server.endpoint(), "busybox:latest", "{{release}}", SLEEP),
        "artifact": {"name": "text", "file": "text.txt", "content": "release {{release}}\n"},
        "kill": command("kill"), "edit": command("edit"), "alive": command("alive"),
    });
    let trial = written(agent.path(), "trial.json", &trial);
    let scratch = agent.path().join("scratch");
    let tested = author::test(agent.settings(), "aws-ecs", (Some(&trial), &scratch));
    let report = agent.block_on(tested).unwrap();
    if !report.passed() {
        println!("{}", server.log());
    }
    table::conform(&[report]);
    assert_eq!(
        engine.docker(&["ps", "--quiet"]).as_deref(),
        Some(""),
        "no task is left"
    );
    let left = ecs
        .list_task_definitions()
        .status(TaskDefinitionStatus::Active)
        .send();
    let left = agent.block_on(left).unwrap();
    assert!(left.task_definition_arns().is_empty(), "{left:?}");
}

/// One agent, one server, one engine.
pub(crate) struct Bench {
    // Dropped in this order: the server ends its tasks first.
    pub(crate) server: Server,
    engine: Engine,
    pub(crate) agent: Agent,
    ecs: Client,
}

impl Bench {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let program = program(test).filter(|_| available(test))?;
        let engine = Engine::start();
        let server = Server::start(&program, &[("DOCKER_HOST", engine.socket())]);
        let (ecs, agent) = (client(&server.endpoint()), plugins());
        agent
            .block_on(ecs.create_cluster().cluster_name("shop").send())
            .unwrap();
        Some(Self {
            server,
            engine,
            agent,
            ecs,
        })
    }

    fn wanted(&self, release: u32, script: &str) -> Wanted {
        self.wanted_by(&self.server.endpoint(), release, script)
    }

    pub(crate) fn wanted_by(&self, endpoint: &str, release: u32, script: &str) -> Wanted {
        let template = template(endpoint, &self.engine.image, &release.to_string(), script);
        let template: Value =
            serde_json::from_str(&template.to_string().replace("{{service}}", "web")).unwrap();
        self.agent
            .wanted("aws-ecs", &template, ("text.txt", "text"), release)
    }

    fn service(&self) -> Service {
        let asked = self
            .ecs
            .describe_services()
            .cluster("shop")
            .services("s-web");
        self.agent.block_on(asked.send()).unwrap().services()[0].clone()
    }

    pub(crate) fn alive(&self) -> BTreeSet<String> {
        self.agent
            .block_on(alive(&self.ecs, "s-web"))
            .into_iter()
            .collect()
    }
}

fn a_deployment_that_ecs_gives_up_fails_and_the_old_tasks_go_on() {
    let Some(bench) = Bench::new("a_deployment_that_ecs_gives_up_fails_and_the_old_tasks_go_on")
    else {
        return;
    };
    bench.agent.converge(&bench.wanted(1, SLEEP)).unwrap();
    let first = bench.service();
    let failure = bench
        .agent
        .converge(&bench.wanted(2, "exit 3"))
        .unwrap_err();
    assert!(!failure.is_retryable(), "{failure}");
    assert!(
        failure
            .to_string()
            .contains("circuit breaker was triggered"),
        "{failure}"
    );
    assert_eq!(
        bench.service().task_definition(),
        first.task_definition(),
        "ECS went back"
    );
    assert!(bench.alive().contains("1"), "{:?}", bench.alive());
    let Live::Altered { what } = bench.agent.observe().remove(0).live else {
        panic!("it is not what was asked for");
    };
    assert!(what.contains("circuit breaker"), "{what}");
    // Back to what runs: nothing is registered or deployed again.
    bench.agent.converge(&bench.wanted(1, SLEEP)).unwrap();
    assert_eq!(bench.service().task_definition(), first.task_definition());
    let live = bench.agent.observe().remove(0).live;
    assert!(matches!(live, Live::Running { .. }), "{live:?}");
    bench.agent.remove("web").unwrap();
    assert_eq!(bench.service().status(), Some("INACTIVE"));
}

fn a_service_of_somebody_else_is_refused_and_left_alone() {
    let Some(bench) = Bench::new("a_service_of_somebody_else_is_refused_and_left_alone") else {
        return;
    };
    let container = aws_sdk_ecs::types::ContainerDefinition::builder()
        .name("x")
        .image("x")
        .build();
    let registered = bench
        .ecs
        .register_task_definition()
        .family("theirs")
        .container_definitions(container);
    bench.agent.block_on(registered.send()).unwrap();
    let made = bench
        .ecs
        .create_service()
        .cluster("shop")
        .service_name("s-web");
    let made = made.task_definition("theirs:1").desired_count(0);
    bench.agent.block_on(made.send()).unwrap();
    let refused = bench.agent.converge(&bench.wanted(1, SLEEP)).unwrap_err();
    assert!(
        !refused.is_retryable() && refused.to_string().contains("not ours"),
        "{refused}"
    );
    bench.agent.remove("web").unwrap();
    assert_eq!(bench.service().status(), Some("ACTIVE"), "it is left alone");

    let mut nowhere = bench.wanted(1, SLEEP);
    nowhere.workload.template = nowhere.workload.template.replace("\"shop\"", "\"nowhere\"");
    nowhere.body = nowhere.workload.clone().seal().0;
    let refused = bench.agent.converge(&nowhere).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("make the cluster, or correct cluster"),
        "{refused}"
    );
}
