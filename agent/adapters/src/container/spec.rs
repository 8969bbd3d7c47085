//! The template of runtime `container`, parsed once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::image::Reference;
use holdfast_protocol::name::SecretName;
use holdfast_protocol::workload::PLACEHOLDER_OPEN;
use serde_json::Value;

use super::wiring::{Network, Port, Source, Volume, capability, dropped_capability};
use crate::fields::{self, Fields, Reading};
use crate::process::spec::{
    Stop, check_name, parse_cpu, parse_memory, parse_open_files, read_restart, read_stop,
};
use crate::restart::Restart;
use crate::{Context, Problem};

/// A container, as its template describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// What it runs.
    pub image: Reference,
    /// Replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments.
    pub args: Option<Vec<String>>,
    /// Its environment, beside the image's.
    pub environment: BTreeMap<String, String>,
    /// Variables that secrets stand for.
    pub secret_environment: BTreeMap<String, SecretName>,
    /// Files that secrets stand for, by their paths inside.
    pub files: BTreeMap<String, SecretName>,
    /// Ports of the host that lead to it.
    pub ports: Vec<Port>,
    /// What is mounted into it.
    pub volumes: Vec<Volume>,
    /// The network it is on.
    pub network: Network,
    /// Whom it runs as, by the image's own users: `USER[:GROUP]`.
    pub user: Option<String>,
    /// Where it starts, inside.
    pub working_directory: Option<String>,
    /// Labels of the container, beside Holdfast's own.
    pub labels: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// When to start it again.
    pub restart: Restart,
    /// How to end it.
    pub stop: Stop,
    /// How one release takes the place of another.
    pub update: Update,
    /// How the image comes here.
    pub pull: Pull,
    /// Whether its own files can only be read.
    pub read_only: bool,
    /// What it may do beside, or less than, the engine's default.
    pub capabilities: Capabilities,
    /// The engine's own check of it, by which it is ready; nothing leaves the image's own.
    pub health: Option<Healthcheck>,
}

/// How one release takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Update {
    /// The old one is stopped before the new one is started.
    #[default]
    Recreate,
    /// The new one is started, and ready by the engine's word, before the old one is stopped.
    StartFirst,
}

/// How an image comes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    /// Whether it is pulled at all.
    pub policy: PullPolicy,
    /// Longest time that one attempt may take; what was pulled is kept for the next.
    pub timeout: Duration,
}

/// Whether an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Where the engine does not have it.
    #[default]
    Missing,
    /// Never: somebody else brings it.
    Never,
}

/// What a container may use; nothing where the engine's default holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Memory in bytes, of all its processes together.
    pub memory: Option<u64>,
    /// Processors: 0.5 is half of one.
    pub cpu: Option<f64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Capabilities added and taken away, by names without `CAP_`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Added.
    pub add: Vec<String>,
    /// Taken away; `ALL` is all of them.
    pub drop: Vec<String>,
}

/// A check that the engine itself makes, inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// Program and arguments, which must exit with 0; none switches the image's own check off.
    pub command: Vec<String>,
    /// Time between two checks.
    pub interval: Duration,
    /// Time one check may take.
    pub timeout: Duration,
    /// Checks in a row that must fail before it is unhealthy.
    pub retries: u32,
    /// Time after a start in which failures do not count.
    pub start_period: Duration,
}

/// What a label of Holdfast's own begins with.
pub const LABEL_PREFIX: &str = "holdfast.";
/// Least memory that an engine takes as a limit, in bytes.
pub const MEMORY_MIN: u64 = 6 << 20;
/// Longest time that one attempt to pull may take: less than any converge may.
pub const PULL_MAX: Duration = Duration::from_secs(9 * 60);

const FIELDS: &[&str] = &[
    "image",
    "command",
    "args",
    "environment",
    "files",
    "ports",
    "volumes",
    "network",
    "user",
    "workingDirectory",
    "labels",
    "limits",
    "restart",
    "stop",
    "update",
    "pull",
    "readOnly",
    "capabilities",
    "health",
];

/// Everything wrong with a template.
#[must_use]
pub fn validate(template: &Value, context: &Context<'_>) -> Vec<Problem> {
    fields::problems(template, context, read)
}

/// A rendered template.
///
/// # Errors
/// Everything wrong with it.
pub fn parse(template: &Value, context: &Context<'_>) -> Result<Template, Vec<Problem>> {
    fields::parsed(template, context, read)
}

