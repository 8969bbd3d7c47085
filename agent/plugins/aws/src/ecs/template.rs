//! The template of `aws-ecs`, read into what it asks for, with everything that is wrong at once. Pure.

use std::collections::BTreeMap;

use holdfast_plugins::image;
use holdfast_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::place::Place;
use crate::problem::Problems;

/// One service as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) cluster: String,
    /// Its name in ECS.
    pub(crate) name: String,
    pub(crate) place: Place,
    /// How many tasks; left to others where there is none.
    pub(crate) desired: Option<i32>,
    pub(crate) launch: Launch,
    /// What a task is made of.
    pub(crate) task: Task,
    pub(crate) network: Option<Network>,
    pub(crate) load_balancers: Vec<LoadBalancer>,
    pub(crate) deployment: Deployment,
    /// Earlier task definitions that stay.
    pub(crate) keep: usize,
}

/// What a task definition is made of: all that goes into it, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Task {
    pub(crate) launch: Launch,
    pub(crate) terms: TaskTerms,
    pub(crate) containers: Vec<Container>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Launch {
    #[default]
    Fargate,
    Ec2,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct TaskTerms {
    pub(crate) cpu: Option<String>,
    pub(crate) memory: Option<String>,
    pub(crate) execution_role: Option<String>,
    pub(crate) task_role: Option<String>,
    pub(crate) network_mode: Option<String>,
    pub(crate) architecture: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) entry_point: Vec<String>,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ports: Vec<u16>,
    pub(crate) essential: Option<bool>,
    pub(crate) memory: Option<i32>,
    pub(crate) health: Option<Health>,
    pub(crate) logs: Option<Logs>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logs {
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) subnets: Vec<String>,
    pub(crate) security_groups: Vec<String>,
    #[serde(default)]
    pub(crate) public_address: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadBalancer {
    pub(crate) target_group: String,
    pub(crate) container: String,
    pub(crate) port: i32,
}

/// How many tasks may be away, and how many too many, while a deployment rolls, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Deployment {
    pub(crate) minimum_healthy: i32,
    pub(crate) maximum: i32,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            minimum_healthy: 100,
            maximum: 200,
        }
    }
}

/// The template as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    cluster: String,
    service: String,
    region: Option<String>,
    profile: Option<String>,
    endpoint: Option<String>,
    desired: Option<i32>,
    #[serde(default)]
    launch: Launch,
    #[serde(default)]
    task: TaskTerms,
    containers: Vec<Container>,
    network: Option<Network>,
    #[serde(default)]
    load_balancers: Vec<LoadBalancer>,
    #[serde(default)]
    deployment: Deployment,
    keep: Option<usize>,
}

/// JSON Schema of the template.
pub(crate) fn schema() -> Value {
    serde_json::from_str(include_str!("template.schema.json")).expect("the file is JSON")
}

/// Reads a template.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(template: &Value) -> Result<Service, Problems> {
    let written: Written = serde_json::from_value(template.clone())
        .map_err(|error| Problems::one("", error.to_string()))?;
    let mut problems = Problems::default();
    let fargate = written.launch == Launch::Fargate;
    if fargate {
        needed_by_fargate(&written, &mut problems);
    }
    for (i, container) in written.containers.iter().enumerate() {
        if let Err(why) = image::digest(&container.image) {
            problems.add(format!("containers[{i}].image"), why);
        }
    }
    for (i, balancer) in written.load_balancers.iter().enumerate() {
        let known = |container: &Container| container.name == balancer.container;
        if !written.containers.iter().any(known) {
            let message = format!("there is no container {:?}", balancer.container);
            problems.add(format!("loadBalancers[{i}].container"), message);
        }
    }
    let place = Place::read(
        written.region,
        written.profile,
        written.endpoint,
        &mut problems,
    );
    let mut terms = written.task;
    if fargate {
        terms
            .network_mode
            .get_or_insert_with(|| "awsvpc".to_owned());
    }
    problems.or(Service {
        cluster: written.cluster,
        name: written.service,
        place,
        desired: written.desired,
        launch: written.launch,
        task: Task {
            launch: written.launch,
            terms,
            containers: written.containers,
        },
        network: written.network,
        load_balancers: written.load_balancers,
        deployment: written.deployment,
        keep: written.keep.unwrap_or(KEEP),
    })
}

fn needed_by_fargate(written: &Written, problems: &mut Problems) {
    for (field, value) in [
        ("task.cpu", &written.task.cpu),
        ("task.memory", &written.task.memory),
    ] {
        if value.is_none() {
            problems.add(field, "is needed where launch is fargate");
        }
    }
    if written.network.is_none() {
        problems.add(
            "network",
            "is needed where launch is fargate: subnets and securityGroups",
        );
    }
    let mode = written.task.network_mode.as_deref();
    if mode.is_some_and(|mode| mode != "awsvpc") {
        problems.add("task.networkMode", "fargate has only awsvpc");
    }
}

impl Task {
    /// Values of the environment, which may be secrets.
    pub(crate) fn values(&self) -> impl Iterator<Item = &String> {
        self.containers
            .iter()
            .flat_map(|one| one.environment.values())
    }

    /// Another one is another task definition.
    pub(crate) fn content(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("it is plain data"))
    }
}

/// Earlier task definitions that stay where nothing is written.
const KEEP: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_that_is_wrong_is_said_at_once_by_field() {
        let template = json!({"cluster": "shop", "service": "web", "containers": [{"name": "web", "image": "web:1"}],
            "loadBalancers": [{"targetGroup": "arn:x", "container": "other", "port": 80}]});
        let problems = read(&template).unwrap_err();
        let paths: Vec<&str> = problems.0.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "task.cpu",
                "task.memory",
                "network",
                "containers[0].image",
                "loadBalancers[0].container"
            ]
        );
    }
}
