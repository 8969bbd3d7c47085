//! Reads one request, has a plugin do it, and answers.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use holdfast_adapters::plugin::message::{
    Description, Done, Operation, Request, Said, VERSION, Verdict, Workload,
};
use holdfast_adapters::plugin::schema::Schema;
use serde::Serialize;
use serde_json::Value;

use crate::call::{Call, now};
use crate::plugin::{About, Plugin};
use crate::voice::{Voice, write};
use crate::{Failure, Lines, Wrong};

/// Largest request that is read, in bytes.
const REQUEST_MAX_BYTES: u64 = 4 << 20;
/// Longest time that a request may give, in seconds; no agent gives as much.
const DEADLINE_MAX_SECONDS: u64 = 24 * 60 * 60;

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There was a result.
    Done,
    /// Trying again does not help.
    Failed,
    /// Trying again may help.
    Later,
}

/// The whole of a plugin's `main`.
pub fn run(plugin: &impl Plugin) -> ExitCode {
    let mut input = Vec::new();
    let read = io::stdin().take(REQUEST_MAX_BYTES).read_to_end(&mut input);
    // What could not be read is not understood below.
    drop(read);
    match answer(plugin, &input, &mut io::stdout().lock()) {
        Ended::Done => ExitCode::SUCCESS,
        Ended::Failed => ExitCode::from(1),
        Ended::Later => ExitCode::from(2),
    }
}

/// Answers one request.
pub fn answer(plugin: &impl Plugin, input: &[u8], output: &mut dyn Write) -> Ended {
    let output = RefCell::new(output);
    let say = |said: &Said| write(&mut **output.borrow_mut(), said);
    let voice = Voice::new(&say);
    let result = request(input).and_then(|request| carry_out(plugin, request, voice));
    match result {
        Ok(result) => {
            voice.result(result);
            Ended::Done
        }
        Err(failure) => {
            voice.error(&failure.to_string());
            if failure.is_retryable() {
                Ended::Later
            } else {
                Ended::Failed
            }
        }
    }
}

fn request(input: &[u8]) -> Result<Request, Failure> {
    let request: Request = serde_json::from_slice(input).map_err(|error| {
        Failure::Permanent(format!(
            "expected one request of the plugin protocol on standard input: {error}"
        ))
    })?;
    if request.protocol == VERSION {
        return Ok(request);
    }
    Err(Failure::Permanent(format!(
        "the request is of version {} of the protocol, and this plugin speaks {VERSION}",
        request.protocol
    )))
}

fn carry_out<P: Plugin>(plugin: &P, request: Request, voice: Voice<'_>) -> Result<Value, Failure> {
    let end = now() + Duration::from_secs(request.deadline_seconds.min(DEADLINE_MAX_SECONDS));
    let about = plugin.about();
    if request.operation == Operation::Describe {
        return result(&description(about));
    }
    let lacks = |what| Failure::Permanent(format!("the request has no {what}"));
    let workload = request.workload.ok_or_else(|| lacks("workload"))?;
    let state = request
        .state_directory
        .ok_or_else(|| lacks("stateDirectory"))?;
    let id = workload.id.clone();
    let call = match read(&about, workload, (state, end), voice) {
        Ok(call) => call.with(request.secrets),
        Err(problems) => return refused(request.operation, problems),
    };
    let done = || result(&Done { workload: id });
    match request.operation {
        Operation::Describe => result(&description(about)),
        Operation::Validate => result(&Verdict {
            problems: plugin.problems(&call),
        }),
        Operation::Observe => result(&plugin.observe(&call)?),
        Operation::Converge => plugin.converge(&call).and_then(|()| done()),
        Operation::Remove => plugin.remove(&call).and_then(|()| done()),
        Operation::Logs => {
            let lines = request.logs.unwrap_or(Lines {
                since: None,
                tail: 0,
                follow: false,
            });
            plugin.logs(&call, &lines).and_then(|()| done())
        }
    }
}

/// The call, with its template understood; or all that is wrong with it.
fn read<'a, T: serde::de::DeserializeOwned>(
    about: &About,
    workload: Workload,
    (state, end): (PathBuf, Instant),
    voice: Voice<'a>,
) -> Result<Call<'a, T>, Vec<Wrong>> {
    let whole = |message: String| vec![Wrong::at("", &message)];
    let schema = Schema::parse(about.template.clone());
    let schema = schema.map_err(|why| whole(format!("the plugin's own schema is wrong: {why}")))?;
    let problems: Vec<Wrong> = schema
        .check(&workload.template)
        .into_iter()
        .map(|problem| Wrong::at(&problem.path, &problem.message))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let template = serde_json::from_value(workload.template.clone());
    let template = template.map_err(|error| whole(error.to_string()))?;
    Ok(Call::new(workload, template, (state, end), voice))
}

fn refused(operation: Operation, problems: Vec<Wrong>) -> Result<Value, Failure> {
    if operation == Operation::Validate {
        return result(&Verdict { problems });
    }
    let said: Vec<String> = problems
        .into_iter()
        .map(|Wrong { path, message }| format!("{path}: {message}"))
        .collect();
    let said = said.join("; ");
    Err(Failure::Permanent(format!("the template is wrong: {said}")))
}