/// Its restart rule; the default where that cannot be read.
#[must_use]
pub fn restart(template: &Value) -> Restart {
    crate::process::spec::restart(template)
}

fn read(reading: &Reading<'_>, template: &Value) -> Option<Template> {
    let fields = reading.object(template, "", FIELDS)?;
    refuse_paths(reading, template);
    fields.required("image", "REPOSITORY@sha256:DIGEST");
    let list = |key: &str| fields.value(key).map(|value| fields.texts(key, value));
    let image = fields.parsed("image", Reference::parse);
    let (environment, secret_environment) = fields.texts_and_secrets("environment", check_name);
    let template = Template {
        command: list("command"),
        args: list("args"),
        environment,
        secret_environment,
        files: read_files(reading, &fields),
        ports: fields.each("ports", Port::parse),
        volumes: fields.each("volumes", Volume::parse),
        network: fields.parsed("network", Network::parse).unwrap_or_default(),
        user: fields.parsed("user", parse_user),
        working_directory: fields.parsed("workingDirectory", parse_inner_path),
        labels: fields.table("labels", check_label),
        limits: read_limits(&fields),
        restart: read_restart(&fields),
        stop: read_stop(reading, &fields),
        update: fields.parsed("update", parse_update).unwrap_or_default(),
        pull: read_pull(reading, &fields),
        read_only: fields.flag("readOnly"),
        capabilities: read_capabilities(&fields),
        health: read_health(reading, &fields),
        image: image?,
    };
    check_together(reading, &template);
    Some(template)
}

/// Files inside are secrets; what is none comes with the image or is mounted.
fn read_files(reading: &Reading<'_>, fields: &Fields<'_>) -> BTreeMap<String, SecretName> {
    let (texts, secrets) = fields.texts_and_secrets("files", check_file);
    for path in texts.keys() {
        let message = "expected {secret: NAME}; other files come with the image, or by volumes";
        reading.problem(format!("files.{path}"), message);
    }
    secrets
}

fn check_file(path: &str) -> Result<(), String> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    let mut parts = path.split('/').skip(1);
    if !path.starts_with('/') || parts.any(odd) || path.contains(char::is_control) {
        return Err("is not a plain absolute path inside the container".to_owned());
    }
    Ok(())
}

/// A path of the host says nothing inside a container.
fn refuse_paths(reading: &Reading<'_>, template: &Value) {
    for key in ["command", "args", "environment", "workingDirectory"] {
        let text = template.get(key).map(Value::to_string).unwrap_or_default();
        if text.contains(PLACEHOLDER_OPEN) {
            reading.problem(
                key,
                "an artifact's path is one of the host: mount it with volumes, such as \
                 \"{{ artifacts.NAME.path }}:/srv/NAME:ro\", and name the path inside here",
            );
        }
    }
}

/// What is wrong only where two fields meet.
fn check_together(reading: &Reading<'_>, template: &Template) {
    if !template.ports.is_empty() && matches!(template.network, Network::Host | Network::None) {
        reading.problem(
            "ports",
            "mean nothing on network host or none: leave them out, or choose another network",
        );
    }
    if !template.ports.is_empty() && template.update == Update::StartFirst {
        reading.problem(
            "update",
            "start-first needs a moment in which both releases run, and both cannot have the same \
             ports of the host: leave ports out, or write recreate",
        );
    }
    let files = template.files.keys().map(String::as_str);
    let volumes = template.volumes.iter().map(|v| v.target.as_str());
    let mut targets: Vec<_> = volumes.chain(files).collect();
    targets.sort_unstable();
    if let Some([twice, _]) = targets.array_windows().find(|[a, b]| a == b) {
        reading.problem("volumes", format!("two are mounted at {twice:?}"));
    }
    for (i, volume) in template.volumes.iter().enumerate() {
        if volume.source == Source::Memory && volume.read_only {
            reading.problem(
                format!("volumes[{i}]"),
                "a tmpfs begins empty: it needs writing",
            );
        }
    }
}

fn read_limits(fields: &Fields<'_>) -> Limits {
    let Some(limits) = fields.object("limits", &["memory", "cpu", "openFiles", "pids"]) else {
        return Limits::default();
    };
    Limits {
        memory: limits.parsed("memory", parse_container_memory),
        cpu: limits.parsed("cpu", parse_cpu),
        open_files: limits.parsed("openFiles", parse_open_files),
        pids: limits.parsed("pids", parse_pids),
    }
}

