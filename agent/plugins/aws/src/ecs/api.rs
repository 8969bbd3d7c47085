//! Calls of ECS's API about one service and its task definitions.

use aws_config::SdkConfig;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, Compatibility, ContainerDefinition, CpuArchitecture,
    Deployment as ApiDeployment, DeploymentCircuitBreaker, DeploymentConfiguration,
    DeploymentRolloutState, Failure as ApiFailure, HealthCheck, KeyValuePair, LaunchType,
    LoadBalancer as ApiBalancer, LogConfiguration, LogDriver, NetworkConfiguration, NetworkMode,
    PortMapping, RuntimePlatform, Secret, Service as ApiService, ServiceField, SortOrder, Tag,
    TaskDefinitionField, TaskDefinitionStatus,
};
use aws_smithy_types::error::operation::BuildError;
use holdfast_plugins::Failure;
use holdfast_protocol::digest::Digest;

use super::plan::{Definition, Life, Rollout, RolloutState, Seen, Started, Wanted};
use super::template::{Container, Deployment, Launch, Network, Service};
use crate::fault::{fault, is_missing};
use crate::owner::OWNER_TAG;

/// Task definitions of one family that are looked at.
const DEFINITIONS_MAX: i32 = 60;
/// The tag that says of which body a service is.
const BODY_TAG: &str = "holdfast:body";
/// The tag that says what a task definition is made of.
const CONTENT_TAG: &str = "holdfast:content";

/// Speaks to ECS about one service.
pub(crate) struct Ecs {
    client: Client,
    cluster: String,
    name: String,
}

