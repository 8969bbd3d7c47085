//! The plugin `terraform`: a module of Terraform or OpenTofu; what there is, is what `plan` says.
//!
//! *Expected flow*: converge copies the module into the workload's directory, then `init`,
//! `validate`, `plan` into a file, and `apply` of that file where it changes something. Observe is a
//! `plan` that takes no lock. Remove is `destroy`. *Guarantees*: what is applied is what was planned;
//! values of variables go by the environment, never by an argument or a file of ours.
//! *Assumptions*: the state is where the template says, and stays there; it holds what the module
//! puts there, secrets too, so it lies in a directory of this workload alone.

mod module;
mod speech;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::child::{Child, Ran};
use crate::journal::wall;
use crate::secret::{self, Text};
use crate::{About, Call, Failure, Plugin, Sighting, State, Wrong, environment, memory, span};
use speech::Speech;

/// The plugin.
pub struct Terraform;

/// Its template.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    module: PathBuf,
    program: Option<String>,
    #[serde(default)]
    variables: Map<String, Value>,
    backend: Option<Backend>,
    workspace: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, Text>,
    #[serde(default)]
    drift: Drift,
    #[serde(default)]
    timeout: Timeout,
}

#[derive(Debug, Clone, Deserialize)]
struct Backend {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Map<String, Value>,
}

/// How it is looked whether somebody changed something.
#[derive(Debug, Clone, Default, Deserialize)]
struct Drift {
    #[serde(default)]
    by: By,
    every: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    /// By a plan, which has ten seconds.
    #[default]
    Plan,
    /// Not at all.
    None,
}

/// A plan, which asks all providers and so is not made at every look.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Look {
    at: Timestamp,
    of: Digest,
    said: Said,
}

/// What a plan said.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Said {
    Seen(State, Option<String>),
    /// It failed, and why.
    Unknown(String),
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Timeout {
    apply: Option<String>,
    lock: Option<String>,
}

/// What is remembered of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// The body, once all of it is so.
    body: Option<Digest>,
    /// Where its state lies: digest of the backend.
    backend: Digest,
    workspace: String,
}

impl Plugin for Terraform {
    type Template = Template;

    fn about(&self) -> About {
        let (text, any) = (
            json!({"type": "string", "minLength": 1}),
            json!({"type": "object"}),
        );
        About {
            version: env!("CARGO_PKG_VERSION"),
            summary: "a module of Terraform or OpenTofu",
            template: json!({
                "type": "object", "required": ["module"], "additionalProperties": false,
                "properties": {
                    "module": text, "program": text, "variables": any, "workspace": text,
                    "backend": {"type": "object", "required": ["type"], "additionalProperties": false,
                        "properties": {"type": text, "config": any}},
                    "environment": {"type": "object", "additionalProperties": secret::schema()},
                    "drift": {"type": "object", "additionalProperties": false,
                        "properties": {"by": {"enum": ["plan", "none"]}, "every": text}},
                    "timeout": {"type": "object", "additionalProperties": false,
                        "properties": {"apply": text, "lock": text}},
                },
            }),
            logs: true,
            interval_seconds: 30,
        }
    }

    fn problems(&self, call: &Call<'_, Template>) -> Vec<Wrong> {
        let template = &call.template;
        let mut problems = environment::problems(&template.environment, SET_OTHERWISE);
        problems.extend(span::problem(
            "drift.every",
            template.drift.every.as_deref(),
        ));
        problems.extend(span::problem(
            "timeout.apply",
            template.timeout.apply.as_deref(),
        ));
        problems.extend(span::problem(
            "timeout.lock",
            template.timeout.lock.as_deref(),
        ));
        if template.drift.by == By::Plan && has_secrets(template) {
            let why = "has to be `none`: a plan needs the secrets of variables and environment, and \
                       they are given to changes alone";
            problems.push(Wrong::at("drift.by", why));
        }
        match module::declared(&template.module) {
            Ok(declared) => problems.extend(
                template
                    .variables
                    .keys()
                    .filter(|name| !declared.contains(*name))
                    .map(|name| {
                        Wrong::at(
                            &format!("variables.{name}"),
                            "the module declares no such variable",
                        )
                    }),
            ),
            Err(error) => {
                let why = format!("{} cannot be read: {error}", template.module.display());
                problems.push(Wrong::at("module", &why));
            }
        }
        problems
    }

