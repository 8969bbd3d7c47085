//! Values on their way into an expression: bounded, and with whole numbers as CEL's `int`.

use std::collections::{BTreeSet, HashMap};

use cel::{ExecutionError, Value};
use serde_json::Value as Json;

use super::{ENTRIES_MAX, VALUES_MAX_BYTES};

/// How much an expression has before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Of all values, about as many as they have in JSON, and at least some for each.
    pub(super) bytes: usize,
    /// Of the longest list or map.
    pub(super) entries: usize,
}

/// The values of these names, as far as they are there.
pub(super) fn variables(
    values: &Json,
    names: &BTreeSet<String>,
) -> Result<(Vec<(String, Value)>, Size), String> {
    let mut size = Size::default();
    let mut variables = Vec::with_capacity(names.len());
    for name in names {
        if let Some(value) = values.get(name) {
            let value = size
                .take(value, 0)
                .map_err(|why| format!("`{name}` {why}"))?;
            variables.push((name.clone(), value));
        }
    }
    Ok((variables, size))
}

/// How much the value at a path counts, or nothing where none is.
pub(super) fn bytes_at(values: &Json, path: &[String]) -> u64 {
    let found = path.iter().try_fold(values, |value, name| value.get(name));
    found.map_or(0, bytes)
}

/// How much a value counts. Called for bounded ones only.
fn bytes(value: &Json) -> u64 {
    let within: u64 = match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len() as u64,
        Json::Array(items) => items.iter().map(bytes).sum(),
        Json::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, field)| name.len() as u64 + bytes(field))
                .sum()
        }
    };
    within + ENTRY_BYTES as u64
}

/// What kind of value it is, in words.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => "no plain value",
    }
}

/// Why there is no answer, without the values: they may be long, or not for everybody.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of another's, which may become more"
)]
pub(super) fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) | ExecutionError::UndeclaredReference(name) => {
            let name: String = name.chars().take(NAME_SHOWN_CHARS).collect();
            format!("`{name}` is not there")
        }
        ExecutionError::NoSuchOverload(overload) if operator(overload.function()) == "." => {
            let of = overload.argument_types().first();
            format!(
                "a value is {}, and has no fields",
                of.map_or("plain", String::as_str)
            )
        }
        ExecutionError::NoSuchOverload(overload) => format!(
            "`{}` is not for {}",
            operator(overload.function()),
            overload.argument_types().join(" and ")
        ),
        ExecutionError::UnexpectedType { got, want } => {
            format!("a value is {got}, where {want} is needed")
        }
        ExecutionError::ValuesNotComparable(one, other) => {
            format!("{} is not compared to {}", kind(one), kind(other))
        }
        ExecutionError::UnsupportedBinaryOperator(name, one, other) => {
            format!(
                "`{}` is not for {} and {}",
                operator(name),
                kind(one),
                kind(other)
            )
        }
        ExecutionError::FunctionError { function, .. } => {
            format!("`{function}` has no answer for what it is given")
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "a number is divided by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than that".to_owned(),
        _ => "a value is of another kind than it expects".to_owned(),
    }
}

/// An operator as people write it: the language calls it `_==_`, `!_`, `@in` or `add`.
fn operator(name: &str) -> &str {
    match name {
        "_[_]" => "[]",
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        _ => name.trim_matches(['_', '@']),
    }
}

impl Size {
    fn take(&mut self, value: &Json, depth: usize) -> Result<Value, &'static str> {
        if depth > DEPTH_MAX {
            return Err("nests too deep for an expression");
        }
        self.bytes += ENTRY_BYTES;
        let taken = match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => self::number(number),
            Json::String(text) => {
                self.bytes += text.len();
                Value::from(text.as_str())
            }
            Json::Array(items) => {
                self.holds(items.len())?;
                let items = items.iter().map(|item| self.take(item, depth + 1));
                Value::from(items.collect::<Result<Vec<_>, _>>()?)
            }
            Json::Object(fields) => {
                self.holds(fields.len())?;
                let fields = fields.iter().map(|(name, field)| {
                    self.bytes += name.len();
                    Ok::<_, &str>((name.clone(), self.take(field, depth + 1)?))
                });
                Value::from(fields.collect::<Result<HashMap<_, _>, _>>()?)
            }
        };
        if self.bytes > VALUES_MAX_BYTES {
            return Err("is too large for an expression");
        }
        Ok(taken)
    }

    fn holds(&mut self, entries: usize) -> Result<(), &'static str> {
        self.entries = self.entries.max(entries);
        if entries > ENTRIES_MAX {
            return Err("has too many entries for an expression");
        }
        Ok(())
    }
}

fn number(number: &serde_json::Number) -> Value {
    let whole = number.as_i64().map(Value::Int);
    let whole = whole.or_else(|| number.as_u64().map(Value::UInt));
    whole.unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)))
}

/// What every value counts besides its text, in bytes.
const ENTRY_BYTES: usize = 8;
/// Deepest value, in levels.
const DEPTH_MAX: usize = 64;
/// Most characters of a name that is not there that are shown.
const NAME_SHOWN_CHARS: usize = 64;
