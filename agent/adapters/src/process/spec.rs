//! The template of runtime `process`, parsed once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::name::SecretName;
use serde_json::Value;

use crate::fields::{self, Fields, Reading, parse_bytes};
use crate::restart::{Policy, Restart};
use crate::{Context, Problem};

/// A program under supervision, as its template describes it. Texts may still hold placeholders.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Where it starts; by default the directory of its only unpacked artifact, else its own.
    pub working_directory: Option<String>,
    /// Its environment, beside the few variables that every workload gets.
    pub environment: BTreeMap<String, String>,
    /// Variables that secrets stand for.
    pub secret_environment: BTreeMap<String, SecretName>,
    /// Files laid into its own directory: relative path to content.
    pub files: BTreeMap<String, String>,
    /// Files there that secrets stand for.
    pub secret_files: BTreeMap<String, SecretName>,
    /// Name or number of the user that it runs as; by default the agent's own.
    pub user: Option<String>,
    /// When to start it again.
    pub restart: Restart,
    /// How to end it.
    pub stop: Stop,
    /// What it may use.
    pub limits: Limits,
}

/// How a workload is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// What it is sent first.
    pub signal: StopSignal,
    /// How long it has before it is killed.
    pub grace: Duration,
}

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// `SIGTERM`
    Term,
    /// `SIGINT`
    Int,
    /// `SIGQUIT`
    Quit,
    /// `SIGHUP`
    Hup,
    /// `SIGUSR1`
    Usr1,
    /// `SIGUSR2`
    Usr2,
    /// `SIGKILL`
    Kill,
}

/// What a workload may use; nothing where it may use all there is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processors, as a share: 0.5 is half of one.
    pub cpu: Option<f64>,
    /// Open files.
    pub open_files: Option<u64>,
}

/// Longest grace period. A longer one would outlast every time limit above it.
pub const GRACE_MAX: Duration = Duration::from_secs(600);
/// The variable that marks a workload's processes as the agent's own.
pub const MARKER: &str = "HOLDFAST_WORKLOAD";

const FIELDS: &[&str] = &[
    "command",
    "workingDirectory",
    "environment",
    "files",
    "user",
    "restart",
    "stop",
    "limits",
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
    let only = template
        .get("restart")
        .map(|rule| serde_json::json!({ "restart": rule }));
    let read = |reading: &Reading<'_>, only: &Value| {
        let fields = reading.object(only, "", &["restart"])?;
        Some(read_restart(&fields))
    };
    let context = Context { artifacts: &[] };
    only.and_then(|only| fields::parsed(&only, &context, read).ok())
        .unwrap_or_default()
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: StopSignal::Term,
            grace: Duration::from_secs(10),
        }
    }
}

impl StopSignal {
    /// The signal's name as in signal(7).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Kill => "SIGKILL",
        }
    }

    const ALL: [Self; 7] = [
        Self::Term,
        Self::Int,
        Self::Quit,
        Self::Hup,
        Self::Usr1,
        Self::Usr2,
        Self::Kill,
    ];

    /// The signal of a name, with or without `SIG`.
    ///
    /// # Errors
    /// The names that are known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = |s: &Self| s.name() == text || s.name().strip_prefix("SIG") == Some(text);
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|s| s.name()).collect();
            format!(
                "{text:?} is not a signal that ends a program; known are {}",
                names.join(", ")
            )
        })
    }
}

fn read(reading: &Reading<'_>, template: &Value) -> Option<Template> {
    let fields = reading.object(template, "", FIELDS)?;
    let command = fields
        .required("command", "a list of the program and its arguments")
        .map(|value| fields.texts("command", value))
        .unwrap_or_default();
    if command.first().is_none_or(String::is_empty) && fields.value("command").is_some() {
        reading.problem("command", "names no program");
    }
    let (environment, secret_environment) = fields.texts_and_secrets("environment", check_name);
    let (files, secret_files) = fields.texts_and_secrets("files", check_relative);
    Some(Template {
        command,
        working_directory: fields.text("workingDirectory"),
        environment,
        secret_environment,
        files,
        secret_files,
        user: fields.parsed("user", parse_user),
        restart: read_restart(&fields),
        stop: read_stop(reading, &fields),
        limits: read_limits(&fields),
    })
}

