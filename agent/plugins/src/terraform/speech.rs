//! What Terraform and OpenTofu say with `-json`: one object a line, as the page "Machine-Readable UI"
//! of Terraform's documentation describes them. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Failure;

/// Most changes that are named in a message.
const CHANGES_SHOWN: usize = 5;
/// Longest output that is shown, in characters.
const OUTPUT_SHOWN: usize = 200;
/// Errors that the same module and variables give again.
const LASTING: &[&str] = &[
    "No value for required variable",
    "Invalid value for input variable",
    "Invalid value for variable",
    "Unsupported argument",
    "Unsupported block type",
    "Reference to undeclared",
];
/// The error of a state that somebody else works on, and of one who was killed while it did.
const LOCKED: &str = "Error acquiring the state lock";

/// All that one command said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Speech {
    /// What would be or was changed: `aws_instance.web: Plan to update`.
    pub(super) changes: Vec<String>,
    /// What was wrong.
    pub(super) errors: Vec<Diagnostic>,
    /// The outputs, by name; one that is secret, or not known yet, has no value.
    pub(super) outputs: BTreeMap<String, Output>,
}

/// One line.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "@message")]
    message: String,
    #[serde(rename = "type")]
    kind: String,
    diagnostic: Option<Diagnostic>,
    outputs: Option<BTreeMap<String, Output>>,
}

/// One output value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Output {
    #[serde(default)]
    sensitive: bool,
    value: Option<Value>,
}

