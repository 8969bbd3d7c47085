//! Secrets in templates: a template names them, `{"secret": NAME, "version": N}`, and their values
//! come with a change alone. Nothing here writes a value down.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Call, Failure};

/// Text that may be a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it stands in the template.
    Plain(String),
    /// Named there.
    Secret(Reference),
}

/// A secret, as a template names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    secret: String,
    version: u64,
}

/// Schema of a [`Text`].
#[must_use]
pub fn schema() -> Value {
    json!({"oneOf": [{"type": "string"}, {"type": "object", "required": ["secret", "version"],
        "additionalProperties": false,
        "properties": {"secret": {"type": "string"}, "version": {"type": "integer"}}}]})
}

impl Text {
    /// The secret, where it is one.
    #[must_use]
    pub const fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(reference) => Some(reference),
        }
    }
}

/// Whether a secret is named anywhere in a value.
#[must_use]
pub fn is_in(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(is_in),
        Value::Object(fields) => named(fields).is_some() || fields.values().any(is_in),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value with all its secrets in their places, and `otherwise` where none were given: outside of a
/// change.
///
/// # Errors
/// Permanent where a value is no text.
pub fn filled<T>(
    call: &Call<'_, T>,
    value: &Value,
    otherwise: Option<&str>,
) -> Result<Value, Failure> {
    Ok(match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| filled(call, item, otherwise));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => match (named(fields), otherwise) {
            (Some(_), Some(text)) => Value::from(text),
            (Some(reference), None) => Value::from(text(call, &reference)?),
            (None, _) => {
                let fields = fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), filled(call, value, otherwise)?)));
                Value::Object(fields.collect::<Result<_, Failure>>()?)
            }
        },
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            plain.clone()
        }
    })
}

/// A secret's value.
///
/// # Errors
/// Permanent where it was not given, or is no text.
pub fn text<T>(call: &Call<'_, T>, reference: &Reference) -> Result<String, Failure> {
    let name = &reference.secret;
    String::from_utf8(call.secret(name)?)
        .map_err(|_| Failure::Permanent(format!("secret {name} is no text")))
}

fn named(fields: &Map<String, Value>) -> Option<Reference> {
    serde_json::from_value(Value::Object(fields.clone())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let secret = json!({"secret": "key", "version": 2});
        assert!(is_in(&json!({"a": [1, {"b": secret}]})));
        assert!(!is_in(&json!({"a": [1, {"secret": "key"}], "version": 2})));
        let read: Text = serde_json::from_value(secret).unwrap();
        assert!(read.reference().is_some());
        let plain: Text = serde_json::from_value(json!("x")).unwrap();
        assert_eq!(plain, Text::Plain("x".to_owned()));
    }
}
