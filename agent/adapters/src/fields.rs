//! Reads a template's JSON field by field and collects everything that is wrong with it, so that a
//! person mends a manifest once. Pure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::name::SecretName;
use holdfast_protocol::time::parse_span;
#[cfg(feature = "run")]
use holdfast_protocol::workload::{Form, Workload};
use holdfast_protocol::workload::{PLACEHOLDER_OPEN, Placeholder};
use serde_json::{Map, Value};

#[cfg(feature = "run")]
use crate::failure::Failure;
use crate::secret::{self, Split};
use crate::{Context, Problem};

/// How far a template has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// As written: any text may still be an unrendered `{{ }}` expression.
    Manifest,
    /// As it arrives on a target: everything but placeholders is final.
    Rendered,
}

/// One template being read.
pub(crate) struct Reading<'a> {
    context: &'a Context<'a>,
    stage: Stage,
    problems: RefCell<Vec<Problem>>,
}

/// One JSON object of a template.
pub(crate) struct Fields<'a> {
    reading: &'a Reading<'a>,
    path: String,
    map: &'a Map<String, Value>,
}

/// Everything that `read` finds wrong with a template as it stands in a manifest.
pub(crate) fn problems<T>(
    template: &Value,
    context: &Context<'_>,
    read: impl FnOnce(&Reading<'_>, &Value) -> Option<T>,
) -> Vec<Problem> {
    let reading = Reading::new(context, Stage::Manifest);
    read(&reading, template);
    reading.finish()
}

/// What `read` makes of a rendered template, or everything that it finds wrong with it.
pub(crate) fn parsed<T>(
    template: &Value,
    context: &Context<'_>,
    read: impl FnOnce(&Reading<'_>, &Value) -> Option<T>,
) -> Result<T, Vec<Problem>> {
    let reading = Reading::new(context, Stage::Rendered);
    let parsed = read(&reading, template);
    let problems = reading.finish();
    parsed.filter(|_| problems.is_empty()).ok_or(problems)
}

/// What `parse` makes of the template of a workload that has arrived on its target.
#[cfg(feature = "run")]
pub(crate) fn arrived<T>(
    workload: &Workload,
    parse: impl FnOnce(&Value, &Context<'_>) -> Result<T, Vec<Problem>>,
) -> Result<T, Failure> {
    let refused = |why: String| Failure::Permanent(format!("the template is refused: {why}"));
    let template: Value =
        serde_json::from_str(&workload.template).map_err(|e| refused(e.to_string()))?;
    let artifacts = workload.artifacts.iter();
    let artifacts: Vec<_> = artifacts
        .map(|artifact| (artifact.name.clone(), artifact.form != Form::File))
        .collect();
    let context = Context {
        artifacts: &artifacts,
    };
    parse(&template, &context).map_err(|problems| refused(crate::list(&problems)))
}

impl<'a> Reading<'a> {
    const fn new(context: &'a Context<'a>, stage: Stage) -> Self {
        Self {
            context,
            stage,
            problems: RefCell::new(Vec::new()),
        }
    }

    pub(crate) const fn context(&self) -> &'a Context<'a> {
        self.context
    }

    pub(crate) fn problem(&self, path: impl Into<String>, message: impl Into<String>) {
        let problem = Problem {
            path: path.into(),
            message: message.into(),
        };
        self.problems.borrow_mut().push(problem);
    }

    fn finish(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Opens `value` as an object of the fields `known`; others are problems.
    pub(crate) fn object(
        &'a self,
        value: &'a Value,
        path: &str,
        known: &[&str],
    ) -> Option<Fields<'a>> {
        let Value::Object(map) = value else {
            self.problem(path, format!("expected an object, found {}", kind(value)));
            return None;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            self.problem(join(path, key), unknown(key, known));
        }
        Some(Fields {
            reading: self,
            path: path.to_owned(),
            map,
        })
    }

    /// Whether `text` is still to be rendered, so that nothing can be said about it yet.
    fn is_open(&self, text: &str) -> bool {
        self.stage == Stage::Manifest && (text.contains("{{") || text.contains(PLACEHOLDER_OPEN))
    }

    /// What `check` says of a text, unless that is still to be rendered.
    pub(crate) fn unless_open(
        &self,
        text: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.is_open(text) {
            return Ok(());
        }
        check(text)
    }

    fn text(&self, value: &Value, path: &str) -> Option<String> {
        let Value::String(text) = value else {
            self.problem(path, format!("expected text, found {}", kind(value)));
            return None;
        };
        if text.contains('\0') {
            self.problem(path, "may not hold the character NUL");
            return None;
        }
        if let Err(unknown) = Placeholder::fill(text, &|p| self.stands_for(p)) {
            self.problem(
                path,
                format!("refers to {unknown:?}, which this service does not have"),
            );
            return None;
        }
        Some(text.clone())
    }

    fn stands_for(&self, placeholder: &Placeholder) -> Option<String> {
        match placeholder {
            Placeholder::WorkloadDir => Some(String::new()),
            Placeholder::ArtifactPath(name) => self
                .context
                .artifacts
                .iter()
                .any(|(known, _)| known == name)
                .then(String::new),
        }
    }
}

impl Reading<'_> {
    /// The secret that a value stands for; nothing where it is something else.
    pub(crate) fn secret(&self, value: &Value) -> Option<Result<SecretName, String>> {
        secret::of(value, self.stage)
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, key: &str, expected: &str) -> Option<&'a Value> {
        let value = self.value(key);
        if value.is_none() {
            self.reading
                .problem(self.at(key), format!("is missing: expected {expected}"));
        }
        value
    }

    pub(crate) fn object(&self, key: &str, known: &[&str]) -> Option<Self> {
        self.reading.object(self.value(key)?, &self.at(key), known)
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.reading.text(self.value(key)?, &self.at(key))
    }

    /// A list of texts; an entry that is none is a problem and left out.
    pub(crate) fn texts(&self, key: &str, value: &Value) -> Vec<String> {
        let Value::Array(items) = value else {
            let message = format!("expected a list of texts, found {}", kind(value));
            self.reading.problem(self.at(key), message);
            return Vec::new();
        };
        let path = self.at(key);
        let read = |(i, item)| self.reading.text(item, &format!("{path}[{i}]"));
        items.iter().enumerate().filter_map(read).collect()
    }

    /// An object whose values are texts; `check` says what is wrong with a key or a value.
    pub(crate) fn table(
        &self,
        key: &str,
        check: impl Fn(&str, &Value) -> Result<(), String>,
    ) -> BTreeMap<String, String> {
        let Some(value) = self.value(key) else {
            return BTreeMap::new();
        };
        let path = self.at(key);
        let Value::Object(map) = value else {
            self.reading
                .problem(path, format!("expected an object, found {}", kind(value)));
            return BTreeMap::new();
        };
        let read = |(name, value): (&String, &Value)| {
            let path = join(&path, name);
            if let Err(message) = check(name, value) {
                self.reading.problem(path, message);
                return None;
            }
            self.reading
                .text(value, &path)
                .map(|text| (name.clone(), text))
        };
        map.iter().filter_map(read).collect()
    }

    /// An object whose values are texts or secrets; `check` says what is wrong with a key.
    pub(crate) fn texts_and_secrets(
        &self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Split {
        let mut secrets = BTreeMap::new();
        let Some(Value::Object(map)) = self.value(key) else {
            return (self.table(key, |name, _| check(name)), secrets);
        };
        let mut texts = BTreeMap::new();
        for (name, value) in map {
            let path = join(&self.at(key), name);
            let problem = |message| self.reading.problem(path.clone(), message);
            if let Err(message) = check(name) {
                problem(message);
                continue;
            }
            match self.reading.secret(value) {
                Some(Ok(secret)) => drop(secrets.insert(name.clone(), secret)),
                Some(Err(message)) => problem(message),
                None => match value {
                    Value::String(_) => {
                        let text = self.reading.text(value, &path);
                        texts.extend(text.map(|text| (name.clone(), text)));
                    }
                    other @ (Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::Array(_)
                    | Value::Object(_)) => problem(format!(
                        "expected text or {{secret: NAME}}, found {}; write text in quotes",
                        kind(other)
                    )),
                },
            }
        }
        (texts, secrets)
    }

    /// A text that `parse` understands, or a number in its decimal form.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = match self.value(key)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other @ (Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                let message = format!("expected text or a number, found {}", kind(other));
                self.reading.problem(self.at(key), message);
                return None;
            }
        };
        if self.reading.is_open(&text) {
            return None;
        }
        parse(&text)
            .map_err(|message| self.reading.problem(self.at(key), message))
            .ok()
    }

    /// A list of texts that `parse` understands; what it does not is a problem and left out.
    pub(crate) fn each<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let read = |(i, text): (usize, String)| {
            let refuse = |message| {
                self.reading
                    .problem(format!("{}[{i}]", self.at(key)), message)
            };
            if self.reading.is_open(&text) {
                return None;
            }
            parse(&text).map_err(refuse).ok()
        };
        let texts = self.texts(key, value).into_iter().enumerate();
        texts.filter_map(read).collect()
    }

    /// True or false; false where it is left out.
    pub(crate) fn flag(&self, key: &str) -> bool {
        match self.value(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) if self.reading.is_open(text) => false,
            Some(other) => {
                let message = format!("expected true or false, found {}", kind(other));
                self.reading.problem(self.at(key), message);
                false
            }
        }
    }

    pub(crate) fn span(&self, key: &str) -> Option<Duration> {
        self.parsed(key, parse_span)
    }
}

/// A number of bytes as people write it: `512MiB`, `1.5GB`, `4096`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let refused =
        || format!("{text:?} is not a size: write a number and a unit, such as 512MiB or 2GB");
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let scale: u64 = match unit.trim() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    number.checked_mul(scale).ok_or_else(refused)
}

/// What JSON calls a value, for messages.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A path one step deeper.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Why `word` is refused where only `known` are words, with the nearest of them.
pub(crate) fn unknown(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("unknown field; did you mean {near:?}?"),
        None => format!("unknown field; known are {}", known.join(", ")),
    }
}

fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known
        .iter()
        .map(|k| (distance(&word.to_lowercase(), &k.to_lowercase()), *k))
        .min();
    near.filter(|(steps, k)| *steps <= 1 + k.len() / 4)
        .map(|(_, k)| k)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_is_answered_with_the_nearest_one() {
        let known = ["command", "environment", "files"];
        assert_eq!(
            unknown("comand", &known),
            "unknown field; did you mean \"command\"?"
        );
        assert!(unknown("xyz", &known).contains("known are command"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_size_is_read_with_its_unit() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for bad in ["", "MiB", "-1", "1 parsec", "99999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
