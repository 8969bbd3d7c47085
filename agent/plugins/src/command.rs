//! The plugin `command`: `fetch` prints what there is, `apply` makes it so.
//!
//! *Expected flow*: observe is one `fetch`; converge is `fetch`, and where that is not as wanted
//! `apply` and `fetch` again. *Guarantees*: where `fetch` says that it is so, nothing is run that
//! changes something. A change that did not come to its end is told as that until one does.

mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::child::{Child, Ran};
use crate::secret::{self, Text};
use crate::{About, Call, Failure, Plugin, Sighting, State, Wrong, environment, memory, span};
use state::Found;

/// The plugin.
pub struct Command;

/// Its template.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    fetch: Vec<String>,
    apply: Vec<String>,
    remove: Option<Vec<String>>,
    expect: Option<Value>,
    #[serde(default)]
    environment: BTreeMap<String, Text>,
    working_directory: Option<String>,
    #[serde(default)]
    timeout: Timeout,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Timeout {
    fetch: Option<String>,
    apply: Option<String>,
    remove: Option<String>,
}

/// What is remembered of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Made {
    /// The body, once all of it is so.
    body: Option<Digest>,
    /// Of what was applied last.
    inputs: Digest,
    /// Of what `fetch` printed then.
    found: Option<Digest>,
}

impl Plugin for Command {
    type Template = Template;

