//! What the engine is asked to make, from a template. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;

use super::spec::{Healthcheck, Limits, Template};
use super::wiring::{Network, Port, Source};
use crate::run::Wanted;
use crate::secret::Secret;

/// Whose a container, volume or network is: the id of an agent's directory.
pub(super) const AGENT_LABEL: &str = "holdfast.agent";
/// The service that a container belongs to.
pub(super) const SERVICE_LABEL: &str = "holdfast.service";
/// Digest of the body that a container was made for.
pub(super) const BODY_LABEL: &str = "holdfast.body";
/// Whether a container is a job, which is begun once and then judged by its end. Said of each: what is not
/// said is taken from the image, which may be made of a container.
pub(super) const JOB_LABEL: &str = "holdfast.job";
/// The name that a container was made under: what somebody starts from an image of it has all its
/// labels, and another name.
pub(super) const NAME_LABEL: &str = "holdfast.name";
/// The release, for people.
const VERSION_LABEL: &str = "holdfast.version";
/// The environment, for people.
const ENVIRONMENT_LABEL: &str = "holdfast.environment";
/// Largest output that an engine keeps of one container, in bytes: two files of half of it.
const LOG_FILE: &str = "10m";
const LOG_FILES: &str = "2";
/// Processors in the engine's unit.
const NANO: f64 = 1e9;

/// The name of a new container of a service: told apart from every earlier one by `unique`.
pub(super) fn name(service: &ServiceName, unique: &str) -> String {
    let hex: String = Digest::of(unique.as_bytes())
        .hex()
        .chars()
        .take(8)
        .collect();
    format!("holdfast-{service}-{hex}")
}

/// What a container is made of.
pub(super) struct Made<'a> {
    pub(super) agent: &'a str,
    pub(super) name: &'a str,
    pub(super) wanted: &'a Wanted,
    pub(super) template: &'a Template,
    /// Paths on the host of the template's volumes, in their order.
    pub(super) sources: &'a [String],
    /// Variables that secrets stand for.
    pub(super) variables: &'a [(String, Secret)],
    /// Files of secrets on the host, by their paths inside.
    pub(super) secrets: &'a BTreeMap<String, PathBuf>,
}

/// What to make.
pub(super) fn create(made: &Made<'_>) -> ContainerCreateBody {
    let (wanted, template) = (made.wanted, made.template);
    ContainerCreateBody {
        image: Some(template.image.to_string()),
        entrypoint: template.command.clone(),
        // Arguments are the image's own only where its entry point is, too.
        cmd: match (&template.command, &template.args) {
            (Some(_), None) => Some(Vec::new()),
            (Some(_) | None, args) => args.clone(),
        },
        env: Some(environment(made)),
        user: template.user.clone(),
        working_dir: template.working_directory.clone(),
        labels: Some(labels(made)),
        exposed_ports: some(template.ports.iter().map(inner).collect()),
        healthcheck: template.health.as_ref().map(healthcheck),
        stop_signal: Some(template.stop.signal.name().to_owned()),
        stop_timeout: Some(whole_seconds(template.stop.grace)),
        host_config: Some(host(made)),
        networking_config: networking(wanted, template),
        ..ContainerCreateBody::default()
    }
}

fn environment(made: &Made<'_>) -> Vec<String> {
    let texts = made.template.environment.iter();
    let texts = texts.map(|(name, value)| format!("{name}={value}"));
    let secrets = made.variables.iter().map(|(name, value)| {
        // It was checked to be text when it was looked up.
        format!("{name}={}", String::from_utf8_lossy(value.bytes()))
    });
    texts.chain(secrets).collect()
}

fn labels(made: &Made<'_>) -> HashMap<String, String> {
    let wanted = made.wanted;
    let own = [
        (AGENT_LABEL, made.agent.to_owned()),
        (NAME_LABEL, made.name.to_owned()),
        (JOB_LABEL, wanted.workload.job.is_some().to_string()),
        (SERVICE_LABEL, wanted.workload.service.to_string()),
        (BODY_LABEL, wanted.body.to_string()),
        (VERSION_LABEL, wanted.workload.version.to_string()),
        (ENVIRONMENT_LABEL, wanted.workload.environment.to_string()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value));
    let given = made.template.labels.clone();
    given.into_iter().chain(own).collect()
}

