//! The template of runtime `systemd`, parsed once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::name::SecretName;
use serde_json::Value;

use crate::fields::{self, Fields, Reading, kind, parse_bytes};
use crate::process::spec::{self as process, Limits, Stop, StopSignal};
use crate::restart::{Policy, Restart};
use crate::systemd::calendar;
use crate::systemd::extra::{self, Extra};
use crate::{Context, Problem};

/// A unit, as its template describes it. Texts may still hold placeholders.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Where it starts; by default the directory of its only unpacked artifact, else its own.
    pub working_directory: Option<String>,
    /// Its environment, beside what systemd sets.
    pub environment: BTreeMap<String, String>,
    /// Variables that secrets stand for.
    pub secret_environment: BTreeMap<String, SecretName>,
    /// Files laid into its own directory: relative path to content.
    pub files: BTreeMap<String, String>,
    /// Files there that secrets stand for.
    pub secret_files: BTreeMap<String, SecretName>,
    /// Name or number of the user that it runs as; by default one that systemd makes up for it.
    pub user: Option<String>,
    /// When systemd starts it again. A scheduled one is not started again by default.
    pub restart: Restart,
    /// How to end it.
    pub stop: Stop,
    /// What it may use.
    pub limits: Limits,
    /// How to have it read its files again; without it, it is restarted for that.
    pub reload: Option<Reload>,
    /// How far it is shut in.
    pub hardening: Hardening,
    /// When it runs, if not all the time.
    pub schedule: Option<Schedule>,
    /// More directives of its unit.
    pub unit: Extra,
}

/// How a workload is told to read its files again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// By this program with these arguments.
    Command(Vec<String>),
    /// By a signal to its main process.
    Signal(StopSignal),
}

/// How far a workload is shut in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hardening {
    /// Nothing to write but its own, no privileges, no devices, few system calls.
    #[default]
    Strict,
    /// Nothing beyond its user.
    None,
}

/// When a scheduled workload runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Expressions of systemd.time(7); any of them.
    pub calendar: Vec<String>,
    /// Whether a time that passed while the host was off is made up for.
    pub catch_up: bool,
    /// Each run is put off by a random part of this.
    pub spread: Duration,
}

const FIELDS: &[&str] = &[
    "command",
    "workingDirectory",
    "environment",
    "files",
    "user",
    "restart",
    "stop",
    "limits",
    "reload",
    "hardening",
    "schedule",
    "unit",
];

/// Longest spread of a schedule, and pause before a restart.
const SPAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

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

/// Its restart rule, for the agent; the default where that cannot be read. What has a schedule is
/// seen as its timer, which is always to be there.
#[must_use]
pub fn restart(template: &Value) -> Restart {
    if template.get("schedule").is_some_and(|s| !s.is_null()) {
        return Restart::default();
    }
    process::restart(template)
}

fn read(reading: &Reading<'_>, template: &Value) -> Option<Template> {
    let fields = reading.object(template, "", FIELDS)?;
    let schedule = read_schedule(reading, &fields);
    let (environment, secret_environment) = fields.texts_and_secrets("environment", check_name);
    check_values(reading, &environment);
    let (files, secret_files) = fields.texts_and_secrets("files", process::check_relative);
    let parsed = Template {
        command: read_command(reading, &fields)?,
        working_directory: fields.text("workingDirectory"),
        environment,
        secret_environment,
        files,
        secret_files,
        user: fields.parsed("user", process::parse_user),
        restart: read_restart(reading, &fields, schedule.is_some()),
        stop: process::read_stop(reading, &fields),
        limits: process::read_limits(&fields),
        reload: read_reload(reading, &fields),
        hardening: fields
            .parsed("hardening", parse_hardening)
            .unwrap_or_default(),
        unit: extra::read(reading, &fields, schedule.is_some()),
        schedule,
    };
    check_together(reading, &fields, &parsed);
    Some(parsed)
}

/// What each field alone cannot say.
fn check_together(reading: &Reading<'_>, fields: &Fields<'_>, parsed: &Template) {
    if parsed.hardening == Hardening::None && fields.value("user").is_none() {
        let message = "none needs a user as well: the user that systemd makes up for a workload \
                       is always shut in";
        reading.problem("hardening", message);
    }
    if parsed.schedule.is_some() && fields.value("reload").is_some() {
        reading.problem("reload", "a scheduled workload reads its files at each run");
    }
}

