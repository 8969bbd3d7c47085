//! The text of a workload's units. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use std::path::{Path, PathBuf};

use holdfast_protocol::name::{EnvironmentName, SecretName, ServiceName};
use holdfast_protocol::time::millis;

use crate::restart::Policy;
use crate::systemd::extra::Extra;
use crate::systemd::quote;
use crate::systemd::spec::{Hardening, Schedule, Template};

/// Where systemd looks for what the host's owner installs; what lies there outlives a reboot.
pub(super) const UNITS: &str = "/etc/systemd/system";
/// What the names of all units of workloads begin with.
pub(super) const PREFIX: &str = "holdfast-";
/// Where workloads keep what outlives them, below systemd's own directory of state.
pub(super) const STATE: &str = "holdfast-workloads";

/// A template with everything filled in that only the target knows.
#[derive(Debug)]
pub(super) struct Filled<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) environment: &'a EnvironmentName,
    pub(super) depends_on: &'a [ServiceName],
    pub(super) template: &'a Template,
    pub(super) command: Vec<String>,
    /// The program that has it read its files again, if that is one.
    pub(super) reload: Option<Vec<String>>,
    pub(super) directory: String,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) secrets: Held,
    pub(super) unit: Extra,
    /// Whether it runs to completion.
    pub(super) job: bool,
}

/// Where the unit finds what secrets stand for. None of it is in the unit itself.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// A file of variables, which systemd reads at each start.
    pub(super) environment: Option<PathBuf>,
    /// Files that systemd gives to the workload's user alone, by their names as credentials.
    pub(super) credentials: BTreeMap<SecretName, PathBuf>,
}

/// Where a unit's user finds a credential while the unit runs (systemd.exec(5)).
pub(super) fn credential(service: &ServiceName, name: &SecretName) -> PathBuf {
    let unit = Path::new("/run/credentials").join(service_unit(service));
    unit.join(name.as_str())
}

/// What keeps the end of a job where it can be asked for, and stands in no other unit.
const STAYS: &str = "RemainAfterExit=yes\n";

/// What `strict` sets. A template's own directives come after and so win.
const STRICT: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
";

/// Whether a service's text is that of a job.
pub(super) fn is_job(text: &str) -> bool {
    text.contains(STAYS)
}

pub(super) fn service_unit(service: &ServiceName) -> String {
    format!("{PREFIX}{service}.service")
}

pub(super) fn timer_unit(service: &ServiceName) -> String {
    format!("{PREFIX}{service}.timer")
}

/// The target that starts a unit at boot, by the unit's kind.
pub(super) fn wanted_by(unit: &str) -> &'static str {
    if unit.ends_with(".timer") {
        "timers.target"
    } else {
        "multi-user.target"
    }
}

/// The workload's service, without its mark.
///
/// # Errors
/// What cannot stand in a unit.
pub(super) fn service(filled: &Filled<'_>) -> Result<String, String> {
    let template = filled.template;
    let mut text = head(filled);
    for dependency in filled.depends_on {
        push(&mut text, "After", &service_unit(dependency));
    }
    push_condition(&mut text, filled)?;
    for (name, value) in &filled.unit.unit {
        push(&mut text, name, value);
    }
    text.push_str("\n[Service]\n");
    push(&mut text, "Type", kind(template));
    push(&mut text, "ExecStart", &quote::command(&filled.command));
    if let Some(reload) = &filled.reload {
        push(&mut text, "ExecReload", &quote::command(reload));
    }
    push(
        &mut text,
        "WorkingDirectory",
        &quote::path(&filled.directory)?,
    );
    push(
        &mut text,
        "StateDirectory",
        &format!("{STATE}/{}", filled.service),
    );
    for (name, value) in &filled.variables {
        push(
            &mut text,
            "Environment",
            &quote::word(&format!("{name}={value}")),
        );
    }
    push_secrets(&mut text, &filled.secrets)?;
    match &template.user {
        Some(user) => push(&mut text, "User", user),
        None => push(&mut text, "DynamicUser", "yes"),
    }
    push_life(&mut text, template, filled.job);
    push_limits(&mut text, template);
    match template.hardening {
        Hardening::Strict => text.push_str(STRICT),
        Hardening::None => {}
    }
    for (name, value) in &filled.unit.service {
        push(&mut text, name, value);
    }
    if template.schedule.is_none() && !filled.job {
        push_install(&mut text, &service_unit(filled.service));
    }
    Ok(text)
}