    fn observe(&self, call: &Call<'_, Template>) -> Result<Sighting, Failure> {
        let Some(made) = memory::recall::<Made>(call.directory(), MADE) else {
            return Ok(call.seen(State::Absent));
        };
        let unfinished = || {
            (
                State::Altered,
                Some("a change did not come to its end".to_owned()),
            )
        };
        let (state, message) = match (made.body, call.template.drift.by) {
            // A plan beside a change would see half of it.
            (None, By::Plan | By::None) => unfinished(),
            (Some(_), By::None) => (State::Running, None),
            (Some(body), By::Plan) => looked(call, body)?,
        };
        Ok(Sighting {
            body: made.body,
            message,
            ..call.seen(state)
        })
    }

    fn converge(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let before: Option<Made> = memory::recall(call.directory(), MADE);
        let made = unfinished(call);
        refuse_move(before.as_ref(), &made)?;
        // Of what was never applied there is no state, and its backend may still be put right.
        if before.is_some() {
            begin(call, &made)?;
        }
        prepare(call)?;
        let file = PlanFile(call.directory().join("plan"));
        let lock = lock_timeout(&call.template);
        let plan = ["plan", "-json", "-input=false", "-detailed-exitcode", &lock];
        let out = format!("-out={}", file.0.display());
        let (ran, speech) = speak(call, plan.into_iter().chain([out.as_str()]))?;
        let results = match ran.code {
            Some(0) => speech.results(),
            Some(2) => {
                begin(call, &made)?;
                applied(call, &file)?
            }
            Some(_) | None => return Err(speech.failure(format!("plan {}", ran.why()))),
        };
        // What is unchanged has outputs without values, which say nothing.
        if ran.code == Some(2) {
            results.iter().for_each(|line| call.output(line));
        }
        let made = Made {
            body: Some(call.body),
            ..made
        };
        memory::remember(call.directory(), MADE, &made)
    }

    fn remove(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        if memory::recall::<Made>(call.directory(), MADE).is_none() {
            return Ok(());
        }
        prepare(call)?;
        let lock = lock_timeout(&call.template);
        let (ran, speech) = speak(
            call,
            ["destroy", "-auto-approve", "-json", "-input=false", &lock],
        )?;
        if ran.succeeded() {
            return memory::forget(&call.directory().join(MADE))
                .map_err(|error| Failure::Retryable(format!("cannot remove {MADE}: {error}")));
        }
        Err(speech.failure(format!("destroy {}", ran.why())))
    }
}

/// What a plan says, or said not long ago.
fn looked(call: &Call<'_, Template>, body: Digest) -> Result<(State, Option<String>), Failure> {
    let every = span::read(call.template.drift.every.as_deref(), LOOK_EVERY);
    let at = wall();
    let before = memory::recall::<Look>(call.directory(), LOOK);
    if let Some(look) = before.filter(|look| look.of == body && look.is_fresh(at, every)) {
        return look.said.told();
    }
    let said = match planned(call) {
        Ok((state, message)) => Said::Seen(state, message),
        Err(failure) => Said::Unknown(failure.to_string()),
    };
    let look = Look { at, of: body, said };
    memory::remember(call.directory(), LOOK, &look)?;
    look.said.told()
}

impl Look {
    fn is_fresh(&self, now: Timestamp, every: Duration) -> bool {
        let lasts = match self.said {
            Said::Seen(..) => every,
            Said::Unknown(_) => every.min(UNKNOWN_EVERY),
        };
        now.since(self.at) < lasts
    }
}

impl Said {
    fn told(self) -> Result<(State, Option<String>), Failure> {
        match self {
            Self::Seen(state, message) => Ok((state, message)),
            Self::Unknown(why) => Err(Failure::Retryable(why)),
        }
    }
}