fn read_command(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<Vec<String>> {
    let value = fields.required("command", "a list of the program and its arguments")?;
    let command = fields.texts("command", value);
    check_command(reading, "command", &command);
    Some(command)
}

/// systemd gives some first characters of a program a meaning of their own, and looks a bare name up
/// in a path that is fixed when systemd is built.
fn check_command(reading: &Reading<'_>, path: &str, command: &[String]) {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        reading.problem(path, "names no program");
        return;
    };
    let plain = |c: char| c.is_alphanumeric() || "/._{\u{e000}".contains(c);
    if !program.starts_with(plain) {
        reading.problem(
            format!("{path}[0]"),
            "a program begins with a letter, a digit, a dot or /",
        );
    }
}

fn read_restart(reading: &Reading<'_>, fields: &Fields<'_>, scheduled: bool) -> Restart {
    let rule = process::read_restart(fields);
    if rule.initial > SPAN_MAX {
        reading.problem("restart.backoff.initial", "is longer than a day");
    }
    let named = fields
        .value("restart")
        .is_some_and(|rule| rule.get("policy").is_some());
    match (scheduled, named, rule.policy) {
        (false, ..) | (true, true, Policy::OnFailure | Policy::Never) => rule,
        (true, false, _) => Restart {
            policy: Policy::Never,
            ..rule
        },
        (true, true, Policy::Always) => {
            let text = rule_text(fields);
            if !text.is_some_and(|text| text.contains("{{")) {
                let message = "a scheduled workload is started by its schedule; expected \
                               on-failure or never";
                reading.problem("restart.policy", message);
            }
            rule
        }
    }
}

fn rule_text<'a>(fields: &Fields<'a>) -> Option<&'a str> {
    fields.value("restart")?.get("policy")?.as_str()
}

fn read_reload(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<Reload> {
    let reload = fields.object("reload", &["command", "signal"])?;
    match (reload.value("command"), reload.value("signal")) {
        (Some(command), None) => {
            let command = reload.texts("command", command);
            check_command(reading, "reload.command", &command);
            Some(Reload::Command(command))
        }
        (None, Some(_)) => reload.parsed("signal", parse_reload).map(Reload::Signal),
        (None, None) | (Some(_), Some(_)) => {
            reading.problem("reload", "expected either a command or a signal");
            None
        }
    }
}

fn parse_reload(text: &str) -> Result<StopSignal, String> {
    match StopSignal::parse(text) {
        Ok(signal @ (StopSignal::Hup | StopSignal::Usr1 | StopSignal::Usr2)) => Ok(signal),
        Ok(StopSignal::Term | StopSignal::Int | StopSignal::Quit | StopSignal::Kill) | Err(_) => {
            Err(format!("{text:?} is not SIGHUP, SIGUSR1 or SIGUSR2"))
        }
    }
}

fn parse_hardening(text: &str) -> Result<Hardening, String> {
    match text {
        "strict" => Ok(Hardening::Strict),
        "none" => Ok(Hardening::None),
        other => Err(format!("{other:?} is not strict or none")),
    }
}

fn read_schedule(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<Schedule> {
    let value = fields.value("schedule")?;
    let (calendar, rest) = if value.is_object() {
        let rest = fields.object("schedule", &["calendar", "catchUp", "spread"])?;
        let expected = "an expression of systemd.time(7), such as \"Mon *-*-* 03:00\"";
        let calendar = rest.required("calendar", expected)?;
        (
            read_calendar(reading, &rest, "calendar", calendar),
            Some(rest),
        )
    } else {
        (read_calendar(reading, fields, "schedule", value), None)
    };
    let spread = rest.as_ref().and_then(|rest| rest.span("spread"));
    if spread.is_some_and(|spread| spread > SPAN_MAX) {
        reading.problem("schedule.spread", "is longer than a day");
    }
    let catch_up = rest.as_ref().and_then(|rest| {
        let value = rest.value("catchUp")?;
        read_switch(reading, "schedule.catchUp", value)
    });
    Some(Schedule {
        calendar,
        catch_up: catch_up.unwrap_or(false),
        spread: spread.unwrap_or_default(),
    })
}

fn read_switch(reading: &Reading<'_>, path: &str, value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            reading.problem(
                path,
                format!("expected true or false, found {}", kind(value)),
            );
            None
        }
    }
}