impl Ecs {
    pub(crate) fn new(config: &SdkConfig, cluster: &str, name: &str) -> Self {
        Self {
            client: Client::new(config),
            cluster: cluster.to_owned(),
            name: name.to_owned(),
        }
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} service {} of cluster {}", self.name, self.cluster)
    }

    /// The service; none where there is none.
    pub(crate) async fn look(&self) -> Result<Option<Seen>, Failure> {
        let asked = self
            .client
            .describe_services()
            .cluster(&self.cluster)
            .services(&self.name);
        let found = asked.include(ServiceField::Tags).send().await;
        let found = found.map_err(|error| fault(&self.doing("look at"), &error))?;
        let Some(service) = found.services().first() else {
            return self.absent(found.failures()).map(|()| None);
        };
        let definition = service.task_definition().unwrap_or_default();
        let content = match life(service) {
            Life::Gone => None,
            Life::Active | Life::Draining => self.definition(definition).await?.content,
        };
        Ok(Some(seen(service, content)))
    }

    /// Whether a service that is not shown is not there.
    fn absent(&self, failures: &[ApiFailure]) -> Result<(), Failure> {
        let other = failures.iter().find(|one| one.reason() != Some("MISSING"));
        let Some(other) = other else { return Ok(()) };
        let (doing, reason) = (self.doing("look at"), other.reason().unwrap_or("no reason"));
        let more = other.detail().unwrap_or_default();
        Err(Failure::Retryable(format!(
            "cannot {doing}: {reason} {more}"
        )))
    }

    /// Whether the service's cluster is there.
    pub(crate) async fn has_cluster(&self) -> Result<bool, Failure> {
        let asked = self.client.describe_services().cluster(&self.cluster);
        match asked.services(&self.name).send().await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(fault(&self.doing("look at"), &error)),
        }
    }

    /// Task definitions of a family that are of `owner`, newest first.
    pub(crate) async fn definitions(
        &self,
        family: &str,
        owner: &str,
    ) -> Result<Vec<Definition>, Failure> {
        let asked = self
            .client
            .list_task_definitions()
            .family_prefix(family)
            .sort(SortOrder::Desc);
        let asked = asked
            .status(TaskDefinitionStatus::Active)
            .max_results(DEFINITIONS_MAX);
        let page = asked.send().await;
        let page =
            page.map_err(|error| fault(&self.doing("list the task definitions of"), &error))?;
        let mut all = Vec::new();
        for arn in page.task_definition_arns() {
            // A prefix also finds longer names.
            let named = arn
                .rsplit_once('/')
                .and_then(|(_, name)| name.rsplit_once(':'));
            if named.is_none_or(|(name, _)| name != family) {
                continue;
            }
            let (definition, of) = self.described(arn).await?;
            if of.as_deref() == Some(owner) {
                all.push(definition);
            }
        }
        Ok(all)
    }

    async fn definition(&self, arn: &str) -> Result<Definition, Failure> {
        self.described(arn).await.map(|(definition, _)| definition)
    }

    /// A task definition, and whose it is.
    async fn described(&self, arn: &str) -> Result<(Definition, Option<String>), Failure> {
        let asked = self.client.describe_task_definition().task_definition(arn);
        let found = asked.include(TaskDefinitionField::Tags).send().await;
        let found =
            found.map_err(|error| fault(&self.doing("look at the task definition of"), &error))?;
        let content = tag(found.tags(), CONTENT_TAG).and_then(|text| text.parse().ok());
        let arn = arn.to_owned();
        Ok((Definition { arn, content }, tag(found.tags(), OWNER_TAG)))
    }

    pub(crate) async fn register(&self, wanted: &Wanted, family: &str) -> Result<(), Failure> {
        let (task, terms) = (&wanted.service.task, &wanted.service.task.terms);
        let containers: Result<Vec<_>, BuildError> =
            task.containers.iter().map(container).collect();
        let compatible = match task.launch {
            Launch::Fargate => Compatibility::Fargate,
            Launch::Ec2 => Compatibility::Ec2,
        };
        let platform = terms.architecture.as_deref().map(|architecture| {
            let architecture = CpuArchitecture::from(architecture.to_uppercase().as_str());
            RuntimePlatform::builder()
                .cpu_architecture(architecture)
                .build()
        });
        let asked = self
            .client
            .register_task_definition()
            .family(family)
            .requires_compatibilities(compatible)
            .set_container_definitions(Some(containers.map_err(|error| unbuilt(&error))?))
            .set_cpu(terms.cpu.clone())
            .set_memory(terms.memory.clone())
            .set_execution_role_arn(terms.execution_role.clone())
            .set_task_role_arn(terms.task_role.clone())
            .set_network_mode(terms.network_mode.as_deref().map(NetworkMode::from))
            .set_runtime_platform(platform)
            .tags(tagged(OWNER_TAG, &wanted.owner))
            .tags(tagged(CONTENT_TAG, &wanted.content.to_string()));
        let made = asked.send().await;
        made.map(drop)
            .map_err(|error| fault(&self.doing("register a task definition for"), &error))
    }

    /// Makes the service; its first deployment.
    pub(crate) async fn create(
        &self,
        wanted: &Wanted,
        definition: &str,
    ) -> Result<Started, Failure> {
        let service = &wanted.service;
        let launch = match service.launch {
            Launch::Fargate => LaunchType::Fargate,
            Launch::Ec2 => LaunchType::Ec2,
        };
        let balancers = service.load_balancers.iter().map(|balancer| {
            let built = ApiBalancer::builder().target_group_arn(&balancer.target_group);
            built
                .container_name(&balancer.container)
                .container_port(balancer.port)
                .build()
        });
        let asked = self
            .client
            .create_service()
            .cluster(&self.cluster)
            .service_name(&self.name)
            .task_definition(definition)
            .desired_count(service.desired.unwrap_or(1))
            .launch_type(launch)
            .set_network_configuration(network(service)?)
            .set_load_balancers(Some(balancers.collect()))
            .deployment_configuration(limits(service))
            .tags(tagged(OWNER_TAG, &wanted.owner));
        let made = asked.send().await;
        let made = made.map_err(|error| fault(&self.doing("create"), &error))?;
        Ok(started(made.service()))
    }

    /// Changes the service; the deployment that ECS now works for.
    pub(crate) async fn update(
        &self,
        wanted: &Wanted,
        definition: &str,
        again: bool,
    ) -> Result<Started, Failure> {
        let asked = self
            .client
            .update_service()
            .cluster(&self.cluster)
            .service(&self.name)
            .task_definition(definition)
            .set_desired_count(wanted.service.desired)
            .set_network_configuration(network(&wanted.service)?)
            .deployment_configuration(limits(&wanted.service))
            .force_new_deployment(again);
        let made = asked.send().await;
        let made = made.map_err(|error| fault(&self.doing("change"), &error))?;
        Ok(started(made.service()))
    }

    /// Notes of which body the service is.
    pub(crate) async fn mark(&self, arn: &str, body: Digest) -> Result<(), Failure> {
        let asked = self.client.tag_resource().resource_arn(arn);
        let made = asked.tags(tagged(BODY_TAG, &body.to_string())).send().await;
        made.map(drop)
            .map_err(|error| fault(&self.doing("tag"), &error))
    }

    /// Deregisters task definitions.
    pub(crate) async fn forget(&self, definitions: &[String]) -> Result<(), Failure> {
        for arn in definitions {
            let made = self
                .client
                .deregister_task_definition()
                .task_definition(arn)
                .send()
                .await;
            made.map_err(|error| {
                fault(&self.doing("deregister an old task definition of"), &error)
            })?;
        }
        Ok(())
    }

    /// Begins to delete the service with its tasks.
    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        let asked = self
            .client
            .delete_service()
            .cluster(&self.cluster)
            .service(&self.name);
        match asked.force(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(fault(&self.doing("delete"), &error)),
        }
    }
}