/// What is remembered while it is changed, and where its state is.
fn unfinished(call: &Call<'_, Template>) -> Made {
    Made {
        body: None,
        backend: Digest::of(backend(call).to_string().as_bytes()),
        workspace: workspace(&call.template).to_owned(),
    }
}

fn refuse_move(before: Option<&Made>, made: &Made) -> Result<(), Failure> {
    let stays =
        |before: &Made| before.backend == made.backend && before.workspace == made.workspace;
    if before.is_none_or(stays) {
        return Ok(());
    }
    Err(Failure::Permanent(
        "backend and workspace cannot be changed: the state would be left behind, and everything \
         made twice. Remove the service first, or go back to the backend that it was made with"
            .to_owned(),
    ))
}

/// Notes that something is about to be changed; what was seen of it holds no more.
fn begin(call: &Call<'_, Template>, made: &Made) -> Result<(), Failure> {
    let unwritten = |error| Failure::Retryable(format!("cannot forget the last look: {error}"));
    memory::forget(&call.directory().join(LOOK)).map_err(unwritten)?;
    memory::remember(call.directory(), MADE, made)
}

/// The module as it is now, initialised, in its workspace, and found right.
fn prepare(call: &Call<'_, Template>) -> Result<(), Failure> {
    let from = &call.template.module;
    let place = place(call);
    // On removal the artifact may be gone; what was last laid is what was last applied.
    if from.exists() || !place.exists() {
        module::lay(from, &place, &backend(call)).map_err(|error| {
            Failure::Retryable(format!(
                "cannot copy the module {}: {error}",
                from.display()
            ))
        })?;
    }
    // It has only this backend: what an `init` of another one left, made nothing.
    plainly(call, ["init", "-input=false", "-no-color", "-reconfigure"])?;
    let wanted = workspace(&call.template);
    if wanted != DEFAULT_WORKSPACE {
        plainly(
            call,
            ["workspace", "select", "-or-create", "-no-color", wanted],
        )?;
    }
    let ran = command(call, ["validate", "-json"])?.run(call.left(), &|_| {})?;
    match speech::invalid(&ran.output) {
        Some(why) => Err(Failure::Permanent(why)),
        None => Ok(()),
    }
}

fn applied(call: &Call<'_, Template>, file: &PlanFile) -> Result<Vec<String>, Failure> {
    let path = file.0.display().to_string();
    let lock = lock_timeout(&call.template);
    let (ran, speech) = speak(call, ["apply", "-json", "-input=false", &lock, &path])?;
    if ran.succeeded() {
        return Ok(speech.results());
    }
    Err(speech.failure(format!("apply {}", ran.why())))
}

/// What a plan says of what there is.
fn planned(call: &Call<'_, Template>) -> Result<(State, Option<String>), Failure> {
    let plan = [
        "plan",
        "-json",
        "-input=false",
        "-detailed-exitcode",
        "-lock=false",
    ];
    let ran = command(call, plan)?.run(PLAN_LIMIT.min(call.left()), &|_| {})?;
    let speech = Speech::read(&ran.output);
    match ran.code {
        Some(0) => Ok((State::Running, None)),
        Some(2) => Ok((State::Altered, Some(speech.differs()))),
        Some(_) | None => Err(speech.failure(format!("plan {}", ran.why()))),
    }
}

/// Runs a command that prints JSON lines, and keeps what they say as output.
fn speak<'c>(
    call: &Call<'_, Template>,
    arguments: impl IntoIterator<Item = &'c str>,
) -> Result<(Ran, Speech), Failure> {
    // What it has made and not yet written down would be nobody's.
    let child = Child {
        tells: true,
        is_asked: true,
        ..command(call, arguments)?
    };
    let keep = |line: &str| {
        if let Some(message) = speech::message(line) {
            call.output(&message);
        }
    };
    let limit = span::read(call.template.timeout.apply.as_deref(), APPLY_LIMIT);
    let ran = child.run(limit.min(call.left()), &keep)?;
    let speech = Speech::read(&ran.output);
    Ok((ran, speech))
}