fn read_pull(reading: &Reading<'_>, fields: &Fields<'_>) -> Pull {
    let base = Pull::default();
    let Some(pull) = fields.object("pull", &["policy", "timeout"]) else {
        return base;
    };
    let timeout = pull.span("timeout").unwrap_or(base.timeout);
    if timeout > PULL_MAX || timeout.is_zero() {
        reading.problem(pull.at("timeout"), "is not between 1ms and 9 minutes");
    }
    Pull {
        policy: pull.parsed("policy", parse_pull_policy).unwrap_or_default(),
        timeout,
    }
}

fn read_capabilities(fields: &Fields<'_>) -> Capabilities {
    let Some(capabilities) = fields.object("capabilities", &["add", "drop"]) else {
        return Capabilities::default();
    };
    Capabilities {
        add: capabilities.each("add", capability),
        drop: capabilities.each("drop", dropped_capability),
    }
}

fn read_health(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<Healthcheck> {
    let base = Healthcheck::default();
    if fields.value("health").and_then(Value::as_str) == Some("none") {
        return Some(base);
    }
    let known = ["command", "interval", "timeout", "retries", "startPeriod"];
    let health = fields.object("health", &known)?;
    let command = health
        .required("command", "a list of a program inside and its arguments")
        .map(|value| health.texts("command", value))
        .unwrap_or_default();
    if command.first().is_none_or(String::is_empty) && health.value("command").is_some() {
        reading.problem(health.at("command"), "names no program");
    }
    let span = |key: &str, base: Duration| {
        let span = health.span(key).unwrap_or(base);
        if span < Duration::from_millis(1) && key != "startPeriod" {
            reading.problem(health.at(key), "is less than 1ms");
        }
        span
    };
    Some(Healthcheck {
        command,
        interval: span("interval", base.interval),
        timeout: span("timeout", base.timeout),
        retries: health
            .parsed("retries", parse_retries)
            .unwrap_or(base.retries),
        start_period: span("startPeriod", base.start_period),
    })
}

impl Default for Pull {
    fn default() -> Self {
        Self {
            policy: PullPolicy::Missing,
            timeout: Duration::from_secs(8 * 60),
        }
    }
}

impl Default for Healthcheck {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 3,
            start_period: Duration::ZERO,
        }
    }
}

fn parse_update(text: &str) -> Result<Update, String> {
    match text {
        "recreate" => Ok(Update::Recreate),
        "start-first" => Ok(Update::StartFirst),
        other => Err(format!("{other:?} is not recreate or start-first")),
    }
}

fn parse_pull_policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(format!(
            "{other:?} is not missing or never; an image that is pinned by digest cannot change"
        )),
    }
}

fn parse_container_memory(text: &str) -> Result<u64, String> {
    match parse_memory(text)? {
        bytes if bytes < MEMORY_MIN => {
            Err(format!("{text:?} is less than 6MiB, the engine's least"))
        }
        bytes => Ok(bytes),
    }
}

fn parse_pids(text: &str) -> Result<u64, String> {
    let count = text.parse::<u64>().ok();
    count
        .filter(|count| (1..=4_194_304).contains(count))
        .ok_or_else(|| format!("{text:?} is not between 1 and 4194304 processes"))
}

fn parse_retries(text: &str) -> Result<u32, String> {
    let count = text.parse::<u32>().ok();
    count
        .filter(|count| (1..=1000).contains(count))
        .ok_or_else(|| format!("{text:?} is not between 1 and 1000"))
}

fn parse_user(text: &str) -> Result<String, String> {
    let name = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !name.starts_with('-')
    };
    if text.split(':').count() <= 2 && text.split(':').all(name) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not USER or USER:GROUP, by name or number"
        ))
    }
}

fn parse_inner_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.contains(['\0', '\n']) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not an absolute path inside the container"
        ))
    }
}

fn check_label(key: &str, _value: &Value) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'=';
    if key.starts_with(LABEL_PREFIX) {
        Err(format!(
            "labels that begin with {LABEL_PREFIX} are set by the agent itself"
        ))
    } else if key.is_empty() || key.len() > 256 || !key.bytes().all(plain) {
        Err("a label's key is 1 to 256 printable characters without =".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