pub(crate) fn read_restart(fields: &Fields<'_>) -> Restart {
    let base = Restart::default();
    let Some(rule) = fields.object("restart", &["policy", "backoff"]) else {
        return base;
    };
    let pause = rule.object("backoff", &["initial", "max"]);
    let initial = pause
        .as_ref()
        .and_then(|p| p.span("initial"))
        .unwrap_or(base.initial);
    let max = pause
        .as_ref()
        .and_then(|p| p.span("max"))
        .unwrap_or(base.max);
    Restart {
        policy: rule.parsed("policy", parse_policy).unwrap_or_default(),
        initial,
        max: max.max(initial),
    }
}

pub(crate) fn read_stop(reading: &Reading<'_>, fields: &Fields<'_>) -> Stop {
    let base = Stop::default();
    let Some(stop) = fields.object("stop", &["signal", "grace"]) else {
        return base;
    };
    let grace = stop.span("grace").unwrap_or(base.grace);
    if grace > GRACE_MAX {
        reading.problem(stop.at("grace"), "is longer than 10 minutes");
    }
    Stop {
        signal: stop
            .parsed("signal", StopSignal::parse)
            .unwrap_or(base.signal),
        grace,
    }
}

pub(crate) fn read_limits(fields: &Fields<'_>) -> Limits {
    let Some(limits) = fields.object("limits", &["memory", "cpu", "openFiles"]) else {
        return Limits::default();
    };
    Limits {
        memory: limits.parsed("memory", parse_memory),
        cpu: limits.parsed("cpu", parse_cpu),
        open_files: limits.parsed("openFiles", parse_open_files),
    }
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    match text {
        "always" => Ok(Policy::Always),
        "on-failure" => Ok(Policy::OnFailure),
        "never" => Ok(Policy::Never),
        other => Err(format!("{other:?} is not always, on-failure or never")),
    }
}

pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if bytes < 1 << 20 => Err(format!("{text:?} is less than 1MiB")),
        bytes => Ok(bytes),
    }
}

pub(crate) fn parse_cpu(text: &str) -> Result<f64, String> {
    let share: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number of processors"))?;
    if share.is_finite() && (0.01..=1024.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{text:?} is not between 0.01 and 1024 processors"))
    }
}

pub(crate) fn parse_open_files(text: &str) -> Result<u64, String> {
    let count: u64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a whole number"))?;
    if (16..=1 << 20).contains(&count) {
        Ok(count)
    } else {
        Err(format!("{text:?} is not between 16 and 1048576"))
    }
}

pub(crate) fn parse_user(text: &str) -> Result<String, String> {
    let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if (number && text.parse::<u32>().is_ok_and(|uid| uid != u32::MAX))
        || (first && rest && text.len() <= 32)
    {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a user's name or number"))
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("a variable's name may not be empty or hold = or NUL".to_owned());
    }
    if name == MARKER {
        return Err("is set by the agent itself".to_owned());
    }
    Ok(())
}