/// One thing that is wrong, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Diagnostic {
    severity: String,
    summary: String,
    #[serde(default)]
    detail: String,
    range: Option<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Range {
    filename: String,
    start: Start,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Start {
    line: u64,
}

/// The answer of `validate -json`.
#[derive(Debug, Deserialize)]
struct Validity {
    diagnostics: Vec<Diagnostic>,
}

impl Speech {
    pub(super) fn read(output: &[u8]) -> Self {
        let mut speech = Self::default();
        let events = output.split(|byte| *byte == b'\n').filter_map(event);
        events.for_each(|event| speech.note(event));
        speech
    }

    fn note(&mut self, event: Event) {
        // Of the two, the first is what somebody else changed, the second what would be done.
        if event.kind == "resource_drift" || event.kind == "planned_change" {
            self.changes.push(event.message);
        }
        self.errors
            .extend(event.diagnostic.filter(Diagnostic::is_error));
        if let Some(outputs) = event.outputs {
            self.outputs = outputs;
        }
    }

    /// What a plan would change, for people.
    pub(super) fn differs(&self) -> String {
        let shown: Vec<&str> = self
            .changes
            .iter()
            .take(CHANGES_SHOWN)
            .map(String::as_str)
            .collect();
        match self.changes.len() {
            0 => "outputs differ".to_owned(),
            all if all > CHANGES_SHOWN => {
                format!("{}; and {} more", shown.join("; "), all - CHANGES_SHOWN)
            }
            _ => shown.join("; "),
        }
    }

    /// Why a command failed; `otherwise` where it did not say so itself.
    pub(super) fn failure(&self, otherwise: String) -> Failure {
        let said: Vec<String> = self.errors.iter().map(Diagnostic::text).collect();
        if self.errors.is_empty() {
            return Failure::Retryable(otherwise);
        }
        let said = said.join("; ");
        let is = |known: &[&str]| self.errors.iter().any(|error| error.is_one_of(known));
        if is(&[LOCKED]) {
            return Failure::Retryable(format!(
                "{said}; where nobody works on it any more, end the lock with `force-unlock ID`"
            ));
        }
        if is(LASTING) {
            return Failure::Permanent(said);
        }
        Failure::Retryable(said)
    }

    /// The outputs, a line each; what is secret is not shown.
    pub(super) fn results(&self) -> Vec<String> {
        let line = |(name, output): (&String, &Output)| format!("{name} = {}", output.shown());
        self.outputs.iter().map(line).collect()
    }
}

/// The message of a line for people; nothing where the line says nothing of the workload.
pub(super) fn message(line: &str) -> Option<String> {
    if !line.starts_with('{') {
        return Some(line.to_owned());
    }
    let event = event(line.as_bytes())?;
    let told = event.kind != "version" && event.kind != "outputs";
    told.then_some(event.message)
}

/// What `validate -json` complains of.
pub(super) fn invalid(output: &[u8]) -> Option<String> {
    let validity: Validity = serde_json::from_slice(output).ok()?;
    let errors = validity
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error());
    let said: Vec<String> = errors.map(Diagnostic::text).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn event(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok()
}

impl Output {
    fn shown(&self) -> String {
        match &self.value {
            _ if self.sensitive => "(secret)".to_owned(),
            Some(Value::String(text)) => text.chars().take(OUTPUT_SHOWN).collect(),
            Some(value) => value.to_string().chars().take(OUTPUT_SHOWN).collect(),
            None => "(not known)".to_owned(),
        }
    }
}

impl Diagnostic {
    fn is_error(&self) -> bool {
        self.severity == "error"
    }

    fn is_one_of(&self, known: &[&str]) -> bool {
        known.iter().any(|known| self.summary.starts_with(known))
    }

    fn text(&self) -> String {
        let place = self
            .range
            .as_ref()
            .map(|range| format!("{}:{}: ", range.filename, range.start.line));
        let place = place.unwrap_or_default();
        let detail = self.detail.split_whitespace().collect::<Vec<_>>().join(" ");
        if detail.is_empty() {
            return format!("{place}{}", self.summary);
        }
        format!("{place}{}: {detail}", self.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded of Terraform 1.11.4, with times and addresses shortened.
    const PLAN: &[u8] = br#"{"@level":"info","@message":"Terraform 1.11.4","@module":"terraform.ui","terraform":"1.11.4","type":"version","ui":"1.2"}
{"@level":"info","@message":"terraform_data.one: Plan to update","@module":"terraform.ui","change":{"resource":{"addr":"terraform_data.one"},"action":"update"},"type":"planned_change"}
{"@level":"info","@message":"Plan: 0 to add, 1 to change, 0 to destroy.","changes":{"add":0,"change":1,"import":0,"remove":0,"operation":"plan"},"type":"change_summary"}
{"@level":"info","@message":"Outputs: 2","outputs":{"name":{"sensitive":false,"action":"update"},"secret":{"sensitive":true,"action":"noop"}},"type":"outputs"}
"#;
    const APPLIED: &[u8] = br#"{"@level":"info","@message":"Outputs: 2","outputs":{"name":{"sensitive":false,"type":["object",{"name":"string","size":"number"}],"value":{"name":"web","size":1}},"secret":{"sensitive":true,"type":"string","value":"s3cret"}},"type":"outputs"}"#;
    const MISSING: &[u8] = br#"{"@level":"error","@message":"Error: No value for required variable","diagnostic":{"severity":"error","summary":"No value for required variable","detail":"The root module input variable \"name\" is not set.","range":{"filename":"main.tf","start":{"line":1,"column":1,"byte":0},"end":{"line":1,"column":16,"byte":15}}},"type":"diagnostic"}"#;
    const LOCK: &[u8] = br#"{"@level":"error","@message":"Error: Error acquiring the state lock","diagnostic":{"severity":"error","summary":"Error acquiring the state lock","detail":"Lock Info:\n  ID:        d7a2\n  Who:       me@here"},"type":"diagnostic"}"#;

    #[test]
    fn a_plan_names_what_would_change() {
        let speech = Speech::read(PLAN);
        assert_eq!(speech.differs(), "terraform_data.one: Plan to update");
        let many = PLAN.repeat(7);
        assert!(Speech::read(&many).differs().ends_with("; and 2 more"));
    }

    #[test]
    fn secret_outputs_are_not_shown() {
        let results = Speech::read(APPLIED).results();
        assert_eq!(
            results,
            ["name = {\"name\":\"web\",\"size\":1}", "secret = (secret)"]
        );
    }

    #[test]
    fn errors_say_where_and_whether_to_try_again() {
        let failure = Speech::read(MISSING).failure(String::new());
        assert!(!failure.is_retryable());
        assert!(
            failure.to_string().starts_with("main.tf:1: No value for"),
            "{failure}"
        );
        let failure = Speech::read(LOCK).failure(String::new());
        assert!(failure.is_retryable());
        assert!(
            failure.to_string().contains("ID: d7a2 Who: me@here"),
            "{failure}"
        );
        assert!(Speech::read(b"").failure("gone".to_owned()).is_retryable());
    }

    #[test]
    fn what_validate_complains_of_is_read() {
        let output = br#"{"format_version":"1.0","valid":false,"error_count":1,"diagnostics":[{"severity":"error","summary":"Unsupported argument","detail":"An argument named \"inpt\" is not expected here.","range":{"filename":"main.tf","start":{"line":7}}},{"severity":"warning","summary":"old"}]}"#;
        let said = invalid(output).unwrap();
        assert_eq!(
            said,
            "main.tf:7: Unsupported argument: An argument named \"inpt\" is not expected here."
        );
        assert_eq!(invalid(br#"{"diagnostics":[]}"#), None);
    }

    #[test]
    fn lines_are_shown_by_their_message() {
        let mut lines = std::str::from_utf8(PLAN).unwrap().lines().map(message);
        assert_eq!(lines.next(), Some(None));
        assert_eq!(
            lines.next(),
            Some(Some("terraform_data.one: Plan to update".to_owned()))
        );
        assert_eq!(message("panic: x"), Some("panic: x".to_owned()));
    }
}