/// Runs a command that prints for people, and only its failure is of interest.
fn plainly<'c>(
    call: &Call<'_, Template>,
    arguments: impl IntoIterator<Item = &'c str>,
) -> Result<(), Failure> {
    let child = command(call, arguments)?;
    let ran = call.run(&child, call.left())?;
    if ran.succeeded() {
        return Ok(());
    }
    let what = child.command.get(1).cloned().unwrap_or_default();
    Err(Failure::Retryable(format!("{what} {}", ran.why())))
}

fn command<'c>(
    call: &Call<'_, Template>,
    arguments: impl IntoIterator<Item = &'c str>,
) -> Result<Child, Failure> {
    let template = &call.template;
    // What is destroyed needs all variables, and none of their values.
    let (mut environment, otherwise) = if call.has_secrets() {
        (environment::of_change(call, &template.environment)?, None)
    } else {
        (environment::of(call, &template.environment), Some(""))
    };
    let own = |name: &str, value: String| (name.to_owned(), value);
    environment.extend([
        own(
            "TF_DATA_DIR",
            call.directory().join("data").display().to_string(),
        ),
        own("TF_IN_AUTOMATION", "1".to_owned()),
        own("CHECKPOINT_DISABLE", "1".to_owned()),
    ]);
    for (name, value) in &template.variables {
        let value = secret::filled(call, value, otherwise)?;
        environment.insert(format!("TF_VAR_{name}"), module::variable(&value));
    }
    let mut child = Child::of([program(template)]);
    child
        .command
        .extend(arguments.into_iter().map(str::to_owned));
    Ok(Child {
        environment,
        directory: Some(place(call)),
        ..child
    })
}

/// The program: the one that is named, or the first of both that is on the path.
fn program(template: &Template) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &&&str| std::env::split_paths(&path).any(|room| room.join(name).is_file());
    let found = || PROGRAMS.iter().find(is_there).unwrap_or(&PROGRAMS[0]);
    template
        .program
        .clone()
        .unwrap_or_else(|| (*found()).to_owned())
}

fn has_secrets(template: &Template) -> bool {
    let mut texts = template.environment.values();
    texts.any(|text| text.reference().is_some()) || template.variables.values().any(secret::is_in)
}

fn place(call: &Call<'_, Template>) -> PathBuf {
    call.directory().join("module")
}

fn backend(call: &Call<'_, Template>) -> Value {
    let (kind, none) = (call.template.backend.as_ref(), Map::new());
    let config = kind.map_or(&none, |backend| &backend.config);
    module::backend(
        kind.map(|backend| backend.kind.as_str()),
        config,
        call.directory(),
    )
}

fn workspace(template: &Template) -> &str {
    template.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE)
}

fn lock_timeout(template: &Template) -> String {
    let limit = span::read(template.timeout.lock.as_deref(), LOCK_LIMIT);
    format!("-lock-timeout={}s", limit.as_secs())
}

/// A plan's file, which holds the values of all variables; it goes when its call ends.
struct PlanFile(PathBuf);

impl Drop for PlanFile {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        // One that stays is replaced by the next call.
        drop(memory::forget(path));
    }
}

/// The file of what is remembered.
const MADE: &str = "made.json";
/// The file of what the last plan of a look said.
const LOOK: &str = "look.json";
const DEFAULT_WORKSPACE: &str = "default";
/// Both have the same commands.
const PROGRAMS: &[&str] = &["terraform", "tofu"];
/// Time between two plans unless the template says otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// Time between two plans while they fail, if that is less.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// Time that a look's plan has.
const PLAN_LIMIT: Duration = Duration::from_secs(10);
/// Time that a change has unless the template says otherwise.
const APPLY_LIMIT: Duration = Duration::from_secs(8 * 60);
/// Time that a lock of somebody else is waited for unless the template says otherwise.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// Variables that a template may not set by its environment, and why.
const SET_OTHERWISE: &[(&str, &str)] = &[
    ("TF_VAR_", "is given by `variables`"),
    ("TF_WORKSPACE", "is given by `workspace`"),
    ("TF_DATA_DIR", "is set by the plugin"),
    ("TF_CLI_ARGS", "would change what the plugin asks for"),
];