fn host(made: &Made<'_>) -> HostConfig {
    let template = made.template;
    let limits = template.limits;
    HostConfig {
        memory: limits.memory.map(signed),
        // As much again of swap is the engine's default; a limit on memory is meant as one.
        memory_swap: limits.memory.map(signed),
        nano_cpus: nano_cpus(limits),
        pids_limit: limits.pids.map(signed),
        ulimits: limits.open_files.map(|count| {
            vec![ResourcesUlimits {
                name: Some("nofile".to_owned()),
                soft: Some(signed(count)),
                hard: Some(signed(count)),
            }]
        }),
        network_mode: network_mode(&template.network),
        port_bindings: bindings(&template.ports),
        // The agent itself starts it again, with growing pauses, and reports each time.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        mounts: some(mounts(made)),
        cap_add: some(template.capabilities.add.clone()),
        cap_drop: some(template.capabilities.drop.clone()),
        readonly_rootfs: Some(template.read_only),
        privileged: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_FILE.to_owned()),
                ("max-file".to_owned(), LOG_FILES.to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

fn mounts(made: &Made<'_>) -> Vec<Mount> {
    let mount = |(volume, source): (&super::wiring::Volume, &String)| Mount {
        target: Some(volume.target.clone()),
        source: Some(source.clone()).filter(|source| !source.is_empty()),
        typ: Some(match volume.source {
            Source::Named(_) => MountType::VOLUME,
            Source::Path(_) => MountType::BIND,
            Source::Memory => MountType::TMPFS,
        }),
        read_only: Some(volume.read_only),
        ..Mount::default()
    };
    let volumes = made.template.volumes.iter().zip(made.sources).map(mount);
    let secret = |(inside, path): (&String, &PathBuf)| Mount {
        target: Some(inside.clone()),
        source: Some(path.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    };
    volumes.chain(made.secrets.iter().map(secret)).collect()
}

fn bindings(ports: &[Port]) -> Option<HashMap<String, Option<Vec<PortBinding>>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: port.address.map(|address| address.to_string()),
            host_port: Some(port.host.to_string()),
        };
        let of_port = bindings.entry(inner(port)).or_default();
        of_port.get_or_insert_with(Vec::new).push(binding);
    }
    (!bindings.is_empty()).then_some(bindings)
}

fn inner(port: &Port) -> String {
    format!("{}/{}", port.container, port.protocol)
}

fn network_mode(network: &Network) -> Option<String> {
    match network {
        Network::Default => None,
        Network::Host => Some("host".to_owned()),
        Network::None => Some("none".to_owned()),
        Network::Bridge => Some("bridge".to_owned()),
        Network::Named(name) => Some(name.clone()),
    }
}

/// On a network of its own a service is found by its name.
fn networking(wanted: &Wanted, template: &Template) -> Option<NetworkingConfig> {
    let Network::Named(name) = &template.network else {
        return None;
    };
    let endpoint = EndpointSettings {
        aliases: Some(vec![wanted.workload.service.to_string()]),
        ..EndpointSettings::default()
    };
    Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([(name.clone(), endpoint)])),
    })
}

fn healthcheck(check: &Healthcheck) -> HealthConfig {
    let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    if check.command.is_empty() {
        return HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        };
    }
    let program = ["CMD".to_owned()].into_iter();
    HealthConfig {
        test: Some(program.chain(check.command.iter().cloned()).collect()),
        interval: Some(nanos(check.interval)),
        timeout: Some(nanos(check.timeout)),
        retries: Some(i64::from(check.retries)),
        start_period: Some(nanos(check.start_period)),
        start_interval: None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the share of processors was checked to be at most 1024"
)]
fn nano_cpus(limits: Limits) -> Option<i64> {
    limits.cpu.map(|share| (share * NANO).round() as i64)
}

fn whole_seconds(span: Duration) -> i64 {
    signed(
        span.as_millis()
            .div_ceil(1000)
            .try_into()
            .unwrap_or(u64::MAX),
    )
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