/// The timer that starts a scheduled workload, without its mark.
pub(super) fn timer(filled: &Filled<'_>, schedule: &Schedule) -> String {
    let mut text = head(filled);
    text.push_str("\n[Timer]\n");
    for time in &schedule.calendar {
        push(&mut text, "OnCalendar", time);
    }
    push(&mut text, "Persistent", switch(schedule.catch_up));
    push(
        &mut text,
        "RandomizedDelaySec",
        &format!("{}ms", millis(schedule.spread)),
    );
    // The default is a minute, which is not what a schedule says.
    push(&mut text, "AccuracySec", "1s");
    push_install(&mut text, &timer_unit(filled.service));
    text
}

fn head(filled: &Filled<'_>) -> String {
    let mut text =
        "# Made by Holdfast: what is changed here is put back. Change the manifest.\n[Unit]\n"
            .to_owned();
    let description = format!(
        "Holdfast workload {} ({})",
        filled.service, filled.environment
    );
    push(&mut text, "Description", &description);
    // The restart rule decides when to give up, and it never does by itself.
    push(&mut text, "StartLimitIntervalSec", "0");
    push(&mut text, "After", "network.target");
    text
}

const fn kind(template: &Template) -> &'static str {
    if template.schedule.is_some() {
        "oneshot"
    } else {
        "exec"
    }
}

/// systemd's word for a restart rule.
pub(super) const fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Always => "always",
        Policy::OnFailure => "on-failure",
        Policy::Never => "no",
    }
}

fn push_life(text: &mut String, template: &Template, job: bool) {
    let rule = if job {
        text.push_str(STAYS);
        Policy::Never
    } else {
        template.restart.policy
    };
    push(text, "Restart", policy(rule));
    push(
        text,
        "RestartSec",
        &format!("{}ms", millis(template.restart.initial)),
    );
    push(text, "KillSignal", template.stop.signal.name());
    push(
        text,
        "TimeoutStopSec",
        &format!("{}ms", millis(template.stop.grace)),
    );
}

/// What starts at boot, where nothing is in memory yet, is not to fail: the agent lays its secrets down
/// and starts it. A run of a schedule that lacks them is to fail, and be seen.
fn push_condition(text: &mut String, filled: &Filled<'_>) -> Result<(), String> {
    if filled.template.schedule.is_some() || filled.job {
        return Ok(());
    }
    let held = &filled.secrets;
    for path in held.environment.iter().chain(held.credentials.values()) {
        push(text, "ConditionPathExists", &location(path)?);
    }
    Ok(())
}

fn push_secrets(text: &mut String, held: &Held) -> Result<(), String> {
    if let Some(path) = &held.environment {
        push(text, "EnvironmentFile", &location(path)?);
    }
    for (name, path) in &held.credentials {
        push(
            text,
            "LoadCredential",
            &format!("{name}:{}", location(path)?),
        );
    }
    Ok(())
}

fn location(path: &Path) -> Result<String, String> {
    quote::path(&path.to_string_lossy())
}

fn push_limits(text: &mut String, template: &Template) {
    if let Some(bytes) = template.limits.memory {
        push(text, "MemoryMax", &bytes.to_string());
    }
    if let Some(share) = template.limits.cpu {
        push(text, "CPUQuota", &format!("{}%", (share * 100.0).round()));
    }
    if let Some(files) = template.limits.open_files {
        push(text, "LimitNOFILE", &files.to_string());
    }
}

fn push_install(text: &mut String, unit: &str) {
    text.push_str("\n[Install]\n");
    push(text, "WantedBy", wanted_by(unit));
}

fn push(text: &mut String, name: &str, value: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{name}={value}");
}

const fn switch(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}