/// Refuses every path that is not plainly below the directory it is meant for.
pub(crate) fn check_relative(path: &str) -> Result<(), String> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
    if path.starts_with('/') {
        return Err("must be relative to the workload's directory".to_owned());
    }
    if path.contains('\0') || path.len() > 1024 || !path.split('/').all(plain) {
        return Err(
            "must be a plain path below the workload's directory, without . or ..".to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::name::ArtifactName;
    use serde_json::json;

    use super::*;

    fn problems(template: &Value) -> Vec<String> {
        let artifacts = [(ArtifactName::parse("app").unwrap(), true)];
        validate(
            template,
            &Context {
                artifacts: &artifacts,
            },
        )
        .into_iter()
        .map(|p| format!("{}: {}", p.path, p.message))
        .collect()
    }

    #[test]
    fn the_example_of_the_design_is_read_whole() {
        let template = json!({
            "command": ["\u{e000}artifact:app\u{e001}/bin/web", "--port", "8080"],
            "environment": {"REGION": "eu"},
            "files": {"conf/app.toml": "port = 8080"},
            "user": "web",
            "restart": {"policy": "on-failure", "backoff": {"initial": "2s", "max": "1m"}},
            "stop": {"signal": "SIGINT", "grace": "3s"},
            "limits": {"memory": "512MiB", "cpu": 0.5, "openFiles": 1024},
        });
        assert_eq!(problems(&template), Vec::<String>::new());
        let artifacts = [(ArtifactName::parse("app").unwrap(), true)];
        let parsed = parse(
            &template,
            &Context {
                artifacts: &artifacts,
            },
        )
        .unwrap();
        assert_eq!(parsed.restart.policy, Policy::OnFailure);
        assert_eq!(parsed.restart.initial, Duration::from_secs(2));
        assert_eq!(
            parsed.stop,
            Stop {
                signal: StopSignal::Int,
                grace: Duration::from_secs(3)
            }
        );
        assert_eq!(parsed.limits.memory, Some(512 << 20));
        assert_eq!(parsed.limits.open_files, Some(1024));
        assert_eq!(restart(&template), parsed.restart);
    }

    #[test]
    fn unrendered_expressions_are_accepted_anywhere_until_they_are_rendered() {
        let template = json!({
            "command": ["./x", "{{ vars.port }}"],
            "user": "{{ vars.user }}",
            "restart": {"policy": "{{ vars.policy }}", "backoff": {"initial": "{{ vars.pause }}"}},
            "stop": {"grace": "{{ vars.grace }}"},
            "limits": {"memory": "{{ vars.memory }}", "cpu": "{{ vars.cpu }}"},
        });
        assert_eq!(problems(&template), Vec::<String>::new());
        let refused = parse(&template, &Context { artifacts: &[] }).unwrap_err();
        assert_eq!(refused.len(), 6, "{refused:?}");
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let found = problems(&json!({
            "comand": ["x"],
            "environment": {"A": 1, "DB": {"secret": "No Name"}, "HOLDFAST_WORKLOAD": "x"},
            "files": {"/etc/passwd": "", "../x": "", "a//b": "", "ok/file": ""},
            "restart": {"policy": "sometimes", "backof": {}},
            "stop": {"signal": "SIGWINCH", "grace": "forever"},
            "limits": {"memory": "lots", "cpu": -1, "openFiles": 1.5},
            "user": "root; reboot",
            "workingDirectory": "\u{e000}artifact:other\u{e001}",
        }));
        for expected in [
            "comand: unknown field; did you mean \"command\"?",
            "command: is missing",
            "environment.A: expected text or {secret: NAME}, found a number",
            "environment.DB: secret name \"No Name\" may hold only",
            "environment.HOLDFAST_WORKLOAD: is set by the agent",
            "files./etc/passwd: must be relative",
            "files.../x: must be a plain path",
            "files.a//b: must be a plain path",
            "restart.policy: \"sometimes\" is not",
            "restart.backof: unknown field; did you mean \"backoff\"?",
            "stop.signal: \"SIGWINCH\"",
            "stop.grace: \"forever\"",
            "limits.memory: \"lots\"",
            "limits.cpu: \"-1\"",
            "limits.openFiles: \"1.5\"",
            "user: \"root; reboot\"",
            "workingDirectory: refers to \"artifact:other\"",
        ] {
            assert!(
                found.iter().any(|p| p.starts_with(expected)),
                "{expected}\nin {found:#?}"
            );
        }
        assert_eq!(found.len(), 17, "{found:#?}");
    }

    #[test]
    fn a_template_that_is_no_object_is_one_problem() {
        assert_eq!(
            problems(&json!([1])),
            [": expected an object, found a list"]
        );
        assert_eq!(
            problems(&json!({"command": []})),
            ["command: names no program"]
        );
    }
}