/// One expression, or a list of them.
fn read_calendar(
    reading: &Reading<'_>,
    fields: &Fields<'_>,
    key: &str,
    value: &Value,
) -> Vec<String> {
    if !value.is_array() {
        let one = fields.parsed(key, |text| calendar::check(text).map(|()| text.to_owned()));
        return one.into_iter().collect();
    }
    let all = fields.texts(key, value);
    if all.is_empty() {
        reading.problem(fields.at(key), "names no time");
    }
    for (i, text) in all.iter().enumerate() {
        if let Err(message) = reading.unless_open(text, calendar::check) {
            reading.problem(format!("{}[{i}]", fields.at(key)), message);
        }
    }
    all
}

/// What systemd takes as a variable: it drops anything else and only logs that.
fn check_name(name: &str) -> Result<(), String> {
    process::check_name(name)?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("a variable's name is letters, digits and _, not a digit first".to_owned());
    }
    Ok(())
}

fn check_values(reading: &Reading<'_>, environment: &BTreeMap<String, String>) {
    for (name, value) in environment {
        if let Err(message) = check_value(value) {
            reading.problem(format!("environment.{name}"), message);
        }
    }
}

/// What systemd takes as the value of a variable: it writes anything else into its log, and drops it.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    if value.contains(odd) {
        return Err("may not hold control characters but line breaks and tabs".to_owned());
    }
    Ok(())
}