fn unbuilt(error: &BuildError) -> Failure {
    Failure::Permanent(format!("the template is refused: {error}"))
}

fn tagged(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn tag(tags: &[Tag], key: &str) -> Option<String> {
    let found = tags.iter().find(|tag| tag.key() == Some(key))?;
    found.value().map(str::to_owned)
}

fn container(wanted: &Container) -> Result<ContainerDefinition, BuildError> {
    let pair =
        |(name, value): (&String, &String)| KeyValuePair::builder().name(name).value(value).build();
    let secret =
        |(name, from): (&String, &String)| Secret::builder().name(name).value_from(from).build();
    let port = |port: &u16| {
        let mapping = PortMapping::builder().container_port(i32::from(*port));
        mapping.build()
    };
    let secrets: Result<Vec<_>, _> = wanted.secrets.iter().map(secret).collect();
    let health = wanted.health.as_ref().map(|health| {
        HealthCheck::builder()
            .set_command(Some(health.command.clone()))
            .build()
    });
    let logs = wanted.logs.as_ref().map(|logs| {
        let options = logs.options.clone().into_iter().collect();
        let built = LogConfiguration::builder().log_driver(LogDriver::from(logs.driver.as_str()));
        built.set_options(Some(options)).build()
    });
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Ok(ContainerDefinition::builder()
        .name(&wanted.name)
        .image(&wanted.image)
        .set_entry_point(some(&wanted.entry_point))
        .set_command(some(&wanted.command))
        .set_environment(Some(wanted.environment.iter().map(pair).collect()))
        .set_secrets(Some(secrets?).filter(|secrets| !secrets.is_empty()))
        .set_port_mappings(Some(wanted.ports.iter().map(port).collect()))
        .essential(wanted.essential.unwrap_or(true))
        .set_memory(wanted.memory)
        .set_health_check(health.transpose()?)
        .set_log_configuration(logs.transpose()?)
        .build())
}

fn network(service: &Service) -> Result<Option<NetworkConfiguration>, Failure> {
    let Some(wanted) = &service.network else {
        return Ok(None);
    };
    let public = if wanted.public_address {
        AssignPublicIp::Enabled
    } else {
        AssignPublicIp::Disabled
    };
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(wanted.subnets.clone()))
        .set_security_groups(Some(wanted.security_groups.clone()))
        .assign_public_ip(public)
        .build()
        .map_err(|error| unbuilt(&error))?;
    Ok(Some(
        NetworkConfiguration::builder()
            .awsvpc_configuration(vpc)
            .build(),
    ))
}