fn description(about: About) -> Description {
    Description {
        protocol: VERSION,
        version: about.version.to_owned(),
        summary: about.summary.to_owned(),
        template: about.template,
        logs: about.logs,
        interval_seconds: Some(about.interval_seconds),
    }
}

fn result<T: Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| Failure::Permanent(format!("the result cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::{Sighting, State};

    #[derive(Deserialize)]
    struct Wanted {
        size: u32,
    }

    struct Box;

    impl Plugin for Box {
        type Template = Wanted;

        fn about(&self) -> About {
            About {
                version: "1",
                summary: "a box",
                template: json!({"type": "object", "required": ["size"],
                    "additionalProperties": false, "properties": {"size": {"type": "integer"}}}),
                logs: true,
                interval_seconds: 5,
            }
        }

        fn problems(&self, call: &Call<'_, Wanted>) -> Vec<Wrong> {
            let large = call.template.size > 9;
            large
                .then(|| Wrong::at("size", "is too large"))
                .into_iter()
                .collect()
        }

        fn observe(&self, call: &Call<'_, Wanted>) -> Result<Sighting, Failure> {
            Ok(call.seen(State::Absent))
        }

        fn converge(&self, call: &Call<'_, Wanted>) -> Result<(), Failure> {
            call.output("making a box");
            match call.template.size {
                0 => Err(Failure::Permanent("no size".to_owned())),
                1 => Err(Failure::Retryable("no wood".to_owned())),
                _ => Ok(()),
            }
        }

        fn remove(&self, _: &Call<'_, Wanted>) -> Result<(), Failure> {
            Ok(())
        }
    }

    fn said(operation: &str, template: &Value, state: &std::path::Path) -> (Ended, Vec<Value>) {
        let digest = format!("sha256:{}", "0".repeat(64));
        let request = json!({"protocol": 1, "operation": operation, "deadlineSeconds": 10,
            "stateDirectory": state, "logs": {"tail": 10, "follow": false},
            "workload": {"id": "e/t/s", "environment": "e", "target": "t", "service": "s",
                "version": "1.0", "body": digest, "template": template, "artifacts": {}}});
        let mut output = Vec::new();
        let ended = answer(&Box, request.to_string().as_bytes(), &mut output);
        let lines = String::from_utf8(output).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (ended, lines.collect())
    }

    #[test]
    fn every_operation_is_answered_with_a_result_in_the_last_line() {
        let room = tempfile::tempdir().unwrap();
        let template = json!({"size": 3});
        let last = |operation| said(operation, &template, room.path()).1.pop().unwrap();
        let description = last("describe");
        assert_eq!(description["protocol"], 1);
        assert_eq!(description["type"], "result");
        assert_eq!(last("validate"), json!({"type": "result", "problems": []}));
        let seen = json!({"type": "result", "workload": "e/t/s", "state": "absent"});
        assert_eq!(last("observe"), seen);
        assert_eq!(
            last("converge"),
            json!({"type": "result", "workload": "e/t/s"})
        );
        assert_eq!(
            last("remove"),
            json!({"type": "result", "workload": "e/t/s"})
        );
        let (ended, lines) = said("logs", &template, room.path());
        assert_eq!(
            (ended, &lines[0]["text"]),
            (Ended::Done, &json!("making a box"))
        );
    }

    #[test]
    fn failures_say_why_and_whether_trying_again_helps() {
        let room = tempfile::tempdir().unwrap();
        let (ended, lines) = said("converge", &json!({"size": 0}), room.path());
        assert_eq!(ended, Ended::Failed);
        assert_eq!(
            lines[0],
            json!({"type": "progress", "message": "making a box"})
        );
        assert_eq!(lines[1], json!({"type": "error", "message": "no size"}));
        let (ended, _) = said("converge", &json!({"size": 1}), room.path());
        assert_eq!(ended, Ended::Later);
        let mut output = Vec::new();
        assert_eq!(answer(&Box, b"{", &mut output), Ended::Failed);
        let newer = br#"{"protocol":2,"operation":"describe","deadlineSeconds":1}"#;
        assert_eq!(answer(&Box, newer, &mut output), Ended::Failed);
        let output = String::from_utf8(output).unwrap();
        assert!(output.contains("version 2 of the protocol"), "{output}");
    }

    #[test]
    fn all_that_is_wrong_with_a_template_is_told_by_field() {
        let room = tempfile::tempdir().unwrap();
        let wrong = json!({"size": "x", "colour": "red"});
        let (ended, lines) = said("validate", &wrong, room.path());
        let paths: Vec<_> = lines[0]["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| &p["path"])
            .collect();
        assert_eq!(
            (ended, paths),
            (Ended::Done, vec![&json!("colour"), &json!("size")])
        );
        let (_, lines) = said("validate", &json!({"size": 10}), room.path());
        assert_eq!(lines[0]["problems"][0]["message"], "is too large");
        let (ended, lines) = said("converge", &wrong, room.path());
        let message = lines[0]["message"].as_str().unwrap();
        assert!(
            message.contains("size: expected a whole number"),
            "{message}"
        );
        assert_eq!(ended, Ended::Failed);
    }
}