/// A size in bytes, as systemd's directives of memory take it.
pub(super) fn check_size(text: &str) -> Result<(), String> {
    match text {
        "infinity" => Ok(()),
        other => parse_bytes(other).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::name::ArtifactName;
    use serde_json::json;

    use super::*;

    fn problems(template: &Value) -> Vec<String> {
        let artifacts = [(ArtifactName::parse("app").unwrap(), true)];
        let context = Context {
            artifacts: &artifacts,
        };
        validate(template, &context)
            .into_iter()
            .map(|p| format!("{}: {}", p.path, p.message))
            .collect()
    }

    fn parsed(template: &Value) -> Template {
        parse(template, &Context { artifacts: &[] }).unwrap()
    }

    #[test]
    fn every_field_is_read() {
        let template = json!({
            "command": ["bin/web", "--port", "8080"],
            "workingDirectory": "/srv",
            "environment": {"REGION": "eu", "MANY": "two\nlines"},
            "files": {"conf/app.toml": "port = 8080"},
            "user": "web",
            "restart": {"policy": "on-failure", "backoff": {"initial": "2s"}},
            "stop": {"signal": "SIGINT", "grace": "3s"},
            "limits": {"memory": "512MiB", "cpu": 0.5, "openFiles": 1024},
            "reload": {"signal": "HUP"},
            "hardening": "none",
            "unit": {
                "Unit": {"After": ["postgresql.service", "redis.service"]},
                "Service": {"Nice": 5, "PrivateTmp": false, "TasksMax": "40%", "Type": "notify"},
            },
        });
        assert_eq!(problems(&template), Vec::<String>::new());
        let read = parsed(&template);
        assert_eq!(read.reload, Some(Reload::Signal(StopSignal::Hup)));
        assert_eq!(read.hardening, Hardening::None);
        assert_eq!(restart(&template), read.restart);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read.unit.unit,
            [
                pair("After", "postgresql.service"),
                pair("After", "redis.service")
            ]
        );
        assert_eq!(
            read.unit.service[..2],
            [pair("Nice", "5"), pair("PrivateTmp", "no")]
        );
    }

    #[test]
    fn a_schedule_is_one_time_or_several_and_is_not_restarted_by_default() {
        let short = parsed(&json!({"command": ["/x"], "schedule": "daily"}));
        assert_eq!(short.schedule.unwrap().calendar, ["daily"]);
        assert_eq!(short.restart.policy, Policy::Never);
        let long = json!({
            "command": ["/x"],
            "restart": {"policy": "on-failure"},
            "schedule": {"calendar": ["Mon *-*-* 03:00", "*:0/5"], "catchUp": true, "spread": "5m"},
        });
        let schedule = parsed(&long).schedule.unwrap();
        assert!(schedule.catch_up);
        assert_eq!(schedule.spread, Duration::from_secs(300));
        assert_eq!(schedule.calendar.len(), 2);
        // For the agent, what has a schedule is its timer.
        assert_eq!(restart(&long).policy, Policy::Always);
    }

    #[test]
    fn unrendered_expressions_are_accepted_anywhere_until_they_are_rendered() {
        let template = json!({
            "command": ["{{ artifacts.app.path }}/bin/web"],
            "user": "{{ vars.user }}",
            "hardening": "{{ vars.hardening }}",
            "reload": {"signal": "{{ vars.signal }}"},
            "limits": {"memory": "{{ vars.memory }}"},
            "unit": {"Service": {"Nice": "{{ vars.nice }}", "Type": "{{ vars.type }}"}},
        });
        assert_eq!(problems(&template), Vec::<String>::new());
        let scheduled = json!({
            "command": ["/x"],
            "schedule": ["{{ vars.time }}"],
            "restart": {"policy": "{{ vars.policy }}"},
        });
        assert_eq!(problems(&scheduled), Vec::<String>::new());
        let refused = parse(&template, &Context { artifacts: &[] }).unwrap_err();
        assert_eq!(refused.len(), 5, "{refused:?}");
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let found = problems(&json!({
            "command": ["-/bin/sh", "-c", "true"],
            "environment": {"A": 1, "A-B": "x", "1A": "x", "BELL": "\u{7}"},
            "files": {"/etc/passwd": ""},
            "hardening": "some",
            "reload": {"signal": "SIGTERM"},
            "schedule": "sometimes",
            "unit": {
                "Install": {},
                "Unit": {"After": "x\n[Service]\nUser=root"},
                "Service": {
                    "ExecStartPre": "/bin/sh", "User": "root", "Nise": 5, "Restart": "no",
                    "MemoryHigh": "lots", "Type": "forking", "Environment": "A=b",
                    "ReadWritePaths": "%h", "PrivateMounts": true, "Group": {"a": 1},
                },
            },
        }));
        for expected in [
            "command[0]: a program begins with",
            "environment.A: expected text or {secret: NAME}, found a number",
            "environment.A-B: a variable's name",
            "environment.1A: a variable's name",
            "environment.BELL: may not hold control characters",
            "files./etc/passwd: must be relative",
            "hardening: \"some\" is not strict or none",
            "reload.signal: \"SIGTERM\" is not SIGHUP",
            "reload: a scheduled workload",
            "schedule: \"sometimes\" is not a time",
            "unit.Install: unknown field",
            "unit.Unit.After: may not hold line breaks",
            "unit.Service.ExecStartPre: a workload runs its command alone",
            "unit.Service.User: is set by the template's field user",
            "unit.Service.Nise: unknown field; did you mean \"Nice\"?",
            "unit.Service.Restart: is set by the template's field restart.policy",
            "unit.Service.MemoryHigh: \"lots\"",
            "unit.Service.Type: a scheduled workload runs to its end",
            "unit.Service.Environment: is set by the template's field environment",
            "unit.Service.ReadWritePaths: may hold % only",
            "unit.Service.PrivateMounts: is not a directive",
            "unit.Service.Group: expected text, found an object",
        ] {
            assert!(
                found.iter().any(|p| p.starts_with(expected)),
                "{expected}\nin {found:#?}"
            );
        }
        assert_eq!(found.len(), 22, "{found:#?}");
    }

    #[test]
    fn what_fields_cannot_say_alone_is_checked_together() {
        let open = json!({"command": ["/x"], "hardening": "none"});
        assert!(problems(&open)[0].starts_with("hardening: none needs a user"));
        let restarted = json!({
            "command": ["/x"],
            "schedule": "daily",
            "restart": {"policy": "always"},
        });
        assert!(problems(&restarted)[0].starts_with("restart.policy: a scheduled workload"));
        let both = json!({"command": ["/x"], "reload": {"command": ["/y"], "signal": "HUP"}});
        assert!(problems(&both)[0].starts_with("reload: expected either"));
        assert_eq!(
            problems(&json!({"command": []})),
            ["command: names no program"]
        );
        assert!(problems(&json!({}))[0].starts_with("command: is missing"));
    }
}