/// With the circuit breaker, which goes back by itself: what served goes on serving.
fn limits(service: &Service) -> DeploymentConfiguration {
    let breaker = DeploymentCircuitBreaker::builder()
        .enable(true)
        .rollback(true)
        .build();
    DeploymentConfiguration::builder()
        .deployment_circuit_breaker(breaker)
        .minimum_healthy_percent(service.deployment.minimum_healthy)
        .maximum_percent(service.deployment.maximum)
        .build()
}

fn life(service: &ApiService) -> Life {
    match service.status() {
        Some("ACTIVE") => Life::Active,
        Some("DRAINING") => Life::Draining,
        // INACTIVE services are shown for a time after they were deleted.
        Some(_) | None => Life::Gone,
    }
}

fn seen(service: &ApiService, content: Option<Digest>) -> Seen {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let vpc = service
        .network_configuration()
        .and_then(NetworkConfiguration::awsvpc_configuration);
    let network = vpc.map(|vpc| Network {
        subnets: vpc.subnets().to_vec(),
        security_groups: vpc.security_groups().to_vec(),
        public_address: vpc.assign_public_ip() == Some(&AssignPublicIp::Enabled),
    });
    let deployment = service.deployment_configuration().map(|limits| Deployment {
        minimum_healthy: limits.minimum_healthy_percent().unwrap_or(100),
        maximum: limits.maximum_percent().unwrap_or(200),
    });
    let breaker = service.deployment_configuration();
    let breaker = breaker.and_then(DeploymentConfiguration::deployment_circuit_breaker);
    let (primary, others): (Vec<_>, Vec<_>) = service
        .deployments()
        .iter()
        .partition(|one| one.status() == Some("PRIMARY"));
    Seen {
        arn: text(service.service_arn()),
        owner: tag(service.tags(), OWNER_TAG),
        body: tag(service.tags(), BODY_TAG).and_then(|text| text.parse().ok()),
        life: life(service),
        desired: service.desired_count(),
        running: service.running_count(),
        content,
        definition: text(service.task_definition()),
        network,
        deployment,
        has_breaker: breaker.is_some_and(|breaker| breaker.enable() && breaker.rollback()),
        rollouts: primary.into_iter().chain(others).map(rollout).collect(),
        event: service
            .events()
            .first()
            .and_then(|event| event.message())
            .map(str::to_owned),
    }
}

fn started(service: Option<&ApiService>) -> Started {
    let deployments = service.map(ApiService::deployments).unwrap_or_default();
    let primary = deployments
        .iter()
        .find(|one| one.status() == Some("PRIMARY"));
    Started {
        id: primary
            .and_then(|one| one.id())
            .unwrap_or_default()
            .to_owned(),
        was_listed: false,
    }
}

fn rollout(found: &ApiDeployment) -> Rollout {
    let state = match found.rollout_state() {
        Some(DeploymentRolloutState::Failed) => RolloutState::Failed,
        Some(DeploymentRolloutState::InProgress) => RolloutState::InProgress,
        // A service without a circuit breaker has no state: how many tasks run says it.
        Some(_) | None => RolloutState::Completed,
    };
    Rollout {
        id: found.id().unwrap_or_default().to_owned(),
        definition: found.task_definition().unwrap_or_default().to_owned(),
        state,
        reason: found
            .rollout_state_reason()
            .unwrap_or("ECS does not say why")
            .to_owned(),
    }
}