    fn about(&self) -> About {
        let command =
            json!({"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}});
        let text = json!({"type": "string"});
        About {
            version: env!("CARGO_PKG_VERSION"),
            summary: "two commands: one prints the state, one makes it so",
            template: json!({
                "type": "object", "required": ["fetch", "apply"], "additionalProperties": false,
                "properties": {
                    "fetch": command, "apply": command, "remove": command,
                    "expect": {"description": "what fetch prints when it is so"},
                    "environment": {"type": "object", "additionalProperties": secret::schema()},
                    "workingDirectory": text,
                    "timeout": {"type": "object", "additionalProperties": false,
                        "properties": {"fetch": text, "apply": text, "remove": text}},
                },
            }),
            logs: true,
            interval_seconds: 30,
        }
    }

    fn problems(&self, call: &Call<'_, Template>) -> Vec<Wrong> {
        let template = &call.template;
        let timeout = &template.timeout;
        let spans = [
            ("timeout.fetch", &timeout.fetch),
            ("timeout.apply", &timeout.apply),
            ("timeout.remove", &timeout.remove),
        ];
        let mut problems = environment::problems(&template.environment, &[]);
        problems.extend(
            spans
                .into_iter()
                .filter_map(|(path, text)| span::problem(path, text.as_deref())),
        );
        if let Some(directory) = template
            .working_directory
            .as_deref()
            .filter(|path| !path.starts_with('/'))
        {
            let why = format!("expected a whole path, from /; found {directory:?}");
            problems.push(Wrong::at("workingDirectory", &why));
        }
        problems
    }

    fn observe(&self, call: &Call<'_, Template>) -> Result<Sighting, Failure> {
        let found = fetch(call)?;
        let made: Option<Made> = memory::recall(call.directory(), MADE);
        let body = made.as_ref().and_then(|made| made.body);
        let (state, message) = match difference(&call.template, made.as_ref(), &found) {
            _ if found == Found::Nothing => {
                (State::Absent, Some("fetch prints nothing".to_owned()))
            }
            None => (State::Running, None),
            Some(what) => (State::Altered, Some(what)),
        };
        Ok(Sighting {
            body,
            message,
            ..call.seen(state)
        })
    }

    fn converge(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let inputs = inputs(call)?;
        let made: Option<Made> = memory::recall(call.directory(), MADE);
        // A fetch that fails where there is nothing yet is what many programs do.
        let found = fetch(call).unwrap_or(Found::Nothing);
        let found = match stays(&call.template, made.as_ref(), &found, &inputs) {
            true => found,
            false => apply(call, made, &inputs)?,
        };
        if call.template.expect.is_some() {
            call.progress("it is as expected");
        }
        let made = Made {
            body: Some(call.body),
            inputs,
            found: Some(found.digest()),
        };
        memory::remember(call.directory(), MADE, &made)
    }

    fn remove(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let Some(remove) = &call.template.remove else {
            call.progress("the template has no remove: what was applied stays");
            return Ok(());
        };
        let limit = span::read(call.template.timeout.remove.as_deref(), REMOVE_LIMIT);
        changed("remove", &run(call, child(call, remove), limit)?)
    }
}

/// Whether nothing is to be applied.
fn stays(template: &Template, made: Option<&Made>, found: &Found, inputs: &Digest) -> bool {
    let same_inputs = || made.is_some_and(|made| made.inputs == *inputs && made.body.is_some());
    *found != Found::Nothing
        && difference(template, made, found).is_none()
        && (template.expect.is_some() || same_inputs())
}

/// Why it is not as wanted, in words.
fn difference(template: &Template, made: Option<&Made>, found: &Found) -> Option<String> {
    match (&template.expect, made) {
        (Some(expect), _) => found.difference(expect),
        (None, Some(made)) if made.found == Some(found.digest()) => None,
        (None, _) => Some("fetch prints something else than after the last apply".to_owned()),
    }
}

fn apply(call: &Call<'_, Template>, made: Option<Made>, inputs: &Digest) -> Result<Found, Failure> {
    let begun = Made {
        body: None,
        inputs: *inputs,
        found: made.and_then(|made| made.found),
    };
    memory::remember(call.directory(), MADE, &begun)?;
    let limit = span::read(call.template.timeout.apply.as_deref(), APPLY_LIMIT);
    let child = Child {
        environment: environment::of_change(call, &call.template.environment)?,
        ..child(call, &call.template.apply)
    };
    changed("apply", &run(call, child, limit)?)?;
    let found = fetch(call)?;
    let wrong = match &call.template.expect {
        Some(expect) => found.difference(expect),
        None => (found == Found::Nothing).then(|| "fetch prints nothing".to_owned()),
    };
    match wrong {
        Some(what) => Err(Failure::Retryable(format!(
            "apply ended with 0, and it is not so: {what}"
        ))),
        None => Ok(found),
    }
}

fn fetch(call: &Call<'_, Template>) -> Result<Found, Failure> {
    let limit = span::read(call.template.timeout.fetch.as_deref(), FETCH_LIMIT);
    let child = child(call, &call.template.fetch);
    let ran = child.run(limit.min(call.left()), &|_| {})?;
    if ran.succeeded() {
        return Ok(Found::read(&ran.text()));
    }
    Err(Failure::Retryable(format!("fetch {}", ran.why())))
}

/// Runs a command that changes something; all that it prints is output.
fn run(call: &Call<'_, Template>, child: Child, limit: Duration) -> Result<Ran, Failure> {
    let child = Child {
        tells: true,
        ..child
    };
    call.run(&child, limit)
}

fn child(call: &Call<'_, Template>, command: &[String]) -> Child {
    Child {
        command: command.to_vec(),
        environment: environment::of(call, &call.template.environment),
        directory: call.template.working_directory.as_ref().map(Into::into),
        ..Child::default()
    }
}

/// The exit codes of a plugin: 1 is for good, everything else may be tried again.
fn changed(what: &str, ran: &Ran) -> Result<(), Failure> {
    let why = || format!("{what} {}", ran.why());
    match ran.code {
        Some(0) => Ok(()),
        Some(1) => Err(Failure::Permanent(why())),
        Some(_) | None => Err(Failure::Retryable(why())),
    }
}

/// Digest of what is applied; a new release that changes none of it applies nothing.
fn inputs(call: &Call<'_, Template>) -> Result<Digest, Failure> {
    let template = &call.template;
    let artifacts: BTreeMap<_, _> = call
        .artifacts
        .iter()
        .map(|(name, artifact)| (name, artifact.digest))
        .collect();
    let all = (
        &template.fetch,
        &template.apply,
        &template.environment,
        artifacts,
    );
    let bytes = serde_json::to_vec(&all).map_err(|error| Failure::Permanent(error.to_string()))?;
    Ok(Digest::of(&bytes))
}

/// The file of what is remembered.
const MADE: &str = "made.json";
/// Time that `fetch` has unless the template says otherwise; no more than a look has.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// Time that `apply` has unless the template says otherwise.
const APPLY_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Time that `remove` has unless the template says otherwise.
const REMOVE_LIMIT: Duration = Duration::from_secs(2 * 60);
